//! The store: `artifacts/` below the run store. `sha256/HEX` are contents, which never change; `names/KIND/NAME` say which of
//! them a name means, and where that is from; in `making/` is what is not finished. Every file comes whole by a rename, so
//! that parallel makers, a full disk and a kill leave no half of one. Whoever gives a content its name holds the lock
//! shared, and gc alone: what has no name yet is not taken for what has none any more.

mod gc;

use crate::fault::{fault, on};
use crate::name::{self, Kind, Wanted};
use crate::provenance::Provenance;
use crate::scratch::Scratch;
pub use gc::Collected;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags};
use serde::{Deserialize, Serialize};
use sr_common::digest::Hasher;
use sr_common::{Digest, Fault};
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Bytes in a name's record.
const MAX_RECORD: u64 = 4 << 20;

/// A thing of the store that has a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Artifact {
    pub kind: Kind,
    pub name: String,
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    pub provenance: Provenance,
}

/// A content whose digest was computed on this very descriptor.
#[derive(Debug)]
pub struct Opened {
    /// At its beginning.
    pub file: File,
    pub digest: Digest,
    pub size: u64,
}

/// What `verify` found of one content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub digest: Digest,
    /// `KIND/NAME`, sorted.
    pub names: Vec<String>,
    /// What is wrong with it.
    pub damage: Option<String>,
}

/// The artifacts of one run store.
#[derive(Debug, Clone)]
pub struct Artifacts {
    /// The run store itself.
    store: PathBuf,
    dir: PathBuf,
}

/// A content that is being written; without [`Artifacts::keep`] it is gone.
pub struct Draft {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    size: u64,
    _scratch: Scratch,
}

