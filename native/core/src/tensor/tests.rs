use proptest::prelude::*;

use super::*;

fn tensor(datatype: Datatype, shape: &[i64], data: Vec<u8>) -> Tensor {
    Tensor { datatype, shape: shape.into(), data: data.into() }
}

/// A tensor of any datatype with recognisable bytes; BYTES elements of differing lengths.
fn any_tensor() -> impl Strategy<Value = Tensor> {
    let shapes = proptest::collection::vec(0..5_i64, 1..4);
    (0..Datatype::ALL.len(), shapes, 1..7_usize).prop_map(|(datatype, shape, stride)| {
        let datatype = Datatype::ALL[datatype];
        let count = element_count(&shape).expect("it is small") as usize;
        let mut data = Vec::new();
        for element in 0..count {
            let length = datatype.element_bytes().unwrap_or(element % stride);
            if datatype == Datatype::Bytes {
                data.extend_from_slice(&(length as u32).to_le_bytes());
            }
            data.extend((0..length).map(|byte| (element * 31 + byte) as u8));
        }
        tensor(datatype, &shape, data)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn element_counts_agree_with_wider_numbers(shape in proptest::collection::vec(-1..=i64::MAX, 0..6)) {
        let wide = shape.iter().try_fold(1_u128, |product, &size| product.checked_mul(u128::try_from(size).ok()?));
        let expected = if shape.contains(&0) {
            shape.iter().all(|&size| size >= 0).then_some(0)
        } else {
            wide.and_then(|count| u64::try_from(count).ok())
        };
        prop_assert_eq!(element_count(&shape), expected);
    }

    #[test]
    fn small_element_counts_agree_with_wider_numbers(shape in proptest::collection::vec(0..70_000_i64, 0..6)) {
        let wide = shape.iter().map(|&size| size as u128).product::<u128>();
        prop_assert_eq!(element_count(&shape).map(u128::from), u64::try_from(wide).ok().map(u128::from));
    }

    #[test]
    fn any_split_and_merge_of_rows_gives_the_rows_back(
        whole in any_tensor(),
        cuts in proptest::collection::vec(0..4_usize, 0..6),
    ) {
        let rows = whole.shape[0] as usize;
        let (mut rest, mut taken, mut sliced, mut at) = (whole.clone(), Vec::new(), Vec::new(), 0);
        for cut in cuts {
            let count = cut.min(rows - at);
            taken.push(rest.take_rows(count));
            sliced.push(whole.rows(at, count));
            at += count;
        }
        taken.push(rest);
        sliced.push(whole.rows(at, rows - at));
        prop_assert_eq!(&taken, &sliced, "one walk and slices from the start agree");
        prop_assert_eq!(Tensor::concatenate(&taken), Some(whole));
    }

    #[test]
    fn a_cut_keeps_what_is_left_of_it(whole in any_tensor(), axis in 0..3_usize, length in 0..6_usize) {
        let axis = axis % whole.shape.len();
        let cut = whole.clone().cut(axis, length);
        let size = whole.shape[axis] as usize;
        let inner = whole.shape[axis + 1..].iter().product::<i64>() as usize;
        let elements: Vec<&[u8]> = match whole.datatype.element_bytes() {
            Some(bytes) => whole.data.chunks_exact(bytes).collect(),
            None => whole.elements().collect(),
        };
        let is_left = |index: &usize| index / inner.max(1) % size.max(1) < length;
        let expected: Vec<&[u8]> = (0..elements.len()).filter(is_left).map(|index| elements[index]).collect();
        let found: Vec<&[u8]> = match cut.datatype.element_bytes() {
            Some(bytes) => cut.data.chunks_exact(bytes).collect(),
            None => cut.elements().collect(),
        };
        prop_assert_eq!(found, expected);
        let mut shape = whole.shape.clone();
        shape[axis] = size.min(length) as i64;
        prop_assert_eq!(cut.shape, shape);
    }

    #[test]
    fn hostile_lengths_of_byte_strings_never_panic(
        data in proptest::collection::vec(any::<u8>(), 0..40),
        rows in 0..5_i64,
        taken in 0..7_usize,
    ) {
        let mut hostile = tensor(Datatype::Bytes, &[rows, 2], data.clone());
        prop_assert!(hostile.elements().map(<[u8]>::len).sum::<usize>() <= data.len());
        prop_assert!(hostile.clone().cut(1, taken).data.len() <= data.len());
        let front = hostile.take_rows(taken);
        prop_assert_eq!(front.data.len() + hostile.data.len(), data.len());
    }
}

#[test]
fn counts_at_the_edge_of_64_bits() {
    let table: [(&[i64], Option<u64>); 8] = [
        (&[], Some(1)),
        (&[0], Some(0)),
        (&[0, i64::MAX, i64::MAX], Some(0)),
        (&[0, -1], None),
        (&[-1], None),
        (&[1 << 32, 1 << 31], Some(1 << 63)),
        (&[1 << 32, 1 << 32], None),
        (&[i64::MAX, 2], Some(u64::MAX - 1)),
    ];
    for (shape, expected) in table {
        assert_eq!(element_count(shape), expected, "{shape:?}");
    }
}

#[test]
fn more_rows_than_there_are_cannot_be_taken() {
    let mut whole = tensor(Datatype::Uint8, &[2, 1], vec![1, 2]);
    let front = whole.take_rows(5);
    assert_eq!((front.shape.as_slice(), &front.data[..]), (&[2, 1][..], &[1, 2][..]));
    assert_eq!((whole.shape.as_slice(), &whole.data[..]), (&[0, 1][..], &[][..]));
}

#[test]
fn a_scalar_is_taken_whole() {
    let mut scalar = tensor(Datatype::Int16, &[], vec![1, 2]);
    assert_eq!(scalar.take_rows(1), tensor(Datatype::Int16, &[], vec![1, 2]));
    let scalar = tensor(Datatype::Bytes, &[], vec![1, 0, 0, 0, b'x']);
    assert_eq!(scalar.rows(0, 1), scalar);
}

#[test]
fn parts_that_do_not_fit_together_are_not_merged() {
    let one = tensor(Datatype::Uint8, &[1, 2], vec![1, 2]);
    let others = [
        tensor(Datatype::Int8, &[1, 2], vec![1, 2]),
        tensor(Datatype::Uint8, &[1, 1], vec![1]),
        tensor(Datatype::Uint8, &[2], vec![1, 2]),
        tensor(Datatype::Uint8, &[], vec![1]),
    ];
    for other in others {
        assert_eq!(Tensor::concatenate(&[one.clone(), other.clone()]), None, "{other:?}");
    }
    assert_eq!(Tensor::concatenate(&[]), None);
}

#[test]
fn datatypes_are_read_by_the_name_they_are_written_with() {
    for datatype in Datatype::ALL {
        assert_eq!(Datatype::parse(datatype.name().as_bytes()), Some(datatype));
    }
    for wrong in [&b""[..], b"fp32", b"FP32 ", b"STRING", b"\xff"] {
        assert_eq!(Datatype::parse(wrong), None);
    }
}
