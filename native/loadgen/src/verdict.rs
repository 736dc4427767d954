//! Whether a run measured the server, or its own generator.

/// Above this share of a core the generator may be what is slow.
const CPU_SHARE_MAX: f64 = 0.9;
/// Sends may be late by this much, or by this share of the objective, whichever is more.
const LATE_MS_MAX: f64 = 1.0;
const LATE_SHARE_MAX: f64 = 0.05;
/// Of the requests, that may have waited for a connection or stream.
const WAITED_SHARE_MAX: f64 = 0.001;

/// What the verdict stands on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    pub(crate) slo_ms: f64,
    pub(crate) late_p99_ms: f64,
    pub(crate) cpu_share: f64,
    pub(crate) offered: u64,
    pub(crate) waited: u64,
    pub(crate) unsent: u64,
    pub(crate) served: u64,
}

/// The reasons why the run says nothing of the server; none if it does.
pub(crate) fn reasons(evidence: &Evidence) -> Vec<String> {
    let Evidence { slo_ms, late_p99_ms, cpu_share, offered, waited, unsent, served } = *evidence;
    let mut reasons = Vec::new();
    if offered == 0 {
        reasons.push("no request was due; a higher rate or more seconds are needed".into());
    } else if served == 0 {
        reasons.push("no request was served, so no time can be told".into());
    }
    let late_ms_max = LATE_MS_MAX.max(slo_ms * LATE_SHARE_MAX);
    if late_p99_ms > late_ms_max {
        reasons.push(format!(
            "requests left late: p99 {late_p99_ms:.2} ms after they were due, {late_ms_max:.2} ms is allowed; give the \
             generator a processor of its own, or lower the rate"
        ));
    }
    if cpu_share > CPU_SHARE_MAX {
        reasons.push(format!(
            "the generator used {:.0} % of a core, {:.0} % is allowed; lower the rate",
            cpu_share * 100.0,
            CPU_SHARE_MAX * 100.0
        ));
    }
    if waited as f64 > offered as f64 * WAITED_SHARE_MAX {
        let never = if unsent > 0 { format!(", {unsent} of them in vain") } else { String::new() };
        reasons.push(format!(
            "{waited} of {offered} requests waited for a free connection or stream{never}; allow more connections"
        ));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Evidence =
        Evidence { slo_ms: 50.0, late_p99_ms: 2.4, cpu_share: 0.9, offered: 5_000, waited: 5, unsent: 0, served: 1 };

    fn told(change: impl FnOnce(&mut Evidence)) -> String {
        let mut evidence = FINE;
        change(&mut evidence);
        reasons(&evidence).join("; ")
    }

    #[test]
    fn a_generator_that_kept_up_is_no_limit() {
        assert_eq!(told(|_| {}), "");
        assert_eq!(told(|evidence| (evidence.slo_ms, evidence.late_p99_ms) = (5.0, 1.0)), "");
    }

    #[test]
    fn each_limit_of_the_generator_is_told_by_name() {
        assert!(told(|evidence| evidence.late_p99_ms = 2.6).starts_with("requests left late: p99 2.60 ms"));
        assert!(told(|evidence| evidence.slo_ms = 5.0).contains("1.00 ms is allowed"));
        assert!(told(|evidence| evidence.cpu_share = 0.93).starts_with("the generator used 93 % of a core"));
        let waited = told(|evidence| (evidence.waited, evidence.unsent) = (6, 2));
        assert!(waited.starts_with("6 of 5000 requests waited for a free connection or stream, 2 of them in vain"));
        assert!(told(|evidence| evidence.offered = 0).contains("no request was due"));
        assert!(told(|evidence| evidence.served = 0).contains("no request was served"));
    }
}
