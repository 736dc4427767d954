//! Log lines on their way to the sink: formed where they happen, written by a thread of their own.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use servekit_core::Fault;

use crate::config::{AccessLog, LogFormat, LogKind, LogSink};
use crate::jitter::Jitter;

/// Lines that may wait for the sink; more are dropped and counted, so that a slow disk never holds a shard up.
const LINES_WAITING_MAX: usize = 1_024;

/// What is sent to the thread that writes.
#[derive(Debug)]
pub(crate) enum Entry {
    Line(LogKind, String),
    /// Everything before it is written: tell so.
    Written(SyncSender<()>),
}

/// Where lines go.
#[derive(Debug)]
pub(crate) struct Log {
    lines: SyncSender<Entry>,
    access: AccessLog,
    dropped: AtomicU64,
}

/// One request, as its line tells it. The sink's line adds nothing but what is here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccessLine<'a> {
    pub id: Option<&'a str>,
    pub model: Option<&'a str>,
    pub path: &'a [u8],
    pub transport: &'a str,
    /// `ok`, or the label of a refusal.
    pub outcome: &'a str,
    pub duration: Duration,
    pub rows: u32,
}

impl Log {
    /// A log, and the end of it that the writing thread holds.
    pub(crate) fn new(access: AccessLog) -> (Self, Receiver<Entry>) {
        let (lines, receiver) = sync_channel(LINES_WAITING_MAX);
        (Self { lines, access, dropped: AtomicU64::new(0) }, receiver)
    }

    /// Tells the operator something.
    pub(crate) fn warn(&self, event: &str, text: &str) {
        let line = match self.access.format {
            LogFormat::Json => serde_json::json!({"level": "warning", "event": event, "text": text}).to_string(),
            LogFormat::Text => format!("warning: {text}"),
        };
        self.send(LogKind::Warning, line);
    }

    /// Tells the operator of a defect of ours.
    pub(crate) fn fault(&self, fault: &Fault) {
        self.warn("defect", &format!("internal error {:04x}: {}", fault.number, fault.text));
    }

