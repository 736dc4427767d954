use proptest::prelude::*;
use servekit_core::{Datatype, Limits, Reason, Tensor, TensorSpec, element_count};
use servekit_testing::limits;

use super::*;
use crate::dialect::fixtures::repeatable;

fn spec(datatype: Datatype) -> TensorSpec {
    TensorSpec { name: "x".into(), datatype, axes: Box::new([]), optional: false, labels: None, base64: false }
}

fn read_within(datatype: Datatype, shape: &[i64], text: &str, limits: &Limits) -> Result<Vec<u8>, Fault> {
    let mut scanner = Scanner::new(text.as_bytes(), limits);
    let data = read_values(&mut scanner, &Target { spec: &spec(datatype), model: "m", shape })?;
    scanner.finish()?;
    Ok(data.to_vec())
}

fn read(datatype: Datatype, shape: &[i64], text: &str) -> Result<Vec<u8>, Fault> {
    read_within(datatype, shape, text, &limits())
}

fn print(datatype: Datatype, count: usize, data: &[u8]) -> String {
    let tensor = Tensor { datatype, shape: [count as i64].as_slice().into(), data: data.to_vec().into() };
    let mut text = vec![b'['];
    assert!(print_values(&tensor, false, &mut text, usize::MAX));
    text.push(b']');
    String::from_utf8(text).expect("printed text is UTF-8")
}

fn f32_of(text: &str) -> Result<f32, Reason> {
    let data = read(Datatype::Fp32, &[1], &format!("[{text}]")).map_err(|fault| fault.reason)?;
    Ok(f32::from_le_bytes(data[..].try_into().expect("one element")))
}

fn f64_of(text: &str) -> Result<f64, Reason> {
    let data = read(Datatype::Fp64, &[1], &format!("[{text}]")).map_err(|fault| fault.reason)?;
    Ok(f64::from_le_bytes(data[..].try_into().expect("one element")))
}

fn bits16(datatype: Datatype, text: &str) -> Result<u16, Reason> {
    let data = read(datatype, &[1], &format!("[{text}]")).map_err(|fault| fault.reason)?;
    Ok(u16::from_le_bytes(data[..].try_into().expect("one element")))
}

/// Long enough behind it for the quick way, and with too little behind it.
fn both_ways(text: &str) -> [f32; 2] {
    let padded = read(Datatype::Fp32, &[2], &format!("[{text},0.123456789012345678901]")).expect("numbers");
    let alone = f32_of(text).expect("a number");
    [f32::from_le_bytes(padded[..4].try_into().expect("first")), alone]
}

#[test]
fn numbers_are_what_the_standard_library_reads() {
    let cases = [
        "0",
        "-0",
        "0.0",
        "-0.0",
        "1",
        "-1",
        "0.1",
        "3.4028235e38",
        "-3.4028235E+38",
        "1e-45",
        "1.4e-45",
        "7e-46",
        "1e-400",
        "1.17549435e-38",
        "16777217",
        "16777217.0",
        "16777219.0",
        "0.5507979",
        "0.30016627907752991",
        "0.0052653043530881405",
        "9.9999999999999999",
        "0.999999999999999999",
        "9.223372036854775807",
        "9.223372036854775808",
        "9.99999999999999999",
        "123456.789",
        "1.00000017881393432617187499",
        "1.00000017881393432617187500",
        "1.00000017881393432617187501",
        "8.388608000000000000000001",
        "0.000000000000000000000000000000000000000000001",
        "2.5e0",
        "25e-1",
        "1E5",
        "1.000000059604644775390625",
        "1.0000000596046448",
        "1.00000005960464477",
        "18446744073709551616",
        "99999999999999999999",
    ];
    for text in cases {
        let expected: f32 = text.parse().expect("a float");
        for found in both_ways(text) {
            assert_eq!(found.to_bits(), expected.to_bits(), "{text}: {found} {expected}");
        }
        let expected: f64 = text.parse().expect("a double");
        assert_eq!(f64_of(text).map(f64::to_bits), Ok(expected.to_bits()), "{text}");
    }
}

