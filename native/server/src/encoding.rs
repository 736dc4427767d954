//! Bodies and messages that come compressed.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use servekit_core::{Limits, Reason, Refusal, quoted};
use servekit_wire::Head;

use crate::refusals::body_too_large;

/// How a body is compressed: one format, or one over the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Encoding {
    /// In the order in which they were applied; those from `count` on mean nothing.
    layers: [Layer; LAYERS_MAX],
    count: usize,
}

/// No limit allows more.
const LAYERS_MAX: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    /// RFC 1952.
    Gzip,
    /// The zlib format, or bare deflate, which some clients mean by the name.
    Deflate,
}

/// How the body behind a head is compressed, by the fields of this name; `None` if it is not.
///
/// # Errors
/// `UnsupportedEncoding` for a format that is not known.
pub(crate) fn named(field: &'static str, head: &Head) -> Result<Option<Encoding>, Refusal> {
    let mut encoding = Encoding { layers: [Layer::Gzip; LAYERS_MAX], count: 0 };
    for token in head.fields_named(field).flat_map(|value| value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii) {
        let layer = match token {
            name if name.is_empty() || name.eq_ignore_ascii_case(b"identity") => continue,
            name if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") => Layer::Gzip,
            name if name.eq_ignore_ascii_case(b"deflate") => Layer::Deflate,
            other => {
                let text =
                    format!("{field} {}: Unsupported compression type; send gzip, deflate or none", quoted(other));
                return Err(Refusal::new(Reason::UnsupportedEncoding, text));
            }
        };
        let Some(free) = encoding.layers.get_mut(encoding.count) else {
            return Err(too_many_layers(LAYERS_MAX + 1, LAYERS_MAX as u64));
        };
        *free = layer;
        encoding.count += 1;
    }
    Ok((encoding.count > 0).then_some(encoding))
}

/// The body as it was before it was compressed.
///
/// # Errors
/// `UnsupportedEncoding` for more layers than allowed, `BodyTooLarge` as soon as it grows beyond what is allowed,
/// `BadFraming` where it cannot be read.
pub(crate) fn inflate(body: &Bytes, encoding: Encoding, limits: &Limits) -> Result<Bytes, Refusal> {
    let layers = &encoding.layers[..encoding.count];
    if layers.len() as u64 > limits.content_encodings_max {
        return Err(too_many_layers(layers.len(), limits.content_encodings_max));
    }
    let bytes_max = inflated_bytes_max(body.len(), limits);
    layers.iter().rev().try_fold(body.clone(), |body, layer| layer.inflate(&body, bytes_max))
}

/// What a body of this length may inflate to.
fn inflated_bytes_max(body_bytes: usize, limits: &Limits) -> u64 {
    let ratio_bytes = (body_bytes as u64).saturating_mul(limits.inflate_ratio_max);
    limits.request_body_bytes_max.min(ratio_bytes.max(limits.inflate_grace_bytes_max))
}

fn too_many_layers(found: usize, allowed: u64) -> Refusal {
    let text =
        format!("{found} encodings over each other: Unsupported compression type, {allowed} allowed; compress once");
    Refusal::new(Reason::UnsupportedEncoding, text)
}

impl Layer {
    fn inflate(self, body: &[u8], bytes_max: u64) -> Result<Bytes, Refusal> {
        let inflated = match self {
            Self::Gzip => read_within(MultiGzDecoder::new(body), bytes_max),
            Self::Deflate if is_zlib(body) => read_within(ZlibDecoder::new(body), bytes_max),
            Self::Deflate => read_within(DeflateDecoder::new(body), bytes_max),
        };
        match inflated {
            Ok(inflated) if inflated.len() as u64 > bytes_max => Err(body_too_large(inflated.len() as u64, bytes_max)),
            Ok(inflated) => Ok(inflated.into()),
            Err(_) => {
                let name = if self == Self::Gzip { "gzip" } else { "deflate" };
                let text = format!(
                    "body of {} bytes is no whole {name} stream, one is allowed; compress it again",
                    body.len()
                );
                Err(Refusal::new(Reason::BadFraming, text))
            }
        }
    }
}

/// Whether a body begins with the header of the zlib format.
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [method, flags, ..] if method & 0x0F == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0)
}

