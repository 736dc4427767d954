use std::time::{Duration, Instant};

use super::{Outlook, overloaded};
use crate::Reason;

const MILLISECOND: Duration = Duration::from_millis(1);

#[test]
fn nobody_is_refused_on_an_outlook_that_nobody_published() {
    let now = Instant::now();
    let outlook = Outlook::new(now);
    assert_eq!(outlook.check("tiny", 0, now, now), Ok(()));
    outlook.publish(0, Some(now + 50 * MILLISECOND));
    outlook.publish(0, None);
    assert_eq!(outlook.check("tiny", 0, now, now), Ok(()));
    assert_eq!(outlook.take_refused(0), 0);
}

#[test]
fn who_would_be_answered_too_late_is_told_when_to_come_back() {
    let now = Instant::now();
    let outlook = Outlook::new(now);
    outlook.publish(3, Some(now + 180 * MILLISECOND));
    assert_eq!(outlook.check("tiny", 2, now + MILLISECOND, now), Ok(()), "another class");
    assert_eq!(outlook.check("tiny", 3, now + 180 * MILLISECOND, now), Ok(()), "just in time");
    let refusal = outlook.check("tiny", 3, now + 100 * MILLISECOND, now).expect_err("too late");
    assert_eq!(refusal.reason, Reason::Overloaded);
    assert_eq!(refusal.text, "'tiny' would answer in 180 ms, the deadline allows 100 ms; retry in 180 ms");
    assert_eq!(refusal.retry_after, Some(180 * MILLISECOND));
    assert_eq!((outlook.take_refused(3), outlook.take_refused(3), outlook.take_refused(2)), (1, 0, 0));
}

#[test]
fn an_outlook_that_time_has_overtaken_refuses_nobody() {
    let now = Instant::now();
    let outlook = Outlook::new(now);
    outlook.publish(0, Some(now + MILLISECOND));
    assert_eq!(outlook.check("tiny", 0, now, now + 2 * MILLISECOND), Ok(()));
}

#[test]
fn a_class_that_is_not_told_apart_goes_with_the_last() {
    let now = Instant::now();
    let outlook = Outlook::new(now);
    outlook.publish(200, Some(now + 50 * MILLISECOND));
    assert!(outlook.check("tiny", 7, now, now).is_err());
    assert!(outlook.check("tiny", 255, now, now).is_err());
}

#[test]
fn short_times_are_told_in_fractions_and_no_wait_is_under_10_ms() {
    let refusal = overloaded("tiny", MILLISECOND / 4, Duration::ZERO, MILLISECOND);
    assert_eq!(refusal.text, "'tiny' would answer in 0.250 ms, the deadline allows 0 ms; retry in 10 ms");
}
