//! Where the time of a request went, told to its caller: the field `server-timing`, alike in both protocols.

use std::time::Duration;

use servekit_core::Timing;
use servekit_wire::is_token;
use smallvec::SmallVec;

use crate::config::ServerTiming;

/// Name of the field, and of the trailing metadata.
pub(crate) const SERVER_TIMING: &str = "server-timing";

/// One in so many answers tells it where they are sampled.
const SAMPLED_OF: u32 = 100;

/// Decides which answers of a shard tell their timing.
#[derive(Debug)]
pub(crate) struct Told {
    mode: ServerTiming,
    /// Answers since the last that was sampled.
    passed: u32,
}

impl Told {
    /// Tells as often as the operator wants.
    pub(crate) fn new(mode: ServerTiming) -> Self {
        Self { mode, passed: 0 }
    }

    /// Whether the next answer tells its timing; a caller who asks for it is told wherever some are.
    #[inline]
    pub(crate) fn tells(&mut self, is_wanted: bool) -> bool {
        match self.mode {
            ServerTiming::Off => false,
            ServerTiming::Sampled => {
                self.passed += 1;
                let is_due = self.passed >= SAMPLED_OF;
                if is_due {
                    self.passed = 0;
                }
                is_due || is_wanted
            }
            ServerTiming::Always => true,
        }
    }
}

/// A timing in the words of the field; nothing is allocated where a model has no steps.
pub(crate) struct TimingText {
    bytes: SmallVec<[u8; Self::BYTES_USUAL]>,
}

impl TimingText {
    /// Six numbers of at most 17 + 4 digits, a count of 10, and the words around them.
    const BYTES_USUAL: usize = 256;

    /// `queue;dur=1.234, batch;desc="rows=12 reason=idle", input;dur=0.003, run;dur=2.100, output;dur=0.002, total;dur=3.4`,
    /// in milliseconds; `total` is what has passed since the request's head was read. The model's own steps, by name, stand
    /// in front of it.
    pub(crate) fn new<'s>(timing: &Timing, steps: impl Iterator<Item = (&'s str, Duration)>, total: Duration) -> Self {
        let mut text = Self { bytes: SmallVec::new() };
        text.step("queue", timing.queue);
        text.push(b", batch;desc=\"rows=");
        text.push(itoa::Buffer::new().format(timing.batch_rows).as_bytes());
        text.push(b" reason=");
        text.push(timing.dispatch.label().as_bytes());
        text.push(b"\"");
        let always = [("input", timing.input), ("run", timing.run), ("output", timing.output)];
        for (name, duration) in always.into_iter().chain(steps).chain([("total", total)]) {
            text.push(b", ");
            text.step(name, duration);
        }
        text
    }

    /// The value of the field.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Milliseconds with three digits behind the point.
    fn step(&mut self, name: &str, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        // The name of a model's step may be any text, that of a field's entry a token.
        self.bytes.extend(name.bytes().map(|byte| if is_token(byte) { byte } else { b'_' }));
        self.push(b";dur=");
        self.push(itoa::Buffer::new().format(micros / 1_000).as_bytes());
        let digit = |unit: u64| b'0' + (micros / unit % 10) as u8;
        self.push(&[b'.', digit(100), digit(10), digit(1)]);
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use servekit_core::Dispatch;

    use super::*;

    #[test]
    fn a_timing_is_told_in_milliseconds() {
        let [queue, input, run, output] = [1_234_567, 3_000, 2_100_499, 999].map(Duration::from_nanos);
        let timing = Timing { queue, input, run, output, batch_rows: 12, dispatch: Dispatch::Idle };
        let text = TimingText::new(&timing, [].into_iter(), Duration::from_micros(3_400));
        let expected = r#"queue;dur=1.234, batch;desc="rows=12 reason=idle", input;dur=0.003, run;dur=2.100, output;dur=0.000, total;dur=3.400"#;
        assert_eq!(String::from_utf8_lossy(text.as_bytes()), expected);
    }

    #[test]
    fn the_longest_timing_there_is_finds_room() {
        let longest = Duration::MAX;
        let timing = Timing {
            queue: longest,
            input: longest,
            run: longest,
            output: longest,
            batch_rows: u32::MAX,
            dispatch: Dispatch::Window,
        };
        let text = TimingText::new(&timing, [].into_iter(), longest);
        assert!(text.as_bytes().ends_with(b", total;dur=18446744073709551.615"));
        assert!(!text.bytes.spilled());
    }

    #[test]
    fn steps_are_told_by_names_that_are_tokens() {
        let steps = [("decode, \"wide\"", 1_500), ("größe", 20)];
        let steps = steps.map(|(name, micros)| (name, Duration::from_micros(micros)));
        let text = TimingText::new(&Timing::default(), steps.into_iter(), Duration::ZERO);
        let text = String::from_utf8_lossy(text.as_bytes());
        let expected = "output;dur=0.000, decode___wide_;dur=1.500, gr____e;dur=0.020, total;dur=0.000";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn one_in_a_hundred_is_sampled_and_whoever_asks() {
        let count = |mode, is_wanted| {
            let mut told = Told::new(mode);
            (0..1_000).filter(|_| told.tells(is_wanted)).count()
        };
        assert_eq!([false, true].map(|is_wanted| count(ServerTiming::Off, is_wanted)), [0, 0]);
        assert_eq!([false, true].map(|is_wanted| count(ServerTiming::Sampled, is_wanted)), [10, 1_000]);
        assert_eq!([false, true].map(|is_wanted| count(ServerTiming::Always, is_wanted)), [1_000, 1_000]);
    }
}
