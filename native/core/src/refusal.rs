//! The closed catalogue of answers that are not results.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// Status codes of gRPC that the catalogue uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // The names are gRPC's own.
pub enum GrpcCode {
    Cancelled = 1,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// One row of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name of the variant.
    pub variant: &'static str,
    /// HTTP status code.
    pub http: u16,
    /// gRPC status code; `None` where no gRPC request can meet it.
    pub grpc: Option<GrpcCode>,
    /// Label in metrics, and value of the field `servekit-refusal`.
    pub label: &'static str,
    /// The same request may succeed later.
    pub retry: bool,
    /// An HTTP/1 connection ends with this answer.
    pub close: bool,
}

macro_rules! refusals {
    ($($variant:ident => $http:literal, $grpc:expr, $label:literal, $retry:ident $(, $close:ident)?;)*) => {
        /// Why a request got no result. The text goes with it in [`Refusal`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[allow(missing_docs)] // Each is explained by its row in the guide's table of errors.
        pub enum Reason { $($variant),* }

        impl Reason {
            /// All of them, in the catalogue's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its row of the catalogue.
            #[must_use]
            pub const fn entry(self) -> Entry {
                match self {
                    $(Self::$variant => Entry {
                        variant: stringify!($variant),
                        http: $http,
                        grpc: $grpc,
                        label: $label,
                        retry: refusals!(@retry $retry),
                        close: refusals!(@close $($close)?),
                    }),*
                }
            }
        }
    };
    (@retry retry) => { true };
    (@retry final) => { false };
    (@close close) => { true };
    (@close) => { false };
}

use GrpcCode::{
    Cancelled, DeadlineExceeded, Internal, InvalidArgument, NotFound, ResourceExhausted, Unavailable, Unimplemented,
};

refusals! {
    BadFraming           => 400, Some(InvalidArgument),   "framing",       final, close;
    UriTooLong           => 414, None,                    "uri",           final, close;
    HeadersTooLarge      => 431, Some(ResourceExhausted), "headers",       final, close;
    UnknownRoute         => 404, Some(Unimplemented),     "route",         final;
    MethodNotAllowed     => 405, None,                    "method",        final;
    VersionNotSupported  => 505, None,                    "http_version",  final, close;
    UnsupportedMedia     => 415, Some(InvalidArgument),   "media_type",    final;
    UnsupportedEncoding  => 415, Some(Unimplemented),     "encoding",      final;
    BodyTooLarge         => 413, Some(ResourceExhausted), "body",          final, close;
    ReadTimeout          => 408, Some(DeadlineExceeded),  "read_timeout",  retry, close;
    BadJson              => 400, None,                    "json",          final;
    JsonTooDeep          => 400, None,                    "json_depth",    final;
    BadField             => 400, Some(InvalidArgument),   "field",         final;
    EnvelopeTooLarge     => 400, Some(InvalidArgument),   "envelope",      final;
    Duplicate            => 400, Some(InvalidArgument),   "duplicate",     final;
    ReservedName         => 400, Some(InvalidArgument),   "reserved",      final;
    BadBinaryHeader      => 400, None,                    "binary_header", final;
    BinaryLength         => 400, None,                    "binary_length", final;
    BadProtobuf          => 400, Some(InvalidArgument),   "protobuf",      final;
    BadContents          => 400, Some(InvalidArgument),   "contents",      final;
    UnknownModel         => 404, Some(NotFound),          "model",         final;
    UnknownTensor        => 400, Some(InvalidArgument),   "tensor_name",   final;
    DatatypeMismatch     => 400, Some(InvalidArgument),   "datatype",      final;
    ShapeMismatch        => 400, Some(InvalidArgument),   "shape",         final;
    TensorTooLarge       => 400, Some(InvalidArgument),   "tensor_size",   final;
    TooManyRows          => 400, Some(InvalidArgument),   "rows",          final;
    ByteSizeMismatch     => 400, Some(InvalidArgument),   "byte_size",     final;
    ValueOutOfRange      => 400, Some(InvalidArgument),   "value",         final;
    RowRejected          => 400, Some(InvalidArgument),   "row",           final;
    RunMemory            => 413, Some(ResourceExhausted), "run_memory",    final;
    ResponseTooLarge     => 413, Some(ResourceExhausted), "response",      final;
    QueueFull            => 429, Some(ResourceExhausted), "queue_full",    retry;
    Overloaded           => 503, Some(Unavailable),       "overloaded",    retry;
    MemoryFull           => 503, Some(ResourceExhausted), "memory",        retry;
    ModelLoading         => 503, Some(Unavailable),       "loading",       retry;
    ModelFailed          => 503, Some(Unavailable),       "model_failed",  retry;
    LaneLost             => 503, Some(Unavailable),       "lane_lost",     retry;
    Draining             => 503, Some(Unavailable),       "draining",      retry;
    DeadlineExceeded     => 504, Some(DeadlineExceeded),  "deadline",      final;
    Cancelled            => 499, Some(Cancelled),         "cancelled",     final;
    ManagementOnly       => 404, Some(Unimplemented),     "management",    final;
    ModelPath            => 400, Some(InvalidArgument),   "model_path",    final;
    ModelFile            => 400, Some(InvalidArgument),   "model_file",    final;
    LoadRefused          => 429, Some(ResourceExhausted), "load_refused",  retry;
    LoadTimeout          => 504, Some(DeadlineExceeded),  "load_time",     final;
    Abandoned            => 500, Some(Internal),          "abandoned",     final;
    Internal             => 500, Some(Internal),          "internal",      final;
}

