use super::*;

fn read_from(files: &[(&str, &str)], path: &Path) -> Option<String> {
    files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
}

fn cores_of(files: &[(&str, &str)]) -> Vec<f64> {
    quotas(&|path| read_from(files, path)).iter().map(|quota| quota.cores).collect()
}

const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
const LEGACY: &str = "32 25 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      33 25 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

#[test]
fn a_quota_is_read_from_the_group_and_all_around_it() {
    let files = [
        ("/proc/self/mountinfo", UNIFIED),
        ("/proc/self/cgroup", "0::/pods/one\n"),
        ("/sys/fs/cgroup/pods/one/cpu.max", "max 100000\n"),
        ("/sys/fs/cgroup/pods/cpu.max", "150000 100000\n"),
        ("/sys/fs/cgroup/cpu.max", "400000 100000\n"),
    ];
    assert_eq!(cores_of(&files), [1.5, 4.0]);
}

#[test]
fn a_quota_of_the_first_version_is_read() {
    let files = [
        ("/proc/self/mountinfo", LEGACY),
        ("/proc/self/cgroup", "11:memory:/box\n4:cpu,cpuacct:/box\n0::/box\n"),
        ("/sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "50000\n"),
        ("/sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000\n"),
        ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
        ("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
    ];
    assert_eq!(cores_of(&files), [0.5]);
}

#[test]
fn a_container_sees_its_group_at_the_mount() {
    let mounts = "40 30 0:26 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n";
    let files = [
        ("/proc/self/mountinfo", mounts),
        ("/proc/self/cgroup", "4:cpu:/docker/abc\n"),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "250000\n"),
        ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
    ];
    assert_eq!(cores_of(&files), [2.5]);
}

#[test]
fn files_that_are_missing_or_odd_bound_nothing() {
    for files in [
        vec![],
        vec![("/proc/self/mountinfo", UNIFIED)],
        vec![("/proc/self/mountinfo", "a b\n - \n"), ("/proc/self/cgroup", "x\n0:\n")],
        vec![
            ("/proc/self/mountinfo", UNIFIED),
            ("/proc/self/cgroup", "0::/../escaped\n"),
            ("/sys/fs/cgroup/cpu.max", "0 0"),
        ],
    ] {
        assert_eq!(cores_of(&files), [0.0; 0], "{files:?}");
    }
}

#[test]
fn threads_follow_from_the_cores_unless_they_are_configured() {
    let quota = |cores| Quota { cores, source: "/sys/fs/cgroup/cpu.max".to_owned() };
    let fixed = Shares { shards: Some(1), runners: Some(2) };
    let table = [
        (2, vec![], Shares::default(), (2.0, 2, 2, 1)),
        (8, vec![quota(1.5), quota(4.0)], Shares::default(), (1.5, 2, 2, 1)),
        (8, vec![quota(0.1)], Shares::default(), (0.1, 1, 1, 1)),
        (2, vec![quota(16.0)], Shares::default(), (2.0, 2, 2, 1)),
        (8, vec![], fixed, (8.0, 1, 2, 4)),
    ];
    for (processors, quotas, shares, expected) in table {
        let plan = plan(processors, &quotas, shares);
        assert_eq!((plan.cores, plan.shards, plan.runners, plan.intra_op), expected, "{:?}", plan.reasons);
        assert_eq!(plan.reasons.len(), 5);
    }
}

#[test]
fn a_run_of_many_threads_takes_the_cores_of_several_runners() {
    let busy = |processors, runners, intra_op| {
        let shares = Shares { shards: None, runners };
        plan(processors, &[], shares).runners_busy(intra_op)
    };
    assert_eq!([1, 2, 4].map(|intra_op| busy(2, None, intra_op)), [1, 2, 2]);
    assert_eq!([1, 4, 8].map(|intra_op| busy(8, Some(2), intra_op)), [1, 1, 2]);
    assert_eq!(busy(4, Some(1), 4), 1);
}

#[test]
fn this_process_has_a_plan() {
    let plan = core_plan(Shares::default());
    assert!(plan.cores > 0.0 && plan.shards > 0 && plan.runners > 0, "{plan:?}");
}
