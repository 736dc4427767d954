use std::sync::atomic::AtomicUsize;

use super::*;

fn mailbox() -> (Arc<Mailbox>, Arc<AtomicUsize>) {
    let wakes = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&wakes);
    let wake = move || {
        counter.fetch_add(1, Ordering::SeqCst);
    };
    (Mailbox::new(2, Box::new(wake)), wakes)
}

fn collected(mailbox: &Mailbox) -> Vec<Answer> {
    let mut answers = Vec::new();
    mailbox.collect(&mut answers);
    answers
}

#[test]
fn a_caller_dropped_unanswered_is_told() {
    let (mailbox, wakes) = mailbox();
    let ticket = mailbox.issue(0);
    drop(Caller::new(ticket, Arc::clone(&mailbox)));
    let answers = collected(&mailbox);
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].ticket, ticket);
    assert_eq!(answers[0].outcome.as_ref().expect_err("a refusal"), &Refusal::abandoned());
    assert_eq!(wakes.load(Ordering::SeqCst), 1);
}

#[test]
fn a_caller_who_left_or_was_dismissed_is_told_nothing() {
    let (mailbox, wakes) = mailbox();
    let left = Caller::new(mailbox.issue(0), Arc::clone(&mailbox));
    assert!(left.is_waiting());
    mailbox.retire(left.ticket());
    assert!(!left.is_waiting());
    drop(left);
    Caller::new(mailbox.issue(1), Arc::clone(&mailbox)).dismiss();
    assert!(collected(&mailbox).is_empty());
    assert_eq!(wakes.load(Ordering::SeqCst), 0);
}

#[test]
fn a_slot_used_again_does_not_wake_the_dead() {
    let (mailbox, _) = mailbox();
    let first = mailbox.issue(1);
    mailbox.retire(first);
    let second = mailbox.issue(1);
    assert_ne!(first, second);
    assert!(!mailbox.is_live(first) && mailbox.is_live(second));
    mailbox.retire(first);
    assert!(mailbox.is_live(second), "retiring twice ends nobody else");
}

#[test]
fn a_delivery_keeps_order_and_wakes_once() {
    let (mailbox, wakes) = mailbox();
    let tickets = [mailbox.issue(0), mailbox.issue(1)];
    let mut answers: Vec<Answer> =
        tickets.iter().map(|&ticket| Answer { ticket, outcome: Err(Refusal::abandoned()) }).collect();
    mailbox.deliver(&mut answers);
    mailbox.deliver(&mut answers);
    assert_eq!(wakes.load(Ordering::SeqCst), 1, "nothing to deliver, nobody to wake");
    assert_eq!(collected(&mailbox).iter().map(|answer| answer.ticket).collect::<Vec<_>>(), tickets);
}
