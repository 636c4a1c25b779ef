//! Calls that name a file by its path: where the path stands among the arguments, and what is meant to be done there.

/// One path of a call. Arguments by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathArgument {
    /// The descriptor that a relative path begins at; `None`: the working directory.
    pub directory: Option<u8>,
    pub path: u8,
    pub intent: Intent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// To learn about it: whether it is there, its attributes, where it leads.
    Look,
    /// To execute it.
    Execute,
    /// As the flags of open(2) in that argument say.
    Open { flags: u8 },
    /// As the `struct open_how` of openat2(2) says whose address is in that argument.
    OpenHow { how: u8 },
    /// To make it; what is there stays.
    Make,
    /// The same of a socket, whose address (unix(7)) is so many bytes as that argument says.
    Bind { length: u8 },
    /// To make it, or to empty what is there.
    Save,
    /// To make it, or to put another in its place.
    Replace,
    /// To change what is in it.
    Change,
    /// To change its attributes; where that argument has `AT_SYMLINK_NOFOLLOW`, those of a link.
    Mark { flags: Option<u8> },
    /// To take its name out of its directory.
    Remove,
}

const fn at(directory: u8, path: u8, intent: Intent) -> PathArgument {
    PathArgument {
        directory: Some(directory),
        path,
        intent,
    }
}

const fn here(path: u8, intent: Intent) -> PathArgument {
    PathArgument {
        directory: None,
        path,
        intent,
    }
}

const MARK: Intent = Mark { flags: None };

use Intent::{Bind, Change, Execute, Look, Make, Mark, Open, OpenHow, Remove, Replace, Save};

/// By name, sorted. Those that have a rule for their arguments are not looked at where that is in force, but seen.
const CALLS: &[(&str, &[PathArgument])] = &[
    ("access", &[here(0, Look)]),
    ("bind", &[here(1, Bind { length: 2 })]),
    ("chdir", &[here(0, Look)]),
    ("chmod", &[here(0, MARK)]),
    ("chown", &[here(0, MARK)]),
    ("creat", &[here(0, Save)]),
    ("execve", &[here(0, Execute)]),
    ("faccessat", &[at(0, 1, Look)]),
    ("faccessat2", &[at(0, 1, Look)]),
    ("fchmodat", &[at(0, 1, MARK)]),
    ("fchownat", &[at(0, 1, Mark { flags: Some(4) })]),
    ("lchown", &[here(0, Look)]),
    ("link", &[here(0, Look), here(1, Make)]),
    ("linkat", &[at(0, 1, Look), at(2, 3, Make)]),
    ("lstat", &[here(0, Look)]),
    ("mkdir", &[here(0, Make)]),
    ("mkdirat", &[at(0, 1, Make)]),
    ("mknod", &[here(0, Make)]),
    ("mknodat", &[at(0, 1, Make)]),
    ("newfstatat", &[at(0, 1, Look)]),
    ("open", &[here(0, Open { flags: 1 })]),
    ("openat", &[at(0, 1, Open { flags: 2 })]),
    ("openat2", &[at(0, 1, OpenHow { how: 2 })]),
    ("readlink", &[here(0, Look)]),
    ("readlinkat", &[at(0, 1, Look)]),
    ("rename", &[here(0, Remove), here(1, Replace)]),
    ("renameat", &[at(0, 1, Remove), at(2, 3, Replace)]),
    ("renameat2", &[at(0, 1, Remove), at(2, 3, Replace)]),
    ("rmdir", &[here(0, Remove)]),
    ("stat", &[here(0, Look)]),
    ("statx", &[at(0, 1, Look)]),
    ("symlink", &[here(1, Make)]),
    ("symlinkat", &[at(1, 2, Make)]),
    ("truncate", &[here(0, Change)]),
    ("unlink", &[here(0, Remove)]),
    ("unlinkat", &[at(0, 1, Remove)]),
    ("utimensat", &[at(0, 1, Mark { flags: Some(3) })]),
];

/// The paths of the call `name`; none where it has none, or they are not looked at.
pub fn path_arguments(name: &str) -> &'static [PathArgument] {
    match CALLS.binary_search_by(|(call, _)| call.cmp(&name)) {
        Ok(found) => CALLS[found].1,
        Err(_) => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls::table::known_syscall;

    #[test]
    fn the_calls_are_known_and_in_order() {
        assert!(CALLS.is_sorted_by(|a, b| a.0 < b.0));
        for (name, arguments) in CALLS {
            assert!(known_syscall(name), "{name}");
            assert_eq!(path_arguments(name), *arguments);
        }
    }
}
