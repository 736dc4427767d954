//! How many threads a run has. One makes the most of the cores nearly always; more are worth it only where a model would
//! miss its latency target otherwise.

use std::time::Duration;

use servekit_core::Latency;

/// What is wanted of a model, and what there is to run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Threads of one run that each runner has a core for.
    pub(crate) least: u32,
    /// Cores that runs may keep busy together.
    pub(crate) cores: u32,
    /// Zero is none.
    pub(crate) target: Duration,
    pub(crate) rows_max: u32,
}

/// Threads of one run, and why so many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) threads: u32,
    pub(crate) why: String,
}

impl Wanted {
    /// Batches that may run at once if each has so many threads.
    pub(crate) fn lanes(&self, threads: u32) -> u32 {
        (self.cores / threads.max(1)).max(1)
    }

    /// Numbers of threads that are tried, ascending.
    fn candidates(&self) -> Vec<u32> {
        let least = self.least.clamp(1, self.cores.max(1));
        let mut candidates = vec![least];
        candidates.extend([2, 4, self.cores].into_iter().filter(|&threads| least < threads && threads <= self.cores));
        candidates.sort_unstable();
        candidates.dedup();
        candidates
    }

    /// What a request takes that just missed a run of so many rows, all lanes running in turns.
    fn answered_in(&self, threads: u32, run: Duration) -> Duration {
        run + run / self.lanes(threads)
    }

    /// The choice where a single run of one row, the first and so the slowest, was fast enough with one thread.
    pub(crate) fn at_once(&self, one_row: Duration) -> Option<Choice> {
        let answered_in = self.answered_in(1, one_row);
        let is_enough = self.least == 1 && !self.target.is_zero() && answered_in <= self.target;
        let (answered_ms, target_ms) = (answered_in.as_secs_f64() * 1e3, self.target.as_secs_f64() * 1e3);
        let why = || format!("one row is answered within {answered_ms:.1} ms, the target is {target_ms} ms");
        is_enough.then(|| Choice { threads: 1, why: why() })
    }

    /// Chooses the fewest threads that meet the target, or else those that come nearest to it. `measure`
    /// says how long runs take with so many threads; `None` where there is no time left to find out.
    ///
    /// # Errors
    /// Those of `measure`.
    pub(crate) fn choose<E>(&self, mut measure: impl FnMut(u32) -> Result<Option<Latency>, E>) -> Result<Choice, E> {
        let candidates = self.candidates();
        let mut soonest: Option<(u32, Duration)> = None;
        let mut told = Vec::new();
        for &threads in &candidates {
            if self.target.is_zero() || candidates.len() == 1 {
                let why = if self.target.is_zero() { "no latency target asks for more" } else { "no more cores" };
                return Ok(Choice { threads, why: why.to_owned() });
            }
            let Some(latency) = measure(threads)? else {
                told.push(format!("no time was left to try {threads}"));
                break;
            };
            let lanes = self.lanes(threads);
            let knee = latency.knee(self.target, lanes, self.rows_max);
            let answered_in = self.answered_in(threads, latency.expected(knee));
            let rate = f64::from(knee * lanes) / latency.expected(knee).as_secs_f64();
            let (plural, answered_ms) = (if threads == 1 { "" } else { "s" }, answered_in.as_secs_f64() * 1e3);
            told.push(format!(
                "with {threads} thread{plural} a batch of {knee} and the wait for a lane take {answered_ms:.1} ms, {rate:.0} rows/s"
            ));
            if answered_in <= self.target {
                return Ok(Choice { threads, why: self.why("the fewest that meet", &told) });
            }
            if soonest.is_none_or(|(_, before)| answered_in < before) {
                soonest = Some((threads, answered_in));
            }
        }
        let threads = soonest.map_or(candidates[0], |(threads, _)| threads);
        Ok(Choice { threads, why: self.why("no number meets", &told) })
    }

    fn why(&self, outcome: &str, told: &[String]) -> String {
        let target_ms = self.target.as_secs_f64() * 1e3;
        format!("{outcome} the target of {target_ms} ms: {}", told.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model whose runs take so long with one thread; more threads share all of it but `serial`.
    fn measured(row_ms: f64, serial: f64) -> impl FnMut(u32) -> Result<Option<Latency>, ()> {
        move |threads| {
            let factor = serial + (1.0 - serial) / f64::from(threads);
            let mut latency = Latency::new(64);
            for rows in [64, 1, 16, 64, 1, 16] {
                latency.observe(rows, Duration::from_secs_f64((1.0 + row_ms * f64::from(rows)) * factor / 1e3));
            }
            Ok(Some(latency))
        }
    }

    fn wanted(cores: u32, target_ms: u64) -> Wanted {
        Wanted { least: 1, cores, target: Duration::from_millis(target_ms), rows_max: 64 }
    }

    #[test]
    fn the_fewest_threads_that_meet_the_target_are_chosen() {
        // One row takes 41 ms, with the wait for one of 8 lanes 46 ms; with two threads 25 ms and one of 4 lanes.
        let table = [(1000, 1), (50, 1), (40, 2), (25, 4), (5, 8)];
        for (target_ms, expected) in table {
            let choice = wanted(8, target_ms).choose(measured(40.0, 0.1)).expect("a choice");
            assert_eq!(choice.threads, expected, "{target_ms} ms: {}", choice.why);
        }
    }

    #[test]
    fn threads_that_do_not_help_are_not_chosen() {
        let choice = wanted(8, 5).choose(measured(40.0, 1.0)).expect("a choice");
        assert_eq!(choice.threads, 1, "{}", choice.why);
    }

    #[test]
    fn nothing_is_measured_where_nothing_is_to_be_chosen() {
        let never = |_| -> Result<Option<Latency>, ()> { panic!("measured") };
        assert_eq!(wanted(1, 5).choose(never).expect("a choice").threads, 1);
        assert_eq!(wanted(8, 0).choose(never).expect("a choice").threads, 1);
        let least = Wanted { least: 4, ..wanted(8, 0) };
        assert_eq!(least.choose(never).expect("a choice").threads, 4);
    }

    #[test]
    fn what_there_was_no_time_for_is_not_chosen() {
        let mut model = measured(40.0, 0.1);
        let choice = wanted(8, 5).choose(|threads| if threads > 2 { Ok(None) } else { model(threads) });
        assert_eq!(choice.expect("a choice").threads, 2);
        assert_eq!(wanted(8, 5).choose(|_| Ok::<_, ()>(None)).expect("a choice").threads, 1);
    }

    #[test]
    fn candidates_are_those_that_there_are_cores_for() {
        let candidates = |least, cores| Wanted { least, ..wanted(cores, 1) }.candidates();
        assert_eq!(candidates(1, 1), [1]);
        assert_eq!(candidates(1, 2), [1, 2]);
        assert_eq!(candidates(1, 3), [1, 2, 3]);
        assert_eq!(candidates(1, 16), [1, 2, 4, 16]);
        assert_eq!(candidates(4, 8), [4, 8]);
        assert_eq!(candidates(9, 8), [8]);
    }
}
