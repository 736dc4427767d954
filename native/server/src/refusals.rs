//! From a broken rule to its refusal, and from a refusal to its answer in either protocol.

use std::time::{Duration, Instant};

use servekit_core::{GrpcCode, Reason, Refusal};
use servekit_wire::{Connection, GrpcStatus, Payload, Reply, StreamId, Violation};
use smallvec::SmallVec;

use crate::dialect::metadata::print_error;
use crate::jitter::Jitter;

/// Nobody is asked to come back sooner than this.
const RETRY_WAIT_MIN: Duration = Duration::from_millis(10);

/// The refusal of a broken rule of head or body.
pub(crate) fn violated(violation: &Violation) -> Refusal {
    match violation {
        Violation::Framing(text) => Refusal::new(Reason::BadFraming, *text),
        Violation::UriTooLong { found, allowed } => {
            let text =
                format!("request line of {found} bytes, at most {allowed} are allowed; move parameters into the body");
            Refusal::new(Reason::UriTooLong, text)
        }
        Violation::Headers { found, allowed } => {
            let text = format!("{found} header fields, at most {allowed} are allowed; send fewer");
            Refusal::new(Reason::HeadersTooLarge, text)
        }
        Violation::HeaderBytes { found, allowed } => {
            let text = format!("header fields of {found} bytes, at most {allowed} are allowed; send fewer");
            Refusal::new(Reason::HeadersTooLarge, text)
        }
        Violation::Version => {
            let text = "another version of HTTP found, 1.0, 1.1 and 2 are allowed; use one of them";
            Refusal::new(Reason::VersionNotSupported, text)
        }
        Violation::BodyTooLarge { found, allowed } => body_too_large(*found, *allowed),
        Violation::Chunks { allowed } => {
            let text = format!("body of more than {allowed} chunks, at most {allowed} are allowed; send larger chunks");
            Refusal::new(Reason::BodyTooLarge, text)
        }
        Violation::ReadTimeout { found, expected, elapsed_ms } => {
            let of = expected.map(|expected| format!(" of {expected}")).unwrap_or_default();
            let text = format!("{found}{of} bytes in {elapsed_ms} ms, more are expected by then; send faster");
            Refusal::new(Reason::ReadTimeout, text)
        }
    }
}

/// The refusal of a body, as sent or inflated.
pub(crate) fn body_too_large(found: u64, allowed: u64) -> Refusal {
    let text = format!(
        "request of {found} bytes exceeds the maximum allowed input size of {allowed} bytes; split it or raise request_body_bytes_max"
    );
    Refusal::new(Reason::BodyTooLarge, text)
}

/// The refusal of a body that finds memory nearly full.
pub(crate) fn memory_pressed(bytes: u64) -> Refusal {
    let text = format!("request needs {bytes} bytes, memory is nearly full; retry in 1000 ms");
    Refusal::new(Reason::MemoryFull, text).retry_after(Duration::from_secs(1))
}

/// The refusal of a request whose model's queue was full before its body was read.
pub(crate) fn queue_full(model: &str, held: usize, allowed: usize) -> Refusal {
    const WAIT: Duration = Duration::from_millis(100);
    let text = format!(
        "queue of '{model}' holds {held} of {allowed} requests: Exceeds maximum queue size; retry in {} ms",
        WAIT.as_millis()
    );
    Refusal::new(Reason::QueueFull, text).retry_after(WAIT)
}

/// The refusal of a request that a shard has no place for.
pub(crate) fn no_slot(slots: usize) -> Refusal {
    const WAIT: Duration = Duration::from_millis(100);
    let text = format!("{slots} of {slots} requests are open: Exceeds maximum queue size; retry in 100 ms");
    Refusal::new(Reason::QueueFull, text).retry_after(WAIT)
}

