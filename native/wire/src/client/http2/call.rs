//! The heads of gRPC calls, written ahead of time.

use crate::{decimal, hpack};

/// `:method: POST` and `:scheme: http`.
const FRONT: [usize; 2] = [3, 6];
/// The first index of the peer's own table.
const TABLE_FIRST: usize = 62;
/// Digits that gRPC allows a timeout.
const TIMEOUT_MOST: u64 = 99_999_999;
const US_PER_MS: u64 = 1_000;

/// One rpc of one server: what all heads of its calls share.
#[derive(Debug)]
pub struct Method {
    /// For a connection's first call: asks the peer to remember.
    pub(super) opening: Vec<u8>,
    /// For all others: by what the peer remembers.
    pub(super) repeated: Vec<u8>,
    /// For a peer that remembers less than the protocol's default.
    pub(super) plain: Vec<u8>,
}

impl Method {
    /// Calls to `path`, as `/package.Service/Method`, of the server that `authority` names.
    #[must_use]
    pub fn new(authority: &str, path: &str) -> Self {
        let shared = [
            (":path", path),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "servekit-bench"),
        ];
        let mut method = Self { opening: Vec::new(), repeated: Vec::new(), plain: Vec::new() };
        hpack::table_closed(&mut method.plain);
        for block in [&mut method.opening, &mut method.repeated, &mut method.plain] {
            FRONT.iter().for_each(|&index| hpack::indexed(block, index));
        }
        for (at, (name, value)) in shared.into_iter().enumerate() {
            hpack::remembered(&mut method.opening, name, value.as_bytes());
            hpack::indexed(&mut method.repeated, TABLE_FIRST + shared.len() - 1 - at);
            hpack::field(&mut method.plain, name, value.as_bytes());
        }
        method
    }
}

/// Metadata of a call beyond its method's, written once for many calls.
#[derive(Clone, Debug, Default)]
pub struct Fields(pub(super) Vec<u8>);

impl Fields {
    /// Names are in lower case.
    #[must_use]
    pub fn new(fields: &[(&str, &str)]) -> Self {
        let mut block = Vec::new();
        for (name, value) in fields {
            hpack::field(&mut block, name, value.as_bytes());
        }
        Self(block)
    }
}

/// Appends `grpc-timeout`, in microseconds where they fit.
pub(super) fn push_timeout(block: &mut Vec<u8>, timeout_us: u64) {
    let mut value = Vec::with_capacity(16);
    let (number, unit) = match timeout_us {
        0..=TIMEOUT_MOST => (timeout_us, b'u'),
        _ => ((timeout_us / US_PER_MS).min(TIMEOUT_MOST), b'm'),
    };
    decimal::push(number, &mut value);
    value.push(unit);
    hpack::field(block, "grpc-timeout", &value);
}
