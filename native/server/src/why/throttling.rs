//! How often the system has stopped the whole process because it had used up its share of the cores.

use std::fs;
use std::path::PathBuf;

use serde::Serialize;

/// Since the container was started.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Throttling {
    /// Periods in which the process ran.
    pub periods: u64,
    /// Those in which it was stopped.
    pub periods_throttled: u64,
    /// Seconds for which it was, added up over cores.
    pub throttled_s: f64,
}

impl Throttling {
    /// Of the periods, the share in which it was stopped.
    pub(super) fn share(&self) -> f64 {
        self.periods_throttled as f64 / self.periods.max(1) as f64
    }
}

/// Reads it from the process's control group; `None` where its use of cores is not bounded.
pub(super) fn read() -> Option<Throttling> {
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    candidates(&membership).iter().find_map(|path| parse(&fs::read_to_string(path).ok()?))
}

/// Where the group's figures may be, the likeliest first: groups are mounted whole, or the process sees its own as the
/// root.
fn candidates(membership: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in membership.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let root = match controllers {
            "" => PathBuf::from("/sys/fs/cgroup"),
            controllers if controllers.split(',').any(|name| name == "cpu") => {
                PathBuf::from("/sys/fs/cgroup").join(controllers)
            }
            _ => continue,
        };
        folders.push(root.join(path.trim_start_matches('/')));
        folders.push(root);
    }
    folders.into_iter().map(|folder| folder.join("cpu.stat")).collect()
}

/// Both versions of control groups: they differ in the unit of the time.
fn parse(text: &str) -> Option<Throttling> {
    let number = |name: &str| {
        let mut fields = text.lines().filter_map(|line| line.split_once(' '));
        fields.find(|(found, _)| *found == name).and_then(|(_, value)| value.trim().parse::<u64>().ok())
    };
    let periods = number("nr_periods").filter(|&periods| periods > 0)?;
    let throttled_s = match (number("throttled_usec"), number("throttled_time")) {
        (Some(microseconds), _) => microseconds as f64 / 1e6,
        (None, nanoseconds) => nanoseconds.unwrap_or(0) as f64 / 1e9,
    };
    Some(Throttling { periods, periods_throttled: number("nr_throttled").unwrap_or(0), throttled_s })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_control_groups_are_read() {
        let second = "usage_usec 9\nuser_usec 5\nnr_periods 200\nnr_throttled 50\nthrottled_usec 1500000\n";
        let first = "nr_periods 200\nnr_throttled 50\nthrottled_time 1500000000\n";
        let expected = Throttling { periods: 200, periods_throttled: 50, throttled_s: 1.5 };
        assert_eq!([second, first].map(parse), [Some(expected); 2]);
        assert_eq!(expected.share(), 0.25);
        for unlimited in ["nr_periods 0\nnr_throttled 0\nthrottled_usec 0\n", "usage_usec 9\n", "", "nr_periods x\n"] {
            assert_eq!(parse(unlimited), None, "{unlimited}");
        }
    }

    #[test]
    fn the_own_group_is_looked_at_before_the_root() {
        let second = candidates("0::/pod/one\n");
        assert_eq!(second, ["/sys/fs/cgroup/pod/one/cpu.stat", "/sys/fs/cgroup/cpu.stat"].map(PathBuf::from));
        let first = candidates("4:memory:/pod\n2:cpu,cpuacct:/\n");
        assert_eq!(first[0], PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/cpu.stat"));
        assert_eq!(candidates("nonsense\n"), Vec::<PathBuf>::new());
    }
}
