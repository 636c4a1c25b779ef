//! Directory listings, remembered from the last search for hidden names: a work tree has hundreds of directories, hardly
//! any of which change between two runs, and looking at one costs a tenth of reading it.
//!
//! A listing is the directory's as long as device, inode, ctime and mtime are, under the rule that digests of files follow
//! too: on a device of its own (elsewhere times need not move with a change), and not younger than two seconds when it was
//! read. What does not look right is read again.

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, fstat, openat, statat};
use sr_common::Digest;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8] = b"safe-run listings 1\n";
/// Fewer directories are read as fast as their listings.
const WORTH: usize = 8;
/// Bytes of one memory.
const MOST_BYTES: usize = 16 << 20;

/// What the search must know of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Listing {
    /// How many entries it has.
    pub seen: u64,
    /// Whether a tool can make it anew.
    pub regenerated: bool,
    /// The directories in it, and what else may have a hidden name.
    pub names: Vec<Name>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub name: OsString,
    pub directory: bool,
    /// Whether its name could be one to hide.
    pub suspect: bool,
}

/// The listings below one directory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Where they are kept; `None`: nowhere.
    file: Option<PathBuf>,
    /// The directory itself, from where the others are looked at.
    top: Option<OwnedFd>,
    known: Records,
    /// To be kept: all that was recalled or is new.
    records: Vec<u8>,
    count: usize,
    /// How many of them are new.
    new: usize,
    hide: Option<Digest>,
}

/// Records as they were kept. A search asks for them in the order in which the last one made them, as long as nothing has
/// changed; what is asked for out of turn is looked for among all that are left.
#[derive(Debug, Default)]
struct Records {
    bytes: Vec<u8>,
    /// Where the next one begins.
    next: usize,
    /// Those that are left, by their paths, once one was asked for out of turn.
    left: Option<HashMap<OsString, Known>>,
}

/// A listing, whose it was, and where its record stands.
#[derive(Debug, PartialEq, Eq)]
struct Known {
    identity: Identity,
    listing: Listing,
    place: Range<usize>,
}

/// Of a directory as it was before it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity([u64; 6]);

impl Identity {
    /// `None` where a later change might not show.
    pub fn of(stat: &Stat) -> Option<Self> {
        crate::digests::settled(stat).then(|| Identity::shown(stat))
    }

    #[allow(clippy::unnecessary_cast, reason = "the types differ between architectures")]
    fn shown(stat: &Stat) -> Self {
        Identity([
            stat.st_dev as u64,
            stat.st_ino as u64,
            stat.st_ctime as u64,
            stat.st_ctime_nsec as u64,
            stat.st_mtime as u64,
            stat.st_mtime_nsec as u64,
        ])
    }
}

impl Memory {
    /// What `cache` remembers of the directory `top`, searched for `hide`.
    pub fn load(cache: &Path, top: &Path, hide: &[String]) -> Memory {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(CWD, top, flags, Mode::empty());
        let Ok((top, stat)) = opened.and_then(|top| fstat(&top).map(|stat| (top, stat))) else {
            return Memory::default();
        };
        let hide = Digest::of(hide.join("\0").as_bytes());
        let file = cache.join(format!("listings-{:x}-{:x}", stat.st_dev, stat.st_ino));
        let known = fs::read(&file).ok().and_then(|bytes| Records::of(bytes, &hide));
        Memory {
            file: Some(file),
            top: Some(top),
            known: known.unwrap_or_default(),
            hide: Some(hide),
            ..Memory::default()
        }
    }

    /// The listing of the directory at `relative` below the top, if it is still that.
    pub fn recall(&mut self, relative: &Path) -> Option<Listing> {
        let top = self.top.as_ref()?;
        let Known {
            identity,
            listing,
            place,
        } = self.known.take(relative.as_os_str())?;
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        let stat = statat(top, relative, flags).ok()?;
        if Identity::shown(&stat) != identity {
            return None;
        }
        if self.records.len() <= MOST_BYTES {
            self.count += 1;
            self.records.extend_from_slice(self.known.bytes.get(place)?);
        }
        Some(listing)
    }

