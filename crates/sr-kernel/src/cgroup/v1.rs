//! The v1 files of a group: one hierarchy for each controller.

use super::Controller;
use super::file::{CgroupError, Limit, Put, exists, number, write};
use std::path::Path;

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
            let held = limit - limit % page;
            put("memory.limit_in_bytes", limit.to_string(), held.to_string())?;
            // Memory and swap together: without it the limit would only push the program out to swap.
            if exists(&dir.join("memory.memsw.limit_in_bytes")) {
                put("memory.memsw.limit_in_bytes", limit.to_string(), held.to_string())?;
            }
        }
        Controller::Cpu => {
            let (quota, period) = super::v2::quota_and_period(limit);
            put("cpu.cfs_period_us", period.to_string(), period.to_string())?;
            put("cpu.cfs_quota_us", quota.to_string(), quota.to_string())?;
        }
        Controller::Pids => put("pids.max", limit.to_string(), limit.to_string())?,
    }
    Ok(())
}

/// Takes the limits away, those that are there.
pub(super) fn lift(dir: &Path) {
    // Memory and swap together is never below memory.
    let files = [
        "memory.memsw.limit_in_bytes",
        "memory.limit_in_bytes",
        "cpu.cfs_quota_us",
    ];
    for file in files {
        let _ = write(&dir.join(file), "-1");
    }
    let _ = write(&dir.join("pids.max"), "max");
}

pub(super) fn usage(dir: &Path, which: Controller) -> Option<u64> {
    match which {
        Controller::Memory => number(&dir.join("memory.usage_in_bytes")),
        // Only where `cpu` and `cpuacct` are mounted together.
        Controller::Cpu => number(&dir.join("cpuacct.usage")).map(|nanos| nanos / 1000),
        Controller::Pids => number(&dir.join("pids.current")),
    }
}

pub(super) fn peaks(dir: &Path, which: Controller) -> Option<u64> {
    match which {
        Controller::Memory => number(&dir.join("memory.max_usage_in_bytes")),
        Controller::Cpu => usage(dir, which),
        Controller::Pids => number(&dir.join("pids.peak")),
    }
}