impl Draft {
    /// Of what was written so far.
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Artifacts {
    /// Of the run store at `store`; what is missing is made.
    pub fn open(store: &Path) -> Result<Artifacts, Fault> {
        let dir = store.join("artifacts");
        let parts = ["sha256".to_owned(), "making".to_owned()];
        let names = Kind::ALL.map(|kind| format!("names/{kind}"));
        for part in parts.iter().chain(&names) {
            let path = dir.join(part);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(on(&path))?;
        }
        Ok(Artifacts {
            store: store.to_owned(),
            dir,
        })
    }

    /// Of a run store that may have none, or not exist.
    pub fn existing(store: &Path) -> Option<Artifacts> {
        let dir = store.join("artifacts");
        let complete = dir.join("sha256").is_dir() && dir.join("names").is_dir() && dir.join("making").is_dir();
        complete.then(|| Artifacts {
            store: store.to_owned(),
            dir,
        })
    }

    /// For what is needed only while something is made; on the file system of the contents.
    pub fn scratch(&self) -> Result<Scratch, Fault> {
        Scratch::new(&self.dir.join("making"))
    }

    /// A new content.
    pub fn draft(&self) -> Result<Draft, Fault> {
        let scratch = self.scratch()?;
        let path = scratch.path().join("content");
        let mut options = File::options();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open(&path)
            .map_err(on(&path))?;
        Ok(Draft {
            path,
            file,
            hasher: Hasher::default(),
            size: 0,
            _scratch: scratch,
        })
    }

    /// Takes a content into the store under a name, which from then on means it.
    pub fn keep(&self, draft: Draft, kind: Kind, name: &str, provenance: Provenance) -> Result<Artifact, Fault> {
        name::check(name)?;
        let digest = draft.digest();
        let artifact = Artifact {
            kind,
            name: name.to_owned(),
            digest,
            size: draft.size,
            provenance,
        };
        // However the umask made it. A sandbox's user reads it by a mount; the store's folder keeps everybody else out.
        draft
            .file
            .set_permissions(fs::Permissions::from_mode(0o444))
            .map_err(on(&draft.path))?;
        draft.file.sync_all().map_err(on(&draft.path))?;
        let _held = self.lock(FlockOperation::LockShared)?;
        let to = self.content(&digest);
        // Also over one that is there: that may have been damaged.
        fs::rename(&draft.path, &to).map_err(on(&to))?;
        sync(&self.dir.join("sha256"))?;
        self.record(&artifact)?;
        Ok(artifact)
    }

    /// As [`Artifacts::keep`], all that `reader` gives.
    pub fn add(&self, mut reader: impl Read, kind: Kind, name: &str, how: Provenance) -> Result<Artifact, Fault> {
        name::check(name)?;
        let mut draft = self.draft()?;
        io::copy(&mut reader, &mut draft).map_err(on(&draft.path))?;
        self.keep(draft, kind, name, how)
    }

    /// What a person or a policy means; of one kind, where `kind` says so.
    pub fn resolve(&self, wanted: &Wanted, kind: Option<Kind>) -> Result<Artifact, Fault> {
        let is_meant = |artifact: &Artifact| match wanted {
            Wanted::Named { kind, name } => artifact.name == *name && kind.is_none_or(|k| k == artifact.kind),
            Wanted::Digest(digits) => artifact.digest.hex().starts_with(digits.as_str()),
        };
        let mut found = self.list()?;
        found.retain(|artifact| kind.is_none_or(|kind| kind == artifact.kind) && is_meant(artifact));
        // Several names of one content are one artifact.
        found.dedup_by(|b, a| matches!(wanted, Wanted::Digest(_)) && (a.kind, a.digest) == (b.kind, b.digest));
        match (found.pop(), found.as_slice()) {
            (Some(artifact), []) => Ok(artifact),
            (None, _) => {
                let what = kind.map_or("artifact", Kind::as_str);
                let remedy = "see safe-run artifact list; make one with safe-run artifact build, or import it";
                Err(fault("name", format!("there is no {what} {wanted}"), remedy))
            }
            (Some(last), others) => {
                let all = others.iter().chain([&last]);
                let names: Vec<String> = all.map(Artifact::title).collect();
                let found = format!("{wanted} means several: {}", names.join(", "));
                Err(fault("name", found, "write KIND/NAME, or more of the digest"))
            }
        }
    }

    /// The one of that kind and name, if there is one.
    pub fn named(&self, kind: Kind, name: &str) -> Result<Option<Artifact>, Fault> {
        name::check(name)?;
        self.read(kind, name)
    }

    /// A kernel and the modules that were made with it.
    pub fn kernel(&self, wanted: &Wanted) -> Result<(Artifact, Option<Digest>), Fault> {
        let kernel = self.resolve(wanted, Some(Kind::Kernel))?;
        let modules = kernel.provenance.with.get(Kind::Modules.as_str()).copied();
        Ok((kernel, modules))
    }

    /// The content `digest`, if that is what it is: hashed on the descriptor that is given.
    pub fn open_digest(&self, digest: &Digest) -> Result<Opened, Fault> {
        let path = self.content(digest);
        let mut file = self.regular(digest)?;
        let (found, size) = Digest::of_reader(&mut file).map_err(on(&path))?;
        if found != *digest {
            return Err(fault(
                "content",
                format!("{} is damaged: its digest is {found}", path.display()),
                "make or import the artifact again; safe-run artifact verify says what else is damaged",
            ));
        }
        file.rewind().map_err(on(&path))?;
        Ok(Opened {
            file,
            digest: found,
            size,
        })
    }

    /// Everything that has a name, by kind and name.
    pub fn list(&self) -> Result<Vec<Artifact>, Fault> {
        let mut all = Vec::new();
        for kind in Kind::ALL {
            let dir = self.names(kind);
            let entries = match fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(on(&dir)(e)),
            };
            for entry in entries {
                let entry = entry.map_err(on(&dir))?;
                let name = entry.file_name();
                let Some(name) = name.to_str().filter(|name| name::check(name).is_ok()) else {
                    continue;
                };
                // Removed meanwhile.
                let Some(artifact) = self.read(kind, name)? else {
                    continue;
                };
                all.push(artifact);
            }
        }
        all.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        Ok(all)
    }