    /// Remembers what was just read.
    pub fn learn(&mut self, relative: &Path, identity: Option<Identity>, listing: &Listing) {
        if let Some(identity) = identity
            && self.file.is_some()
        {
            self.new += 1;
            self.record(relative, identity, listing);
        }
    }

    fn record(&mut self, relative: &Path, identity: Identity, listing: &Listing) {
        if self.records.len() > MOST_BYTES {
            return;
        }
        self.count += 1;
        let to = &mut self.records;
        put_text(to, relative.as_os_str());
        for number in identity.0.into_iter().chain([listing.seen]) {
            to.extend(number.to_le_bytes());
        }
        to.push(listing.regenerated.into());
        to.extend((listing.names.len() as u64).to_le_bytes());
        for Name {
            name,
            directory,
            suspect,
        } in &listing.names
        {
            to.push((*directory).into());
            to.push((*suspect).into());
            put_text(to, name);
        }
    }

    /// How many listings are new.
    #[cfg(test)]
    pub fn learned(&self) -> usize {
        self.new
    }

    /// Keeps the listings for the next search. If that fails it costs time, not truth.
    pub fn keep(self) {
        let (Some(file), Some(hide)) = (self.file, self.hide) else {
            return;
        };
        if self.new == 0 || self.count < WORTH || self.records.len() > MOST_BYTES {
            return;
        }
        let body = [hide.as_bytes().as_slice(), &self.records].concat();
        let bytes = [MAGIC, Digest::of(&body).as_bytes().as_slice(), &body].concat();
        let temporary = file.with_extension(std::process::id().to_string());
        if fs::write(&temporary, bytes).is_err() || fs::rename(&temporary, &file).is_err() {
            let _ = fs::remove_file(&temporary);
        }
    }
}

fn put_text(to: &mut Vec<u8>, text: &OsStr) {
    to.extend((text.len() as u64).to_le_bytes());
    to.extend_from_slice(text.as_bytes());
}

impl Records {
    /// `None` unless they are whole, and were made in a search for `hide`.
    fn of(bytes: Vec<u8>, hide: &Digest) -> Option<Records> {
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let digest = take(&mut rest, 32)?;
        if Digest::of(rest).as_bytes() != digest || take(&mut rest, 32)? != hide.as_bytes() {
            return None;
        }
        let next = bytes.len() - rest.len();
        Some(Records {
            bytes,
            next,
            left: None,
        })
    }

    /// The record of `path`, which is not found again.
    fn take(&mut self, path: &OsStr) -> Option<Known> {
        if self.left.is_none() {
            if let Some((_, known)) = self.following().filter(|(found, _)| *found == path) {
                self.next = known.place.end;
                return Some(known);
            }
            let mut left = HashMap::new();
            while let Some((path, known)) = self.following() {
                let (path, end) = (path.to_owned(), known.place.end);
                left.insert(path, known);
                self.next = end;
            }
            self.left = Some(left);
        }
        self.left.as_mut()?.remove(path)
    }

    /// The record that begins at `next`, and the path of its directory below the top. `None` at the end, and for what is
    /// badly formed.
    fn following(&self) -> Option<(&OsStr, Known)> {
        let mut rest = self.bytes.get(self.next..)?;
        let path = take_text(&mut rest)?;
        let mut identity = Identity([0; 6]);
        for number in &mut identity.0 {
            *number = take_number(&mut rest)?;
        }
        let mut listing = Listing {
            seen: take_number(&mut rest)?,
            regenerated: take(&mut rest, 1)? != [0],
            names: Vec::new(),
        };
        for _ in 0..take_number(&mut rest)? {
            listing.names.push(Name {
                directory: take(&mut rest, 1)? != [0],
                suspect: take(&mut rest, 1)? != [0],
                name: take_text(&mut rest)?.to_owned(),
            });
        }
        let known = Known {
            identity,
            listing,
            place: self.next..self.bytes.len() - rest.len(),
        };
        Some((path, known))
    }
}

fn take<'a>(from: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(count)?;
    *from = rest;
    Some(taken)
}

fn take_number(from: &mut &[u8]) -> Option<u64> {
    take(from, 8)?.try_into().ok().map(u64::from_le_bytes)
}

