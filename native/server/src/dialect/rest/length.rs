//! The field `inference-header-content-length`: where the JSON ends and the binary tensors begin.

use servekit_core::{Reason, quoted};

use crate::json::{Fault, fault};

/// The field as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonLength<'h> {
    /// The whole body is JSON.
    Absent,
    /// Its one value.
    Given(&'h [u8]),
    /// More than one.
    Repeated,
}

/// The parts of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parts {
    /// JSON alone.
    Json,
    /// JSON of this length, then tensors.
    Split(usize),
    /// One bare tensor.
    Raw,
}

impl<'h> JsonLength<'h> {
    /// From the values of all fields of this name.
    pub(crate) fn from_values(mut values: impl Iterator<Item = &'h [u8]>) -> Self {
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(value), None) => Self::Given(value),
            (Some(_), Some(_)) => Self::Repeated,
        }
    }

    pub(super) fn parts(self, body_bytes: usize) -> Result<Parts, Fault> {
        let value = match self {
            Self::Absent => return Ok(Parts::Json),
            Self::Given(value) => value,
            Self::Repeated => {
                let text = "inference-header-content-length found twice, once is allowed; send only one";
                return Err(fault(Reason::BadBinaryHeader, text.to_owned()));
            }
        };
        let digits = value.strip_prefix(b"-").unwrap_or(value);
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            let text = format!(
                "no number found: Unable to parse Inference-Header-Content-Length, got: {}; send the length of the JSON part",
                quoted(value)
            );
            return Err(fault(Reason::BadBinaryHeader, text));
        }
        let length = std::str::from_utf8(value).ok().and_then(|digits| digits.parse::<usize>().ok());
        match length {
            Some(0) => Ok(Parts::Raw),
            Some(length) if length <= body_bytes => Ok(Parts::Split(length)),
            _ => {
                let text = format!(
                    "inference header size should be in range (0, {body_bytes}), got: {}; send the length of the JSON part",
                    quoted(value)
                );
                Err(fault(Reason::BadBinaryHeader, text))
            }
        }
    }
}
