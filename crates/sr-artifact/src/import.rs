//! Taking in what others made: images of containers, archives, directories, images of file systems, kernels, programs. What
//! it is its first bytes say; whoever made it may be hostile.

mod directory;
mod oci;
mod source;

use crate::fault::{fault, on};
use crate::image::{self, Format};
use crate::name::Kind;
use crate::packed;
use crate::provenance::{Input, Provenance};
use crate::store::{Artifact, Artifacts};
use crate::tar::Archive;
use crate::tree::{Limits, Style, Tree};
use crate::{kernel, scratch::Scratch};
use rustix::fs::{Mode, OFlags};
use source::Source;
use sr_common::{Digest, Fault};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

const STAGE: &str = "import";
/// So many bytes tell what a file is.
const BEGINNING: u64 = 2048;

/// What is taken in, and as what.
#[derive(Debug)]
pub struct Import<'a> {
    pub path: &'a Path,
    pub name: &'a str,
    /// Where its first bytes do not say it, or not what is meant.
    pub kind: Option<Kind>,
    /// Of a root file system that comes as files.
    pub format: Format,
    pub limits: Limits,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Image(Format),
    /// An ELF file that runs where kernels do.
    Kernel,
    /// One for x86_64 as it lies in `/boot`.
    PackedKernel,
    Program,
    Initrd,
    Tar,
    /// Its content is packed.
    PackedTar,
    Packed,
    Unknown,
}

pub fn import(artifacts: &Artifacts, import: &Import<'_>) -> Result<Artifact, Fault> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let path = import.path;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| on(path)(e.into()))?;
    let mut file = File::from(opened);
    let stat = file.metadata().map_err(on(path))?;
    if stat.is_dir() {
        if !matches!(import.kind, None | Some(Kind::Rootfs)) {
            return Err(not(import, "a directory can only be a rootfs"));
        }
        return files(artifacts, import, &Held::Directory);
    }
    if !stat.is_file() {
        return Err(not(import, "neither a file nor a directory"));
    }
    let found = found(&mut file).map_err(on(path))?;
    let plain = |kind: Kind, file: File| {
        let how = Provenance {
            how: format!("import {kind}"),
            ..Provenance::default()
        };
        whole(artifacts, import, kind, file, how)
    };
    match (import.kind, found) {
        (None | Some(Kind::Rootfs), Found::Image(format)) => {
            let how = Provenance {
                how: "import image".to_owned(),
                format: Some(format.as_str().to_owned()),
                ..Provenance::default()
            };
            whole(artifacts, import, Kind::Rootfs, file, how)
        }
        (None | Some(Kind::Rootfs), Found::Tar) => files(artifacts, import, &Held::Tar(file)),
        (None | Some(Kind::Rootfs), Found::PackedTar) => {
            let scratch = artifacts.scratch()?;
            let unpacked = unpack(&file, &scratch, import.limits).map_err(|e| refused(import, &e))?;
            files(artifacts, import, &Held::Tar(unpacked))
        }
        (None | Some(Kind::Kernel), Found::Kernel) => plain(Kind::Kernel, file),
        (None | Some(Kind::Kernel), Found::PackedKernel) => {
            let mut image = Vec::new();
            file.read_to_end(&mut image).map_err(on(path))?;
            let scratch = artifacts.scratch()?;
            let vmlinux = scratch.path().join("vmlinux");
            kernel::unpack(&image, &vmlinux)?;
            let vmlinux = File::open(&vmlinux).map_err(on(&vmlinux))?;
            let how = Provenance {
                how: "import kernel, unpacked".to_owned(),
                inputs: vec![input(import, Digest::of(&image))],
                ..Provenance::default()
            };
            artifacts.add(vmlinux, Kind::Kernel, import.name, how)
        }
        (None | Some(Kind::Initrd), Found::Initrd) => plain(Kind::Initrd, file),
        // The kernel unpacks these itself.
        (Some(Kind::Initrd), Found::Packed) => plain(Kind::Initrd, file),
        (Some(Kind::Modules), Found::Initrd) => plain(Kind::Modules, file),
        (Some(Kind::Program), Found::Program) => plain(Kind::Program, file),
        (None, Found::Program) => Err(not(import, "a program: say so with --kind program")),
        (Some(kind), found) => Err(not(import, &format!("no {kind} but {}", found.words()))),
        (None, Found::Packed | Found::Unknown) => Err(not(import, "of a kind that is not known here")),
    }
}

impl Found {
    fn words(self) -> &'static str {
        match self {
            Found::Image(Format::Erofs) => "an erofs image",
            Found::Image(Format::Squashfs) => "a squashfs image",
            Found::Image(Format::Ext4) => "an ext4 image",
            Found::Kernel => "a kernel",
            Found::PackedKernel => "a packed kernel",
            Found::Program => "a program",
            Found::Initrd => "a cpio archive",
            Found::Tar | Found::PackedTar => "a tar archive",
            Found::Packed => "something packed",
            Found::Unknown => "something that is not known here",
        }
    }
}

fn not(import: &Import<'_>, what: &str) -> Fault {
    let found = format!("{} is {what}", import.path.display());
    let remedy = "give an OCI layout, a `docker save` archive, a tar archive or directory of files, an erofs, squashfs or ext4 \
                  image, an ELF kernel or bzImage, a cpio archive, or a program with --kind program";
    fault(STAGE, found, remedy)
}

/// What was read is not taken.
fn refused(import: &Import<'_>, error: &io::Error) -> Fault {
    let found = format!("{}: {error}", import.path.display());
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room in the run store",
        _ => "get it again from whoever made it; nothing of it was kept",
    };
    fault(STAGE, found, remedy)
}

