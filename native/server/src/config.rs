//! What a server is told at its start.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use servekit_core::Limits;

/// Everything a [`Server`](crate::Server) needs to know before it binds.
pub struct Config {
    /// Where it listens.
    pub data: DataPorts,
    /// Network threads; at least one is started.
    pub shards: usize,
    /// Threads that run batches of pool models; may be none where every model is inline.
    pub runners: usize,
    /// Effective limits.
    pub limits: Limits,
    /// What is logged of requests.
    pub access: AccessLog,
    /// Takes log lines, on a thread of its own.
    pub log: LogSink,
    /// Which answers say where their time went.
    pub server_timing: ServerTiming,
    /// Gives memory that the calling thread has freed back to the system. Called by shards that have become quiet after
    /// large requests.
    pub give_back_memory: Hook,
}

/// Which answers to inferences say where their time went, by the field `server-timing`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerTiming {
    /// None.
    #[default]
    Off,
    /// One in a hundred of each network thread, and those whose callers ask for it by `x-request-timing: 1`.
    Sampled,
    /// All.
    Always,
}

/// The data listeners. Each may be absent.
#[derive(Clone, Debug)]
pub struct DataPorts {
    /// Name or address of the interface.
    pub host: String,
    /// Port that clients of HTTP expect; 0 takes a free one.
    pub http_port: Option<u16>,
    /// Port that clients of gRPC expect; 0 takes a free one. Both speak everything.
    pub grpc_port: Option<u16>,
    /// Path of the Unix socket.
    pub uds: Option<PathBuf>,
}

/// How requests are logged.
#[derive(Clone, Copy, Debug)]
pub struct AccessLog {
    /// Share of requests with a line, `0..=1`; 0 is off.
    pub sample: f64,
    /// Form of each line.
    pub format: LogFormat,
    /// Lines a second, beyond which they are dropped and counted.
    pub lines_per_second_max: u64,
    /// Bytes of one value in a line, beyond which it is cut.
    pub field_bytes_max: u64,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// What a log line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// One request.
    Access,
    /// Something the operator should know.
    Warning,
}

/// Something to be done at certain times.
pub type Hook = Box<dyn Fn() + Send + Sync>;

/// Takes log lines, already in their form and without the line's end.
pub type LogSink = Box<dyn Fn(LogKind, &str) + Send>;

impl fmt::Debug for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Config")
            .field("data", &self.data)
            .field("shards", &self.shards)
            .field("runners", &self.runners)
            .finish_non_exhaustive()
    }
}

/// The limits of `wire`, from the process's.
pub(crate) fn wire_limits(limits: &Limits) -> servekit_wire::Limits {
    let ms = Duration::from_millis;
    let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let count = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    servekit_wire::Limits {
        handshake_max: ms(limits.handshake_ms_max),
        header_read_max: ms(limits.header_read_ms_max),
        connection_idle_max: ms(limits.connection_idle_ms_max),
        connection_age_max: ms(limits.connection_age_ms_max),
        connection_age_grace_max: ms(limits.connection_age_grace_ms_max),
        connection_read_bytes_max: size(limits.connection_read_bytes_max),
        request_line_bytes_max: size(limits.request_line_bytes_max),
        header_bytes_max: size(limits.header_bytes_max),
        headers_max: size(limits.headers_max),
        request_body_bytes_max: size(limits.request_body_bytes_max),
        body_chunks_max: size(limits.body_chunks_max),
        chunk_extension_bytes_max: size(limits.chunk_extension_bytes_max),
        body_bytes_per_second_min: limits.body_bytes_per_second_min,
        body_grace_max: ms(limits.body_grace_ms_max),
        body_read_max: ms(limits.body_read_ms_max),
        write_stall_max: ms(limits.write_stall_ms_max),
        connection_streams_max: count(limits.connection_streams_max),
        stream_window_bytes_max: count(limits.stream_window_bytes_max),
        connection_window_bytes_max: count(limits.connection_window_bytes_max),
        frame_bytes_max: count(limits.frame_bytes_max),
        continuation_frames_max: count(limits.continuation_frames_max),
        stream_resets_max: count(limits.stream_resets_max),
        stream_errors_max: count(limits.stream_errors_max),
        control_frames_max: count(limits.control_frames_max),
        ping_strikes_max: count(limits.ping_strikes_max),
        ping_interval_min: ms(limits.ping_interval_ms_min),
        keepalive_interval: ms(limits.keepalive_interval_ms),
        keepalive_timeout_max: ms(limits.keepalive_timeout_ms_max),
        ..servekit_wire::Limits::default()
    }
}
