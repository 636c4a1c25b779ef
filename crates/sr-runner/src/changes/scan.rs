//! Compares an upper layer with the host's directory: the difference is between what the run left and what is on the
//! host now, so that nothing is listed twice and what was applied is listed no more.

use super::apply::Record;
use super::danger::{self, Repository};
use super::held::Held;
use super::manifest::{Line, Manifest};
use super::name::escape;
use super::survey::{self, changed_at};
use super::tree::{self, Cursor, file_type, join};
use super::unseen::{self, Unseen};
use super::{Change, Kind, Layer, Node, What, data};
use rustix::fs::{FileType, Stat, fgetxattr_query, readlinkat};
use rustix::io::Errno;
use sr_common::{Code, Digest, Fault};
use std::collections::{BTreeSet, HashMap};
use std::os::fd::BorrowedFd;

/// The changes that the layer holds: deletions first, then replaced directories, then the others, each by path.
pub fn scan(layer: &Layer<'_>) -> Result<Vec<Change>, Fault> {
    Ok(read(layer)?.into_changes())
}

/// A layer, read once: what it holds by itself, and how that differs from the host's directory.
#[derive(Default)]
pub struct Scanned {
    /// By path.
    pub held: Vec<Held>,
    pub(super) entries: Vec<Entry>,
}

impl Scanned {
    pub fn changes(&self) -> Vec<Change> {
        self.entries.iter().map(|entry| entry.change.clone()).collect()
    }

    pub fn into_changes(self) -> Vec<Change> {
        self.entries.into_iter().map(|entry| entry.change).collect()
    }
}

/// All listed paths together; a layer made to exhaust the supervisor (very deep, very many) is refused instead.
const MOST_PATH_BYTES: usize = 256 << 20;

/// A change, and what was on the host when it was found.
pub(super) struct Entry {
    pub change: Change,
    pub path: Vec<u8>,
    pub seen: Option<Stat>,
}

pub(super) fn fault(layer: &Layer<'_>, path: &[u8], error: Errno) -> Fault {
    let path = if path.is_empty() {
        layer.lower.display().to_string()
    } else {
        escape(path)
    };
    let found = format!("cannot compare {path} with what the run left: {error}");
    Fault::new(
        Code::Run001,
        "changes.scan",
        found,
        "see that both directories are there and readable, and try again",
    )
}

/// Reads the layer and compares it with the host's directory.
pub fn read(layer: &Layer<'_>) -> Result<Scanned, Fault> {
    let open = |path| Cursor::open(path).map_err(|e| fault(layer, b"", e));
    let upper = match Cursor::open(layer.upper) {
        // A layer without a change was not kept.
        Err(Errno::NOENT) => return Ok(Scanned::default()),
        opened => opened.map_err(|e| fault(layer, b"", e))?,
    };
    let mut scan = Scan {
        layer,
        upper,
        lower: open(layer.lower)?,
        manifest: Manifest::read(layer.upper)?,
        record: Record::read(layer.upper)?,
        unseen: Unseen::new(layer.hidden),
        replaced: layer
            .hidden
            .iter()
            .filter_map(|m| {
                Some((
                    m.path.clone().into_bytes(),
                    Digest::of(m.replacement.as_ref()?.as_bytes()),
                ))
            })
            .collect(),
        path: Vec::new(),
        repository: Repository::No,
        found: Vec::new(),
        held: Vec::new(),
        opaque: BTreeSet::new(),
        path_bytes: 0,
    };
    scan.tree()?;
    let held = scan.take_held();
    let mut found = scan.found;
    found.sort_by(|a, b| {
        let rank = |kind| match kind {
            Kind::Deleted => 0,
            Kind::Opaque => 1,
            _ => 2,
        };
        (rank(a.change.kind), &a.path).cmp(&(rank(b.change.kind), &b.path))
    });
    Ok(Scanned { held, entries: found })
}

struct Level {
    pending: Vec<Vec<u8>>,
    /// The lower cursor is in this directory too.
    in_lower: bool,
    /// Nothing of the lower directory shows through.
    opaque: bool,
    repository: Repository,
}

