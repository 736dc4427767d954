//! The framing of gRPC that is the same on every transport: the prefix of a message, the encoding of a status text.

use std::borrow::Cow;

/// Bytes in front of each message.
pub const PREFIX_BYTES: usize = 5;

/// What stands in front of each message: whether it is compressed, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The message is compressed as `grpc-encoding` says.
    pub compressed: bool,
    /// Length of the message that follows.
    pub message_bytes: u32,
}

impl Prefix {
    /// Reads a prefix; `None` for a flag that is neither 0 nor 1.
    #[must_use]
    pub fn parse(bytes: [u8; PREFIX_BYTES]) -> Option<Self> {
        let [flag, length @ ..] = bytes;
        (flag <= 1).then(|| Self { compressed: flag == 1, message_bytes: u32::from_be_bytes(length) })
    }

    /// The prefix as it goes on the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; PREFIX_BYTES] {
        let [a, b, c, d] = self.message_bytes.to_be_bytes();
        [u8::from(self.compressed), a, b, c, d]
    }
}

/// The value of `grpc-message`: printable ASCII but `%` stays, every other byte of the UTF-8 becomes `%XX`.
#[must_use]
pub fn percent_encoded(message: &str) -> Cow<'_, [u8]> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let is_plain = |byte: u8| (byte.wrapping_sub(b' ') <= b'~' - b' ') & (byte != b'%');
    let bytes = message.as_bytes();
    // Nearly all are: looked at as a whole, not byte by byte.
    if bytes.iter().fold(true, |all, &byte| all & is_plain(byte)) {
        return Cow::Borrowed(bytes);
    }
    let mut encoded = Vec::with_capacity(bytes.len() + bytes.len() / 2);
    for &byte in bytes {
        if is_plain(byte) {
            encoded.push(byte);
        } else {
            encoded.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
    Cow::Owned(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_reads_back_as_written() {
        for compressed in [false, true] {
            for message_bytes in [0, 1, 255, 256, u32::MAX] {
                let prefix = Prefix { compressed, message_bytes };
                assert_eq!(Prefix::parse(prefix.to_bytes()), Some(prefix));
            }
        }
        assert_eq!(Prefix { compressed: true, message_bytes: 0x0102_0304 }.to_bytes(), [1, 1, 2, 3, 4]);
    }

    #[test]
    fn a_flag_beyond_one_is_no_prefix() {
        for flag in 2..=255 {
            assert_eq!(Prefix::parse([flag, 0, 0, 0, 0]), None);
        }
    }

    #[test]
    fn a_status_text_is_printable_ascii_on_the_wire() {
        let cases = [
            ("", ""),
            ("input 'x' has rank 17; reshape it", "input 'x' has rank 17; reshape it"),
            ("100%", "100%25"),
            ("a\r\nb", "a%0D%0Ab"),
            ("tab\there~\u{7f}", "tab%09here~%7F"),
            ("größe \u{1f600}", "gr%C3%B6%C3%9Fe %F0%9F%98%80"),
        ];
        for (message, expected) in cases {
            assert_eq!(String::from_utf8(percent_encoded(message).into_owned()).as_deref(), Ok(expected));
        }
    }
}
