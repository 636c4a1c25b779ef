//! A kernel of Debian's as a monitor starts it, an ELF image, and the modules that a guest needs, from its package.

use crate::apt::Apt;
use crate::fault::{fault, on};
use crate::modules::{self, Modules};
use crate::name::Kind;
use crate::provenance::Provenance;
use crate::store::{Artifact, Artifacts};
use crate::{debian, tool};
use sr_common::Fault;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// The package that names the current kernel by its dependency.
pub const PACKAGE: &str = "linux-image-amd64";
const STAGE: &str = "build.kernel";

/// Fetches, unpacks and keeps the current kernel of the release `codename`, or of this host's own, and its modules, under
/// `name`.
pub fn build(artifacts: &Artifacts, codename: Option<&str>, name: &str) -> Result<[Artifact; 2], Fault> {
    if !cfg!(target_arch = "x86_64") {
        let found = "Debian's kernels for other machines than x86_64 are packed in ways that are not known here";
        return Err(fault(
            STAGE,
            found,
            "unpack one to an ELF image by hand, and import that",
        ));
    }
    let scratch = artifacts.scratch()?;
    let mut apt = Apt::of(codename, &scratch.path().join("apt"))?;
    let package = newest(&mut apt)?;
    let release = package.trim_start_matches("linux-image-").to_owned();
    let (packages, unpacked) = (scratch.path().join("packages"), scratch.path().join("unpacked"));
    fs::create_dir(&packages).map_err(on(&packages))?;
    let mut inputs = Vec::new();
    for file in apt.download(&packages, &[&package])? {
        inputs.push(debian::input(&file)?);
        debian::unpack(&file, &unpacked)?;
    }
    let how = |what: &str| Provenance {
        how: format!("build {what}"),
        inputs: inputs.clone(),
        release: Some(release.clone()),
        ..Provenance::default()
    };

    let all = Modules::read(&within(&unpacked, &format!("lib/modules/{release}"))?)?;
    let archive = modules::archive(&release, &all.closure(&modules::GUEST)?);
    let archive = artifacts.add(archive.as_slice(), Kind::Modules, name, how("modules"))?;

    let packed = within(&unpacked, &format!("boot/vmlinuz-{release}"))?;
    let image = fs::read(&packed).map_err(on(&packed))?;
    let vmlinux = scratch.path().join("vmlinux");
    unpack(&image, &vmlinux)?;
    let mut image = fs::read(&vmlinux).map_err(on(&vmlinux))?;
    cut(&mut image);
    let mut how = how("kernel");
    how.with.insert(Kind::Modules.as_str().to_owned(), archive.digest);
    let kernel = artifacts.add(image.as_slice(), Kind::Kernel, name, how)?;
    Ok([kernel, archive])
}

/// `linux-image-6.1.0-1-amd64`.
pub fn newest(apt: &mut Apt) -> Result<String, Fault> {
    apt.dependency(PACKAGE, "linux-image-")
}

/// A file or directory of the unpacked packages, whose `/usr` may be merged or not.
pub fn within(unpacked: &Path, path: &str) -> Result<PathBuf, Fault> {
    let places = [unpacked.join(path), unpacked.join("usr").join(path)];
    let found = places.into_iter().find(|place| place.exists());
    found.ok_or_else(|| {
        fault(
            STAGE,
            format!("Debian's packages have no {path}"),
            "choose another release",
        )
    })
}

/// The kernel proper from a bzImage, by the program that its packing asks for.
pub fn unpack(image: &[u8], to: &Path) -> Result<(), Fault> {
    let payload = Payload::find(image)?;
    let file = File::create(to).map_err(on(to))?;
    let mut command = tool::command(payload.program);
    command
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(file)
        .stderr(Stdio::null());
    let child = command.spawn();
    let mut child = child.map_err(|e| tool::missing(STAGE, payload.program, payload.package, &e))?;
    if let Some(mut input) = child.stdin.take() {
        // A program that stops reading says so by its status.
        let _ = input.write_all(payload.bytes);
    }
    let status = child.wait().map_err(on(to))?;
    let found = fs::metadata(to).map_or(0, |m| m.len());
    let wrong = |found: String| fault(STAGE, found, "see that there is room, and fetch the package again");
    if !status.success() || found != u64::from(payload.unpacked) {
        let program = payload.program;
        return Err(wrong(format!(
            "{program} made {found} bytes of a kernel that has {}: {status}",
            payload.unpacked
        )));
    }
    Ok(())
}

/// What a bzImage carries.
#[derive(Debug)]
struct Payload<'a> {
    program: &'static str,
    /// Debian's, that has the program.
    package: &'static str,
    bytes: &'a [u8],
    unpacked: u32,
}

