//! What the program uses behind gVisor: all of its memory, files of the Sentry's own with it, is one file of the Sentry's,
//! which no process has wholly mapped. The Sentry is a process of ours, some way down.

use rustix::fs::stat;
use std::collections::VecDeque;

/// As the Sentry names it.
const MEMORY: &str = "/memfd:runsc-memory";
/// `runsc` starts no more than these.
const MOST: usize = 64;

/// The account of one sandbox.
#[derive(Debug)]
pub struct Account {
    top: u32,
    /// The file's place below a process's in /proc, once it is found.
    place: Option<String>,
}

impl Account {
    /// Of the sandbox of `runsc`, whose process is `top`.
    pub fn of(top: u32) -> Account {
        Account { top, place: None }
    }

    /// Bytes that are in use now.
    pub fn memory(&mut self) -> Option<u64> {
        if self.place.is_none() {
            self.place = find(self.top);
        }
        let blocks = stat(self.place.as_deref()?).ok()?.st_blocks;
        Some(u64::try_from(blocks).ok()?.saturating_mul(512))
    }
}

fn find(top: u32) -> Option<String> {
    let mut next = VecDeque::from([top]);
    let mut seen = 0;
    while let Some(pid) = next.pop_front() {
        seen += 1;
        if seen > MOST {
            return None;
        }
        let memory = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten();
        let memory = memory
            .map(|entry| entry.path())
            .find(|path| std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with(MEMORY)));
        if let Some(path) = memory {
            return path.to_str().map(str::to_owned);
        }
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten();
        for task in tasks {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            next.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    None
}
