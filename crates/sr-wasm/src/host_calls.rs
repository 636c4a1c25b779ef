//! Which calls a guest may make of its host, by name, and with which arguments.
//!
//! Names are WASI's: of preview 1 a function's (`path_open`), of preview 2 an interface's, or one of its functions
//! (`wasi:clocks/wall-clock`, `wasi:random/random#get-random-bytes`), without a version.

use crate::error::SandboxError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Nothing is denied but what is named here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostCalls {
    pub rules: BTreeMap<String, Rule>,
}

/// What may be done with one function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Rule {
    Allow,
    /// The guest is told that it may not (`ENOTCAPABLE`); where a function has no place for that, it ends.
    Deny,
    /// Of functions that take paths: each of them must lie within one of these, as the guest names them, and lead there by no
    /// symbolic link.
    Within {
        paths: Vec<String>,
    },
    /// Of `clock_res_get` and `clock_time_get`: these clocks.
    Clocks {
        clocks: Vec<Clock>,
    },
    /// Of `random_get`, and of the functions of `wasi:random`: so many bytes a call.
    AtMost {
        bytes: u64,
    },
}

/// By WASI's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Clock {
    Realtime,
    Monotonic,
    ProcessCputimeId,
    ThreadCputimeId,
}

/// What kind of arguments a function's rule can speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Paths,
    Clock,
    Bytes,
    Nothing,
}

impl HostCalls {
    /// # Errors
    /// A rule for what no guest can call, or one that its function has no arguments for.
    pub fn validate(&self) -> Result<(), SandboxError> {
        for (name, rule) in &self.rules {
            let bad = |found: String, remedy| Err(SandboxError::config("hostCalls", found, remedy));
            let Some(takes) = takes(name) else {
                let remedy = "use a name of WASI's, such as path_open or wasi:clocks/wall-clock";
                return bad(format!("{name:?} is no host call"), remedy);
            };
            let fits = match rule {
                Rule::Allow | Rule::Deny => true,
                Rule::Within { paths } => {
                    if let Some(path) = paths.iter().find(|path| !is_plain(path)) {
                        let remedy = "write absolute paths without . and .., as the guest names them";
                        return bad(format!("{name}: {path:?}"), remedy);
                    }
                    takes == Takes::Paths
                }
                Rule::Clocks { .. } => takes == Takes::Clock,
                Rule::AtMost { .. } => takes == Takes::Bytes,
            };
            if !fits {
                let remedy =
                    "within is for paths, clocks for clock_time_get and clock_res_get, atMost for random bytes";
                return bad(format!("{name} takes no such arguments"), remedy);
            }
        }
        Ok(())
    }

    pub(crate) fn rule(&self, name: &str) -> &Rule {
        self.rules.get(name).unwrap_or(&Rule::Allow)
    }
}

fn is_plain(path: &str) -> bool {
    let mut parts = path.split('/').skip(1);
    path.starts_with('/') && (path == "/" || parts.all(|part| !["", ".", ".."].contains(&part)))
}

fn takes(name: &str) -> Option<Takes> {
    if let Some(interface) = name.strip_prefix("wasi:") {
        let known = INTERFACES.iter().any(|known| {
            interface
                .strip_prefix(known)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('#') && rest.len() > 1)
        });
        return known.then_some(match interface {
            "random/random#get-random-bytes" | "random/insecure#get-insecure-random-bytes" => Takes::Bytes,
            _ => Takes::Nothing,
        });
    }
    crate::preview1::Call::ALL
        .iter()
        .find(|call| call.name() == name)
        .map(|call| match call.name() {
            "clock_res_get" | "clock_time_get" => Takes::Clock,
            "random_get" => Takes::Bytes,
            name if name.starts_with("path_") => Takes::Paths,
            _ => Takes::Nothing,
        })
}

/// Of preview 2, what this sandbox has.
const INTERFACES: [&str; 27] = [
    "cli/environment",
    "cli/exit",
    "cli/stdin",
    "cli/stdout",
    "cli/stderr",
    "cli/terminal-input",
    "cli/terminal-output",
    "cli/terminal-stdin",
    "cli/terminal-stdout",
    "cli/terminal-stderr",
    "clocks/monotonic-clock",
    "clocks/wall-clock",
    "filesystem/preopens",
    "filesystem/types",
    "io/error",
    "io/poll",
    "io/streams",
    "random/insecure",
    "random/insecure-seed",
    "random/random",
    "sockets/instance-network",
    "sockets/ip-name-lookup",
    "sockets/network",
    "sockets/tcp",
    "sockets/tcp-create-socket",
    "sockets/udp",
    "sockets/udp-create-socket",
];

/// A path, put together from a directory's own and one below it, without looking at any file: `None` where it leaves the root.
pub(crate) fn joined(directory: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    let all = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{directory}/{path}"),
    };
    for part in all.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

/// Whether `path` is one of `within`, or below one.
pub(crate) fn is_within(path: &str, within: &[String]) -> bool {
    within.iter().any(|place| sr_common::path::within(path, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, rule: Rule) -> String {
        let rules = BTreeMap::from([(name.to_owned(), rule)]);
        HostCalls { rules }
            .validate()
            .map_or_else(|e| e.to_string(), |()| String::new())
    }

    #[test]
    fn rules_are_for_what_there_is() {
        for name in ["fd_write", "wasi:clocks/wall-clock", "wasi:cli/exit#exit"] {
            assert_eq!(refused(name, Rule::Deny), "");
        }
        for name in [
            "fd_wirte",
            "wasi:clocks/wall-clock@0.2.0",
            "wasi:clocks/wall",
            "wasi:cli/exit#",
            "open",
        ] {
            assert!(refused(name, Rule::Deny).contains("is no host call"), "{name}");
        }
        let within = |path: &str| Rule::Within {
            paths: vec![path.to_owned()],
        };
        assert_eq!(refused("path_open", within("/work")), "");
        assert!(refused("fd_read", within("/work")).contains("takes no such arguments"));
        for path in ["work", "/work/../etc", "/work/", ""] {
            assert!(refused("path_open", within(path)).contains("absolute paths"), "{path}");
        }
        let clocks = Rule::Clocks {
            clocks: vec![Clock::Monotonic],
        };
        assert_eq!(refused("clock_time_get", clocks.clone()), "");
        assert!(!refused("random_get", clocks).is_empty());
        assert_eq!(refused("random_get", Rule::AtMost { bytes: 8 }), "");
        assert_eq!(
            refused("wasi:random/random#get-random-bytes", Rule::AtMost { bytes: 8 }),
            ""
        );
    }

    #[test]
    fn paths_are_put_together_without_a_look_at_files() {
        for (directory, path, whole) in [
            ("/work", "a/b", Some("/work/a/b")),
            ("/work", "./a//b/..", Some("/work/a")),
            ("/work", "../etc", Some("/etc")),
            ("/", "..", None),
            ("/work", "/x", Some("/x")),
            (".", "a", Some("/a")),
        ] {
            assert_eq!(joined(directory, path).as_deref(), whole, "{directory} {path}");
        }
        assert!(is_within("/work/a", &["/work".into()]) && !is_within("/workshop", &["/work".into()]));
    }

    #[test]
    fn the_form_of_a_rule() {
        let text = r#"{"path_open":{"within":{"paths":["/work"]}},"sock_send":"deny"}"#;
        let calls: HostCalls = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&calls).unwrap(), text);
        assert_eq!(calls.rule("sock_send"), &Rule::Deny);
        assert_eq!(calls.rule("fd_read"), &Rule::Allow);
    }
}