/// What the decoder gives, up to one byte beyond what is allowed: that one tells that there is more.
fn read_within(decoder: impl Read, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut inflated = Vec::new();
    decoder.take(bytes_max.saturating_add(1)).read_to_end(&mut inflated)?;
    Ok(inflated)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use servekit_wire::{HeadBuilder, Version};

    use super::*;
    use crate::dialect::fixtures::limits;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).expect("in memory");
        encoder.finish().expect("in memory")
    }

    fn head(values: &[&str]) -> Head {
        let mut builder = HeadBuilder::default();
        for value in values {
            builder.field(b"content-encoding", value.as_bytes());
        }
        builder.finish(1, Version::Http11, b"POST", b"/v2/models/m/infer")
    }

    fn layers(values: &[&str]) -> Result<Vec<Layer>, Refusal> {
        let encoding = named("content-encoding", &head(values))?;
        Ok(encoding.map_or_else(Vec::new, |encoding| encoding.layers[..encoding.count].to_vec()))
    }

    fn inflated(value: &str, body: Vec<u8>, limits: &Limits) -> Result<Bytes, Refusal> {
        let encoding = named("content-encoding", &head(&[value]))?.expect("one");
        inflate(&body.into(), encoding, limits)
    }

    #[test]
    fn encodings_are_known_by_name() {
        assert_eq!(layers(&[]), Ok(vec![]));
        assert_eq!(layers(&["identity"]), Ok(vec![]));
        assert_eq!(layers(&["GZip"]), Ok(vec![Layer::Gzip]));
        assert_eq!(layers(&["identity, deflate"]), Ok(vec![Layer::Deflate]));
        assert_eq!(layers(&["gzip", "deflate"]), Ok(vec![Layer::Gzip, Layer::Deflate]));
        assert_eq!(layers(&["gzip,gzip,gzip,gzip,gzip"]).unwrap_err().reason, Reason::UnsupportedEncoding);
        let refusal = layers(&["br"]).unwrap_err();
        assert_eq!(refusal.reason, Reason::UnsupportedEncoding);
        assert_eq!(refusal.text, "content-encoding br: Unsupported compression type; send gzip, deflate or none");
    }

    #[test]
    fn what_was_compressed_comes_back() {
        let data = b"some text, some text, some text".repeat(9_000);
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(&data).expect("in memory");
        let mut bare = DeflateEncoder::new(Vec::new(), Compression::fast());
        bare.write_all(&data).expect("in memory");
        let members = [gzip(&data[..100]), gzip(&data[100..])].concat();
        let cases = [
            ("gzip", gzip(&data)),
            ("gzip", members),
            ("deflate", zlib.finish().expect("in memory")),
            ("deflate", bare.finish().expect("in memory")),
        ];
        for (encoding, body) in cases {
            assert_eq!(inflated(encoding, body, &limits()).expect("whole"), data);
        }
    }

    #[test]
    fn layers_come_off_as_many_as_allowed() {
        let mut limits = limits();
        let body = gzip(&gzip(b"some text"));
        assert_eq!(inflated("gzip, gzip", body.clone(), &limits).unwrap_err().reason, Reason::UnsupportedEncoding);
        limits.content_encodings_max = 2;
        assert_eq!(inflated("gzip, gzip", body, &limits).expect("both"), &b"some text"[..]);
    }

    #[test]
    fn inflating_ends_at_the_body_limit() {
        let mut limits = limits();
        limits.request_body_bytes_max = 1_000;
        assert_eq!(inflated("gzip", gzip(&[7; 1_000]), &limits).map(|body| body.len()), Ok(1_000));
        let refusal = inflated("gzip", gzip(&[7; 1_001]), &limits).unwrap_err();
        assert_eq!(refusal.reason, Reason::BodyTooLarge);
        assert!(refusal.text.contains("exceeds the maximum allowed input size"), "{}", refusal.text);
    }

    #[test]
    fn inflating_ends_at_the_ratio_beyond_the_grace() {
        let mut limits = limits();
        limits.inflate_grace_bytes_max = 10_000;
        limits.inflate_ratio_max = 10;
        let size = |bytes: usize| inflated("gzip", gzip(&vec![7; bytes]), &limits).map(|body| body.len());
        assert_eq!(size(10_000), Ok(10_000));
        assert_eq!(size(10_001).unwrap_err().reason, Reason::BodyTooLarge);
        assert_eq!(inflated_bytes_max(5_000, &limits), 50_000);
    }

    #[test]
    fn a_broken_stream_is_refused() {
        let whole = gzip(b"some text");
        for body in [&whole[..whole.len() - 3], b"no gzip", b""] {
            let refusal = inflated("gzip", body.to_vec(), &limits()).unwrap_err();
            assert_eq!(refusal.reason, Reason::BadFraming);
        }
    }
}