impl Payload<'_> {
    /// By the header that every bzImage has (Documentation/arch/x86/boot.rst: `setup_sects`, `payload_offset`,
    /// `payload_length`) and by the first bytes there. The last four are the length of what was packed.
    fn find(image: &[u8]) -> Result<Payload<'_>, Fault> {
        let bad = |what: &str| {
            let found = format!("not a kernel image of a kind that is known here: {what}");
            fault(STAGE, found, "give an image of Linux for x86_64 (bzImage)")
        };
        let word = |at: usize| -> Option<u32> {
            let bytes = image.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        if image.get(0x202..0x206) != Some(b"HdrS") {
            return Err(bad("no boot header"));
        }
        let sectors = match image.get(0x1f1) {
            Some(0) | None => 4,
            Some(n) => usize::from(*n),
        };
        let place = || {
            let start = (sectors + 1) * 512 + usize::try_from(word(0x248)?).ok()?;
            let end = start.checked_add(usize::try_from(word(0x24c)?).ok()?)?;
            let unpacked = word(end.checked_sub(4)?)?;
            Some((image.get(start..end)?, unpacked))
        };
        let Some((bytes, unpacked)) = place() else {
            return Err(bad("its payload lies outside"));
        };
        // gzip's own last word is the length; to the others it was appended, and they would stumble over it.
        let (program, package, own) = match bytes {
            [0x1f, 0x8b, ..] => ("gzip", "gzip", 0),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => ("xz", "xz-utils", 4),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => ("zstd", "zstd", 4),
            _ => return Err(bad(&format!("a payload that begins with {:02x?}", bytes.get(..6)))),
        };
        let bytes = bytes.get(..bytes.len() - own).unwrap_or_default();
        Ok(Payload {
            program,
            package,
            bytes,
            unpacked,
        })
    }
}

/// Takes from an ELF image the zeros at its end, which a machine's memory has by itself: a third of Debian's kernel, and each
/// start reads and hashes all of it. Section headers, which nobody who starts a kernel reads, go with them. What is not such an
/// image stays as it is.
fn cut(image: &mut Vec<u8>) {
    let Some(Segment { at, offset, length }) = Segment::last(image) else {
        return;
    };
    let zeros = image[offset..offset + length]
        .iter()
        .rev()
        .take_while(|byte| **byte == 0);
    let kept = length - zeros.count();
    image.truncate(offset + kept);
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    // elf(5): p_filesz; e_shoff; e_shnum and e_shstrndx.
    put(at + 0x20, &(kept as u64).to_le_bytes());
    put(0x28, &[0; 8]);
    put(0x3c, &[0; 4]);
}

/// What an ELF image has loaded.
struct Segment {
    /// Where the image describes it, as elf(5) has it (`Elf64_Phdr`).
    at: usize,
    offset: usize,
    length: usize,
}

