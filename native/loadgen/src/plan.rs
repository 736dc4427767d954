//! What is to be sent: where, how much, how often, for how long.

use std::path::PathBuf;

use bytes::Bytes;
use serde::Deserialize;

use crate::Error;

/// A schedule of more would take hours or all memory.
const REQUESTS_MAX: f64 = 50e6;
const RATE_MAX: f64 = 2e6;
/// A loopback address has this many ports towards one listener, with some to spare.
const CONNECTIONS_MAX: u32 = 28_000;
const STREAMS_MAX: u32 = 1_000;
const SECONDS_MAX: f64 = 86_400.0;
const WINDOWS_MAX: f64 = 100_000.0;

/// One run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Whom to ask.
    pub target: Target,
    /// How often.
    pub load: Load,
    /// What to send; each request draws one by weight.
    pub bodies: Vec<Body>,
    /// Classes of requests; empty: none is said.
    pub priorities: Vec<Priority>,
    /// Connections that are held open.
    pub connections: u32,
    /// gRPC: requests that may be on their way at once on each connection.
    pub streams: u32,
    /// Length of the part that counts.
    pub seconds: f64,
    /// Sent before it, and not counted.
    pub warm_seconds: f64,
    /// How long answers are awaited after the last request was due.
    pub patience_seconds: f64,
    /// An answer counts as good up to this long after its request was due.
    pub slo_ms: f64,
    /// Sent with each request, less what has passed since it was due.
    pub deadline_ms: Option<f64>,
    /// Callers who leave.
    pub cancel: Option<Cancel>,
    /// Callers who hardly read, beside all others.
    pub slow: Option<Slow>,
    /// Length of one entry of the timeline.
    pub window_ms: f64,
    /// Two runs of one seed send the same requests at the same times.
    pub seed: u64,
}

/// Where requests go.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// `HOST:PORT`.
    pub address: String,
    /// Path of the inference, or of the rpc.
    pub path: String,
    /// What is spoken.
    pub protocol: Protocol,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1, one request of a connection at a time.
    Http,
    /// gRPC over HTTP/2.
    Grpc,
}

/// When requests leave.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Load {
    /// By a schedule.
    Open {
        /// Requests per second in the mean; `None` only for a trace, which is then replayed at its own speed.
        rate: Option<f64>,
        /// The schedule.
        arrivals: Arrivals,
    },
    /// As soon as an earlier one is answered.
    Closed {
        /// Requests on their way at any time.
        in_flight: u32,
    },
}

/// How the gaps between requests are distributed.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Arrivals {
    /// Independent callers.
    Poisson,
    /// A metronome.
    Constant,
    /// Two Poisson rates in turn, 0.4 and 2.2 times the mean where the first holds twice as long; times in either are
    /// exponential.
    Mmpp {
        /// Mean time at the low rate.
        low_s: f64,
        /// Mean time at the high rate.
        high_s: f64,
    },
    /// Two Poisson rates in turn, ten to one, each for a fixed time.
    Onoff {
        /// Time at the high rate.
        on_s: f64,
        /// Time at the low rate.
        off_s: f64,
    },
    /// A Poisson rate that swings three to one as a sine.
    Diurnal {
        /// Length of one day.
        period_s: f64,
    },
    /// Recorded times, repeated from the beginning where the run is longer.
    Trace {
        /// See [`crate::run`]'s guide: a number a line, or JSON lines.
        path: PathBuf,
    },
}

/// One of the bodies.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// `content-type`; not used for gRPC.
    pub content_type: String,
    /// Where the JSON part of a binary body ends.
    pub json_bytes: Option<usize>,
    /// Relative to the other bodies.
    pub weight: f64,
}

/// A class of requests.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Priority {
    /// As `x-request-priority` counts, 1 the highest.
    pub level: u32,
    /// Relative to the other classes.
    pub share: f64,
}

/// Callers who leave before they are answered.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// Of all requests.
    pub share: f64,
    /// They leave at a random time up to this long after their request was due.
    pub within_ms: f64,
}

/// Callers who send on and on, and hardly read.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slow {
    /// How many.
    pub connections: u32,
    /// What each reads.
    pub bytes_per_second: u32,
}

