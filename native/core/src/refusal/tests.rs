use std::collections::HashSet;

use super::*;

#[test]
fn every_row_of_the_catalogue_has_a_label_of_its_own() {
    let labels: HashSet<_> = Reason::ALL.iter().map(|reason| reason.entry().label).collect();
    assert_eq!(labels.len(), Reason::ALL.len());
    for (index, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, index, "{}", reason.entry().variant);
        assert!(reason.entry().label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
    }
}

#[test]
fn only_refusals_that_may_pass_say_retry() {
    for reason in Reason::ALL {
        let entry = reason.entry();
        let may_pass = matches!(entry.http, 408 | 429) || entry.http == 503;
        assert_eq!(entry.retry, may_pass, "{}", entry.label);
    }
}

#[test]
fn only_defects_of_ours_are_internal() {
    for reason in Reason::ALL {
        let is_defect = matches!(reason, Reason::Abandoned | Reason::Internal);
        assert_eq!(reason.entry().http == 500, is_defect);
        assert_eq!(reason.entry().grpc == Some(Internal), is_defect);
    }
}

#[test]
fn connections_end_where_the_next_request_cannot_be_found() {
    use Reason::{BadFraming, BodyTooLarge, HeadersTooLarge, ReadTimeout, UriTooLong, VersionNotSupported};
    let ending = [BadFraming, UriTooLong, HeadersTooLarge, VersionNotSupported, BodyTooLarge, ReadTimeout];
    for reason in Reason::ALL {
        assert_eq!(reason.entry().close, ending.contains(reason), "{}", reason.entry().label);
    }
}

#[test]
fn at_most_64_bytes_are_quoted_and_all_of_them_are_printable() {
    let table: [(&[u8], &str); 6] = [
        (b"", ""),
        (b"plain text", "plain text"),
        (b"a\nb\x00", "a\\nb\\u{0}"),
        ("grün".as_bytes(), "gr\\u{fc}n"),
        (b"\xff", "\\u{fffd}"),
        (b"quote ' and \\", "quote ' and \\"),
    ];
    for (bytes, expected) in table {
        assert_eq!(quoted(bytes), expected);
    }
    assert_eq!(quoted(&[b'x'; 64]), "x".repeat(64));
    assert_eq!(quoted(&[b'x'; 65]), format!("{}…", "x".repeat(64)));
    assert!(quoted(&[0; 1_000]).len() <= 64 + '…'.len_utf8());
}

#[test]
fn texts_begin_small_and_end_without_a_stop() {
    for refusal in [Refusal::abandoned(), Refusal::deadline(Duration::from_millis(5), Duration::from_millis(5))] {
        assert!(!refusal.text.starts_with(char::is_uppercase) && !refusal.text.ends_with('.'), "{refusal}");
    }
}