impl Segment {
    /// The one that is last in the file, if it is apart from all others and from their table.
    fn last(image: &[u8]) -> Option<Segment> {
        let number = |at: usize, size: usize| -> Option<usize> {
            let mut bytes = [0; 8];
            bytes[..size].copy_from_slice(image.get(at..at.checked_add(size)?)?);
            usize::try_from(u64::from_le_bytes(bytes)).ok()
        };
        // Of 64 bits, little-endian.
        image.starts_with(b"\x7fELF\x02\x01").then_some(())?;
        // e_phoff, e_phentsize, e_phnum.
        let (table, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
        let mut used = table.checked_add(size * count)?;
        let mut last = None;
        for n in 0..count {
            let at = table + n * size;
            // p_type, p_offset, p_filesz.
            let (kind, offset, length) = (number(at, 4)?, number(at + 0x8, 8)?, number(at + 0x20, 8)?);
            let end = offset.checked_add(length)?;
            if end > used {
                const PT_LOAD: usize = 1;
                last = (kind == PT_LOAD && offset >= used).then_some(Segment { at, offset, length });
                used = end;
            } else if last.as_ref().is_some_and(|last: &Segment| end > last.offset) {
                last = None;
            }
        }
        last.filter(|_| used <= image.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 3 * 512 + 8];
        image[0x1f1] = 2;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&8u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend(payload);
        // What comes behind is not the payload's.
        image.extend([7; 16]);
        image
    }

    #[test]
    fn payloads_are_found_by_the_header_and_their_first_bytes() {
        for (first, program, own) in [
            (&b"\xfd7zXZ\0"[..], "xz", 4),
            (b"\x28\xb5\x2f\xfd", "zstd", 4),
            (b"\x1f\x8b", "gzip", 0),
        ] {
            let payload = [first, b"packed", &9u32.to_le_bytes()].concat();
            let image = image(&payload);
            let found = Payload::find(&image).unwrap();
            assert_eq!((found.program, found.unpacked), (program, 9));
            assert_eq!(found.bytes, &payload[..payload.len() - own]);
        }
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        let whole = image(b"\xfd7zXZ\0 packed \x09\0\0\0");
        let mut no_header = whole.clone();
        no_header[0x202] = b'h';
        for (bytes, what) in [
            (&no_header[..], "no boot header"),
            (&whole[..whole.len() - 20], "outside"),
            (&image(b"BZh91AY"), "begins with"),
            (&image(b""), "begins with"),
            (b"", "no boot header"),
        ] {
            let why = Payload::find(bytes).unwrap_err().found;
            assert!(why.contains(what), "{why}");
        }
    }

    /// An ELF image of segments: their kinds, where they begin, and what they have.
    fn elf(segments: &[(u32, usize, &[u8])]) -> Vec<u8> {
        let mut image = vec![0; 0x40 + 0x38 * segments.len()];
        image[..6].copy_from_slice(b"\x7fELF\x02\x01");
        image[0x20] = 0x40;
        // e_shoff, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx.
        image[0x28..0x30].copy_from_slice(&0x1000u64.to_le_bytes());
        image[0x36..0x40].copy_from_slice(&[0x38, 0, u8::try_from(segments.len()).unwrap(), 0, 0x40, 0, 9, 0, 8, 0]);
        for (n, (kind, offset, content)) in segments.iter().enumerate() {
            let at = 0x40 + 0x38 * n;
            image[at..at + 4].copy_from_slice(&kind.to_le_bytes());
            for (at, number) in [(at + 0x8, *offset), (at + 0x20, content.len()), (at + 0x28, 64)] {
                image[at..at + 8].copy_from_slice(&(number as u64).to_le_bytes());
            }
            image.resize(image.len().max(offset + content.len()), 0);
            image[*offset..offset + content.len()].copy_from_slice(content);
        }
        image
    }

    #[test]
    fn the_zeros_at_a_kernels_end_are_cut() {
        let (first, note) = ((1, 0x200, &b"text"[..]), (4, 0x202, &b"xt"[..]));
        let mut image = elf(&[first, (1, 0x300, b"a\0b\0\0\0"), note]);
        image.extend(b"section headers");
        cut(&mut image);
        let mut expected = elf(&[first, (1, 0x300, b"a\0b"), note]);
        expected[0x28..0x30].fill(0);
        expected[0x3c..0x40].fill(0);
        assert_eq!(image, expected);
        let again = image.clone();
        cut(&mut image);
        assert_eq!(image, again);
        // Nothing but zeros.
        let mut image = elf(&[first, (1, 0x300, &[0; 9])]);
        cut(&mut image);
        assert_eq!(image.len(), 0x300);
    }

    #[test]
    fn what_is_no_image_or_another_stays_as_it_is() {
        let end = (1, 0x300, &b"ab\0\0"[..]);
        let whole = elf(&[(1, 0x200, b"text"), end]);
        let with = |at: usize, byte: u8| {
            let mut image = whole.clone();
            image[at] = byte;
            image
        };
        for image in [
            Vec::new(),
            b"\x7fELF\x02\x01".to_vec(),
            // Of 32 bits; more segments than there are; a table behind all.
            with(4, 1),
            with(0x39, 0xff),
            with(0x27, 0xff),
            // A segment that goes on behind the end, or is of no length that there is.
            whole[..whole.len() - 1].to_vec(),
            with(0x40 + 0x38 + 0x27, 0xff),
            // What is last is not loaded; what is loaded lies within another.
            elf(&[(1, 0x200, b"text"), (4, 0x300, b"ab\0\0")]),
            elf(&[(1, 0x200, b"text\0\0"), (4, 0x204, b"\0\0")]),
            elf(&[(1, 0x200, b"text"), (1, 0x202, b"xt\0\0")]),
        ] {
            let mut kept = image.clone();
            cut(&mut kept);
            assert_eq!(kept, image);
        }
        let mut image = elf(&[end, (1, 0x200, b"text")]);
        cut(&mut image);
        assert_eq!(image.len(), 0x302);
    }

    #[test]
    fn a_kernel_that_was_packed_comes_out_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut gzip = Command::new("gzip")
            .arg("-c")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        gzip.stdin.take().unwrap().write_all(b"the kernel").unwrap();
        let packed = gzip.wait_with_output().unwrap().stdout;
        let to = dir.path().join("vmlinux");
        unpack(&image(&packed), &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"the kernel");
        // A length that is not what came out.
        let wrong = [&packed[..packed.len() - 4], &11u32.to_le_bytes()].concat();
        assert!(unpack(&image(&wrong), &to).is_err());
    }
}
