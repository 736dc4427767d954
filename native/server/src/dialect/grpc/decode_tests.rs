use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use servekit_core::{Contract, Datatype, Limits, Reason, Refusal};

use super::{decode, peek};
use crate::dialect::fixtures::{contract, elements, ident, limits, repeatable, same, singles, text, tiny};
use crate::dialect::{AskedOutput, Decoded, Memory, Terms};
use crate::messages::infer::{
    InferParameter, InferRequestedOutputTensor, InferTensor, InferTensorContents, ModelInferRequest, ParameterChoice,
};

fn decoded(contract: &Contract, message: &[u8]) -> Result<Decoded, Refusal> {
    decoded_within(contract, message, &limits())
}

fn decoded_within(contract: &Contract, message: &[u8], limits: &Limits) -> Result<Decoded, Refusal> {
    decode(&Bytes::copy_from_slice(message), contract, limits, &mut Memory::default())
        .map_err(|undecodable| undecodable.refusal)
}

fn sent(contract: &Contract, request: &ModelInferRequest) -> Result<Decoded, Refusal> {
    decoded(contract, &request.encode_to_vec())
}

fn model(message: &[u8]) -> Result<(&str, &str), Reason> {
    peek(message, &limits()).map(|cover| (cover.name, cover.version)).map_err(|refusal| refusal.reason)
}

fn reason(result: Result<Decoded, Refusal>) -> Result<(), Reason> {
    result.map(|_| ()).map_err(|refusal| refusal.reason)
}

fn data(result: Result<Decoded, Refusal>) -> Vec<u8> {
    result.expect("a request").inputs[0].as_ref().expect("an input").data.to_vec()
}

fn input(name: &str, datatype: &str, shape: &[i64]) -> InferTensor {
    InferTensor { name: name.into(), datatype: datatype.into(), shape: shape.to_vec(), ..InferTensor::default() }
}

fn raw(contract: &Contract, shape: &[i64], data: &[u8]) -> ModelInferRequest {
    let spec = &contract.inputs[0];
    ModelInferRequest {
        model_name: contract.model.to_string(),
        inputs: vec![input(&spec.name, spec.datatype.name(), shape)],
        raw_input_contents: vec![Bytes::copy_from_slice(data)],
        ..ModelInferRequest::default()
    }
}

fn typed(contract: &Contract, shape: &[i64], contents: InferTensorContents) -> ModelInferRequest {
    let mut request = raw(contract, shape, &[]);
    request.raw_input_contents.clear();
    request.inputs[0].contents = Some(contents);
    request
}

fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter { parameter_choice: Some(choice) }
}

/// A field with a length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut bytes);
    [bytes, content.to_vec()].concat()
}

#[test]
fn raw_tensors_stay_where_they_are() {
    let message = Bytes::from(raw(&tiny(), &[1, 4], &singles(&[1.0, 2.0, 3.0, 4.0])).encode_to_vec());
    let decoded = decode(&message, &tiny(), &limits(), &mut Memory::default()).expect("good");
    let tensor = decoded.inputs[0].as_ref().expect("given");
    assert_eq!(tensor.data, singles(&[1.0, 2.0, 3.0, 4.0]));
    assert!(message.as_ptr_range().contains(&tensor.data.as_ptr()));
    assert_eq!((decoded.rows, decoded.overrides, decoded.terms), (1, false, Terms::default()));
}

#[test]
fn packed_floats_stay_where_they_are() {
    let contents = InferTensorContents { fp32_contents: vec![1.0, 2.0, 3.0, 4.0], ..Default::default() };
    let message = Bytes::from(typed(&tiny(), &[1, 4], contents).encode_to_vec());
    let decoded = decode(&message, &tiny(), &limits(), &mut Memory::default()).expect("good");
    let tensor = decoded.inputs[0].as_ref().expect("given");
    assert_eq!(tensor.data, singles(&[1.0, 2.0, 3.0, 4.0]));
    assert!(message.as_ptr_range().contains(&tensor.data.as_ptr()));
}

#[test]
fn the_model_is_told_before_all_else() {
    let mut request = raw(&tiny(), &[1, 4], &[0; 16]);
    request.model_version = "3".into();
    assert_eq!(model(&request.encode_to_vec()), Ok(("tiny", "3")));
    assert_eq!(model(&[]), Ok(("", "")));
    let late = [field(5, b""), field(1, b"a"), field(1, b"b")].concat();
    assert_eq!(model(&late), Ok(("b", "")));
    for broken in [&[0x08, 1][..], &[0x0A, 1, 0xFF], &[0x0A, 5, b'a']] {
        assert_eq!(model(broken), Err(Reason::BadProtobuf));
    }
}

