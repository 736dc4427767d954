//! Strings in base64, for elements that are no texts.

use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, DecodeSliceError};
use servekit_core::quoted;

/// The standard alphabet; its end need not be padded.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Appends what this text stands for; `None` where it is no base64, or stands for more bytes than that.
pub(super) fn decode(text: &[u8], bytes_max: u64, into: &mut Vec<u8>) -> Option<()> {
    if bytes_of(text) > bytes_max {
        return None;
    }
    let start = into.len();
    into.resize(start + base64::decoded_len_estimate(text.len()), 0);
    let length = BASE64.decode_slice(text, &mut into[start..]).ok()?;
    into.truncate(start + length);
    Some(())
}

/// Bytes that a text stands for.
pub(super) fn bytes_of(text: &[u8]) -> u64 {
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    (text.len() - padding) as u64 * 3 / 4
}

/// What is wrong with a text that is no base64.
#[cold]
pub(super) fn complaint(text: &[u8]) -> String {
    const ALLOWED: &str = "base64 allows A-Z, a-z, 0-9, + and /, and = at its end";
    match BASE64.decode_slice(text, &mut vec![0; base64::decoded_len_estimate(text.len())]) {
        Err(DecodeSliceError::DecodeError(DecodeError::InvalidByte(at, byte))) => {
            format!("has '{}' at position {at}, {ALLOWED}; encode it", quoted(&[byte]))
        }
        Err(DecodeSliceError::DecodeError(DecodeError::InvalidLastSymbol(at, byte))) => {
            format!("ends with '{}' at position {at}, which no base64 does; send all of it", quoted(&[byte]))
        }
        _ => format!("has {} characters, which no base64 has; send all of it", text.len()),
    }
}

#[cfg(test)]
mod tests {
    use servekit_core::{Datatype, Limits, Reason, TensorSpec};
    use servekit_testing::limits;

    use crate::json::{Fault, Scanner, Target, read_values};

    fn read_within(text: &str, count: i64, limits: &Limits) -> Result<Vec<u8>, Fault> {
        let spec = TensorSpec {
            name: "image".into(),
            datatype: Datatype::Bytes,
            axes: Box::default(),
            optional: false,
            labels: None,
            base64: true,
        };
        let mut scanner = Scanner::new(text.as_bytes(), limits);
        let data = read_values(&mut scanner, &Target { spec: &spec, model: "m", shape: &[count] })?;
        scanner.finish()?;
        Ok(data.to_vec())
    }

    fn read(text: &str, count: i64) -> Result<Vec<u8>, Fault> {
        read_within(text, count, &limits())
    }

    #[test]
    fn elements_are_what_their_texts_stand_for() {
        let expected = [&b"\x02\0\0\0\xFF\0"[..], b"\0\0\0\0", b"\x03\0\0\0abc"].concat();
        for text in [r#"["/wA=","","YWJj"]"#, r#"["/wA", "" ,"YWJj"]"#, r#"["\/wA=","","YWJ\u006a"]"#] {
            assert_eq!(read(text, 3).expect(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_base64_is_named_with_its_place() {
        let cases = [
            (
                r#"["YWJj","YW?j"]"#,
                "value 1 has '?' at position 2, base64 allows A-Z, a-z, 0-9, + and /, and = at its end; encode it",
            ),
            (
                r#"["YW Jj"]"#,
                "value 0 has ' ' at position 2, base64 allows A-Z, a-z, 0-9, + and /, and = at its end; encode it",
            ),
            (
                r#"["YWJj\n"]"#,
                "value 0 has '\\n' at position 4, base64 allows A-Z, a-z, 0-9, + and /, and = at its end; encode it",
            ),
            (
                r#"["YW-_"]"#,
                "value 0 has '-' at position 2, base64 allows A-Z, a-z, 0-9, + and /, and = at its end; encode it",
            ),
            (r#"["YWJjZ"]"#, "value 0 has 5 characters, which no base64 has; send all of it"),
            (r#"["YWJjZh"]"#, "value 0 ends with 'h' at position 5, which no base64 does; send all of it"),
            (r#"["YWJj",7]"#, "value 1 is 7, BYTES allows strings in base64; correct it"),
        ];
        for (text, expected) in cases {
            let count = text.matches(',').count() as i64 + 1;
            let fault = read(text, count).expect_err(text);
            assert_eq!((fault.reason, &*fault.text), (Reason::ValueOutOfRange, &*format!("input 'image' {expected}")));
        }
    }

    #[test]
    fn an_element_ends_at_its_limit_whatever_its_text_takes() {
        let limits = Limits { bytes_element_bytes_max: 3, ..limits() };
        assert!(read_within(r#"["YWJj","YWI="]"#, 2, &limits).is_ok());
        let fault = read_within(r#"["YWJjZA=="]"#, 1, &limits).expect_err("four bytes");
        let text = "input 'image' value 0 of 4 bytes found, at most 3 are allowed; shorten it";
        assert_eq!((fault.reason, &*fault.text), (Reason::TensorTooLarge, text));
    }
}
