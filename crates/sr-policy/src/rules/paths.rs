//! The host's system directories and other places that rules speak of, and paths by their letters alone.

use sr_common::path::within;

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

/// The member of `dirs` that `path` is or lies below.
pub(super) fn within_any<'a>(path: &str, dirs: &[&'a str]) -> Option<&'a str> {
    dirs.iter().copied().find(|dir| within(path, dir))
}
