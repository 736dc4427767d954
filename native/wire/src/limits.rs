//! The numbers that this crate enforces; their keys, defaults and meanings are those of LIMITS.md, section 2.

use std::time::Duration;

/// Limits of one connection, shared by all connections of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the connection's start to its first byte.
    pub handshake_max: Duration,
    /// From the first byte of a head to its last.
    pub header_read_max: Duration,
    /// With no request open.
    pub connection_idle_max: Duration,
    /// After which a connection is asked to go; zero = never. The owner of the connection adds the jitter.
    pub connection_age_max: Duration,
    /// What open requests have left once a connection was told to go.
    pub connection_age_grace_max: Duration,
    /// HTTP/1: bytes read ahead of the request in hand.
    pub connection_read_bytes_max: usize,
    /// HTTP/1: method, target and version with the line's end; HTTP/2: the `:path` pseudo field.
    pub request_line_bytes_max: usize,
    /// Decoded: name + value + 32 per field; trailers too.
    pub header_bytes_max: usize,
    /// Fields of a head; trailers too.
    pub headers_max: usize,
    /// Of a request body or a gRPC message.
    pub request_body_bytes_max: usize,
    /// Chunks of one body.
    pub body_chunks_max: usize,
    /// Chunk extensions of one body.
    pub chunk_extension_bytes_max: usize,
    /// Slowest body, once `body_grace_max` has passed.
    pub body_bytes_per_second_min: u64,
    /// See `body_bytes_per_second_min`.
    pub body_grace_max: Duration,
    /// From the head to the last byte of the body.
    pub body_read_max: Duration,
    /// A refused body is read and dropped up to this size so that the connection can stay open.
    pub discard_bytes_max: usize,
    /// Longest time in which the peer takes no byte of what is to be written.
    pub write_stall_max: Duration,
    /// HTTP/2: streams open at once, advertised.
    pub connection_streams_max: u32,
    /// HTTP/2: receive window of a stream.
    pub stream_window_bytes_max: u32,
    /// HTTP/2: receive window of the connection.
    pub connection_window_bytes_max: u32,
    /// HTTP/2: largest frame taken.
    pub frame_bytes_max: u32,
    /// HTTP/2: CONTINUATION frames of one header block.
    pub continuation_frames_max: u32,
    /// HTTP/2: resets by the peer before the answer, in 10 s, once they exceed half of the streams opened then.
    pub stream_resets_max: u32,
    /// HTTP/2: streams reset for the peer's fault, in the connection's life.
    pub stream_errors_max: u32,
    /// HTTP/2: SETTINGS, PING, PRIORITY, empty DATA and unknown frames in 10 s, beyond the HEADERS and DATA frames sent.
    pub control_frames_max: u32,
    /// HTTP/2: PINGs within `ping_interval_min` of the last with no HEADERS or DATA sent between.
    pub ping_strikes_max: u32,
    /// See `ping_strikes_max`.
    pub ping_interval_min: Duration,
    /// HTTP/2: after this long without a byte from the peer, with streams open, a PING asks whether it lives.
    pub keepalive_interval: Duration,
    /// HTTP/2: how long that PING may stay unanswered.
    pub keepalive_timeout_max: Duration,
}

impl Default for Limits {
    /// The defaults of LIMITS.md.
    fn default() -> Self {
        Self {
            handshake_max: Duration::from_secs(10),
            header_read_max: Duration::from_secs(10),
            connection_idle_max: Duration::from_secs(75),
            connection_age_max: Duration::from_secs(1800),
            connection_age_grace_max: Duration::from_secs(30),
            connection_read_bytes_max: 32_768,
            request_line_bytes_max: 8_192,
            header_bytes_max: 16_384,
            headers_max: 100,
            request_body_bytes_max: 64 << 20,
            body_chunks_max: 65_536,
            chunk_extension_bytes_max: 16_384,
            body_bytes_per_second_min: 1_024,
            body_grace_max: Duration::from_secs(5),
            body_read_max: Duration::from_secs(120),
            discard_bytes_max: 256 << 10,
            write_stall_max: Duration::from_secs(30),
            connection_streams_max: 256,
            stream_window_bytes_max: 65_535,
            connection_window_bytes_max: 1 << 20,
            frame_bytes_max: 16_384,
            continuation_frames_max: 8,
            stream_resets_max: 1_000,
            stream_errors_max: 128,
            control_frames_max: 1_000,
            ping_strikes_max: 2,
            ping_interval_min: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout_max: Duration::from_secs(10),
        }
    }
}
