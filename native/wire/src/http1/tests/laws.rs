use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;

use super::*;

/// What is found depends on how much of it had come when it was found; that it is too much does not.
fn without_found(said: Said) -> Said {
    match said {
        Said::Violation(Violation::UriTooLong { allowed, .. }) => {
            Said::Violation(Violation::UriTooLong { found: 0, allowed })
        }
        Said::Violation(Violation::HeaderBytes { allowed, .. }) => {
            Said::Violation(Violation::HeaderBytes { found: 0, allowed })
        }
        other => other,
    }
}

fn small_limits() -> Limits {
    Limits {
        request_line_bytes_max: 60,
        header_bytes_max: 240,
        headers_max: 5,
        request_body_bytes_max: 300,
        body_chunks_max: 4,
        chunk_extension_bytes_max: 6,
        discard_bytes_max: 20,
        connection_read_bytes_max: 64,
        ..Limits::default()
    }
}

/// Everything said and written when these pieces come one after the other and every request is answered.
fn conversation(pieces: &[&[u8]]) -> (Vec<Said>, String) {
    let mut talk = Talk::with(small_limits());
    talk.grant = 16;
    let mut said = Vec::new();
    for piece in pieces {
        said.extend(talk.serve(piece));
    }
    talk.http1.input_ended();
    said.extend(talk.serve(b""));
    (said.into_iter().map(without_found).collect(), talk.written())
}

/// Pieces that make up requests, good and bad.
fn fragment() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        GET,
        "GET /g HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
        "HEAD /h HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: 7\r\n\r\n1234567",
        "POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n123456789",
        "POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\n\r\n",
        "POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: 301\r\n\r\n",
        "POST /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
        "GET /close HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        "5\r\nhello\r\n",
        "14;ab\r\nhello hello hello ab\r\n",
        "0\r\n\r\n",
        "0\r\nx: y\r\n\r\n",
        "\r\n",
        "\n",
        "x: y\r\n",
        "GET / HTTP/3.0\r\n",
        "content-length: 4\r\n",
        ": ",
    ]);
    prop_oneof![8 => fixed.prop_map(str::to_owned), 1 => "[ -~\r\n]{0,40}", 1 => "[a-z]{50,260}"]
}

fn cut<'a>(input: &'a [u8], places: &[Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = places.iter().map(|place| place.index(input.len() + 1)).collect();
    at.extend([0, input.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect()
}

/// The same cases in every run, and no file of past failures.
fn repeatable() -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..repeatable() })]

    #[test]
    fn how_bytes_are_cut_into_pieces_changes_nothing(
        fragments in prop::collection::vec(fragment(), 0..8),
        places in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        let input = fragments.concat().into_bytes();
        let whole = conversation(&[&input]);
        prop_assert_eq!(&conversation(&cut(&input, &places)), &whole);
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(&conversation(&bytes), &whole);
    }

    #[test]
    fn no_bytes_at_any_time_do_harm(
        pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..60), fragment(), 0_u64..20_000), 0..8),
    ) {
        let mut talk = Talk::with(small_limits());
        for (noise, fragment, ms) in pieces {
            for said in [talk.serve(fragment.as_bytes()), talk.serve(&noise), talk.pass(ms)].concat() {
                if let Said::Violation(_) = said {
                    talk.reply(400, "no");
                }
            }
            prop_assert!(talk.http1.ahead.bytes().len() <= 60 + 240 + 1 + 64);
            prop_assert!(!(talk.http1.ended() && talk.http1.wants_input()));
        }
        talk.http1.input_ended();
        talk.serve(b"");
        prop_assert!(talk.http1.ended() || talk.http1.open_requests() > 0);
    }

    #[test]
    fn a_refused_head_gets_one_answer_and_no_more(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut talk = Talk::new();
        let input = [&noise[..], b"\n", GET.as_bytes(), GET.as_bytes()].concat();
        let said = talk.serve(&input);
        if said.iter().any(|said| matches!(said, Said::Violation(_))) {
            prop_assert!(matches!(said.last(), Some(Said::Closing(None))));
            prop_assert_eq!(answers(&talk.written()), said.len() - 1);
        }
    }
}

#[test]
fn every_cut_of_every_request_in_two_gives_the_same() {
    let input = [
        GET,
        &post("content-length: 7\r\n", "1234567"),
        "\r\n",
        &chunked("5;x\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nx: y\r\n\r\n"),
        "GET /h HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
        &post("content-length: 5, 5\r\n", "hello"),
        GET,
    ]
    .concat()
    .into_bytes();
    let whole = conversation(&[&input]);
    assert_eq!(answers(&whole.1), 5, "{whole:?}");
    for at in 0..=input.len() {
        assert_eq!(conversation(&[&input[..at], &input[at..]]), whole, "cut at {at}");
    }
}