#[test]
fn a_cover_passes_over_what_is_told_of_later() {
    let mut request = raw(&tiny(), &[1, 4], &[0; 16]);
    for (choice, level) in [
        (ParameterChoice::Signed(8), Some(8)),
        (ParameterChoice::Signed(0), None),
        (ParameterChoice::Signed(9), None),
        (ParameterChoice::Signed(-1), None),
        (ParameterChoice::Text("1".into()), None),
        (ParameterChoice::Unsigned(u64::MAX), None),
    ] {
        request.parameters.insert("priority".into(), parameter(choice.clone()));
        let cover = request.encode_to_vec();
        assert_eq!(peek(&cover, &limits()).map(|cover| cover.terms.level), Ok(level), "{choice:?}");
        let is_good = matches!(choice, ParameterChoice::Signed(0..=8));
        assert_eq!(reason(sent(&tiny(), &request)), if is_good { Ok(()) } else { Err(Reason::BadField) }, "{choice:?}");
    }
}

#[test]
fn what_is_asked_for_is_kept() {
    let mut request = raw(&tiny(), &[1, 4], &[0; 16]);
    request.id = "7".into();
    request.parameters.insert("timeout".into(), parameter(ParameterChoice::Signed(1_500)));
    request.parameters.insert("priority".into(), parameter(ParameterChoice::Unsigned(2)));
    request.parameters.insert("mine".into(), parameter(ParameterChoice::Double(0.5)));
    request.outputs = vec![InferRequestedOutputTensor { name: "y".into(), ..Default::default() }];
    request.inputs[0].parameters.insert("other".into(), InferParameter::default());
    let decoded = sent(&tiny(), &request).expect("good");
    let terms = Terms { timeout: Some(Duration::from_micros(1_500)), level: Some(2) };
    assert_eq!((decoded.terms, peek(&request.encode_to_vec(), &limits()).map(|cover| cover.terms)), (terms, Ok(terms)));
    assert_eq!(decoded.asked.id.as_deref(), Some("7"));
    assert_eq!(decoded.asked.outputs[..], [AskedOutput { index: 0, binary: None }]);
}

#[test]
fn typed_contents_become_bytes() {
    let of = |datatype: &str, contents: InferTensorContents| {
        data(sent(&same(datatype), &typed(&same(datatype), &[1, 3], contents)))
    };
    let none = InferTensorContents::default;
    assert_eq!(of("BOOL", InferTensorContents { bool_contents: vec![true, false, true], ..none() }), [1, 0, 1]);
    let signed = || InferTensorContents { int_contents: vec![-1, 0, 127], ..none() };
    assert_eq!(of("INT8", signed()), [0xFF, 0, 127]);
    assert_eq!(of("INT16", signed()), [0xFF, 0xFF, 0, 0, 127, 0]);
    assert_eq!(of("INT32", signed()), [[0xFF; 4], [0; 4], [127, 0, 0, 0]].concat());
    let long = InferTensorContents { int64_contents: vec![i64::MIN, -1, 1], ..none() };
    assert_eq!(of("INT64", long), [i64::MIN, -1, 1].map(i64::to_le_bytes).concat());
    let unsigned = || InferTensorContents { uint_contents: vec![255, 0, 1], ..none() };
    assert_eq!(of("UINT8", unsigned()), [255, 0, 1]);
    assert_eq!(of("UINT16", unsigned()), [255, 0, 0, 0, 1, 0]);
    assert_eq!(of("UINT32", unsigned()), [255_u32, 0, 1].map(u32::to_le_bytes).concat());
    let long = InferTensorContents { uint64_contents: vec![u64::MAX, 0, 1], ..none() };
    assert_eq!(of("UINT64", long), [u64::MAX, 0, 1].map(u64::to_le_bytes).concat());
    let doubles = InferTensorContents { fp64_contents: vec![0.1, -0.0, f64::INFINITY], ..none() };
    assert_eq!(of("FP64", doubles), [0.1, -0.0, f64::INFINITY].map(f64::to_le_bytes).concat());
    let words: Vec<Bytes> = vec!["a".into(), "".into(), Bytes::from_static(b"\xFF")];
    let bytes = InferTensorContents { bytes_contents: words.clone(), ..none() };
    assert_eq!(of("BYTES", bytes), elements(&words));
}

