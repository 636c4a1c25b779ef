//! The names in captured mounts that the view does not show. Walks without following symbolic links.

use super::fault::{run, text};
use super::listing::{Identity, Listing, Memory, Name};
use super::{gitconfig, glob};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, fstat, openat, statat};
use rustix::io::Errno;
use sr_common::Fault;
use sr_common::facts::{HiddenPath, ResolvedMount};
use sr_policy::PolicySpec;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const MOST_ENTRIES: u64 = 1_000_000;
/// For the entries of a directory at a time.
const BUFFER: usize = 32 << 10;
const GIT_CONFIG: &str = ".git/config";
/// Marks a directory that a tool can make anew (the Cache Directory Tagging Specification).
const CACHE_TAG: &str = "CACHEDIR.TAG";
/// What stands for a pattern where a directory could not be looked into.
const UNREADABLE: &str = "(unreadable directory)";

/// `cache`: a directory in which listings are remembered until the next search.
pub(super) fn find(
    policy: &PolicySpec,
    mounts: &[ResolvedMount],
    cache: Option<&Path>,
) -> Result<Vec<HiddenPath>, Fault> {
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
                most: MOST_ENTRIES,
                found: &mut found,
            };
            let top = Path::new(&resolved.source);
            let mut memory = cache.map_or_else(Memory::default, |cache| Memory::load(cache, top, &policy.hide));
            walk.tree(top, &mut memory)?;
            memory.keep();
        }
    }
    Ok(found.into_iter().collect())
}

struct Walk<'a> {
    hide: &'a [String],
    field: String,
    seen: u64,
    most: u64,
    found: &'a mut BTreeSet<HiddenPath>,
}