#[test]
fn what_is_beyond_the_range_is_a_value_at_fault() {
    assert_eq!(f32_of("1e999"), Err(Reason::ValueOutOfRange));
    assert_eq!(f32_of("3.5e38"), Err(Reason::ValueOutOfRange));
    assert_eq!(f64_of("-1e309"), Err(Reason::ValueOutOfRange));
    assert_eq!(bits16(Datatype::Fp16, "65520"), Err(Reason::ValueOutOfRange));
    assert_eq!(bits16(Datatype::Fp16, "65519.99"), Ok(0x7BFF));
    assert_eq!(bits16(Datatype::Bf16, "3.4e38"), Err(Reason::ValueOutOfRange));
    let fault = read(Datatype::Fp32, &[3], "[1, 1e999, 2]").unwrap_err();
    assert_eq!(fault.text, "input 'x' value 1 is 1e999, FP32 allows up to 3.4028235e38; correct it");
}

#[test]
fn sixteen_bit_floats_are_rounded_once() {
    // Middles between neighbours go to the even one; the least bit beside them decides otherwise.
    assert_eq!(bits16(Datatype::Fp16, "1.00048828125"), Ok(0x3C00));
    assert_eq!(bits16(Datatype::Fp16, "1.000488281250000000000000000000000000000001"), Ok(0x3C01));
    assert_eq!(bits16(Datatype::Fp16, "1.00048828124999999999999999999999999999"), Ok(0x3C00));
    assert_eq!(bits16(Datatype::Fp16, "1.00146484375"), Ok(0x3C02));
    assert_eq!(bits16(Datatype::Fp16, "1.001464843749999999999999999999999999"), Ok(0x3C01));
    assert_eq!(bits16(Datatype::Fp16, "2.98023223876953125e-8"), Ok(0));
    assert_eq!(bits16(Datatype::Fp16, "2.980232238769531250000000000001e-8"), Ok(1));
    assert_eq!(bits16(Datatype::Fp16, "-0"), Ok(0x8000));
    assert_eq!(bits16(Datatype::Bf16, "1e-400"), Ok(0));
    assert_eq!(bits16(Datatype::Bf16, "1.00390625"), Ok(0x3F80));
    assert_eq!(bits16(Datatype::Bf16, "1.0039062500000000000000000000000001"), Ok(0x3F81));
    assert_eq!(bits16(Datatype::Bf16, "0.0100390625e2"), Ok(0x3F80));
}

#[test]
fn every_sixteen_bit_float_survives_its_text() {
    for datatype in [Datatype::Fp16, Datatype::Bf16] {
        let data: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let text = print(datatype, 1 << 16, &data);
        let back = read(datatype, &[1 << 16], &text).expect("own text");
        let infinity = if datatype == Datatype::Fp16 { 0x7C00 } else { 0x7F80 };
        for (bits, found) in (0..=u16::MAX).zip(back.chunks(2)) {
            let found = u16::from_le_bytes([found[0], found[1]]);
            // Of the NaNs one is enough.
            assert!(found == bits || (bits & 0x7FFF > infinity && found & 0x7FFF > infinity), "{bits:04x} {found:04x}");
        }
    }
}

#[test]
fn integers_keep_to_their_ranges() {
    let cases: [(Datatype, &str, &str); 8] = [
        (Datatype::Uint8, "255", "256"),
        (Datatype::Int8, "-128", "-129"),
        (Datatype::Uint16, "65535", "65536"),
        (Datatype::Int16, "32767", "32768"),
        (Datatype::Int32, "-2147483648", "-2147483649"),
        (Datatype::Uint32, "4294967295", "-1"),
        (Datatype::Uint64, "18446744073709551615", "18446744073709551616"),
        (Datatype::Int64, "-9223372036854775808", "-9223372036854775809"),
    ];
    for (datatype, inside, outside) in cases {
        let text = format!("[{inside}]");
        assert_eq!(print(datatype, 1, &read(datatype, &[1], &text).expect("inside")), text);
        let fault = read(datatype, &[1], &format!("[{outside}]")).unwrap_err();
        assert_eq!(fault.reason, Reason::ValueOutOfRange, "{datatype} {outside}");
        for other in ["3.7", "3.0", "3e0", "true", "null", "\"3\"", "{}"] {
            let fault = read(datatype, &[2], &format!("[1,{other}]")).unwrap_err();
            assert_eq!(fault.reason, Reason::ValueOutOfRange, "{datatype} {other}");
            assert!(fault.text.contains("value 1 is"), "{}", fault.text);
        }
    }
    let fault = read(Datatype::Int32, &[2], "[1,3.7]").unwrap_err();
    assert_eq!(
        fault.text,
        "input 'x' value 1 is 3.7, INT32 allows integers from -2147483648 to 2147483647; correct it"
    );
    assert_eq!(read(Datatype::Uint8, &[1], "[-0]").expect("zero"), [0]);
}