    /// Hashes all contents that have a name, or those of one artifact: its own and what belongs to it.
    pub fn verify(&self, only: Option<&Artifact>) -> Result<Vec<Verified>, Fault> {
        let mut known: Vec<(Digest, String)> = Vec::new();
        let all = self.list()?;
        for artifact in only.map_or(all.as_slice(), std::slice::from_ref) {
            known.push((artifact.digest, artifact.title()));
            // What is called by another word than a kind was never in the store.
            let with = artifact.provenance.with.iter();
            let kept = with.filter(|(part, _)| part.parse::<Kind>().is_ok());
            known.extend(kept.map(|(part, digest)| (*digest, format!("{} ({part})", artifact.title()))));
        }
        known.sort();
        let mut verified: Vec<Verified> = Vec::new();
        for (digest, name) in known {
            match verified.last_mut() {
                Some(last) if last.digest == digest => last.names.push(name),
                _ => verified.push(Verified {
                    digest,
                    names: vec![name],
                    damage: self.open_digest(&digest).err().map(|fault| fault.found),
                }),
            }
        }
        Ok(verified)
    }

    /// Takes a name away. Its content stays until gc.
    pub fn remove(&self, artifact: &Artifact) -> Result<(), Fault> {
        let path = self.names(artifact.kind).join(&artifact.name);
        fs::remove_file(&path).map_err(on(&path))?;
        sync(&self.names(artifact.kind))
    }

    /// Where the content `digest` is, if it is there. Who opens it there hashes what was opened.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.content(digest)
    }

    fn content(&self, digest: &Digest) -> PathBuf {
        self.dir.join("sha256").join(digest.hex())
    }

    fn names(&self, kind: Kind) -> PathBuf {
        self.dir.join("names").join(kind.as_str())
    }

    fn lock(&self, how: FlockOperation) -> Result<OwnedFd, Fault> {
        let path = self.dir.join("sha256");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = || {
            let fd = rustix::fs::open(&path, flags, Mode::empty())?;
            rustix::fs::flock(&fd, how).map(|()| fd)
        };
        lock().map_err(|e| on(&path)(e.into()))
    }

    fn regular(&self, digest: &Digest) -> Result<File, Fault> {
        let path = self.content(digest);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT) => {
                let remedy = "make or import the artifact again";
                return Err(fault("content", format!("{digest} is not in the store"), remedy));
            }
            Err(e) => return Err(on(&path)(e.into())),
        };
        match file.metadata() {
            Ok(stat) if stat.is_file() => Ok(file),
            Ok(_) => {
                let remedy = "somebody else put it there: remove it";
                Err(fault(
                    "content",
                    format!("{} is no regular file", path.display()),
                    remedy,
                ))
            }
            Err(e) => Err(on(&path)(e)),
        }
    }

    /// Writes what a name means.
    fn record(&self, artifact: &Artifact) -> Result<(), Fault> {
        let scratch = self.scratch()?;
        let path = scratch.path().join("record");
        let bytes = serde_json::to_vec(artifact).map_err(|e| on(&path)(e.into()))?;
        let write = || {
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(&bytes)?;
            file.sync_all()
        };
        write().map_err(on(&path))?;
        let to = self.names(artifact.kind).join(&artifact.name);
        rustix::fs::renameat_with(CWD, &path, CWD, &to, RenameFlags::empty()).map_err(|e| on(&to)(e.into()))?;
        sync(&self.names(artifact.kind))
    }

    fn read(&self, kind: Kind, name: &str) -> Result<Option<Artifact>, Fault> {
        let path = self.names(kind).join(name);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(e) => return Err(on(&path)(e.into())),
        };
        let mut bytes = Vec::new();
        file.take(MAX_RECORD).read_to_end(&mut bytes).map_err(on(&path))?;
        let bad = |why: String| {
            let found = format!("{} is damaged: {why}", path.display());
            fault("name", found, "remove that file, and make or import the artifact again")
        };
        let artifact: Artifact = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        if (artifact.kind, artifact.name.as_str()) != (kind, name) {
            return Err(bad(format!("it speaks of {}", artifact.title())));
        }
        Ok(Some(artifact))
    }
}

impl Artifact {
    /// `KIND/NAME`.
    pub fn title(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }
}

/// What was renamed in a directory is there after a power failure too.
fn sync(dir: &Path) -> Result<(), Fault> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(on(dir))
}

#[cfg(test)]
mod tests;