impl Walk<'_> {
    fn tree(&mut self, top: &Path, memory: &mut Memory) -> Result<(), Fault> {
        let mut buffer = Vec::with_capacity(BUFFER);
        // By their paths below the top, whose own is empty.
        let mut todo = vec![PathBuf::new()];
        while let Some(dir) = todo.pop() {
            let is_top = dir.as_os_str().is_empty();
            let listing = match memory.recall(&dir) {
                Some(listing) => listing,
                None => {
                    let place = if is_top { top.to_owned() } else { top.join(&dir) };
                    match self.read(&place, top, buffer.spare_capacity_mut())? {
                        Some((identity, listing)) => {
                            memory.learn(&dir, identity, &listing);
                            listing
                        }
                        None => continue,
                    }
                }
            };
            self.seen += listing.seen;
            if self.seen > self.most {
                let found = format!("{} holds more than {} files", top.display(), self.most);
                let remedy = "mount a smaller directory, or empty `hide` if nothing in it is secret";
                return Err(run(&self.field, found, remedy));
            }
            let mut below = Vec::new();
            for Name {
                name,
                directory,
                suspect,
            } in &listing.names
            {
                let path = dir.join(name);
                if *suspect && self.judge(&path, top)? {
                    continue;
                }
                if *directory && (is_top || !only_git_data(&dir, name)) {
                    below.push(path);
                }
            }
            // Their own names were judged; what tools have put deeper is theirs, and can be millions of files.
            if !listing.regenerated || is_top {
                todo.extend(below);
            }
        }
        Ok(())
    }

    /// The listing of `dir`; `None` where it is not to be searched.
    fn read(
        &mut self,
        dir: &Path,
        top: &Path,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Result<Option<(Option<Identity>, Listing)>, Fault> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match openat(CWD, dir, flags, Mode::empty()) {
            Ok(opened) => opened,
            // It is gone, or something else by now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if dir != top => return Ok(None),
            // Its owner could open it up from inside: what cannot be looked into is not shown.
            Err(Errno::ACCESS | Errno::PERM) if dir != top => {
                self.hide(dir, UNREADABLE, None)?;
                return Ok(None);
            }
            Err(e) => return Err(self.unreadable(dir, &e.into())),
        };
        // As it is before it is read: what changes meanwhile shows the next time.
        let stat = fstat(&opened).map_err(|e| self.unreadable(dir, &e.into()))?;
        let mut listing = Listing {
            regenerated: dir.ends_with("node_modules"),
            ..Listing::default()
        };
        // Read by the system call: this is on the path of every start.
        let mut entries = RawDir::new(&opened, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|e| self.unreadable(dir, &e.into()))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            listing.regenerated |= name.to_bytes() == CACHE_TAG.as_bytes();
            listing.seen += 1;
            if self.seen + listing.seen > self.most {
                break;
            }
            let kind = match entry.file_type() {
                // This file system does not say.
                FileType::Unknown => match statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(e) => return Err(self.unreadable(dir, &e.into())),
                },
                kind => kind,
            };
            let (directory, suspect) = (kind.is_dir(), self.may_match(name.to_bytes()));
            if directory || suspect {
                listing.names.push(Name {
                    name: OsStr::from_bytes(name.to_bytes()).to_owned(),
                    directory,
                    suspect,
                });
            }
        }
        Ok(Some((Identity::of(&stat), listing)))
    }

    /// Whether a name alone could be that of something to hide: most names are not, and need no path to be judged.
    fn may_match(&self, name: &[u8]) -> bool {
        self.hide.iter().any(|pattern| {
            let last = pattern.rsplit('/').next().unwrap_or(pattern);
            (pattern == GIT_CONFIG && name.starts_with(b"config")) || glob::matches(last.as_bytes(), name)
        })
    }

    /// Whether what is at `relative` below the top is settled: hidden, or shown with other text.
    fn judge(&mut self, relative: &Path, top: &Path) -> Result<bool, Fault> {
        let hide = self.hide;
        let path = &top.join(relative);
        let relative: Vec<&[u8]> = relative.iter().map(|name| name.as_bytes()).collect();
        for pattern in hide {
            if pattern == GIT_CONFIG {
                if is_git_config(&relative) && self.git_config(path)? {
                    return Ok(true);
                }
            } else if glob::matches_suffix(pattern, &relative) {
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

/// Whether directory `name` of `dir` is git's own and holds neither work files nor configuration: of `.git` only `modules` and
/// `worktrees` lead to more of the latter. Below these everything is searched: a submodule may have any name.
fn only_git_data(dir: &Path, name: &OsStr) -> bool {
    dir.file_name().is_some_and(|dir| dir == ".git") && name != "modules" && name != "worktrees"
}

/// `config` and `config.worktree` of a repository, of its submodules and of its other work trees.
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
            most: 50,
            found: &mut found,
        }
        .tree(top, &mut Memory::default())?;
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

    /// What was listed once is found changed in whatever way it can be.
    #[test]
    fn a_remembered_tree_shows_every_change() {
        let (cache, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let top = dir.path();
        for i in 0..20 {
            std::fs::create_dir_all(top.join(format!("d{i}/e"))).unwrap();
        }
        std::fs::write(top.join("d3/e/.env"), "").unwrap();
        let hide = [".env".to_owned(), GIT_CONFIG.to_owned()];
        let search = |hide: &[String]| {
            let mut found = BTreeSet::new();
            let mut memory = Memory::load(cache.path(), top, hide);
            let mut walk = Walk {
                hide,
                field: "mounts[0].source".into(),
                seen: 0,
                most: 100,
                found: &mut found,
            };
            walk.tree(top, &mut memory).unwrap();
            let read = memory.learned();
            memory.keep();
            let strip = |p: &str| p.strip_prefix(&format!("{}/", top.display())).unwrap().to_owned();
            (read, found.iter().map(|h| strip(&h.path)).collect::<Vec<_>>())
        };
        assert_eq!(
            search(&hide),
            (0, vec!["d3/e/.env".to_owned()]),
            "too young to remember"
        );
        std::thread::sleep(std::time::Duration::from_millis(3_100));
        let remembers = rustix::fs::major(statat(CWD, top, AtFlags::empty()).unwrap().st_dev) != 0;
        let read = |count: usize| if remembers { count } else { 0 };
        assert_eq!(search(&hide), (read(41), vec!["d3/e/.env".to_owned()]));
        assert_eq!(search(&hide), (0, vec!["d3/e/.env".to_owned()]), "all of it is known");
        // Other patterns, other listings.
        assert_eq!(search(&["e".to_owned()]).1.len(), 20);
        assert_eq!(search(&hide).1, ["d3/e/.env"]);

        std::fs::write(top.join("d7/e/.env"), "").unwrap();
        assert_eq!(search(&hide).1, ["d3/e/.env", "d7/e/.env"], "made");
        std::fs::rename(top.join("d7/e/.env"), top.join("d7/e/env")).unwrap();
        assert_eq!(search(&hide).1, ["d3/e/.env"], "renamed away");
        std::fs::hard_link(top.join("d7/e/env"), top.join("d8/.env")).unwrap();
        assert_eq!(search(&hide).1, ["d3/e/.env", "d8/.env"], "linked");
        std::fs::rename(top.join("d3"), top.join("d4/e/f")).unwrap();
        assert_eq!(
            search(&hide).1,
            ["d4/e/f/e/.env", "d8/.env"],
            "moved with its directory"
        );
        std::fs::create_dir_all(top.join("d9/e/.git")).unwrap();
        std::fs::write(top.join("d9/e/.git/config"), "url = https://u:p@example.com/x\n").unwrap();
        assert_eq!(search(&hide).1, ["d4/e/f/e/.env", "d8/.env", "d9/e/.git/config"]);
        std::fs::write(top.join("d9/e/.git/config"), "url = https://example.com/x\n").unwrap();
        assert_eq!(search(&hide).1, ["d4/e/f/e/.env", "d8/.env"], "text is not remembered");
        // A directory under the name of another, and another's whole tree.
        std::fs::create_dir(top.join("d5/n")).unwrap();
        std::fs::write(top.join("d5/n/.env"), "").unwrap();
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(CWD, top.join("d5/n"), CWD, top.join("d6/e"), flags).unwrap();
        assert_eq!(search(&hide).1, ["d4/e/f/e/.env", "d6/e/.env", "d8/.env"], "exchanged");
        std::fs::remove_dir_all(top.join("d4")).unwrap();
        std::os::unix::fs::symlink("/", top.join("d4")).unwrap();
        assert_eq!(search(&hide).1, ["d6/e/.env", "d8/.env"], "a link in its place");
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