#[test]
fn flags_are_words_or_bits() {
    assert_eq!(read(Datatype::Bool, &[4], "[true,false, 1,0]").expect("flags"), [1, 0, 1, 0]);
    for other in ["2", "\"true\"", "1.0", "10", "null"] {
        let fault = read(Datatype::Bool, &[1], &format!("[{other}]")).unwrap_err();
        assert_eq!(fault.reason, Reason::ValueOutOfRange, "{other}");
    }
}

#[test]
fn strings_stand_for_what_is_no_number() {
    let text = r#"["NaN","Infinity","-Infinity",1.5]"#;
    for datatype in [Datatype::Fp16, Datatype::Bf16, Datatype::Fp32, Datatype::Fp64] {
        let data = read(datatype, &[4], text).expect("floats");
        assert_eq!(print(datatype, 4, &data), text);
        let fault = read(datatype, &[1], r#"["nan"]"#).unwrap_err();
        assert_eq!(fault.reason, Reason::ValueOutOfRange);
    }
}

#[test]
fn byte_elements_are_the_characters_of_strings() {
    let data = read(Datatype::Bytes, &[4], r#"["a\u0000b", "", "\ud83d\ude00\n\"\\\/", "größe"]"#).expect("strings");
    let expected: [&[u8]; 4] = [b"a\0b", b"", "😀\n\"\\/".as_bytes(), "größe".as_bytes()];
    let expected: Vec<u8> =
        expected.iter().flat_map(|element| [&(element.len() as u32).to_le_bytes(), *element].concat()).collect();
    assert_eq!(data, expected);
    assert_eq!(
        read(Datatype::Bytes, &[1], "[5]").unwrap_err().text,
        "input 'x' value 0 is 5, BYTES allows strings; correct it"
    );
    let mut limits = limits();
    limits.bytes_element_bytes_max = 3;
    assert!(read_within(Datatype::Bytes, &[1], "[\"abc\"]", &limits).is_ok());
    let fault = read_within(Datatype::Bytes, &[1], "[\"abcd\"]", &limits).unwrap_err();
    assert_eq!(fault.reason, Reason::TensorTooLarge);
}

#[test]
fn data_is_flat_or_nested_as_its_shape() {
    let shape = [2, 1, 2];
    let expected = read(Datatype::Uint8, &shape, "[1,2,3,4]").expect("flat");
    assert_eq!(read(Datatype::Uint8, &shape, " [ [ [ 1 , 2 ] ] ,\n[[3,4]]] ").expect("nested"), expected);
    assert_eq!(read(Datatype::Uint8, &[], "7").expect("a scalar alone"), [7]);
    assert_eq!(read(Datatype::Uint8, &[], "[7]").expect("a scalar"), [7]);
    assert_eq!(read(Datatype::Bytes, &[], "\"a, ]\"").expect("a scalar alone"), b"\x04\0\0\0a, ]");
    assert_eq!(read(Datatype::Uint8, &[], "7.5").unwrap_err().reason, Reason::ValueOutOfRange);
    assert_eq!(read(Datatype::Uint8, &[], "").unwrap_err().reason, Reason::BadJson);
    for empty in ["[]", "[[],[]]"] {
        assert!(read(Datatype::Uint8, &[2, 0], empty).expect("empty").is_empty());
    }
    for other in [
        "[1,2,3]",
        "[1,2,3,4,5]",
        "[]",
        "[[1,2,3,4]]",
        "[[1,2],[3,4]]",
        "[[[1,2]],[3,4]]",
        "[[[1,2],[3,4]]]",
        "[[[1],[2]],[[3],[4]]]",
        "[[[1,2]],[[3,4]],[]]",
        "[[[1,2,3]],[[4]]]",
        "[1,2,[3,4]]",
        "[[[1,2]]]",
        "[[[1,2]],[[3,[4]]]]",
        "[[[[1,2]],[[3,4]]]]",
    ] {
        let fault = read(Datatype::Uint8, &shape, other).unwrap_err();
        assert_eq!(fault.reason, Reason::ShapeMismatch, "{other}: {}", fault.text);
    }
    for text in [
        "[1,2,3,4",
        "[1,2,3,,4]",
        "[1,2,3,4,]",
        "[1,2,03,4]",
        "[1,2,-,4]",
        "[1,2,NaN,4]",
        "[1,2,3 4]",
        "[\"a\",2,3,\"\\ud800\"]",
        "[1,2,3,4}",
        "[1,2,1.,4]",
        "[1,2,+3,4]",
        "[1,2,0x3,4]",
        "[1 2 3 4]",
        "[[[1,2],[[3,4]]]",
        "[1,2,3,4] 5",
        "",
    ] {
        let fault = read(Datatype::Uint8, &shape, text).unwrap_err();
        assert_eq!(fault.reason, Reason::BadJson, "{text}: {}", fault.text);
    }
    for text in ["{}", "5", "null", "\"1,2,3,4\""] {
        assert_eq!(read(Datatype::Uint8, &shape, text).unwrap_err().reason, Reason::ShapeMismatch, "{text}");
    }
}

#[test]
fn numbers_have_a_length_limit() {
    let number = |digits: usize| format!("0.{}", "1".repeat(digits - 2));
    assert!(read(Datatype::Fp32, &[1], &format!("[{}]", number(64))).is_ok());
    let fault = read(Datatype::Fp32, &[1], &format!("[{}]", number(65))).unwrap_err();
    assert_eq!(fault.reason, Reason::ValueOutOfRange);
    let mut limits = limits();
    limits.json_number_bytes_max = 4;
    assert!(read_within(Datatype::Fp32, &[2], "[0.25,0.25         ]", &limits).is_ok());
    assert!(read_within(Datatype::Fp32, &[2], "[0.125,0.25                ]", &limits).is_err());
}

#[test]
fn memory_is_not_taken_for_values_that_cannot_be_there() {
    let fault = read(Datatype::Fp64, &[1 << 30], "[1,2]").unwrap_err();
    assert_eq!(fault.reason, Reason::ShapeMismatch);
}

fn datatypes() -> impl Strategy<Value = Datatype> {
    prop::sample::select(Datatype::ALL.to_vec())
}

/// Elements of one datatype: any bits; BOOL 0 and 1, BYTES any text.
fn elements(datatype: Datatype) -> BoxedStrategy<(usize, Vec<u8>)> {
    match datatype {
        Datatype::Bytes => prop::collection::vec(".{0,40}", 0..20)
            .prop_map(|texts| {
                let data = texts.iter().flat_map(|text| [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat());
                (texts.len(), data.collect())
            })
            .boxed(),
        Datatype::Bool => prop::collection::vec(0..2_u8, 0..40).prop_map(|bits| (bits.len(), bits)).boxed(),
        other => {
            let size = other.element_bytes().unwrap_or(1);
            prop::collection::vec(any::<u8>(), 0..40)
                .prop_map(move |mut bytes| {
                    bytes.truncate(bytes.len() / size * size);
                    (bytes.len() / size, bytes)
                })
                .boxed()
        }
    }
}

/// NaNs come back as NaNs, whatever their bits; everything else comes back whole.
fn same(datatype: Datatype, left: &[u8], right: &[u8]) -> bool {
    let is_nan = |bytes: &[u8]| match datatype {
        Datatype::Fp16 => u16::from_le_bytes([bytes[0], bytes[1]]) & 0x7FFF > 0x7C00,
        Datatype::Bf16 => u16::from_le_bytes([bytes[0], bytes[1]]) & 0x7FFF > 0x7F80,
        Datatype::Fp32 => f32::from_le_bytes(bytes.try_into().unwrap_or_default()).is_nan(),
        Datatype::Fp64 => f64::from_le_bytes(bytes.try_into().unwrap_or_default()).is_nan(),
        _ => false,
    };
    let size = datatype.element_bytes().unwrap_or(1);
    left.len() == right.len()
        && left.chunks(size).zip(right.chunks(size)).all(|(left, right)| left == right || is_nan(left) && is_nan(right))
}

/// Pieces that are JSON in some places and not in others.
const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    " ",
    "\n",
    "\"a\"",
    "\"\"",
    "\"\\n\"",
    "\"\\u00e9\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud800\"",
    "\"\\x\"",
    "\"ü\"",
    "\"",
    "\\",
    "0",
    "-0",
    "01",
    "1.5",
    "1.",
    ".5",
    "-",
    "1e5",
    "1e",
    "1E+5",
    "true",
    "false",
    "null",
    "nul",
    "NaN",
    "\"a\":1",
    "[1,2]",
    "{\"b\":[]}",
    "\u{feff}",
    "\t",
    "\"a\tb\"",
    "\u{0}",
    "99999999999999999999",
];

/// Texts that are nearly JSON.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let token = prop::sample::select(TOKENS);
    let tokens = prop::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat().into_bytes());
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        any::<f64>()
            .prop_filter("JSON has no others", |number| number.is_finite())
            .prop_map(|number| number.to_string()),
        "[ -~é]{0,12}".prop_map(|text| serde_json::to_string(&text).expect("a string")),
    ];
    let tree = leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec(("[a-z]{0,4}", inner), 0..4).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(key, value)| format!("\"{key}\" : {value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    });
    let broken =
        (tree, any::<prop::sample::Index>(), any::<u8>(), any::<bool>()).prop_map(|(text, index, byte, keep)| {
            let mut bytes = text.into_bytes();
            if !keep {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        });
    prop_oneof![tokens, broken, prop::collection::vec(any::<u8>(), 0..24)]
}

proptest! {
    #![proptest_config(repeatable())]

    #[test]
    fn printing_then_reading_is_identity((datatype, (count, data)) in datatypes().prop_flat_map(|datatype| (Just(datatype), elements(datatype)))) {
        let text = print(datatype, count, &data);
        prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
        let back = read(datatype, &[count as i64], &text).map_err(|fault| TestCaseError::fail(fault.to_string()))?;
        prop_assert!(same(datatype, &data, &back), "{text} {data:?} {back:?}");
    }

    #[test]
    fn decimals_are_rounded_as_by_the_standard_library(whole in 0..1_000_u32, fraction in "[0-9]{1,30}", exponent in -60..60_i32, form in 0..3) {
        let text = match form {
            0 => format!("{whole}.{fraction}"),
            1 => format!("{}.{fraction}", whole % 10),
            _ => format!("-{whole}.{fraction}e{exponent}"),
        };
        let expected: f32 = text.parse().expect("a float");
        match f32_of(&text) {
            Ok(_) => for found in both_ways(&text) { prop_assert_eq!(found.to_bits(), expected.to_bits(), "{}", text) },
            Err(_) => prop_assert!(expected.is_infinite()),
        }
        let expected: f64 = text.parse().expect("a double");
        prop_assert_eq!(f64_of(&text).map(f64::to_bits), Ok(expected.to_bits()), "{}", text);
    }

    #[test]
    fn middles_between_singles_are_rounded_right(bits in 0..0x7F7F_FFFE_u32, digits in 6..20_usize) {
        let middle = (f64::from(f32::from_bits(bits)) + f64::from(f32::from_bits(bits + 1))) / 2.0;
        for text in [format!("{middle}"), format!("{middle:.digits$}")] {
            if text.len() <= 64 {
                let expected: f32 = text.parse().expect("a float");
                for found in both_ways(&text) {
                    prop_assert_eq!(found.to_bits(), expected.to_bits(), "{}", text);
                }
            }
        }
    }

    #[test]
    fn the_scanner_agrees_with_serde_json(text in nearly_json()) {
        let limits = limits();
        let mut scanner = Scanner::new(&text, &limits);
        let ours = scanner.skip().and_then(|_| scanner.finish());
        let theirs = serde_json::from_slice::<serde_json::Value>(&text);
        match (ours, theirs) {
            (Ok(()), Err(error)) => prop_assert!(error.to_string().contains("out of range"), "{error} {:?}", String::from_utf8_lossy(&text)),
            (Err(fault), Ok(_)) => prop_assert!(fault.reason != Reason::BadJson, "{} {:?}", fault.text, String::from_utf8_lossy(&text)),
            _ => {}
        }
    }

    #[test]
    fn no_text_makes_reading_panic(datatype in datatypes(), shape in prop::collection::vec(0..4_i64, 0..4), text in nearly_json()) {
        let limits = limits();
        let mut scanner = Scanner::new(&text, &limits);
        if let Ok(data) = read_values(&mut scanner, &Target { spec: &spec(datatype), model: "m", shape: &shape }) {
            let count = element_count(&shape).expect("small") as usize;
            prop_assert!(datatype.element_bytes().is_none_or(|bytes| data.len() == bytes * count));
        }
    }
}