/// The refusal of a model's request that would take more than the model's part of memory.
pub(crate) fn model_memory_full(model: &str, needed: u64, free: u64) -> Refusal {
    let text = format!("request needs {needed} bytes, {free} are free for '{model}'; retry in 100 ms");
    Refusal::new(Reason::MemoryFull, text).retry_after(Duration::from_millis(100))
}

/// The refusal of a message that says it is compressed and not how.
pub(crate) fn unnamed_encoding() -> Refusal {
    let text = "compressed message without grpc-encoding found, the field is needed; send it or do not compress";
    Refusal::new(Reason::BadFraming, text)
}

/// The refusal of whoever comes too late to a server that ends.
pub(crate) fn draining() -> Refusal {
    let text = "shutting down: Server is stopping, scheduler for model has stopped accepting new inference requests; retry on another replica";
    Refusal::new(Reason::Draining, text).retry_after(Duration::from_secs(1))
}

/// How a refused request came, and what its answer must mention besides the refusal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asker {
    /// A gRPC call.
    pub grpc: bool,
    /// The verbs of the path, with a 405.
    pub allow: &'static str,
    /// The connection must end with this answer although the catalogue does not say so.
    pub close: bool,
}

/// What an answer is made with.
pub(crate) struct Means<'a> {
    pub jitter: &'a mut Jitter,
    pub payload: &'a mut Payload,
    pub now: Instant,
}

impl Means<'_> {
    /// Answers a request with a refusal.
    pub(crate) fn answer(self, wire: &mut Connection, stream: StreamId, refusal: &Refusal, asker: Asker) {
        let Self { jitter, payload, now } = self;
        let entry = refusal.reason.entry();
        let wait_ms = entry.retry.then(|| wait_ms(refusal, jitter));
        let (mut milliseconds, mut seconds) = (itoa::Buffer::new(), itoa::Buffer::new());
        let mut fields: SmallVec<[(&str, &[u8]); 4]> = SmallVec::new();
        fields.push(("servekit-refusal", entry.label.as_bytes()));
        if asker.grpc {
            if let Some(wait_ms) = wait_ms {
                fields.push(("grpc-retry-pushback-ms", milliseconds.format(wait_ms).as_bytes()));
            }
            if refusal.reason == Reason::UnsupportedEncoding {
                fields.push(("grpc-accept-encoding", b"identity,deflate,gzip"));
            }
            let code = entry.grpc.unwrap_or(GrpcCode::InvalidArgument) as u8;
            wire.reply_grpc(stream, None, &GrpcStatus { code, message: &refusal.text, fields: &fields }, now);
            return;
        }
        if let Some(wait_ms) = wait_ms {
            fields.push(("retry-after", seconds.format(wait_ms.div_ceil(1_000)).as_bytes()));
            fields.push(("retry-after-ms", milliseconds.format(wait_ms).as_bytes()));
        }
        match refusal.reason {
            Reason::MethodNotAllowed => fields.push(("allow", asker.allow.as_bytes())),
            Reason::UnsupportedEncoding => fields.push(("accept-encoding", b"gzip, deflate")),
            _ => {}
        }
        payload.clear();
        print_error(&refusal.text, payload.buffer());
        let close = entry.close || asker.close;
        let reply =
            Reply { status: entry.http, content_type: "application/json", fields: &fields, body: payload, close };
        wire.reply(stream, &reply, now);
    }
}

fn wait_ms(refusal: &Refusal, jitter: &mut Jitter) -> u64 {
    let wait = refusal.retry_after.unwrap_or(RETRY_WAIT_MIN).max(RETRY_WAIT_MIN);
    jitter.stretched(wait).as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_at_least_ten_milliseconds_and_spread() {
        let mut jitter = Jitter::new(3);
        let refusal = |ms| Refusal::new(Reason::QueueFull, "x").retry_after(Duration::from_millis(ms));
        for _ in 0..1_000 {
            assert!((10..=15).contains(&wait_ms(&refusal(1), &mut jitter)));
            assert!((400..=600).contains(&wait_ms(&refusal(400), &mut jitter)));
        }
    }
}
