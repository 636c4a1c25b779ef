//! What the whole machine holds: open files, control groups, kernel memory; and what is kept from run to run.
//! Other programs move these numbers too, so each has slack; none of it is as much as one thing a run.

use super::house::House;
use super::left::names;
use crate::Outcome;
use std::fs;
use std::time::{Duration, Instant};

/// How long the kernel may take to free what is not used any more: it does so after grace periods, and by batches.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Load(Vec<(&'static str, u64)>);

impl Load {
    pub fn now(house: &House) -> Load {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let meminfo = text("/proc/meminfo");
        let kilobytes = |name: &str| field(&meminfo, name, 1);
        // Groups of all hierarchies, those among them that are removed and not yet freed.
        let groups = text("/proc/cgroups");
        let groups = groups
            .lines()
            .filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
        let dying = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(|root| {
            let stat = text(&format!("{root}/cgroup.stat"));
            field(&stat, "nr_dying_descendants", 1) + field(&stat, "nr_descendants", 1)
        });
        let slabs = text("/proc/slabinfo");
        let active = |name: &str| field(&slabs, name, 1);
        let kept = |dir: &str| names(&house.path(dir)).len() as u64;
        Load(vec![
            (
                "open files",
                text("/proc/sys/fs/file-nr")
                    .split_whitespace()
                    .next()
                    .map_or(0, |n| n.parse().unwrap_or(0)),
            ),
            ("control groups", groups.sum::<u64>() + dying.iter().sum::<u64>()),
            ("network namespaces", active("net_namespace")),
            ("user namespaces", active("user_namespace")),
            ("pid namespaces", active("pid_namespace")),
            ("mounts of all", active("mnt_cache")),
            (
                "KiB of kernel memory",
                kilobytes("SUnreclaim:") + kilobytes("Percpu:") + kilobytes("KernelStack:"),
            ),
            ("KiB of tmpfs", kilobytes("Shmem:")),
            ("kept trees", kept("runtime/safe-run")),
            ("cached digests", kept("store/cache")),
        ])
    }

    /// Waits until no number is more than its slack above what it was; gives the growth in words.
    pub fn grown_by(&self, house: &House, runs: u32) -> Outcome<String> {
        let slack = |name: &str| match name {
            _ if name.starts_with("KiB") => 8 * 1024 + u64::from(runs) * 4,
            "kept trees" | "cached digests" => 4,
            // A batch of the kernel's, and half a thing a run.
            _ => 64 + u64::from(runs) / 2,
        };
        let start = Instant::now();
        loop {
            let now = Load::now(house);
            let pairs = || {
                self.0
                    .iter()
                    .zip(&now.0)
                    .map(|((name, then), (_, now))| (*name, *then, *now))
            };
            match pairs().find(|(name, then, now)| *now > then + slack(name)) {
                None => {
                    let told: Vec<String> = pairs()
                        .filter(|(_, then, now)| then != now)
                        .map(|(name, then, now)| format!("{name} {then} → {now}"))
                        .collect();
                    return Ok(told.join(", "));
                }
                Some((name, then, now)) if start.elapsed() > PATIENCE => {
                    return Err(format!("{name}: {then} before, {now} after"));
                }
                Some(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

/// The number in column `at` of the line that begins with `name`; 0 where there is none.
fn field(text: &str, name: &str, at: usize) -> u64 {
    let mut rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.find(|row| row.first() == Some(&name))
        .and_then(|row| row.get(at)?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_of_what_the_kernel_tells() {
        let text = "Name  count\nnr_descendants 3\nnr_dying_descendants 7\nShmem:  12 kB\n";
        assert_eq!(field(text, "nr_dying_descendants", 1), 7);
        assert_eq!(field(text, "Shmem:", 1), 12);
        assert_eq!(field(text, "absent", 1), 0);
    }
}
