//! What artifacts are called: their kinds, their names, and what a person writes to mean one.

use crate::fault::fault;
use serde::{Deserialize, Serialize};
use sr_common::Fault;
use std::fmt;
use std::str::FromStr;

/// The name that is meant where none is given.
pub const DEFAULT: &str = "default";
/// Characters in a name.
const LONGEST: usize = 64;
/// Digits of a digest that have to be written at least.
const DIGITS: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// An ELF image that a monitor starts directly.
    Kernel,
    /// A cpio archive of a kernel's modules.
    Modules,
    /// A cpio archive that a kernel unpacks at its start.
    Initrd,
    /// A file system image: erofs, squashfs or ext4.
    Rootfs,
    /// A program of the host's, such as a monitor.
    Program,
    /// What a WebAssembly module was compiled to.
    Code,
}

impl Kind {
    pub const ALL: [Kind; 6] = [
        Kind::Kernel,
        Kind::Modules,
        Kind::Initrd,
        Kind::Rootfs,
        Kind::Program,
        Kind::Code,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Kernel => "kernel",
            Kind::Modules => "modules",
            Kind::Initrd => "initrd",
            Kind::Rootfs => "rootfs",
            Kind::Program => "program",
            Kind::Code => "code",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Kind::ALL.map(Kind::as_str).join(", ");
        let found = Kind::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no kind of artifact: {}", known()))
    }
}

/// `a-z 0-9 . _ -`, beginning with a letter or a digit: it is a file's name too.
pub fn check(name: &str) -> Result<(), Fault> {
    let plain = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    let good = name.len() <= LONGEST
        && name.bytes().all(plain)
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
    if good {
        return Ok(());
    }
    let remedy = format!("write at most {LONGEST} of a-z, 0-9, '.', '_' and '-', a letter or digit first");
    Err(fault("name", format!("{name:?} cannot be a name"), remedy))
}

/// `text` as a name as far as that goes: what else is in it becomes `-`.
pub fn from(text: &str) -> String {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | '.' | '_' | '-') => c,
        _ => '-',
    };
    let name: String = text.chars().map(plain).collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    match name {
        "" => DEFAULT.to_owned(),
        name => name.chars().take(LONGEST).collect(),
    }
}

/// Which artifact is meant: `KIND/NAME`, `NAME`, or `sha256:` and the beginning of a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Named { kind: Option<Kind>, name: String },
    Digest(String),
}

impl Wanted {
    pub fn parse(text: &str) -> Result<Wanted, Fault> {
        if let Some(digits) = text.strip_prefix("sha256:") {
            let good =
                (DIGITS..=64).contains(&digits.len()) && digits.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
            let remedy = format!("write at least {DIGITS} digits of it, in lower case: safe-run artifact list");
            return match good {
                true => Ok(Wanted::Digest(digits.to_owned())),
                false => Err(fault("name", format!("{text:?} begins no digest"), remedy)),
            };
        }
        let (kind, name) = match text.split_once('/') {
            None => (None, text),
            Some((kind, name)) => {
                let kind = kind
                    .parse()
                    .map_err(|why: String| fault("name", why, "write KIND/NAME"))?;
                (Some(kind), name)
            }
        };
        check(name)?;
        Ok(Wanted::Named {
            kind,
            name: name.to_owned(),
        })
    }

    /// The artifact `name` of a kind.
    pub fn named(kind: Kind, name: &str) -> Result<Wanted, Fault> {
        check(name)?;
        Ok(Wanted::Named {
            kind: Some(kind),
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::Named { kind: Some(kind), name } => write!(f, "{kind}/{name}"),
            Wanted::Named { kind: None, name } => f.write_str(name),
            Wanted::Digest(digits) => write!(f, "sha256:{digits}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_file_names_and_nothing_else() {
        for good in ["default", "python-3.11", "0", "a_b"] {
            check(good).unwrap();
        }
        let long = "a".repeat(65);
        for bad in ["", ".", "..", ".a", "a/b", "A", "a b", "é", "-a", long.as_str()] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_file_is_called_becomes_a_name() {
        for (text, name) in [
            ("Ubuntu 24.04", "ubuntu-24.04"),
            ("../x", "x"),
            ("…", "default"),
            ("a:b@c", "a-b-c"),
        ] {
            assert_eq!(from(text), name);
            check(&from(text)).unwrap();
        }
    }

    #[test]
    fn what_is_meant_is_told_by_its_form() {
        let named = |kind, name: &str| Wanted::Named {
            kind,
            name: name.into(),
        };
        for (text, wanted) in [
            ("default", named(None, "default")),
            ("kernel/default", named(Some(Kind::Kernel), "default")),
            ("sha256:0123ab", Wanted::Digest("0123ab".into())),
        ] {
            let parsed = Wanted::parse(text).unwrap();
            assert_eq!(parsed, wanted);
            assert_eq!(parsed.to_string(), text);
        }
        for bad in [
            "sha256:",
            "sha256:01",
            "sha256:0123AB",
            "disk/x",
            "kernel/",
            "kernel/a/b",
            "",
        ] {
            assert!(Wanted::parse(bad).is_err(), "{bad}");
        }
    }
}
