//! The names in captured mounts that the view does not show. Walks without following symbolic links.

use super::fault::{run, text};
use super::{gitconfig, glob};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, openat, statat};
use rustix::io::Errno;
use sr_common::Fault;
use sr_common::facts::{HiddenPath, ResolvedMount};
use sr_policy::PolicySpec;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const MOST_ENTRIES: usize = 1_000_000;
/// For the entries of a directory at a time.
const BUFFER: usize = 32 << 10;
const GIT_CONFIG: &str = ".git/config";
/// Marks a directory that a tool can make anew (the Cache Directory Tagging Specification).
const CACHE_TAG: &str = "CACHEDIR.TAG";
/// What stands for a pattern where a directory could not be looked into.
const UNREADABLE: &str = "(unreadable directory)";

pub(super) fn find(policy: &PolicySpec, mounts: &[ResolvedMount]) -> Result<Vec<HiddenPath>, Fault> {
    let mut found = BTreeSet::new();
    if policy.hide.is_empty() {
        return Ok(Vec::new());
    }
    for (i, (mount, resolved)) in policy.mounts.iter().zip(mounts).enumerate() {
        if mount.captured && resolved.directory {
            let mut walk = Walk {
                hide: &policy.hide,
                field: format!("mounts[{i}].source"),
                seen: 0,
                found: &mut found,
            };
            walk.tree(Path::new(&resolved.source), MOST_ENTRIES)?;
        }
    }
    Ok(found.into_iter().collect())
}

struct Walk<'a> {
    hide: &'a [String],
    field: String,
    seen: usize,
    found: &'a mut BTreeSet<HiddenPath>,
}

