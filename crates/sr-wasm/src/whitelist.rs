//! Which system calls there are for a sandbox: a whitelist file, by name and arguments, for each platform.
//!
//! ```yaml
//! allowed: [read, write, {name: mmap, arguments: [{index: 2, without: 4}]}]
//! denied: [{name: execve, reason: nothing else is started}]
//! platforms:
//!   linux/aarch64: {denied: [{name: ioctl}]}
//! ```
//!
//! What is not allowed is denied, and what is denied is so whatever else allows it.

use crate::error::SandboxError;
use serde::Deserialize;
use sr_compiler::syscalls::{Arch, syscall_name};
use std::collections::BTreeMap;

/// The calls that a worker of this sandbox makes.
const OWN: &str = include_str!("../syscall_whitelist.yaml");
/// Of a file.
const MOST_BYTES: usize = 1 << 20;

/// A whitelist, as read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyscallWhitelist {
    #[serde(default)]
    allowed: Vec<Entry>,
    #[serde(default)]
    denied: Vec<Entry>,
    /// `linux`, or `linux/x86_64`.
    #[serde(default)]
    platforms: BTreeMap<String, Lists>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Lists {
    allowed: Vec<Entry>,
    denied: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Entry {
    Name(String),
    Call(Call),
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    name: String,
    /// All of them must be so.
    #[serde(default)]
    arguments: Vec<Argument>,
    #[serde(default)]
    reason: Option<String>,
}

/// What one argument is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Argument {
    /// 0 to 5.
    index: usize,
    /// One of these.
    #[serde(default)]
    equals: Vec<u64>,
    /// None of these bits.
    #[serde(default)]
    without: u64,
    /// No more than this.
    #[serde(default)]
    at_most: Option<u64>,
}

impl Entry {
    fn name(&self) -> &str {
        match self {
            Entry::Name(name) | Entry::Call(Call { name, .. }) => name,
        }
    }

    fn arguments(&self) -> &[Argument] {
        match self {
            Entry::Name(_) => &[],
            Entry::Call(call) => &call.arguments,
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Entry::Name(_) => None,
            Entry::Call(call) => call.reason.as_deref(),
        }
    }

    /// Whether it speaks of a call with these arguments; `None`: that depends on arguments which nobody gave.
    fn matches(&self, arguments: Option<&[u64; 6]>) -> Option<bool> {
        match (self.arguments(), arguments) {
            ([], _) => Some(true),
            (_, None) => None,
            (tests, Some(values)) => Some(tests.iter().all(|test| test.holds(values))),
        }
    }
}

impl Argument {
    fn holds(&self, values: &[u64; 6]) -> bool {
        let value = values.get(self.index).copied().unwrap_or_default();
        (self.equals.is_empty() || self.equals.contains(&value))
            && value & self.without == 0
            && self.at_most.is_none_or(|most| value <= most)
    }
}

impl Default for SyscallWhitelist {
    /// What the worker of this sandbox needs, and nothing else.
    fn default() -> SyscallWhitelist {
        // A test reads it; a file that could not be read would allow nothing.
        SyscallWhitelist::from_yaml(OWN).unwrap_or(SyscallWhitelist {
            allowed: Vec::new(),
            denied: Vec::new(),
            platforms: BTreeMap::new(),
        })
    }
}

impl SyscallWhitelist {
    /// # Errors
    /// No such document, or calls and platforms that there are not.
    pub fn from_yaml(text: &str) -> Result<SyscallWhitelist, SandboxError> {
        let bad = |found: String, remedy| Err(SandboxError::config("syscall_whitelist", found, remedy));
        if text.len() > MOST_BYTES {
            return bad(
                format!("{} bytes", text.len()),
                "a list of calls is smaller than a megabyte",
            );
        }
        let list: SyscallWhitelist = match serde_saphyr::from_str(text) {
            Ok(list) => list,
            Err(e) => {
                return bad(
                    e.to_string(),
                    "write allowed, denied and platforms, each a list of calls",
                );
            }
        };
        for platform in list.platforms.keys() {
            let (system, arch) = platform.split_once('/').unwrap_or((platform, ""));
            if !["linux", "macos", "windows"].contains(&system) || !(arch.is_empty() || Arch::parse(arch).is_some()) {
                return bad(
                    format!("platform {platform:?}"),
                    "write linux, macos or windows, and /x86_64 or /aarch64",
                );
            }
        }
        for entry in list
            .lists("linux")
            .flat_map(|(allowed, denied)| allowed.iter().chain(denied))
        {
            if number(entry.name()).is_none() {
                return bad(
                    format!("{:?} is no system call of Linux", entry.name()),
                    "see syscalls(2)",
                );
            }
            if let Some(test) = entry.arguments().iter().find(|test| test.index > 5) {
                return bad(
                    format!("{}: argument {}", entry.name(), test.index),
                    "a call has arguments 0 to 5",
                );
            }
        }
        Ok(list)
    }

