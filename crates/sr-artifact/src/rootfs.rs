//! A root file system of Debian's packages: their files, without root, without what their scripts would do. What of that a
//! program cannot do without is made here: users, a few alternatives.

use crate::apt::Apt;
use crate::debian;
use crate::fault::{fault, on};
use crate::image::{self, Format};
use crate::import;
use crate::name::Kind;
use crate::provenance::Provenance;
use crate::store::{Artifact, Artifacts};
use crate::tree::{Limits, Style, Tree};
use sr_common::Fault;
use std::fs::{self, File};
use std::io;

const STAGE: &str = "build.rootfs";

/// A shell and what scripts expect; with all that these depend on.
pub const BASE: [&str; 14] = [
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "debianutils",
    "diffutils",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "mawk",
    "sed",
    "tar",
];

/// Directories of a system whose /usr is not merged yet, where the packages do not say otherwise.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Names that scripts of packages choose a program for, and those programs, the better first.
const ALTERNATIVES: [(&str, &[&str]); 8] = [
    ("usr/bin/awk", &["gawk", "mawk"]),
    ("usr/bin/which", &["which.debianutils"]),
    ("usr/bin/editor", &["vim.basic", "vim.tiny", "nano"]),
    ("usr/bin/vi", &["vim.basic", "vim.tiny"]),
    ("usr/bin/pager", &["less", "more"]),
    ("usr/bin/nc", &["nc.openbsd", "nc.traditional"]),
    ("usr/bin/cc", &["gcc", "clang"]),
    ("usr/bin/c++", &["g++", "clang++"]),
];

const PASSWD: (&str, &str) = ("usr/share/base-passwd/passwd.master", "etc/passwd");
const GROUP: (&str, &str) = ("usr/share/base-passwd/group.master", "etc/group");

/// Fetches, puts together and keeps.
pub fn build(
    artifacts: &Artifacts,
    codename: Option<&str>,
    packages: &[String],
    format: Format,
    name: &str,
) -> Result<Artifact, Fault> {
    let scratch = artifacts.scratch()?;
    let wanted: Vec<&str> = BASE.into_iter().chain(packages.iter().map(String::as_str)).collect();
    if let Some(odd) = wanted.iter().find(|package| !is_package(package)) {
        return Err(fault(
            STAGE,
            format!("{odd:?} is no package's name"),
            "write names as apt knows them",
        ));
    }
    let mut apt = Apt::of(codename, &scratch.path().join("apt"))?;
    let closure = apt.closure(&wanted)?;
    let dir = scratch.path().join("packages");
    fs::create_dir(&dir).map_err(on(&dir))?;
    let names: Vec<&str> = closure.iter().map(String::as_str).collect();
    let mut files: Vec<_> = Vec::new();
    for file in apt.download(&dir, &names)? {
        files.push((debian::input(&file)?, file));
    }
    files.sort();
    if files.len() != closure.len() {
        let found = format!("apt gave {} packages of {}", files.len(), closure.len());
        return Err(fault(STAGE, found, "try again"));
    }

    let contents = scratch.path().join("contents");
    let contents = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&contents)
        .map_err(on(&contents))?;
    let mut tree = Tree::new(contents, Style::Packages, Limits::default());
    let wrong = |error: io::Error| {
        fault(
            STAGE,
            format!("the tree cannot be put together: {error}"),
            "see what it says",
        )
    };
    merge(&mut tree).map_err(wrong)?;
    for (input, file) in &files {
        debian::read(file, |archive| import::add(archive, &mut tree)).map_err(|fault| Fault {
            found: format!("{}: {}", input.name, fault.found),
            ..fault
        })?;
    }
    let mut notes = vec![
        "no script of a package was run: what these make (caches, keys, byte code) is not there; libraries are found where the \
         loader looks without its cache"
            .to_owned(),
    ];
    notes.extend(finish(&mut tree).map_err(wrong)?);
    notes.extend(tree.left_out.iter().map(|(what, n)| format!("left out: {what} ({n})")));
    let draft = image::write(artifacts, &tree, format)?;
    let provenance = Provenance {
        how: "build rootfs".to_owned(),
        inputs: files.into_iter().map(|(input, _)| input).collect(),
        format: Some(format.as_str().to_owned()),
        notes,
        ..Provenance::default()
    };
    artifacts.keep(draft, Kind::Rootfs, name, provenance)
}