#[test]
fn numbers_come_packed_or_one_by_one() {
    let head = [field(1, b"x"), field(2, b"INT64"), vec![0x18, 1, 0x18, 3]].concat();
    let contents = [vec![0x18, 1], field(3, &[2, 0x83, 0]), vec![]].concat();
    let message = field(5, &[head, field(5, &contents)].concat());
    assert_eq!(data(decoded(&same("INT64"), &message)), [1_i64, 2, 3].map(i64::to_le_bytes).concat());
    let head = [field(1, b"x"), field(2, b"FP32"), field(3, &[1, 3])].concat();
    let one = |value: f32| [&[0x35][..], &value.to_le_bytes()].concat();
    let contents = [one(1.0), field(6, &singles(&[2.0, 3.0]))].concat();
    let message = field(5, &[head, field(5, &contents)].concat());
    assert_eq!(data(decoded(&same("FP32"), &message)), singles(&[1.0, 2.0, 3.0]));
}

#[test]
fn typed_values_keep_to_their_ranges() {
    let cases = [
        (
            "INT8",
            InferTensorContents { int_contents: vec![0, 128, 0], ..Default::default() },
            "128, INT8 allows integers from -128 to 127",
        ),
        ("INT16", InferTensorContents { int_contents: vec![0, -32_769, 0], ..Default::default() }, "-32769, INT16"),
        ("UINT8", InferTensorContents { uint_contents: vec![0, 256, 0], ..Default::default() }, "256, UINT8"),
        ("UINT16", InferTensorContents { uint_contents: vec![0, 65_536, 0], ..Default::default() }, "65536, UINT16"),
    ];
    for (datatype, contents, expected) in cases {
        let refusal = sent(&same(datatype), &typed(&same(datatype), &[1, 3], contents)).unwrap_err();
        assert_eq!(refusal.reason, Reason::ValueOutOfRange);
        assert!(refusal.text.starts_with(&format!("input 'x' value 1 is {expected}")), "{}", refusal.text);
    }
}

/// G8.
#[test]
fn tensors_travel_one_way() {
    let floats = || InferTensorContents { fp32_contents: vec![1.0; 3], ..Default::default() };
    let mut both = typed(&ident(), &[1, 3], floats());
    both.raw_input_contents = vec![Bytes::from_static(&[0; 12])];
    let refusal = sent(&ident(), &both).unwrap_err();
    assert_eq!(refusal.reason, Reason::BadContents);
    assert_eq!(
        refusal.text,
        "contents field must not be specified when using raw_input_contents for 'x' for model 'ident'; send one of the two"
    );
    let mut twice = raw(&ident(), &[1, 3], &[0; 12]);
    twice.raw_input_contents.push(Bytes::from_static(&[0; 12]));
    assert_eq!(reason(sent(&ident(), &twice)), Err(Reason::BadContents));
    assert_eq!(reason(sent(&same("INT64"), &typed(&same("INT64"), &[1, 3], floats()))), Err(Reason::BadContents));
    for datatype in ["FP16", "BF16"] {
        assert_eq!(reason(sent(&same(datatype), &typed(&same(datatype), &[1, 3], floats()))), Err(Reason::BadContents));
        assert_eq!(reason(sent(&same(datatype), &raw(&same(datatype), &[1, 3], &[0; 6]))), Ok(()));
    }
    for contents in
        [InferTensorContents::default(), InferTensorContents { fp32_contents: vec![1.0; 4], ..Default::default() }]
    {
        assert_eq!(reason(sent(&ident(), &typed(&ident(), &[1, 3], contents))), Err(Reason::BadContents));
    }
    let mut nothing = raw(&ident(), &[1, 3], &[]);
    nothing.raw_input_contents.clear();
    assert_eq!(reason(sent(&ident(), &nothing)), Err(Reason::BadContents));
    nothing.inputs[0].shape = vec![0, 3];
    assert_eq!(sent(&ident(), &nothing).expect("empty").rows, 0);
    let mut empty = raw(&ident(), &[1, 3], &[0; 12]);
    empty.inputs[0].contents = Some(InferTensorContents::default());
    assert_eq!(reason(sent(&ident(), &empty)), Ok(()));
}