impl Walk<'_> {
    fn tree(&mut self, top: &Path, most: usize) -> Result<(), Fault> {
        // Read by the system call: this is on the path of every start, and a work tree has hundreds of directories.
        let mut buffer = Vec::with_capacity(BUFFER);
        let mut todo = vec![top.to_owned()];
        while let Some(dir) = todo.pop() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = match openat(CWD, &dir, flags, Mode::empty()) {
                Ok(opened) => opened,
                // It is gone, or something else by now.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if dir != top => continue,
                // Its owner could open it up from inside: what cannot be looked into is not shown.
                Err(Errno::ACCESS | Errno::PERM) if dir != top => {
                    self.hide(&dir, UNREADABLE, None)?;
                    continue;
                }
                Err(e) => return Err(self.unreadable(&dir, &e.into())),
            };
            let mut below = Vec::new();
            let mut regenerated = dir.ends_with("node_modules");
            let mut entries = RawDir::new(&opened, buffer.spare_capacity_mut());
            while let Some(entry) = entries.next() {
                let entry = entry.map_err(|e| self.unreadable(&dir, &e.into()))?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                regenerated |= name.to_bytes() == CACHE_TAG.as_bytes();
                self.seen += 1;
                if self.seen > most {
                    let found = format!("{} holds more than {most} files", top.display());
                    let remedy = "mount a smaller directory, or empty `hide` if nothing in it is secret";
                    return Err(run(&self.field, found, remedy));
                }
                let kind = match entry.file_type() {
                    // This file system does not say.
                    FileType::Unknown => match statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                        Err(Errno::NOENT) => continue,
                        Err(e) => return Err(self.unreadable(&dir, &e.into())),
                    },
                    kind => kind,
                };
                if !kind.is_dir() && !self.may_match(name.to_bytes()) {
                    continue;
                }
                let path = dir.join(OsStr::from_bytes(name.to_bytes()));
                let relative: Vec<&[u8]> = path
                    .strip_prefix(top)
                    .unwrap_or(&path)
                    .iter()
                    .map(|name| name.as_bytes())
                    .collect();
                if self.judge(&path, &relative)? {
                    continue;
                }
                if kind.is_dir() && !only_git_data(&relative) {
                    below.push(path);
                }
            }
            // Their own names were judged; what tools have put deeper is theirs, and can be millions of files.
            if !regenerated || dir == top {
                todo.extend(below);
            }
        }
        Ok(())
    }

    /// Whether a name alone could be that of something to hide: most names are not, and need no path to be judged.
    fn may_match(&self, name: &[u8]) -> bool {
        self.hide.iter().any(|pattern| {
            let last = pattern.rsplit('/').next().unwrap_or(pattern);
            (pattern == GIT_CONFIG && name.starts_with(b"config")) || glob::matches(last.as_bytes(), name)
        })
    }

    /// Whether the path is settled: hidden, or shown with other text.
    fn judge(&mut self, path: &Path, relative: &[&[u8]]) -> Result<bool, Fault> {
        let hide = self.hide;
        for pattern in hide {
            if pattern == GIT_CONFIG {
                if is_git_config(relative) && self.git_config(path)? {
                    return Ok(true);
                }
            } else if glob::matches_suffix(pattern, relative) {
                self.hide(path, pattern, None)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn git_config(&mut self, path: &Path) -> Result<bool, Fault> {
        const MOST_BYTES: u64 = 1 << 20;
        match path.symlink_metadata() {
            Ok(meta) if meta.is_file() && meta.len() <= MOST_BYTES => {}
            Ok(meta) if meta.is_file() => {
                self.hide(path, GIT_CONFIG, None)?;
                return Ok(true);
            }
            _ => return Ok(false),
        }
        match std::fs::read(path) {
            Ok(bytes) => {
                let original = String::from_utf8_lossy(&bytes);
                let clean = gitconfig::without_credentials(&original);
                if clean != original {
                    self.hide(path, GIT_CONFIG, Some(clean))?;
                }
            }
            Err(_) => self.hide(path, GIT_CONFIG, None)?,
        }
        Ok(true)
    }

    fn hide(&mut self, path: &Path, pattern: &str, replacement: Option<String>) -> Result<(), Fault> {
        let path = text(path, &self.field)?;
        self.found.insert(HiddenPath {
            path,
            pattern: pattern.to_owned(),
            replacement,
        });
        Ok(())
    }

    fn unreadable(&self, path: &Path, error: &std::io::Error) -> Fault {
        let found = format!("cannot look for hidden names in {}: {error}", path.display());
        run(&self.field, found, "make it readable, or mount a smaller directory")
    }
}

/// `config` and `config.worktree` of a repository, of its submodules and of its other work trees.
/// Whether a directory is git's own and holds neither work files nor configuration: of `.git` only `modules` and
/// `worktrees` lead to more of the latter. Below these everything is searched: a submodule may have any name.
fn only_git_data(relative: &[&[u8]]) -> bool {
    match relative {
        [.., git, name] => *git == b".git" && *name != b"modules" && *name != b"worktrees",
        _ => false,
    }
}

fn is_git_config(relative: &[&[u8]]) -> bool {
    let Some((name, dirs)) = relative.split_last() else {
        return false;
    };
    let named = *name == b"config" || *name == b"config.worktree";
    let Some(git) = dirs.iter().rposition(|dir| *dir == b".git") else {
        return false;
    };
    named
        && dirs
            .get(git + 1)
            .is_none_or(|next| *next == b"modules" || *next == b"worktrees")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(top: &Path, hide: &[&str]) -> Result<Vec<(String, bool)>, Fault> {
        let hide: Vec<String> = hide.iter().map(|s| (*s).to_owned()).collect();
        let mut found = BTreeSet::new();
        Walk {
            hide: &hide,
            field: "mounts[0].source".into(),
            seen: 0,
            found: &mut found,
        }
        .tree(top, 50)?;
        let strip = |p: String| p.strip_prefix(&format!("{}/", top.display())).unwrap().to_owned();
        Ok(found
            .into_iter()
            .map(|h| (strip(h.path), h.replacement.is_some()))
            .collect())
    }

    #[test]
    fn secrets_are_found_at_any_depth_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        for file in [
            ".env",
            "a/.env.local",
            "a/b/.npmrc",
            "a/ok",
            ".git/objects/.env",
            ".git/config",
            "s/.git/modules/x/config",
        ] {
            std::fs::create_dir_all(top.join(file).parent().unwrap()).unwrap();
            std::fs::write(top.join(file), "[remote \"o\"]\n\turl = https://u:p@h/x\n").unwrap();
        }
        std::os::unix::fs::symlink("/", top.join("root")).unwrap();
        std::os::unix::fs::symlink("/nowhere", top.join("a/.envrc")).unwrap();
        let found = names(top, &[".env*", ".npmrc", ".git/config"]).unwrap();
        let expected = [
            (".env", false),
            (".git/config", true),
            ("a/.env.local", false),
            ("a/.envrc", false),
            ("a/b/.npmrc", false),
            ("s/.git/modules/x/config", true),
        ];
        assert_eq!(found, expected.map(|(p, r)| (p.to_owned(), r)));
    }

    #[test]
    fn a_tree_that_is_too_large_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..60 {
            std::fs::write(dir.path().join(i.to_string()), "").unwrap();
        }
        let fault = names(dir.path(), &[".env"]).unwrap_err();
        assert_eq!(fault.path, "mounts[0].source");
        assert!(fault.found.contains("more than 50"));
    }

    #[test]
    fn a_clean_git_config_is_shown_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".git")).unwrap();
        std::fs::write(dir.path().join(".git/config"), "[core]\n\tbare = false\n").unwrap();
        assert_eq!(names(dir.path(), &[".git/config"]).unwrap(), []);
    }

    #[test]
    fn a_submodule_of_any_name_is_searched_and_git_data_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let secret = "[remote \"origin\"]\n\turl = https://me:hunter2@example.com/x\n";
        for place in [".git/modules/logs", ".git/modules/a/objects", ".git/refs/modules"] {
            std::fs::create_dir_all(dir.path().join(place)).unwrap();
            std::fs::write(dir.path().join(place).join("config"), secret).unwrap();
        }
        let found = names(dir.path(), &[GIT_CONFIG]).unwrap();
        let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, [".git/modules/a/objects/config", ".git/modules/logs/config"]);
    }
}