/// As Debian's policy has them, so that none is taken for an option of apt's.
fn is_package(name: &str) -> bool {
    let inner = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.');
    name.len() > 1 && name.bytes().all(inner) && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

fn merge(tree: &mut Tree) -> io::Result<()> {
    for name in MERGED {
        tree.make_directory(&format!("usr/{name}"), 0o755)?;
        tree.make_symlink(name, &format!("usr/{name}"))?;
    }
    Ok(())
}

/// What scripts of packages would have made. Gives what was made up.
fn finish(tree: &mut Tree) -> io::Result<Vec<String>> {
    let mut made = Vec::new();
    for (master, file) in [PASSWD, GROUP] {
        if tree.find(file.as_bytes()).is_none()
            && let Some(text) = tree.read(master.as_bytes(), 1 << 20)
        {
            tree.make_file(file, 0o644, &text)?;
            made.push(file.to_owned());
        }
    }
    for (name, programs) in ALTERNATIVES {
        let Some((dir, _)) = name.rsplit_once('/') else {
            continue;
        };
        let there = |path: &str| tree.find(path.as_bytes()).is_some();
        let program = programs.iter().find(|program| there(&format!("{dir}/{program}")));
        if let Some(program) = program.filter(|_| !there(name)) {
            tree.make_symlink(name, program)?;
            made.push(name.to_owned());
        }
    }
    for (dir, mode) in [
        ("proc", 0o555),
        ("sys", 0o555),
        ("dev", 0o755),
        ("run", 0o755),
        ("tmp", 0o1777),
        ("root", 0o700),
    ] {
        if tree.find(dir.as_bytes()).is_none() {
            tree.make_directory(dir, mode)?;
        }
    }
    Ok(match made.as_slice() {
        [] => Vec::new(),
        made => vec![format!("made up: {}", made.join(", "))],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::new(tempfile::tempfile().unwrap(), Style::Packages, Limits::default());
        merge(&mut tree).unwrap();
        tree
    }

    #[test]
    fn users_and_alternatives_are_made_up_where_no_package_has_them() {
        let mut tree = tree();
        tree.make_file(PASSWD.0, 0o644, b"root:*:0:0:root:/root:/bin/bash\n")
            .unwrap();
        tree.make_file("usr/bin/mawk", 0o755, b"x").unwrap();
        tree.make_file("bin/which.debianutils", 0o755, b"x").unwrap();
        tree.make_symlink("usr/bin/pager", "own").unwrap();
        tree.make_file("usr/bin/own", 0o755, b"x").unwrap();
        tree.make_file("usr/bin/less", 0o755, b"x").unwrap();
        let notes = finish(&mut tree).unwrap();
        assert_eq!(notes, ["made up: etc/passwd, usr/bin/awk, usr/bin/which"]);
        assert_eq!(tree.find(b"bin/awk"), tree.find(b"usr/bin/mawk"));
        assert_eq!(tree.find(b"usr/bin/pager"), tree.find(b"usr/bin/own"));
        assert!(tree.read(b"etc/passwd", 1000).unwrap().starts_with(b"root:"));
        assert_eq!(tree.inode(tree.find(b"tmp").unwrap()).mode, 0o1777);
        assert_eq!(finish(&mut tree).unwrap(), [""; 0], "once");
    }

    #[test]
    fn options_are_no_packages() {
        for good in ["python3", "libstdc++6", "g++", "0ad"] {
            assert!(is_package(good), "{good}");
        }
        for bad in ["", "a", "-o", "--yes", "a b", "A1", "../x", "a=1", "a/b", "./x.deb"] {
            assert!(!is_package(bad), "{bad}");
        }
    }
}
