//! How many cores this process may use, and what that makes of its threads.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Cores and threads, with the reasons in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorePlan {
    /// Cores that this process may keep busy: the least of affinity and quotas.
    pub cores: f64,
    /// Threads that serve connections.
    pub shards: u32,
    /// Threads that run batches.
    pub runners: u32,
    /// Threads of one run that each runner has a core for; a model that would miss its latency target gets more, up to
    /// all cores.
    pub intra_op: u32,
    /// One sentence per fact and per decision.
    pub reasons: Vec<String>,
}

/// What the operator has fixed; the rest follows from the cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// See [`CorePlan::shards`].
    pub shards: Option<u32>,
    /// See [`CorePlan::runners`].
    pub runners: Option<u32>,
}

impl CorePlan {
    /// Runners whose cores a run of so many threads keeps busy.
    #[must_use]
    pub fn runners_busy(&self, intra_op: u32) -> u32 {
        let whole = self.cores.ceil().max(1.0) as u32;
        intra_op.saturating_mul(self.runners).div_ceil(whole).clamp(1, self.runners.max(1))
    }
}

/// Reads affinity and quotas of this process, and plans with them.
#[must_use]
pub fn core_plan(shares: Shares) -> CorePlan {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    plan(allowed_processors(), &quotas(&read), shares)
}

/// A bound on processor time, in cores, and who sets it.
#[derive(Clone, Debug, PartialEq)]
struct Quota {
    cores: f64,
    source: String,
}

fn plan(processors: usize, quotas: &[Quota], shares: Shares) -> CorePlan {
    let mut reasons = vec![format!("affinity allows {processors} processors")];
    let tightest = quotas.iter().min_by(|one, other| one.cores.total_cmp(&other.cores));
    let mut cores = processors as f64;
    match tightest {
        Some(quota) => {
            reasons.push(format!("cgroup quota of {:.2} cores in {}", quota.cores, quota.source));
            cores = cores.min(quota.cores);
        }
        None => reasons.push("no cgroup quota".to_owned()),
    }
    let whole = cores.ceil().max(1.0) as u32;
    let mut threads = |name: &str, share: Option<u32>| {
        let count = share.unwrap_or(whole).max(1);
        let why = if share.is_some() { "as configured" } else { "the cores, rounded up" };
        reasons.push(format!("{count} {name}: {why}"));
        count
    };
    let shards = threads("shards", shares.shards);
    let runners = threads("runners", shares.runners);
    let intra_op = (whole / runners).max(1);
    reasons.push(format!(
        "{intra_op} threads a run: {whole} cores shared by {runners} runners, more where a model needs them"
    ));
    CorePlan { cores, shards, runners, intra_op, reasons }
}

/// Processors in the affinity mask of this process.
fn allowed_processors() -> usize {
    // SAFETY: an all-zero set is a valid, empty one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is valid for the size given; the count only reads it.
    let count = unsafe {
        let status = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set);
        if status == 0 { libc::CPU_COUNT(&set) } else { 0 }
    };
    match usize::try_from(count) {
        Ok(count) if count > 0 => count,
        // More processors than the set has room for.
        _ => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    }
}

/// Gives the text of a file, if there is one.
type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// All quotas that hold for this process: those of its groups and of the groups around them.
fn quotas(read: Read<'_>) -> Vec<Quota> {
    let mounts = read(Path::new("/proc/self/mountinfo")).map_or_else(Vec::new, |text| parse_mounts(&text));
    let groups = read(Path::new("/proc/self/cgroup")).map_or_else(Vec::new, |text| parse_groups(&text));
    let mut quotas = Vec::new();
    for mount in &mounts {
        let Some(group) = groups.iter().find(|group| group.version == mount.version) else { continue };
        // A container sees its own group as the mount's root, or, with a namespace, as `/`.
        let inner = group.path.strip_prefix(&mount.root).unwrap_or(&group.path);
        let folder = mount.folder.join(inner.trim_start_matches('/'));
        for level in folder.ancestors().take_while(|level| level.starts_with(&mount.folder)) {
            quotas.extend(read_quota(level, mount.version, read));
        }
    }
    quotas
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    version: Version,
    path: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    version: Version,
    /// The group that is mounted.
    root: String,
    folder: PathBuf,
}

/// The groups of `/proc/self/cgroup` that can bound processor time: `0::/a` and `4:cpu,cpuacct:/b`.
fn parse_groups(text: &str) -> Vec<Group> {
    let parse = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let version = match (number, controllers) {
            ("0", "") => Version::Two,
            _ if controllers.split(',').any(|controller| controller == "cpu") => Version::One,
            _ => return None,
        };
        Some(Group { version, path: path.to_owned() })
    };
    text.lines().filter_map(parse).collect()
}

/// The mounts of `/proc/self/mountinfo` where such groups are seen.
fn parse_mounts(text: &str) -> Vec<Mount> {
    let parse = |line: &str| {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, folder) = (place.next()?, place.next()?);
        let mut kind = kind.split(' ');
        let version = match kind.next()? {
            "cgroup2" => Version::Two,
            "cgroup" if kind.nth(1)?.split(',').any(|option| option == "cpu") => Version::One,
            _ => return None,
        };
        Some(Mount { version, root: root.to_owned(), folder: folder.into() })
    };
    text.lines().filter_map(parse).collect()
}

fn read_quota(group: &Path, version: Version, read: Read<'_>) -> Option<Quota> {
    let (file, cores) = match version {
        Version::Two => ("cpu.max", parse_cpu_max(&read(&group.join("cpu.max"))?)?),
        Version::One => {
            let quota = read(&group.join("cpu.cfs_quota_us"))?;
            let period = read(&group.join("cpu.cfs_period_us"))?;
            ("cpu.cfs_quota_us", parse_quota(quota.trim(), period.trim())?)
        }
    };
    Some(Quota { cores, source: group.join(file).display().to_string() })
}

/// `50000 100000` is half a core, `max 100000` no bound.
fn parse_cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    parse_quota(quota, period)
}

/// A quota that is no positive number, like `max` or `-1`, is no bound.
fn parse_quota(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

#[cfg(test)]
mod tests;
