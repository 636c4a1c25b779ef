//! What a sandbox uses, where no control group counts it: the process tree, read from /proc by the supervisor.

use sr_common::Usage;
use sr_process::posture::Opener;
use std::fs::{self, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// More processes than any policy allows: a tree this large is cut off rather than walked.
const MAX_PROCESSES: usize = 100_000;

/// The trees below (and with) `roots`: init, and commands that joined. `memory_bytes` counts private and shared-memory pages of each process; pages that
/// processes share after a fork count for each, so see [`exact_memory`] before acting on it.
pub fn of_tree(roots: &[i32]) -> Usage {
    let mut usage = Usage {
        pids: Some(0),
        memory_bytes: Some(0),
        ..Usage::default()
    };
    let mut tasks = 0u64;
    let mut memory = 0u64;
    for pid in tree(roots) {
        let Ok(status) = sr_kernel::pseudo::text(format!("/proc/{pid}/status")) else {
            continue;
        };
        for line in status.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let number = || {
                value
                    .split_whitespace()
                    .next()
                    .and_then(|n| n.parse::<u64>().ok())
                    .unwrap_or(0)
            };
            match key {
                "RssAnon" | "RssShmem" => memory += number() * 1024,
                "Threads" => tasks += number(),
                _ => {}
            }
        }
    }
    usage.pids = Some(tasks);
    usage.memory_bytes = Some(memory);
    usage
}

/// Proportional set sizes of the trees, in bytes: shared pages count once. Slow; `None` if /proc does not tell.
pub fn exact_memory(roots: &[i32], opener: &dyn Opener) -> Option<u64> {
    let mut total = 0;
    for pid in tree(roots) {
        let mut text = String::new();
        let read = opener
            .open(pid, "smaps_rollup")
            .and_then(|file| fs::File::from(file).read_to_string(&mut text));
        if read.is_err() {
            continue;
        }
        let kib = text
            .lines()
            .find_map(|l| l.strip_prefix("Pss:"))
            .and_then(|v| v.split_whitespace().next()?.parse::<u64>().ok());
        total += kib? * 1024;
    }
    Some(total)
}

/// User and system time of the trees so far, in microseconds, with that of the processes that an init has reaped. Asked
/// just before init is killed: what the kernel reaps in its place it accounts to nobody.
pub fn cpu_of_tree(roots: &[i32]) -> u64 {
    tree(roots)
        .into_iter()
        .filter_map(|pid| cpu_micros(&sr_kernel::pseudo::text(format!("/proc/{pid}/stat")).ok()?))
        .sum()
}

/// utime, stime, cutime and cstime, fields 14 to 17 (proc_pid_stat(5)), in ticks of which the kernel shows 100 a second.
fn cpu_micros(stat: &str) -> Option<u64> {
    let fields = stat.rsplit_once(") ")?.1.split_ascii_whitespace();
    let ticks = fields.skip(14 - 3).take(4).filter_map(|n| n.parse::<u64>().ok());
    Some(ticks.sum::<u64>() * 10_000)
}

/// Every process of the sandbox: orphans are init's children, so the trees are whole.
fn tree(roots: &[i32]) -> Vec<i32> {
    let mut found = roots.to_vec();
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        next += 1;
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let Ok(text) = sr_kernel::pseudo::text(task.path().join("children")) else {
                continue;
            };
            found.extend(text.split_whitespace().filter_map(|p| p.parse::<i32>().ok()));
            if found.len() > MAX_PROCESSES {
                return found;
            }
        }
    }
    found
}

/// Bytes and entries below `path`, counted without following links. Stops counting at either limit.
pub fn of_folder(path: &Path, bytes_limit: u64, entries_limit: u64) -> (u64, u64) {
    let (mut bytes, mut entries) = (0, 0);
    walk(path, |meta| {
        entries += 1;
        bytes += meta.blocks() * 512;
        bytes > bytes_limit || entries > entries_limit
    });
    (bytes, entries)
}

/// Whether there is a file of at least `size` bytes below `path`, holes included. No link is followed, and no more than
/// `most` entries are looked at.
pub fn has_file_of(path: &Path, size: u64, most: u64) -> bool {
    let (mut entries, mut found) = (0, false);
    walk(path, |meta| {
        entries += 1;
        found = entries <= most && meta.is_file() && meta.len() >= size;
        found || entries > most
    });
    found
}

/// Shows everything below `path`, following no link, until one is `enough`.
fn walk(path: &Path, mut enough: impl FnMut(&Metadata) -> bool) {
    let mut queue = vec![path.to_owned()];
    while let Some(dir) = queue.pop() {
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        for (path, meta) in entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?))) {
            if enough(&meta) {
                return;
            }
            if meta.is_dir() {
                queue.push(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_is_found_and_no_link_followed() {
        let dir = tempfile::tempdir().unwrap();
        let large = dir.path().join("large");
        fs::File::create(&large).unwrap().set_len(100).unwrap();
        let below = dir.path().join("tree/below");
        fs::create_dir_all(&below).unwrap();
        let tree = dir.path().join("tree");
        std::os::unix::fs::symlink(&large, below.join("file")).unwrap();
        std::os::unix::fs::symlink(dir.path(), below.join("directory")).unwrap();
        assert!(!has_file_of(&tree, 100, 50));
        fs::hard_link(&large, below.join("own")).unwrap();
        assert!(has_file_of(&tree, 100, 50) && !has_file_of(&tree, 101, 50) && !has_file_of(&tree, 100, 1));
    }

    #[test]
    fn four_times_are_added() {
        let line = format!("7 (a) b) R {}1 2 3 4 20", "9 ".repeat(10));
        assert_eq!(cpu_micros(&line), Some(100_000));
        assert_eq!(cpu_micros("7"), None);
    }

    #[test]
    fn the_tree_of_this_process_is_counted() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let usage = of_tree(&[std::process::id() as i32]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(usage.pids.unwrap() >= 2);
        assert!(usage.memory_bytes.unwrap() > 100 * 1024);
    }
}