/// An answer that is not a result: a row of the catalogue and a text for this one case. The text is in lower case,
/// without a full stop, and says what was found, what is allowed and what to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Row of the catalogue.
    pub reason: Reason,
    /// For people.
    pub text: Cow<'static, str>,
    /// When a retry may succeed, before jitter; only where the row says retry.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal with its text.
    #[must_use]
    pub fn new(reason: Reason, text: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, text: text.into(), retry_after: None }
    }

    /// Says when to come back.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The answer of a request whose deadline has passed in the queue.
    #[must_use]
    pub fn deadline(waited: Duration, allowed: Duration) -> Self {
        let (waited_ms, allowed_ms) = (waited.as_millis(), allowed.as_millis());
        let text = format!(
            "{waited_ms} ms passed in the queue, the deadline allows {allowed_ms} ms: Request timeout expired; allow longer"
        );
        Self::new(Reason::DeadlineExceeded, text)
    }

    /// The answer of a request that was decoded for a model that has gone meanwhile.
    #[must_use]
    pub fn unloaded() -> Self {
        const WAIT: Duration = Duration::from_secs(1);
        let text = "the model was unloaded while this request came in; retry in 1000 ms";
        Self::new(Reason::ModelLoading, text).retry_after(WAIT)
    }

    /// The answer of a request that was dropped by mistake of ours.
    #[must_use]
    pub fn abandoned() -> Self {
        Self::new(Reason::Abandoned, "the request was dropped by the server, please report this")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.reason.entry().label, self.text)
    }
}

impl std::error::Error for Refusal {}

/// At most 64 bytes of what a client sent, escaped, for a text. Never more of it goes into an answer or a log.
#[must_use]
pub fn quoted(bytes: &[u8]) -> String {
    const QUOTED_BYTES_MAX: usize = 64;
    let mut text = String::new();
    for character in String::from_utf8_lossy(&bytes[..bytes.len().min(QUOTED_BYTES_MAX)]).chars() {
        let escaped: Cow<'static, str> = match character {
            '\u{20}'..='\u{7e}' => String::from(character).into(),
            other => other.escape_default().to_string().into(),
        };
        if text.len() + escaped.len() > QUOTED_BYTES_MAX {
            break;
        }
        text.push_str(&escaped);
    }
    if bytes.len() > QUOTED_BYTES_MAX {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