/// G7.
#[test]
fn a_message_that_is_none_is_refused_with_its_position() {
    let good = raw(&ident(), &[1, 3], &[0; 12]).encode_to_vec();
    let with = |bytes: &[u8]| decoded(&ident(), &[&good, bytes].concat());
    let groups = |depth: usize| [vec![0x7B; depth], vec![0x7C; depth]].concat();
    assert_eq!(reason(with(&groups(100))), Ok(()));
    let shape = [field(1, b"x"), field(3, &[0x80; 11])].concat();
    let cases: [&[u8]; 14] = [
        &groups(101),
        &groups(200),
        &[0x7B; 5],
        &[0x7C],
        &[0x7B, 0x74],
        &[0x00, 1],
        &[0x0E, 1],
        &[0x0F, 1],
        &[0x3A, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F],
        &[0x3A, 5, 1],
        &[0x78],
        &[0x78, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02],
        &[0x79, 1, 2, 3],
        &[0x1A, 1, 0xFF],
    ];
    for bytes in cases {
        let refusal = with(bytes).unwrap_err();
        assert_eq!(refusal.reason, Reason::BadProtobuf, "{bytes:02x?}");
        assert!(
            refusal.text.contains(" byte ") && refusal.text.ends_with("; build the message from the published proto")
        );
    }
    let zero = decoded(&ident(), &[0x0A, 2, b'a', b'b', 0x00, 1]).unwrap_err();
    assert_eq!(
        zero.text,
        "field number 0 at byte 4, numbers from 1 are allowed; build the message from the published proto"
    );
    assert_eq!(reason(decoded(&ident(), &field(5, &shape))), Err(Reason::BadProtobuf));
    let wrong = decoded(&ident(), &[0x28, 1]).unwrap_err();
    assert_eq!(wrong.reason, Reason::BadProtobuf);
}

#[test]
fn counts_are_checked_before_memory_is_taken() {
    let many = [0x2A, 0].repeat(100_000);
    let refusal = decoded(&ident(), &many).unwrap_err();
    assert_eq!(
        (refusal.reason, &*refusal.text),
        (Reason::EnvelopeTooLarge, "1001 inputs, at most 1000 are allowed; split the request")
    );
    for number in [6, 7] {
        assert_eq!(reason(decoded(&ident(), &[number << 3 | 2, 0].repeat(2_000))), Err(Reason::EnvelopeTooLarge));
    }
    let head = [field(1, b"x"), field(2, b"INT64"), field(3, &[1, 3])].concat();
    let contents = field(5, &field(3, &vec![1; 4 << 20]));
    let refusal = decoded(&same("INT64"), &field(5, &[head, contents].concat())).unwrap_err();
    assert_eq!(refusal.reason, Reason::BadContents);
    assert!(refusal.text.contains("have 4194304 values, its shape needs 3"), "{}", refusal.text);
    let ones = field(5, &[field(1, b"x"), field(2, b"FP32"), field(3, &vec![1; 1 << 20])].concat());
    assert_eq!(reason(decoded(&ident(), &ones)), Err(Reason::TensorTooLarge));
}

#[test]
fn the_envelope_has_limits() {
    let good = || raw(&ident(), &[1, 1], &[0; 4]);
    let flag = || parameter(ParameterChoice::Flag(true));
    for (count, expected) in [(64, Ok(())), (65, Err(Reason::EnvelopeTooLarge))] {
        let parameters = || (0..count).map(|index| (format!("p{index}"), flag())).collect();
        let at_request = ModelInferRequest { parameters: parameters(), ..good() };
        let mut at_input = good();
        at_input.inputs[0].parameters = parameters();
        let output = InferRequestedOutputTensor { name: "y".into(), parameters: parameters() };
        for request in [at_request, at_input, ModelInferRequest { outputs: vec![output], ..good() }] {
            assert_eq!(reason(sent(&ident(), &request)), expected, "{count}");
        }
    }
    for (bytes, expected) in [(256, Ok(())), (257, Err(Reason::EnvelopeTooLarge))] {
        let mut request = good();
        request.parameters.insert("k".repeat(bytes), flag());
        assert_eq!(reason(sent(&ident(), &request)), expected, "{bytes}");
    }
    for (bytes, expected) in [(65_536, Ok(())), (65_537, Err(Reason::EnvelopeTooLarge))] {
        let mut request = good();
        request.parameters.insert("k".into(), parameter(ParameterChoice::Text("v".repeat(bytes))));
        assert_eq!(reason(sent(&ident(), &request)), expected, "{bytes}");
    }
    for (bytes, expected) in [(1_024, Ok(())), (1_025, Err(Reason::EnvelopeTooLarge))] {
        assert_eq!(reason(sent(&ident(), &ModelInferRequest { id: "i".repeat(bytes), ..good() })), expected, "{bytes}");
    }
    let mut long = good();
    long.inputs[0].name = "n".repeat(257);
    assert_eq!(reason(sent(&ident(), &long)), Err(Reason::EnvelopeTooLarge));
    let mut limits = limits();
    let two = ModelInferRequest {
        inputs: vec![input("ids", "INT64", &[1, 1]), input("mask", "INT64", &[1, 1])],
        raw_input_contents: vec![Bytes::from_static(&[0; 8]); 2],
        ..ModelInferRequest::default()
    };
    for (count, expected) in [(2, Ok(())), (1, Err(Reason::EnvelopeTooLarge))] {
        limits.request_tensors_max = count;
        assert_eq!(reason(decoded_within(&text(), &two.encode_to_vec(), &limits)), expected);
    }
}

