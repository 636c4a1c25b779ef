//! Paths as plain strings: normal form, what lies below what, and the host's system directories.

/// Directories of the operating system on a host: never mounted writable.
pub(super) const SYSTEM: [&str; 14] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys", "/usr",
    "/var",
];

/// Places of the view that are Safe-Run's to fill.
pub(super) const RESERVED_TARGETS: [&str; 11] = [
    "/bin", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin", "/sys", "/usr",
];

/// Live interfaces of the host: a read-only mount of a socket still lets a program connect to it.
pub(super) const LIVE: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/var/run"];

/// Absolute, without `.`, `..`, `//` or a trailing `/`; the root is `/`.
pub(super) fn is_normal(path: &str) -> bool {
    path == "/"
        || path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

/// `path` is `dir` or below it. Both in normal form.
pub(crate) fn is_within(path: &str, dir: &str) -> bool {
    dir == "/"
        || path
            .strip_prefix(dir)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The member of `dirs` that `path` is or lies below.
pub(super) fn within_any<'a>(path: &str, dirs: &[&'a str]) -> Option<&'a str> {
    dirs.iter().copied().find(|dir| is_within(path, dir))
}

/// `path` without `.`, `..` and repeated slashes, by its letters alone; relative paths stay relative.
pub(crate) fn lexical(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            _ => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_alone() {
        assert_eq!(lexical("/a/./b//../c/"), "/a/c");
        assert_eq!(lexical("/../.."), "/");
        assert_eq!(lexical("../a/.."), "..");
        assert_eq!(lexical("./"), ".");
        assert!(
            is_normal("/")
                && is_normal("/a/b")
                && !is_normal("/a/")
                && !is_normal("//a")
                && !is_normal("a")
                && !is_normal("/a/..")
        );
        assert!(
            is_within("/usr/bin", "/usr")
                && is_within("/usr", "/usr")
                && !is_within("/usrlocal", "/usr")
                && is_within("/a", "/")
        );
    }
}
