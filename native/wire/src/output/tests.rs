use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

/// Everything that waits, read as a socket would take it: through slices, so many bytes at a time.
fn drain(output: &mut Output, bytes_max: usize) -> Vec<u8> {
    let mut drained = Vec::new();
    while !output.is_empty() {
        let mut slices = [IoSlice::new(&[]), IoSlice::new(&[])];
        let count = output.slices(&mut slices);
        assert!(count > 0, "something waits but no slice shows it");
        let joined: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
        let taken = joined.len().min(bytes_max);
        drained.extend_from_slice(&joined[..taken]);
        output.consume(taken);
    }
    drained
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<u8>),
    Share(Vec<u8>),
    Consume(usize),
    Detach,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = |max: usize| proptest::collection::vec(any::<u8>(), 0..max);
    let step = prop_oneof![
        bytes(200).prop_map(Step::Append),
        bytes(5_000).prop_map(Step::Share),
        (0_usize..30_000).prop_map(Step::Consume),
        Just(Step::Detach),
    ];
    proptest::collection::vec(step, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came(steps in steps(), bytes_max in 1_usize..4_000) {
        let (mut output, mut expected, mut written) = (Output::default(), Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Append(bytes) => {
                    output.buffer().extend_from_slice(&bytes);
                    expected.extend_from_slice(&bytes);
                }
                Step::Share(bytes) => {
                    expected.extend_from_slice(&bytes);
                    output.share(Bytes::from(bytes));
                }
                Step::Consume(bytes) => {
                    let mut slices = std::array::from_fn::<_, 128, _>(|_| IoSlice::new(&[]));
                    let count = output.slices(&mut slices);
                    let all: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
                    written.extend_from_slice(&all[..bytes.min(all.len())]);
                    output.consume(bytes);
                }
                Step::Detach => output.detach(),
            }
            prop_assert_eq!(output.len(), expected.len() - written.len());
        }
        written.extend(drain(&mut output, bytes_max));
        prop_assert_eq!(written, expected);
    }
}

#[test]
fn a_payload_is_appended_in_its_order() {
    let mut payload = Payload::default();
    payload.buffer().extend_from_slice(b"head ");
    payload.share(Bytes::from(vec![b'x'; SHARED_BYTES_MIN]));
    payload.share(Bytes::from_static(b" small"));
    payload.share(Bytes::from(vec![b'y'; SHARED_BYTES_MIN]));
    let mut output = Output::default();
    output.payload(&payload);
    let expected = [&b"head "[..], &[b'x'; SHARED_BYTES_MIN], b" small", &[b'y'; SHARED_BYTES_MIN]].concat();
    assert_eq!(output.len(), payload.len());
    assert_eq!(drain(&mut output, 7), expected);
}

#[test]
fn a_detached_output_pins_no_memory_of_others() {
    let lent = Bytes::from(vec![7; 4_096]);
    let mut output = Output::default();
    output.share(lent.clone());
    output.share(lent.slice(1..2_000));
    assert!(!lent.is_unique());
    output.consume(100);
    output.detach();
    output.detach();
    assert!(lent.is_unique());
    assert_eq!(drain(&mut output, 512), [&lent[100..], &lent[1..2_000]].concat());
}

#[test]
fn a_written_slice_is_given_back_at_once() {
    let lent = Bytes::from(vec![7; 4_096]);
    let mut output = Output::default();
    output.share(lent.clone());
    output.buffer().extend_from_slice(b"more");
    output.consume(4_096);
    assert!(lent.is_unique());
    assert_eq!(output.len(), 4);
}

#[test]
fn a_drained_output_keeps_a_small_buffer_and_no_large_one() {
    let mut output = Output::default();
    output.buffer().extend_from_slice(&[1; 500]);
    let capacity = output.buffer().capacity();
    output.consume(500);
    assert_eq!(output.buffer().capacity(), capacity);
    output.buffer().extend_from_slice(&[1; IDLE_BYTES_MAX + 1]);
    output.consume(IDLE_BYTES_MAX + 1);
    assert_eq!(output.held_bytes(), 0);
}

#[test]
fn a_peer_that_is_never_caught_up_with_does_not_make_the_buffer_grow() {
    let mut output = Output::default();
    output.buffer().extend_from_slice(&[1; 1_000]);
    for _ in 0..10_000 {
        output.buffer().extend_from_slice(&[1; 1_000]);
        output.consume(1_000);
    }
    assert_eq!(output.len(), 1_000);
    assert!(output.held_bytes() < 4 * COMPACT_BYTES_MIN, "{} bytes held", output.held_bytes());
}