struct Scan<'a> {
    layer: &'a Layer<'a>,
    upper: Cursor,
    lower: Cursor,
    manifest: Manifest,
    record: Record,
    unseen: Unseen,
    /// Hidden files that the program saw with other content.
    replaced: HashMap<Vec<u8>, Digest>,
    path: Vec<u8>,
    /// How the directory of this path stands to one.
    repository: Repository,
    found: Vec<Entry>,
    held: Vec<(Vec<u8>, Held)>,
    /// Directories that are marked so.
    opaque: BTreeSet<Vec<u8>>,
    path_bytes: usize,
}

impl Scan<'_> {
    fn fail<T>(&self, path: &[u8], result: Result<T, Errno>) -> Result<T, Fault> {
        result.map_err(|e| fault(self.layer, path, e))
    }

    fn push(&mut self, change: Change, path: Vec<u8>, seen: Option<Stat>) -> Result<(), Fault> {
        self.count(&path)?;
        self.found.push(Entry { change, path, seen });
        Ok(())
    }

    /// Notes what the layer has at `path`, whatever the host has there; `None`: that the name is gone.
    fn hold(&mut self, path: &[u8], node: Option<Node>, capabilities: bool) -> Result<(), Fault> {
        self.count(path)?;
        let held = Held {
            path: escape(path),
            node,
            opaque: false,
            capabilities,
        };
        self.held.push((path.to_vec(), held));
        Ok(())
    }

    fn take_held(&mut self) -> Vec<Held> {
        let mut all = std::mem::take(&mut self.held);
        if self.opaque.contains(b"".as_slice()) {
            all.push((Vec::new(), Held::default()));
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let opaque = &self.opaque;
        all.into_iter()
            .map(|(path, held)| Held {
                opaque: opaque.contains(&path),
                ..held
            })
            .collect()
    }

    fn count(&mut self, path: &[u8]) -> Result<(), Fault> {
        self.path_bytes += path.len();
        if self.path_bytes > MOST_PATH_BYTES {
            let found = format!(
                "the paths of the changes are longer than {} MiB together",
                MOST_PATH_BYTES >> 20
            );
            return Err(Fault::new(
                Code::Run001,
                "changes.scan",
                found,
                "what the run left is no honest work: discard it",
            ));
        }
        Ok(())
    }

    fn tree(&mut self) -> Result<(), Fault> {
        let mut levels = vec![self.level(true, false)?];
        while let Some(level) = levels.last_mut() {
            let (in_lower, opaque) = (level.in_lower, level.opaque);
            self.repository = level.repository;
            let Some(name) = level.pending.pop() else {
                levels.pop();
                if !levels.is_empty() {
                    let up = self
                        .upper
                        .ascend()
                        .and_then(|()| if in_lower { self.lower.ascend() } else { Ok(()) });
                    self.fail(&self.path.clone(), up)?;
                    self.path = tree::split(&self.path).0.to_vec();
                }
                continue;
            };
            if let Some(next) = self.entry(&name, in_lower, opaque)? {
                levels.push(next);
            }
        }
        Ok(())
    }

    /// The directory that both cursors are in now.
    fn level(&mut self, in_lower: bool, opaque_above: bool) -> Result<Level, Fault> {
        let path = self.path.clone();
        let marked = tree::is_opaque(self.upper.fd()) || self.manifest.get(&path).is_some_and(|line| line.opaque);
        let opaque = marked || opaque_above;
        if marked {
            self.opaque.insert(path.clone());
        }
        let mut names: BTreeSet<Vec<u8>> = self.fail(&path, self.upper.names())?.into_iter().collect();
        names.extend(self.manifest.only_here(&path).map(|(name, _)| name.to_vec()));
        let head = self.fail(&path, self.has_head(&names, in_lower))?;
        self.repository = self.repository.below(tree::split(&path).1, head);
        if opaque && in_lower {
            if marked && !path.is_empty() {
                self.push(change(&path, Kind::Opaque), path.clone(), None)?;
            }
            for name in self.fail(&path, self.lower.names())? {
                if !names.contains(&name) {
                    self.deleted(&name, &join(&path, &name))?;
                }
            }
        }
        Ok(Level {
            pending: names.into_iter().rev().collect(),
            in_lower,
            opaque,
            repository: self.repository,
        })
    }

    /// Whether the directory that both cursors are in holds a file HEAD, or will: of the run's `names`, or of the host's.
    fn has_head(&self, names: &BTreeSet<Vec<u8>>, in_lower: bool) -> Result<bool, Errno> {
        let file = |stat: Option<Stat>| stat.is_some_and(|s| file_type(&s) != FileType::Directory);
        for name in names.iter().filter(|name| danger::is_head(name)) {
            if file(self.upper.stat(name)?) {
                return Ok(true);
            }
        }
        if !in_lower {
            return Ok(false);
        }
        match self.lower.stat(b"HEAD") {
            // It cannot be looked into, so it may.
            Err(Errno::ACCESS) => Ok(true),
            found => found.map(file),
        }
    }

    /// Judges one name; a directory that must be looked into is entered.
    fn entry(&mut self, name: &[u8], in_lower: bool, opaque: bool) -> Result<Option<Level>, Fault> {
        let path = join(&self.path, name);
        let mut line = self.manifest.get(&path).cloned().unwrap_or_default();
        let mut capable = false;
        let upper = self.fail(&path, self.upper.stat(name))?;
        let whiteout = match &upper {
            Some(stat) => self.fail(&path, tree::is_whiteout(self.upper.fd(), name, stat))?,
            None => line.whiteout,
        };
        if whiteout {
            self.hold(&path, None, false)?;
            if in_lower {
                self.deleted(name, &path)?;
            }
            return Ok(None);
        }
        let lower = if in_lower {
            self.fail(&path, self.lower.stat(name))?
        } else {
            None
        };
        let directory = upper.as_ref().is_some_and(|s| file_type(s) == FileType::Directory);
        let after = match &upper {
            Some(stat) => {
                let whose = Whose::Layer(&mut capable);
                self.fail(&path, node(self.upper.fd(), name, stat, line.mode, whose))?
            }
            None => match line.special {
                Some(what) => Node {
                    what,
                    mode: line.mode.unwrap_or(0),
                    size: None,
                    digest: None,
                    extents: None,
                    target: None,
                },
                None => return Ok(None),
            },
        };
        // A copied layer says so beside it; a session's is the one that was written to.
        line.capabilities |= capable;
        self.hold(&path, Some(after.clone()), line.capabilities)?;
        self.compare(name, &path, &line, after, lower)?;
        let (Some(stat), true) = (upper, directory) else {
            return Ok(None);
        };
        let entered = self.upper.descend_unlocking(name, &stat);
        self.fail(&path, entered)?;
        let mut also_lower = lower.is_some_and(|s| file_type(&s) == FileType::Directory);
        if also_lower {
            match self.lower.descend(name) {
                Ok(()) => {}
                // The program saw an empty directory where something is mounted.
                Err(Errno::XDEV) => also_lower = false,
                Err(e) => return Err(fault(self.layer, &path, e)),
            }
        }
        self.path = path;
        Ok(Some(self.level(also_lower, opaque)?))
    }

    fn deleted(&mut self, name: &[u8], path: &[u8]) -> Result<(), Fault> {
        // The program never saw it, so it cannot have meant to delete it.
        if self.unseen.covers(path) && !self.replaced.contains_key(path) {
            return Ok(());
        }
        let Some(stat) = self.fail(path, self.lower.stat(name))? else {
            return Ok(());
        };
        let mut before = self.fail(path, node(self.lower.fd(), name, &stat, None, Whose::Host))?;
        let mut change = change(path, Kind::Deleted);
        self.judge_host(name, path, &stat, &mut before, &mut change)?;
        change.danger = self.danger(path, &before, None).or(change.danger);
        change.before = Some(before);
        self.push(change, path.to_vec(), Some(stat))
    }

    /// Conflicts, and for a directory that is to go, what is in it.
    fn judge_host(
        &mut self,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
        before: &mut Node,
        change: &mut Change,
    ) -> Result<(), Fault> {
        if changed_at(stat) > self.layer.started && !self.record.wrote(path, stat) {
            change.conflict = Some("changed on the host since the capture began".to_owned());
        }
        let goes = matches!(change.kind, Kind::Deleted | Kind::TypeChanged);
        if goes && before.what == What::Directory {
            let survey = survey::directory(&mut self.lower, name, path, self.layer.started, &self.unseen);
            let survey = self.fail(path, survey)?;
            before.size = Some(survey.entries);
            change.conflict = change.conflict.take().or(survey.conflict);
            change.danger = survey.danger;
        }
        Ok(())
    }

    fn compare(
        &mut self,
        name: &[u8],
        path: &[u8],
        line: &Line,
        after: Node,
        lower: Option<Stat>,
    ) -> Result<(), Fault> {
        let mut change = change(path, Kind::Added);
        if let Some(stat) = &lower {
            let mut before = self.fail(path, node(self.lower.fd(), name, stat, None, Whose::Host))?;
            change.kind = match (before.what, after.what) {
                (a, b) if a != b => Kind::TypeChanged,
                (What::Symlink, _) if before.target != after.target => Kind::SymlinkChanged,
                (What::Symlink, _) => return Ok(()),
                (What::File, _) if !same_content(&before, &after) => Kind::Modified,
                _ if before.mode != after.mode => Kind::ModeChanged,
                _ => return Ok(()),
            };
            // The file that stood in for a hidden one, and still does.
            if after.digest.is_some() && self.replaced.get(path) == after.digest.as_ref() {
                return Ok(());
            }
            self.judge_host(name, path, stat, &mut before, &mut change)?;
            change.before = Some(before);
        }
        change.danger = self.danger(path, &after, after.target.as_deref()).or(change.danger);
        change.skipped = skipped(change.before.as_ref(), &after, line);
        change.after = Some(after);
        self.push(change, path.to_vec(), lower)
    }

    fn danger(&self, path: &[u8], node: &Node, target: Option<&str>) -> Option<String> {
        if self.unseen.covers(path) {
            return Some(unseen::REASON.to_owned());
        }
        let link = || danger::by_target(path, &super::unescape(target?)?);
        let (_, name) = tree::split(path);
        let repository = || self.repository.danger(name, node.what == What::Directory);
        danger::by_path(path)
            .or_else(repository)
            .or_else(link)
            .map(str::to_owned)
    }
}