impl Plan {
    /// Tells what makes no sense.
    pub(crate) fn check(&self, contents: &[Bytes]) -> Result<(), Error> {
        self.check_times()?;
        self.check_load()?;
        whole("connections", self.connections, CONNECTIONS_MAX)?;
        whole("streams", self.streams, STREAMS_MAX)?;
        if self.bodies.is_empty() || self.bodies.len() != contents.len() {
            return Err(Error::Plan(format!(
                "{} bodies are described and {} given, the same number of at least one is allowed",
                self.bodies.len(),
                contents.len()
            )));
        }
        self.bodies.iter().try_for_each(|body| number("weight of a body", body.weight, f64::MAX))?;
        self.priorities.iter().try_for_each(|class| number("share of a priority", class.share, f64::MAX))?;
        if let Some(cancel) = self.cancel {
            number("share of cancelled requests", cancel.share, 1.0)?;
            number("time until a request is cancelled, in ms", cancel.within_ms, SECONDS_MAX * 1e3)?;
        }
        if let Some(slow) = self.slow {
            whole("slow connections", slow.connections, CONNECTIONS_MAX)?;
            if self.target.protocol == Protocol::Grpc {
                return Err(Error::Plan("slow readers speak HTTP alone; choose the protocol json or binary".into()));
            }
        }
        Ok(())
    }

    fn check_times(&self) -> Result<(), Error> {
        number("seconds of a run", self.seconds, SECONDS_MAX)?;
        number("slo_ms", self.slo_ms, SECONDS_MAX * 1e3)?;
        number("window_ms of the timeline", self.window_ms, SECONDS_MAX * 1e3)?;
        number("windows of the timeline", self.seconds * 1e3 / self.window_ms, WINDOWS_MAX)?;
        if let Some(deadline_ms) = self.deadline_ms {
            number("deadline_ms", deadline_ms, SECONDS_MAX * 1e3)?;
        }
        for (name, seconds) in [("warm", self.warm_seconds), ("patience", self.patience_seconds)] {
            if !(0.0..=SECONDS_MAX).contains(&seconds) {
                return Err(Error::Plan(format!("{name} seconds are {seconds}, 0 to {SECONDS_MAX} is allowed")));
            }
        }
        Ok(())
    }

    fn check_load(&self) -> Result<(), Error> {
        let (rate, arrivals) = match &self.load {
            Load::Closed { in_flight } => {
                let streams = if self.target.protocol == Protocol::Grpc { self.streams } else { 1 };
                return whole("requests in flight", *in_flight, self.connections.saturating_mul(streams));
            }
            Load::Open { rate, arrivals } => (*rate, arrivals),
        };
        match arrivals {
            Arrivals::Mmpp { low_s: one, high_s: other } | Arrivals::Onoff { on_s: one, off_s: other } => {
                number("time at a rate, in s", *one, SECONDS_MAX)?;
                number("time at a rate, in s", *other, SECONDS_MAX)?;
            }
            Arrivals::Diurnal { period_s } => number("period of the day, in s", *period_s, SECONDS_MAX)?,
            Arrivals::Poisson | Arrivals::Constant | Arrivals::Trace { .. } => {}
        }
        match rate {
            Some(rate) => {
                number("rate, in requests per second,", rate, RATE_MAX)?;
                let requests = rate * (self.seconds + self.warm_seconds);
                number("number of requests of a run, rate times seconds,", requests, REQUESTS_MAX)
            }
            None if matches!(arrivals, Arrivals::Trace { .. }) => Ok(()),
            None => Err(Error::Plan("no rate is given; only a trace has one of its own".into())),
        }
    }
}

fn number(name: &str, found: f64, most: f64) -> Result<(), Error> {
    if found > 0.0 && found <= most {
        return Ok(());
    }
    let allowed = if most == f64::MAX { "more than 0".into() } else { format!("more than 0 up to {most}") };
    Err(Error::Plan(format!("{name} is {found}, {allowed} is allowed")))
}

fn whole(name: &str, found: u32, most: u32) -> Result<(), Error> {
    if (1..=most).contains(&found) {
        return Ok(());
    }
    Err(Error::Plan(format!("{name}: {found} found, 1 to {most} are allowed")))
}

#[cfg(test)]
pub(crate) mod tests;
