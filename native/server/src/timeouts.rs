//! How long a caller is willing to wait, and before whom it goes, as its head says it.

use std::time::Duration;

use servekit_core::{Limits, Reason, Refusal, quoted};
use servekit_wire::Head;

use crate::dialect;

/// Digits that `grpc-timeout` may have, by gRPC's own rule.
const GRPC_DIGITS_MAX: usize = 8;

/// Digits of milliseconds; more would be longer than any limit by far.
const MILLISECOND_DIGITS_MAX: usize = 12;

/// Digits of a level of priority.
const LEVEL_DIGITS_MAX: usize = 3;

/// The shortest time that the head allows; `None` where it says nothing.
///
/// # Errors
/// `BadField`.
pub(crate) fn timeout(head: &Head) -> Result<Option<Duration>, Refusal> {
    let grpc = match head.field("grpc-timeout") {
        Some(value) if head.grpc => {
            let allowed = "1 to 8 digits and one of H, M, S, m, u, n are allowed";
            Some(grpc_timeout(value).ok_or_else(|| bad("grpc-timeout", value, allowed))?)
        }
        _ => None,
    };
    let own = match head.field("x-request-timeout-ms") {
        Some(value) => {
            let allowed = "whole milliseconds are allowed";
            Some(milliseconds(value).ok_or_else(|| bad("x-request-timeout-ms", value, allowed))?)
        }
        None => None,
    };
    Ok(match (grpc, own) {
        (Some(grpc), Some(own)) => Some(grpc.min(own)),
        (grpc, own) => grpc.or(own),
    })
}

/// The level of priority that the head names; `None` where it leaves it to the model.
///
/// # Errors
/// `BadField`.
pub(crate) fn level(head: &Head, limits: &Limits) -> Result<Option<u8>, Refusal> {
    let Some(value) = head.field("x-request-priority") else { return Ok(None) };
    let known = number(value, LEVEL_DIGITS_MAX).and_then(|value| dialect::level(value, limits));
    known.ok_or_else(|| {
        let levels_max = limits.priority_levels_max;
        let allowed =
            format!("levels from 0 to {levels_max} are allowed, of which 1 is the highest and 0 the model's own");
        bad("x-request-priority", value, &allowed)
    })
}

fn bad(field: &str, value: &[u8], allowed: &str) -> Refusal {
    Refusal::new(Reason::BadField, format!("{field} '{}' found, {allowed}; correct it", quoted(value)))
}

fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let count = number(digits, GRPC_DIGITS_MAX)?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3_600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

fn milliseconds(value: &[u8]) -> Option<Duration> {
    number(value, MILLISECOND_DIGITS_MAX).map(Duration::from_millis)
}

fn number(digits: &[u8], digits_max: usize) -> Option<u64> {
    let well_formed = (1..=digits_max).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    well_formed.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use servekit_wire::{HeadBuilder, Version};

    use super::*;

    fn told(fields: &[(&str, &str)]) -> Result<Option<Duration>, Reason> {
        let mut head = HeadBuilder::default();
        head.field(b"content-type", b"application/grpc");
        for (name, value) in fields {
            head.field(name.as_bytes(), value.as_bytes());
        }
        let head = head.finish(1, Version::Http2, b"POST", b"/");
        timeout(&head).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn each_unit_counts_what_grpc_says() {
        let cases = [
            ("99999999H", Duration::from_secs(99_999_999 * 3_600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("0n", Duration::ZERO),
        ];
        for (value, expected) in cases {
            assert_eq!(told(&[("grpc-timeout", value)]), Ok(Some(expected)), "{value}");
        }
        assert_eq!(told(&[]), Ok(None));
    }

    #[test]
    fn a_malformed_timeout_is_refused() {
        for value in ["-1S", "1x", "12345678901234567890", "123456789S", "S", "", "1", "1 S", "+1S"] {
            assert_eq!(told(&[("grpc-timeout", value)]), Err(Reason::BadField), "{value}");
        }
        for value in ["-1", "1.5", "", "1s", "1234567890123"] {
            assert_eq!(told(&[("x-request-timeout-ms", value)]), Err(Reason::BadField), "{value}");
        }
    }

    #[test]
    fn a_level_is_one_of_those_there_are() {
        let limits = servekit_testing::limits();
        let told = |value: &str| {
            let mut head = HeadBuilder::default();
            head.field(b"x-request-priority", value.as_bytes());
            let head = head.finish(1, Version::Http11, b"POST", b"/");
            level(&head, &limits).map_err(|refusal| refusal.text.into_owned())
        };
        for (value, expected) in [("0", None), ("1", Some(1)), ("8", Some(8)), ("004", Some(4))] {
            assert_eq!(told(value), Ok(expected), "{value}");
        }
        for value in ["9", "-1", "", "1.0", "high", "0001", "257"] {
            let text = format!(
                "x-request-priority '{value}' found, levels from 0 to 8 are allowed, of which 1 is the highest and 0 the model's own; correct it"
            );
            assert_eq!(told(value), Err(text), "{value}");
        }
    }

    #[test]
    fn the_shorter_of_two_counts() {
        let fields = [("grpc-timeout", "1S"), ("x-request-timeout-ms", "250")];
        assert_eq!(told(&fields), Ok(Some(Duration::from_millis(250))));
    }
}