    fn send(&self, kind: LogKind, line: String) {
        match self.lines.try_send(Entry::Line(kind, line)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until what was logged is written, unless whoever reads it takes longer.
    pub(crate) fn finish(&self, wait_max: Duration) {
        let (told, written) = sync_channel(1);
        if self.lines.try_send(Entry::Written(told)).is_ok() {
            // Later, or never: the process ends all the same.
            let _late = written.recv_timeout(wait_max);
        }
    }

    /// Whether any request has a line.
    pub(crate) fn logs_requests(&self) -> bool {
        self.access.sample > 0.0
    }

    /// Lines that nobody will see.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Hands lines to the sink until all who log are gone.
pub(crate) fn write(lines: &Receiver<Entry>, sink: &LogSink) {
    while let Ok(entry) = lines.recv() {
        match entry {
            Entry::Line(kind, line) => sink(kind, &line),
            Entry::Written(told) => {
                // Whoever asked may have gone.
                let _gone = told.send(());
            }
        }
    }
}

/// Chooses which requests of one shard are logged.
#[derive(Debug)]
pub(crate) struct Sampler {
    second: Instant,
    lines_in_second: u64,
}

impl Sampler {
    /// A sampler that begins now.
    pub(crate) fn new(now: Instant) -> Self {
        Self { second: now, lines_in_second: 0 }
    }

    /// Logs a request, if it is chosen.
    pub(crate) fn log(&mut self, log: &Log, jitter: &mut Jitter, line: &AccessLine<'_>, now: Instant) {
        let AccessLog { sample, format, lines_per_second_max, field_bytes_max } = log.access;
        if !log.logs_requests() || sample < 1.0 && jitter.fraction() >= sample {
            return;
        }
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.lines_in_second = 0;
        }
        self.lines_in_second += 1;
        if self.lines_in_second > lines_per_second_max {
            log.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let field_bytes_max = usize::try_from(field_bytes_max).unwrap_or(usize::MAX);
        log.send(LogKind::Access, formed(line, format, field_bytes_max));
    }
}

fn formed(line: &AccessLine<'_>, format: LogFormat, field_bytes_max: usize) -> String {
    let path = escaped(line.path, field_bytes_max);
    let id = line.id.map(|id| escaped(id.as_bytes(), field_bytes_max));
    let milliseconds = line.duration.as_secs_f64() * 1e3;
    match format {
        LogFormat::Json => serde_json::json!({
            "event": "request", "id": id, "model": line.model, "path": path, "transport": line.transport,
            "outcome": line.outcome, "duration_ms": milliseconds, "rows": line.rows,
        })
        .to_string(),
        LogFormat::Text => {
            let mut text = format!("request {} {path} {} {milliseconds:.3} ms", line.transport, line.outcome);
            if line.rows > 0 {
                let _infallible = write!(text, " {} rows", line.rows);
            }
            if let Some(id) = id {
                let _infallible = write!(text, " id {id}");
            }
            text
        }
    }
}

/// What a client sent, made harmless and short.
fn escaped(bytes: &[u8], bytes_max: usize) -> String {
    let mut text = String::new();
    for byte in bytes {
        let next = byte.escape_ascii();
        if text.len() + next.len() > bytes_max {
            text.push('…');
            break;
        }
        text.extend(next.map(char::from));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(sample: f64, format: LogFormat) -> AccessLog {
        AccessLog { sample, format, lines_per_second_max: 10, field_bytes_max: 16 }
    }

    const LINE: AccessLine<'static> = AccessLine {
        id: Some("7\n\"x\""),
        model: Some("tiny"),
        path: b"/v2/models/tiny/infer/and/more",
        transport: "http_json",
        outcome: "ok",
        duration: Duration::from_micros(1_500),
        rows: 2,
    };

    #[test]
    fn what_a_client_sent_cannot_forge_a_line() {
        let text = formed(&LINE, LogFormat::Text, 16);
        assert_eq!(text, "request http_json /v2/models/tiny/… ok 1.500 ms 2 rows id 7\\n\\\"x\\\"");
        let json: serde_json::Value = serde_json::from_str(&formed(&LINE, LogFormat::Json, 16)).expect("JSON");
        assert_eq!(json["outcome"], "ok");
        assert!(!json["id"].as_str().expect("a text").contains('\n'));
    }

    #[test]
    fn lines_beyond_the_second_are_dropped_and_counted() {
        let (log, receiver) = Log::new(access(1.0, LogFormat::Text));
        let now = Instant::now();
        let (mut sampler, mut jitter) = (Sampler::new(now), Jitter::new(1));
        (0..12).for_each(|_| sampler.log(&log, &mut jitter, &LINE, now));
        assert_eq!((receiver.try_iter().count(), log.dropped()), (10, 2));
        sampler.log(&log, &mut jitter, &LINE, now + Duration::from_secs(1));
        assert_eq!(receiver.try_iter().count(), 1);
    }

    #[test]
    fn nothing_is_logged_unless_it_is_asked_for() {
        let (log, receiver) = Log::new(access(0.0, LogFormat::Text));
        let now = Instant::now();
        Sampler::new(now).log(&log, &mut Jitter::new(1), &LINE, now);
        assert_eq!((receiver.try_iter().count(), log.dropped()), (0, 0));
    }

    #[test]
    fn what_was_logged_is_written_before_the_end() {
        let (log, receiver) = Log::new(access(1.0, LogFormat::Text));
        let (sink, written) = sync_channel(LINES_WAITING_MAX);
        let sink: LogSink = Box::new(move |_, line| sink.send(line.to_owned()).expect("it is read below"));
        (0..500).for_each(|_| log.warn("test", "x"));
        std::thread::scope(|scope| {
            scope.spawn(move || write(&receiver, &sink));
            log.finish(Duration::from_secs(20));
            assert_eq!(written.try_iter().count(), 500);
            drop(log);
        });
    }

    #[test]
    fn a_sink_that_is_stuck_does_not_hold_the_end_up() {
        let (log, _receiver) = Log::new(access(1.0, LogFormat::Text));
        log.finish(Duration::ZERO);
        (0..LINES_WAITING_MAX).for_each(|_| log.warn("test", "x"));
        log.finish(Duration::from_secs(20));
    }

    #[test]
    fn a_sink_that_is_slow_costs_lines_and_no_time() {
        let (log, _receiver) = Log::new(access(1.0, LogFormat::Text));
        (0..LINES_WAITING_MAX + 3).for_each(|_| log.warn("test", "x"));
        assert_eq!(log.dropped(), 3);
    }
}
