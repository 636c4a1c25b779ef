//! Which calls a WebAssembly guest may make of its host, by name, and with which arguments.
//!
//! Names are WASI's: of preview 1 a function's (`path_open`), of preview 2 an interface's, or one of its functions
//! (`wasi:clocks/wall-clock`, `wasi:random/random#get-random-bytes`), without a version.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Nothing is denied but what is named here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct HostCalls {
    pub rules: BTreeMap<String, Rule>,
}

/// What may be done with one function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// A rule for what no guest can call, or one that its function has no arguments for: what was found, and what to do.
    pub fn validate(&self) -> Result<(), (String, &'static str)> {
        for (name, rule) in &self.rules {
            let bad = |found: String, remedy| Err((found, remedy));
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

    pub fn rule(&self, name: &str) -> &Rule {
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
    let known = PREVIEW1.iter().find(|known| **known == name)?;
    Some(match *known {
        "clock_res_get" | "clock_time_get" => Takes::Clock,
        "random_get" => Takes::Bytes,
        name if name.starts_with("path_") => Takes::Paths,
        _ => Takes::Nothing,
    })
}

/// The functions of preview 1, sorted.
pub const PREVIEW1: [&str; 46] = [
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, rule: Rule) -> String {
        let rules = BTreeMap::from([(name.to_owned(), rule)]);
        HostCalls { rules }
            .validate()
            .map_or_else(|(found, remedy)| format!("{found}; {remedy}"), |()| String::new())
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
    fn the_form_of_a_rule() {
        let text = r#"{"path_open":{"within":{"paths":["/work"]}},"sock_send":"deny"}"#;
        let calls: HostCalls = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&calls).unwrap(), text);
        assert_eq!(calls.rule("sock_send"), &Rule::Deny);
        assert_eq!(calls.rule("fd_read"), &Rule::Allow);
    }
}