fn take_text<'a>(from: &mut &'a [u8]) -> Option<&'a OsStr> {
    let length = usize::try_from(take_number(from)?).ok()?;
    take(from, length).map(OsStr::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStringExt;

    fn of(memory: &Memory) -> Vec<u8> {
        let body = [memory.hide.unwrap().as_bytes().as_slice(), &memory.records].concat();
        [MAGIC, Digest::of(&body).as_bytes().as_slice(), &body].concat()
    }

    fn listing() -> impl Strategy<Value = Listing> {
        let name = (prop::collection::vec(any::<u8>(), 0..20), any::<[bool; 2]>());
        let name = name.prop_map(|(name, [directory, suspect])| Name {
            name: OsString::from_vec(name),
            directory,
            suspect,
        });
        (any::<u64>(), any::<bool>(), prop::collection::vec(name, 0..5)).prop_map(|(seen, regenerated, names)| {
            Listing {
                seen,
                regenerated,
                names,
            }
        })
    }

    proptest! {
        #[test]
        fn what_is_kept_is_recalled(listings in prop::collection::hash_map(".{0,9}", (any::<[u64; 6]>(), listing()), 0..8)) {
            let hide = Digest::of(b".env");
            let mut memory = Memory { file: Some("f".into()), hide: Some(hide), ..Memory::default() };
            let mut expected = HashMap::new();
            for (path, (identity, listing)) in listings {
                memory.learn(Path::new(&path), Some(Identity(identity)), &listing);
                expected.insert(OsString::from(path), (Identity(identity), listing));
            }
            let bytes = of(&memory);
            let taken = |records: &mut Records, path: &OsStr| records.take(path).map(|k| (k.identity, k.listing));
            let mut records = Records::of(bytes.clone(), &hide).unwrap();
            // In any order, each once.
            for (path, known) in &expected {
                let found = taken(&mut records, path);
                prop_assert_eq!(found.as_ref(), Some(known));
                prop_assert_eq!(taken(&mut records, path), None);
            }
            prop_assert_eq!(taken(&mut records, OsStr::new("none of them")), None);
            prop_assert!(Records::of(bytes, &Digest::of(b"*.pem")).is_none());
        }

        #[test]
        fn in_turn_nothing_is_looked_for(listings in prop::collection::vec((any::<[u64; 6]>(), listing()), 0..8)) {
            let hide = Digest::of(b".env");
            let mut memory = Memory { file: Some("f".into()), hide: Some(hide), ..Memory::default() };
            for (n, (identity, listing)) in listings.iter().enumerate() {
                memory.learn(Path::new(&n.to_string()), Some(Identity(*identity)), listing);
            }
            let mut records = Records::of(of(&memory), &hide).unwrap();
            for (n, (identity, listing)) in listings.iter().enumerate() {
                let known = records.take(OsStr::new(&n.to_string())).unwrap();
                prop_assert_eq!((known.identity, &known.listing), (Identity(*identity), listing));
            }
            prop_assert!(records.left.is_none());
            prop_assert_eq!(records.next, records.bytes.len());
        }

        #[test]
        fn what_is_no_memory_is_none(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let hide = Digest::of(b"");
            prop_assert!(Records::of(bytes.clone(), &hide).is_none());
            // Nor is one that is well signed and badly formed, unless it is empty.
            let body = [hide.as_bytes().as_slice(), &bytes].concat();
            let whole = [MAGIC, Digest::of(&body).as_bytes().as_slice(), &body].concat();
            let mut records = Records::of(whole, &hide).unwrap();
            prop_assert!(records.take(OsStr::new("none of them")).is_none());
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let hide = Digest::of(b".env");
        let mut memory = Memory {
            file: Some("f".into()),
            hide: Some(hide),
            ..Memory::default()
        };
        let name = Name {
            name: ".env".into(),
            directory: false,
            suspect: true,
        };
        let listing = Listing {
            names: vec![name],
            ..Listing::default()
        };
        memory.learn(Path::new("a"), Some(Identity([1; 6])), &listing);
        let bytes = of(&memory);
        assert!(Records::of(bytes.clone(), &hide).is_some());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(Records::of(bad, &hide).is_none(), "byte {at}");
            assert!(Records::of(bytes[..at].to_vec(), &hide).is_none(), "cut at {at}");
        }
    }
}