fn change(path: &[u8], kind: Kind) -> Change {
    Change {
        path: escape(path),
        kind,
        before: None,
        after: None,
        danger: None,
        conflict: None,
        skipped: None,
    }
}

fn same_content(a: &Node, b: &Node) -> bool {
    let known = a.digest.is_some() || a.extents.is_some();
    a.size == b.size && known && (a.digest, a.extents) == (b.digest, b.extents)
}

/// What is never applied of a change.
fn skipped(before: Option<&Node>, after: &Node, line: &Line) -> Option<String> {
    let text = match after.what {
        What::Fifo | What::Socket | What::CharDevice | What::BlockDevice => "special files are never applied",
        What::File if after.mode & 0o6000 & !before.map_or(0, |b| b.mode) != 0 => {
            "setuid and setgid bits are never applied"
        }
        What::File if line.capabilities => "file capabilities are never applied",
        _ => return None,
    };
    Some(text.to_owned())
}

/// Whose tree an entry is in.
enum Whose<'a> {
    /// And whether the file has capabilities.
    Layer(&'a mut bool),
    /// Only looked at: a file that cannot be read has no digest, and so differs from every other.
    Host,
}

fn node(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat, mode: Option<u32>, whose: Whose<'_>) -> Result<Node, Errno> {
    let what = match file_type(stat) {
        FileType::RegularFile => What::File,
        FileType::Directory => What::Directory,
        FileType::Symlink => What::Symlink,
        FileType::Fifo => What::Fifo,
        FileType::Socket => What::Socket,
        FileType::CharacterDevice => What::CharDevice,
        _ => What::BlockDevice,
    };
    let mut node = Node {
        what,
        mode: mode.unwrap_or(stat.st_mode & 0o7777),
        size: None,
        digest: None,
        extents: None,
        target: None,
    };
    match what {
        What::File => {
            node.size = u64::try_from(stat.st_size).ok();
            let opened = match whose {
                Whose::Layer(capable) => {
                    let file = tree::open_file(dir, name, stat)?;
                    *capable = fgetxattr_query(&file, "security.capability").is_ok();
                    Some(file)
                }
                Whose::Host => match tree::open_host_file(dir, name) {
                    Err(Errno::ACCESS | Errno::PERM) => None,
                    other => Some(other?),
                },
            };
            match opened.map(data::content).transpose()? {
                Some(data::Content::Whole(digest)) => node.digest = Some(digest),
                Some(data::Content::Extents(digest)) => node.extents = Some(digest),
                None => {}
            }
        }
        What::Symlink => node.target = Some(escape(readlinkat(dir, name, Vec::new())?.as_bytes())),
        _ => {}
    }
    Ok(node)
}