#[test]
fn bytes_elements_have_limits() {
    let contract = contract("m", &[("x", "BYTES", &[-1])], &[("y", "BYTES", &[-1])]);
    let mut limits = limits();
    (limits.bytes_element_bytes_max, limits.bytes_elements_max) = (2, 3);
    for (words, expected) in [
        (vec!["ab", "", "c"], Ok(())),
        (vec!["abc"], Err(Reason::TensorTooLarge)),
        (vec!["", "", "", ""], Err(Reason::TensorTooLarge)),
    ] {
        let shape = [words.len() as i64];
        let contents = InferTensorContents {
            bytes_contents: words.iter().map(|&word| word.into()).collect(),
            ..Default::default()
        };
        for request in [raw(&contract, &shape, &elements(&words)), typed(&contract, &shape, contents)] {
            assert_eq!(reason(decoded_within(&contract, &request.encode_to_vec(), &limits)), expected, "{words:?}");
        }
    }
}

#[test]
fn a_request_that_does_not_fit_is_refused_by_its_id() {
    let mut request = raw(&ident(), &[1, 3], &[0; 11]);
    request.id = "7".into();
    let refusal = sent(&ident(), &request).unwrap_err();
    assert_eq!(refusal.reason, Reason::ByteSizeMismatch);
    assert!(refusal.text.starts_with("[request id: 7] input byte size mismatch for input 'x'"), "{}", refusal.text);
    let altered = |alter: fn(&mut ModelInferRequest)| {
        let mut request = raw(&ident(), &[1, 3], &[0; 12]);
        alter(&mut request);
        reason(sent(&ident(), &request)).unwrap_err()
    };
    assert_eq!(altered(|request| request.inputs[0].name = "z".into()), Reason::UnknownTensor);
    assert_eq!(altered(|request| request.inputs[0].datatype = "FP64".into()), Reason::DatatypeMismatch);
    assert_eq!(altered(|request| request.inputs[0].datatype = "STRING".into()), Reason::BadField);
    assert_eq!(altered(|request| request.inputs[0].shape = vec![-1, 3]), Reason::ShapeMismatch);
    assert_eq!(altered(|request| request.inputs[0].shape = vec![3]), Reason::ShapeMismatch);
    assert_eq!(altered(|request| request.inputs[0].shape = vec![1; 17]), Reason::TensorTooLarge);
    assert_eq!(altered(|request| request.inputs.clear()), Reason::BadContents);
    assert_eq!(
        altered(|request| (request.inputs.clear(), request.raw_input_contents.clear()).0),
        Reason::UnknownTensor
    );
    assert_eq!(altered(|request| request.outputs = vec![InferRequestedOutputTensor::default()]), Reason::UnknownTensor);
    let reserved = |request: &mut ModelInferRequest| {
        request.parameters.insert("triton_x".into(), parameter(ParameterChoice::Flag(true)));
    };
    assert_eq!(altered(reserved), Reason::ReservedName);
    let mut twice = raw(&ident(), &[1, 3], &[0; 12]);
    twice.inputs.push(twice.inputs[0].clone());
    twice.raw_input_contents.push(Bytes::from_static(&[0; 12]));
    assert_eq!(reason(sent(&ident(), &twice)), Err(Reason::Duplicate));
    let flags = raw(&same("BOOL"), &[1, 3], &[0, 1, 2]);
    assert_eq!(reason(sent(&same("BOOL"), &flags)), Err(Reason::ValueOutOfRange));
}

