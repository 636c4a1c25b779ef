//! The files of an image as it is handed on: a directory or a tar archive of documents and layers, read by name.

use crate::tar::{Archive, EntryKind};
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes in a document.
const MAX_DOCUMENT: u64 = 4 << 20;
/// Files in an archive of layers.
const MAX_FILES: usize = 100_000;

pub enum Source<'a> {
    Directory(PathBuf),
    Tar(&'a File, BTreeMap<String, Place>),
}

/// Where in an archive a file is.
#[derive(Debug)]
pub enum Place {
    At(u64, u64),
    /// It is another one: older writers keep a layer once.
    Link(String),
    /// Which of two is meant nobody can say.
    Twice,
}

fn bad(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

impl Source<'_> {
    pub fn directory(path: &Path) -> Source<'static> {
        Source::Directory(path.to_owned())
    }

    pub fn tar(file: &File) -> io::Result<Source<'_>> {
        let mut archive = Archive::new(BufReader::with_capacity(128 * 1024, file));
        let mut files = BTreeMap::new();
        while let Some(entry) = archive.entry()? {
            // An archive of something else: no name of an image's is like that.
            let Ok(path) = String::from_utf8(entry.path) else {
                continue;
            };
            let Some(path) = plain(&path) else { continue };
            let place = match entry.kind {
                EntryKind::File => Place::At(entry.at, entry.size),
                EntryKind::Symlink(target) | EntryKind::Hardlink(target) => {
                    Place::Link(String::from_utf8_lossy(&target).into_owned())
                }
                EntryKind::Directory | EntryKind::Special => continue,
            };
            if files.len() >= MAX_FILES {
                // Whatever this is: an image's documents come before.
                break;
            }
            let place = if files.contains_key(&path) { Place::Twice } else { place };
            files.insert(path, place);
        }
        Ok(Source::Tar(file, files))
    }

    pub fn has(&self, name: &str) -> bool {
        match self {
            Source::Directory(path) => path.join(name).is_file(),
            Source::Tar(_, files) => files.contains_key(name),
        }
    }

    /// A file, and its length.
    pub fn open(&self, name: &str) -> io::Result<(Box<dyn Read + '_>, u64)> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{name:?} is not in it"));
        let name = plain(name).ok_or_else(missing)?;
        match self {
            Source::Directory(path) => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                let named = |e: rustix::io::Errno| {
                    let error = io::Error::from(e);
                    io::Error::new(error.kind(), format!("{name}: {error}"))
                };
                let file = File::from(rustix::fs::open(path.join(&name), flags, Mode::empty()).map_err(named)?);
                let stat = file.metadata()?;
                match stat.is_file() {
                    true => Ok((Box::new(file), stat.len())),
                    false => Err(bad(format!("{name} is no regular file"))),
                }
            }
            Source::Tar(file, files) => {
                let mut place = files.get(&name).ok_or_else(missing)?;
                if let Place::Link(target) = place {
                    let beside = name
                        .rsplit_once('/')
                        .map_or(String::new(), |(dir, _)| format!("{dir}/"));
                    let both = [format!("{beside}{target}"), target.clone()];
                    let found = both.iter().filter_map(|path| files.get(&resolved(path)?)).next();
                    place = found.ok_or_else(missing)?;
                }
                match place {
                    Place::At(offset, length) => {
                        let (at, end) = (*offset, offset + length);
                        Ok((Box::new(Range { file, at, end }), *length))
                    }
                    Place::Link(_) => Err(bad(format!("{name} is a link to a link"))),
                    Place::Twice => Err(bad(format!("{name} is in the archive twice"))),
                }
            }
        }
    }

    pub fn document(&self, name: &str) -> io::Result<Vec<u8>> {
        let (reader, length) = self.open(name)?;
        if length > MAX_DOCUMENT {
            return Err(bad(format!("{name} has {length} bytes, more than a document has")));
        }
        let mut bytes = Vec::new();
        reader.take(MAX_DOCUMENT).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// A relative path without `.`; `None` if it leads upwards.
fn plain(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let good = !parts.is_empty() && !parts.contains(&"..");
    good.then(|| parts.join("/"))
}

/// The same with its `..` carried out.
fn resolved(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    plain(&parts.join("/"))
}

struct Range<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Range<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end - self.at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let n = self.file.read_at(&mut buffer[..most], self.at)?;
        if n == 0 && most > 0 {
            return Err(bad("the archive was cut short meanwhile"));
        }
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        assert_eq!(plain("./blobs//sha256/a").as_deref(), Some("blobs/sha256/a"));
        for bad in ["", ".", "/", "..", "a/../b", "../a"] {
            assert_eq!(plain(bad), None, "{bad}");
        }
        assert_eq!(resolved("a/../b/layer.tar").as_deref(), Some("b/layer.tar"));
        for bad in ["..", "a/../../b", ""] {
            assert_eq!(resolved(bad), None, "{bad}");
        }
    }
}
