//! What holds for all input.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A conversation with most of what a client may say.
fn conversation() -> Vec<u8> {
    let head = block(CALL);
    [
        settings(&[(4, 40), (1, 0)]),
        frame(kind::SETTINGS, flag::ACK, 0, &[]),
        call(1, b"hello"),
        frame(kind::HEADERS, 0, 3, &head[..9]),
        frame(kind::CONTINUATION, flag::END_HEADERS, 3, &head[9..]),
        data(3, false, &message(&[b'm'; 30])[..3]),
        call(5, b"between"),
        data(3, false, &message(&[b'm'; 30])[3..20]),
        ping(),
        frame(kind::DATA, flag::PADDED, 3, &[&[4][..], &message(&[b'm'; 30])[20..], &[0; 4]].concat()),
        headers(3, true, &[("trailer", "x")]),
        window_update(0, 99),
        post(7),
        data(7, true, &[b'p'; 50]),
        headers(9, true, &[("bad", "head")]),
        headers(11, false, &with(POST, &[("content-length", "3")])),
        data(11, true, b"four"),
        get(13),
        reset(13),
        frame(kind::PRIORITY, 0, 15, &[0; 5]),
        get(15),
        frame(kind::GOAWAY, 0, 0, &[0; 8]),
        data(0, false, b""),
    ]
    .concat()
}

/// Feeds the parts one by one, leaving what is not taken to the next, and answers every body by itself.
fn events_of(parts: &[&[u8]]) -> (Vec<String>, Vec<u8>) {
    let mut peer = Peer::silent(Limits::default());
    let mut told = Vec::new();
    for part in parts {
        let mut input = *part;
        while let Some(event) = peer.http2.advance(&mut input, peer.now, &mut peer.output) {
            told.push(text(&event));
            match event {
                Event::Head { stream, .. } => peer.http2.accept(stream, 20, &mut peer.output),
                Event::Grow { stream, bytes } => peer.http2.accept(stream, bytes, &mut peer.output),
                Event::Body { stream, body, .. } => peer.reply(stream.0, 200, &body),
                _ => {}
            }
        }
        assert!(input.is_empty());
    }
    (told, peer.bytes())
}

#[test]
fn input_cut_anywhere_means_the_same() {
    let whole = conversation();
    let expected = events_of(&[&whole]);
    assert!(expected.0.len() > 15, "{:?}", expected.0);
    for at in 0..whole.len() {
        assert_eq!(events_of(&[&whole[..at], &whole[at..]]), expected, "cut at {at}");
    }
    let bytes: Vec<&[u8]> = whole.chunks(1).collect();
    assert_eq!(events_of(&bytes), expected);
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        vec(any::<u8>(), 0..40),
        Just(block(GET)),
        Just(block(CALL)),
        Just(message(b"abc")),
        Just(vec![0, 0, 0, 1]),
    ];
    (0_u8..11, any::<u8>(), prop_oneof![0_u32..12, any::<u32>()], payload)
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_in_many_places_mean_the_same(cuts in vec(any::<proptest::sample::Index>(), 0..20)) {
        let whole = conversation();
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len())).collect();
        places.sort_unstable();
        let mut parts = Vec::new();
        let mut rest = &whole[..];
        let mut from = 0;
        for place in places {
            let (part, after) = rest.split_at(place - from);
            parts.push(part);
            (rest, from) = (after, place);
        }
        parts.push(rest);
        prop_assert_eq!(events_of(&parts), events_of(&[&whole]));
    }

    #[test]
    fn no_bytes_are_fatal(bytes in vec(any::<u8>(), 0..600)) {
        events_of(&[&bytes]);
        events_of(&[&settings(&[]), &bytes]);
    }

    #[test]
    fn no_frames_are_fatal_and_everything_is_given_back(frames in vec(any_frame(), 0..40)) {
        let mut peer = Peer::new();
        for bytes in &frames {
            peer.send(bytes);
            peer.said_nothing_wrong();
        }
        peer.http2.input_ended(peer.now);
        for stream in 0..20 {
            peer.reply(stream, 200, b"x");
        }
        peer.pass(seconds(3_600));
        peer.pass(seconds(3_600));
        prop_assert!(peer.http2.ended());
        prop_assert_eq!((peer.http2.open_requests(), peer.http2.held_bytes()), (0, 0));
    }

    #[test]
    fn no_header_block_is_fatal(block in vec(any::<u8>(), 0..200)) {
        let mut peer = Peer::new();
        peer.send(&frame(kind::HEADERS, flag::END_HEADERS | 1, 1, &block));
        prop_assert!(peer.http2.open_requests() <= 1);
    }
}

impl Peer {
    /// Whatever was written is whole frames.
    fn said_nothing_wrong(&mut self) {
        self.sent();
    }
}