    /// The lists that hold on a platform, and those that are general.
    fn lists<'a>(&'a self, system: &'a str) -> impl Iterator<Item = (&'a [Entry], &'a [Entry])> {
        let own = self.platforms.iter().filter(move |(name, _)| {
            let (of, arch) = name.split_once('/').unwrap_or((name, ""));
            of == system && (arch.is_empty() || arch == std::env::consts::ARCH)
        });
        let own = own.map(|(_, lists)| (lists.allowed.as_slice(), lists.denied.as_slice()));
        std::iter::once((self.allowed.as_slice(), self.denied.as_slice())).chain(own)
    }

    /// Whether a call may be made, by its number here; `arguments`: where they are known. What depends on arguments that are
    /// not known is denied.
    ///
    /// # Errors
    /// It may not: why.
    pub fn check(&self, number: i64, arguments: Option<&[u64; 6]>) -> Result<(), SandboxError> {
        let name = u32::try_from(number)
            .ok()
            .and_then(|number| Arch::parse(std::env::consts::ARCH).and_then(|arch| syscall_name(arch, number)));
        let Some(name) = name else {
            let why = "there is none of that number".to_owned();
            return Err(SandboxError::Syscall {
                call: number.to_string(),
                why,
            });
        };
        let denied = |why: &str| {
            Err(SandboxError::Syscall {
                call: name.to_owned(),
                why: why.to_owned(),
            })
        };
        let lists: Vec<_> = self.lists(std::env::consts::OS).collect();
        let of =
            |entries: &'_ [Entry]| -> Vec<Entry> { entries.iter().filter(|e| e.name() == name).cloned().collect() };
        for entry in lists.iter().flat_map(|(_, entries)| of(entries)) {
            if entry.matches(arguments).unwrap_or(true) {
                return denied(entry.reason().unwrap_or("it is denied"));
            }
        }
        let mut depends = false;
        for entry in lists.iter().flat_map(|(entries, _)| of(entries)) {
            match entry.matches(arguments) {
                Some(true) => return Ok(()),
                Some(false) => {}
                None => depends = true,
            }
        }
        denied(match (depends, arguments) {
            (true, _) => "it is allowed with some arguments, and they are not known",
            (false, Some(_)) => "it is not allowed, or not with these arguments",
            (false, None) => "it is not allowed",
        })
    }
}

/// On this machine.
fn number(name: &str) -> Option<u32> {
    let arch = Arch::parse(std::env::consts::ARCH)?;
    (0..1024).find(|number| syscall_name(arch, *number) == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nr(name: &str) -> i64 {
        number(name).unwrap().into()
    }

    fn why(list: &SyscallWhitelist, name: &str, arguments: Option<&[u64; 6]>) -> String {
        list.check(nr(name), arguments)
            .map_or_else(|e| e.to_string(), |()| String::new())
    }

    #[test]
    fn the_own_list_has_what_a_worker_calls_and_starts_nothing() {
        let own = SyscallWhitelist::from_yaml(OWN).unwrap();
        assert_eq!(own, SyscallWhitelist::default());
        for call in [
            "read",
            "write",
            "close",
            "munmap",
            "clock_gettime",
            "exit_group",
            "futex",
            "recvfrom",
            "sendto",
            "openat2",
            "pwritev2",
            "prlimit64",
        ] {
            assert_eq!(why(&own, call, None), "", "{call}");
        }
        for call in [
            "execve", "execveat", "ptrace", "mount", "chroot", "setuid", "setgid", "kill", "socket", "connect", "bpf",
        ] {
            assert!(own.check(nr(call), None).is_err(), "{call}");
        }
        assert!(own.check(nr("ioctl"), Some(&[0, 0x5413, 0, 0, 0, 0])).is_ok());
        assert!(own.check(nr("ioctl"), Some(&[0, 0x5412, 0, 0, 0, 0])).is_err());
        assert!(own.check(-1, None).is_err() && own.check(100_000, None).is_err());
    }

    #[test]
    fn what_is_denied_is_so_whatever_allows_it() {
        let list = "allowed: [read, {name: socket, arguments: [{index: 0, equals: [1]}]}, ioctl]\n\
                    denied:\n  - {name: ioctl, arguments: [{index: 1, equals: [0x5412]}], reason: no keystrokes}\n\
                    platforms:\n  linux: {denied: [getpid], allowed: [getpid, gettid]}\n  macos: {denied: [read]}\n";
        let list = SyscallWhitelist::from_yaml(list).unwrap();
        let with = |name: &str, arguments: [u64; 6]| why(&list, name, Some(&arguments));
        assert_eq!(with("read", [0; 6]), "");
        assert_eq!(with("socket", [1, 1, 0, 0, 0, 0]), "");
        assert!(with("socket", [2, 1, 0, 0, 0, 0]).contains("not with these arguments"));
        assert!(why(&list, "socket", None).contains("they are not known"));
        assert_eq!(with("ioctl", [0, 0x5413, 0, 0, 0, 0]), "");
        assert_eq!(
            with("ioctl", [0, 0x5412, 0, 0, 0, 0]),
            "system call ioctl: no keystrokes"
        );
        assert_eq!(why(&list, "ioctl", None), "system call ioctl: no keystrokes");
        assert_eq!(with("getpid", [0; 6]), "system call getpid: it is denied");
        assert_eq!(with("gettid", [0; 6]), "");
        assert!(with("write", [0; 6]).contains("not allowed"));
    }

    #[test]
    fn tests_of_arguments() {
        let list = "allowed: [{name: mmap, arguments: [{index: 2, without: 4}, {index: 1, at_most: 4096}]}]";
        let list = SyscallWhitelist::from_yaml(list).unwrap();
        let mmap = |length, prot| list.check(nr("mmap"), Some(&[0, length, prot, 0, 0, 0])).is_ok();
        assert!(mmap(4096, 3) && !mmap(4097, 3) && !mmap(4096, 7));
    }

    #[test]
    fn a_list_that_is_wrong_says_what() {
        let wrong = |text: &str| SyscallWhitelist::from_yaml(text).unwrap_err().to_string();
        assert!(wrong("allowed: [raed]").contains("\"raed\" is no system call"));
        assert!(wrong("platforms: {beos: {}}").contains("platform \"beos\""));
        assert!(wrong("platforms: {linux/vax: {}}").contains("platform \"linux/vax\""));
        assert!(wrong("allowed: [{name: read, arguments: [{index: 6}]}]").contains("argument 6"));
        assert!(wrong("alowed: []").contains("alowed"));
    }
}
