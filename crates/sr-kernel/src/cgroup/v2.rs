//! The v2 files of a group, and switching controllers on for it.

use super::Controller;
use super::file::{CgroupError, Limit, Put, exists, keyed, number, read, write};
use sr_common::Waited;
use std::path::Path;

/// Switches the controllers on for the children of the directory in which `dir` will be made. What is on stays on:
/// other groups there may rely on it.
pub(super) fn enable(dir: &Path, controllers: &[Controller]) -> Result<(), CgroupError> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    let file = parent.join("cgroup.subtree_control");
    let on = read(&file)?;
    let missing: Vec<String> = controllers
        .iter()
        .filter(|c| !on.split_ascii_whitespace().any(|name| name == c.name()))
        .map(|c| format!("+{}", c.name()))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        write(&file, &missing.join(" "))
    }
}

/// Microseconds of CPU time in each period. The kernel takes no quota below 1 ms and no period above 1 s.
pub fn quota_and_period(milli_cpus: u64) -> (u64, u64) {
    let period: u64 = if milli_cpus < 10 { 1_000_000 } else { 100_000 };
    ((milli_cpus.saturating_mul(period) / 1000).max(1000), period)
}

pub(super) fn limit(
    dir: &Path,
    which: Controller,
    limit: u64,
    by: Put,
    held_now: &mut Vec<Limit>,
) -> Result<(), CgroupError> {
    let mut put = |name: &str, text: String, expected: String| -> Result<(), CgroupError> {
        held_now.push(by(dir.join(name), &text, &expected)?);
        Ok(())
    };
    match which {
        Controller::Memory => {
            let page = rustix::param::page_size() as u64;
            put("memory.max", limit.to_string(), (limit - limit % page).to_string())?;
            // On v2 swap is counted apart: the run gets none, so that memory and swap together stay below the limit.
            if exists(&dir.join("memory.swap.max")) {
                put("memory.swap.max", "0".into(), "0".into())?;
            }
            // The whole run ends when it is out of memory, not a process of the kernel's choice.
            if exists(&dir.join("memory.oom.group")) {
                put("memory.oom.group", "1".into(), "1".into())?;
            }
        }
        Controller::Cpu => {
            let (quota, period) = quota_and_period(limit);
            let text = format!("{quota} {period}");
            put("cpu.max", text.clone(), text)?;
        }
        Controller::Pids => put("pids.max", limit.to_string(), limit.to_string())?,
    }
    Ok(())
}

/// Takes the limits away, those that are there.
pub(super) fn lift(dir: &Path) {
    for file in ["memory.max", "memory.swap.max", "cpu.max", "pids.max"] {
        let _ = write(&dir.join(file), "max");
    }
}

pub(super) fn usage(dir: &Path, which: Controller) -> Option<u64> {
    match which {
        Controller::Memory => number(&dir.join("memory.current")),
        Controller::Cpu => keyed(&dir.join("cpu.stat"), "usage_usec"),
        Controller::Pids => number(&dir.join("pids.current")),
    }
}

pub(super) fn peaks(dir: &Path, which: Controller) -> Option<u64> {
    match which {
        Controller::Memory => number(&dir.join("memory.peak")),
        Controller::Cpu => usage(dir, which),
        Controller::Pids => number(&dir.join("pids.peak")),
    }
}

/// `None` where the kernel counts no pressure, or is told not to (`psi=0`).
pub(super) fn waited(dir: &Path) -> Option<Waited> {
    let of = |name: &str| some_total(&read(&dir.join(name)).ok()?);
    Some(Waited {
        cpu_micros: of("cpu.pressure")?,
        memory_micros: of("memory.pressure")?,
        io_micros: of("io.pressure")?,
    })
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=1234`.
fn some_total(text: &str) -> Option<u64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split(' ')
        .find_map(|word| word.strip_prefix("total="))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::some_total;

    #[test]
    fn the_total_of_some() {
        let text =
            "some avg10=1.00 avg60=0.20 avg300=0.00 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(some_total(text), Some(1234));
        assert_eq!(some_total("full avg10=0.00 total=7"), None);
        assert_eq!(some_total(""), None);
    }
}