fn found(file: &mut File) -> io::Result<Found> {
    let mut beginning = Vec::new();
    file.by_ref().take(BEGINNING).read_to_end(&mut beginning)?;
    file.rewind()?;
    let is_tar = |bytes: &[u8]| bytes.get(257..262) == Some(b"ustar");
    if let Some(format) = Format::of(&beginning) {
        return Ok(Found::Image(format));
    }
    Ok(match beginning.as_slice() {
        [0x7f, b'E', b'L', b'F', ..] if is_kernel(file)? => Found::Kernel,
        [0x7f, b'E', b'L', b'F', ..] => Found::Program,
        [b'0', b'7', b'0', b'7', b'0', b'1' | b'2', ..] => Found::Initrd,
        bytes if is_tar(bytes) => Found::Tar,
        bytes if bytes.get(0x202..0x206) == Some(b"HdrS") => Found::PackedKernel,
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut inner = Vec::new();
            // What cannot be unpacked is no archive of ours.
            let read = packed::unpacked(&*file, u64::MAX).and_then(|r| r.take(BEGINNING).read_to_end(&mut inner));
            file.rewind()?;
            if read.is_ok() && is_tar(&inner) {
                Found::PackedTar
            } else {
                Found::Packed
            }
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Found::Packed,
        _ => Found::Unknown,
    })
}

/// Whether an ELF file is to be loaded where kernels lie: the upper half of the addresses (elf(5), 64 bits, little-endian).
fn is_kernel(file: &mut File) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let mut header = [0; 64];
    if file.read_exact_at(&mut header, 0).is_err() || header[4..6] != [2, 1] {
        return Ok(false);
    }
    let field = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0u64, |value, byte| value << 8 | u64::from(*byte))
    };
    let (table, size, entries) = (
        field(&header[0x20..0x28]),
        field(&header[0x36..0x38]),
        field(&header[0x38..0x3a]),
    );
    for n in 0..entries {
        let mut segment = [0; 56];
        let at = n.checked_mul(size).and_then(|offset| table.checked_add(offset));
        let Some(at) = at else { return Ok(false) };
        if file.read_exact_at(&mut segment, at).is_err() {
            return Ok(false);
        }
        // What is loaded, and where.
        if field(&segment[..4]) == 1 && field(&segment[0x10..0x18]) >> 63 == 1 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A file as it is; what was copied is what is told of.
fn whole(
    artifacts: &Artifacts,
    import: &Import<'_>,
    kind: Kind,
    mut file: File,
    how: Provenance,
) -> Result<Artifact, Fault> {
    let mut draft = artifacts.draft()?;
    io::copy(&mut file, &mut draft).map_err(|e| refused(import, &e))?;
    let inputs = vec![input(import, draft.digest())];
    artifacts.keep(draft, kind, import.name, Provenance { inputs, ..how })
}

fn input(import: &Import<'_>, digest: Digest) -> Input {
    Input {
        name: file_name(import.path),
        version: None,
        digest: Some(digest),
    }
}

/// The last of a path: the rest is nobody's business.
fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

fn unpack(file: &File, scratch: &Scratch, limits: Limits) -> io::Result<File> {
    let path = scratch.path().join("unpacked");
    let mut to = File::options().read(true).write(true).create_new(true).open(path)?;
    io::copy(&mut packed::unpacked(file, limits.bytes)?, &mut to)?;
    to.rewind()?;
    Ok(to)
}

/// What files come in.
enum Held {
    Directory,
    Tar(File),
}

/// A root file system that comes as files: its image.
fn files(artifacts: &Artifacts, import: &Import<'_>, held: &Held) -> Result<Artifact, Fault> {
    let scratch = artifacts.scratch()?;
    let contents = scratch.path().join("contents");
    let contents = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&contents)
        .map_err(on(&contents))?;
    let mut tree = Tree::new(contents, Style::Layers, import.limits);
    let wrong = |error: io::Error| refused(import, &error);
    let source = match held {
        Held::Directory => Source::directory(import.path),
        Held::Tar(file) => Source::tar(file).map_err(wrong)?,
    };
    let mut provenance = if source.has("oci-layout") && source.has("index.json") {
        oci::layout(&source, &mut tree).map_err(wrong)?
    } else if source.has("manifest.json") && matches!(held, Held::Tar(_)) {
        oci::saved(&source, &mut tree).map_err(wrong)?
    } else {
        match held {
            Held::Directory => directory::add(import.path, &mut tree).map_err(wrong)?,
            Held::Tar(file) => {
                let mut file = file;
                file.rewind().map_err(wrong)?;
                let mut read = packed::Hashing::new(io::BufReader::new(file));
                add(&mut read, &mut tree).map_err(wrong)?;
                let (digest, _) = read.finish().map_err(wrong)?;
                Provenance {
                    how: "import archive".to_owned(),
                    inputs: vec![input(import, digest)],
                    ..Provenance::default()
                }
            }
        }
    };
    provenance.format = Some(import.format.as_str().to_owned());
    provenance
        .notes
        .extend(tree.left_out.iter().map(|(what, n)| format!("left out: {what} ({n})")));
    let draft = image::write(artifacts, &tree, import.format)?;
    artifacts.keep(draft, Kind::Rootfs, import.name, provenance)
}

/// Adds all that is in an archive, as one layer.
pub(crate) fn add(archive: impl Read, tree: &mut Tree) -> io::Result<()> {
    let mut archive = Archive::new(archive);
    while let Some(entry) = archive.entry()? {
        tree.add(&entry, archive.content())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