/// The bytes that the typed contents of a datatype stand for, the slow and obvious way.
fn naive(datatype: Datatype, contents: &InferTensorContents) -> Option<Vec<u8>> {
    let InferTensorContents {
        bool_contents,
        int_contents,
        int64_contents,
        uint_contents,
        uint64_contents,
        fp32_contents,
        fp64_contents,
        bytes_contents,
    } = contents;
    Some(match datatype {
        Datatype::Bool => bool_contents.iter().map(|&flag| u8::from(flag)).collect(),
        Datatype::Int8 => {
            int_contents.iter().map(|&value| i8::try_from(value).map(i8::cast_unsigned).ok()).collect::<Option<_>>()?
        }
        Datatype::Int32 => int_contents.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Datatype::Int64 => int64_contents.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Datatype::Uint32 => uint_contents.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Datatype::Uint64 => uint64_contents.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Datatype::Fp32 => fp32_contents.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Datatype::Fp64 => fp64_contents.iter().flat_map(|value| value.to_le_bytes()).collect(),
        Datatype::Bytes => elements(bytes_contents),
        _ => return None,
    })
}

fn any_request() -> impl Strategy<Value = (Datatype, ModelInferRequest)> {
    use Datatype::{Bool, Bytes as Words, Fp32, Fp64, Int8, Int32, Int64, Uint32, Uint64};
    let datatype = prop::sample::select(vec![Bool, Int8, Int32, Int64, Uint32, Uint64, Fp32, Fp64, Words]);
    (datatype, 0..5_usize, any::<u64>(), "[a-z]{0,5}", any::<bool>()).prop_map(|(datatype, count, seed, id, is_raw)| {
        let value = |index: usize| seed.rotate_left(index as u32 * 7) >> (seed % 64);
        let values = || (0..count).map(value);
        let mut contents = InferTensorContents::default();
        match datatype {
            Bool => contents.bool_contents = values().map(|value| value % 2 == 1).collect(),
            Int8 | Int32 => contents.int_contents = values().map(|value| value as i32).collect(),
            Int64 => contents.int64_contents = values().map(|value| value as i64).collect(),
            Uint32 => contents.uint_contents = values().map(|value| value as u32).collect(),
            Uint64 => contents.uint64_contents = values().collect(),
            Fp32 => contents.fp32_contents = values().map(|value| f32::from_bits(value as u32)).collect(),
            Fp64 => contents.fp64_contents = values().map(f64::from_bits).collect(),
            _ => contents.bytes_contents = values().map(|value| value.to_le_bytes()[..count].to_vec().into()).collect(),
        }
        let mut request = ModelInferRequest { id, ..ModelInferRequest::default() };
        request.inputs = vec![input("x", datatype.name(), &[count as i64])];
        match naive(datatype, &contents).filter(|_| is_raw) {
            Some(data) => request.raw_input_contents = vec![data.into()],
            None => request.inputs[0].contents = Some(contents),
        }
        (datatype, request)
    })
}

proptest! {
    #![proptest_config(repeatable())]

    #[test]
    fn decoding_agrees_with_prost((datatype, request) in any_request(), unknown in prop::collection::vec(any::<u8>(), 0..6)) {
        let contract = contract("m", &[("x", datatype.name(), &[-1])], &[]);
        let message = [request.encode_to_vec(), unknown].concat();
        let ours = decoded(&contract, &message);
        match ModelInferRequest::decode(&message[..]) {
            Err(error) => prop_assert!(ours.is_err(), "{error}"),
            Ok(theirs) if theirs != request => {}
            Ok(theirs) => {
                let contents = theirs.inputs[0].contents.as_ref();
                let expected = theirs.raw_input_contents.first().map(|raw| raw.to_vec()).or_else(|| naive(datatype, contents?));
                match (ours, expected) {
                    (Ok(found), Some(expected)) => {
                        prop_assert_eq!(found.asked.id.as_deref().unwrap_or_default(), &theirs.id);
                        prop_assert_eq!(data(Ok(found)), expected);
                    }
                    (Err(refusal), None) => prop_assert_eq!(refusal.reason, Reason::ValueOutOfRange),
                    (ours, expected) => prop_assert!(false, "{ours:?} {expected:?}"),
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_decoding_panic(message in prop::collection::vec(any::<u8>(), 0..40), (_, request) in any_request(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let _ = (peek(&message, &limits()), decoded(&ident(), &message));
        let mut altered = request.encode_to_vec();
        if !altered.is_empty() {
            let at = at.index(altered.len());
            altered[at] = byte;
        }
        let _ = decoded(&contract("m", &[("x", &request.inputs[0].datatype, &[-1])], &[]), &altered);
    }
}
