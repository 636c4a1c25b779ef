//! A kernel's modules: what each needs, by what it says of itself, and an archive of those that a guest needs.

use crate::cpio::Archive;
use crate::fault::{fault, on};
use crate::tool;
use sr_common::Fault;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const STAGE: &str = "build.modules";

/// What a guest may be started with: devices of every monitor, and what its root can be made of.
pub const GUEST: [&str; 17] = [
    "virtio_pci",
    "virtio_mmio",
    "virtio_console",
    "virtio_blk",
    "virtio_rng",
    "virtio_balloon",
    "9pnet_virtio",
    "9pnet_fd",
    "9p",
    "virtiofs",
    "overlay",
    // libcrc32c, and ext4 at its first mount, ask the kernel for it by another name.
    "crc32c_generic",
    "erofs",
    "squashfs",
    "ext4",
    "vsock",
    "vmw_vsock_virtio_transport",
];

/// The modules of one kernel, as they are in `lib/modules/RELEASE`.
pub struct Modules {
    /// By name, with `_`.
    files: BTreeMap<String, PathBuf>,
    /// Names of what the kernel has in itself.
    own: Vec<String>,
}

/// A module that has to be loaded.
#[derive(Debug)]
pub struct Module {
    pub name: String,
    pub path: PathBuf,
    /// Names of those that it needs itself, which come before it.
    pub needs: Vec<String>,
    /// As the kernel loads it.
    pub content: Vec<u8>,
}

impl Modules {
    pub fn read(dir: &Path) -> Result<Modules, Fault> {
        let list = dir.join("modules.builtin");
        let text = fs::read_to_string(&list).map_err(on(&list))?;
        let mut modules = Modules {
            files: BTreeMap::new(),
            own: text.lines().filter_map(name_of).collect(),
        };
        modules.find(dir)?;
        Ok(modules)
    }

    fn find(&mut self, dir: &Path) -> Result<(), Fault> {
        for entry in fs::read_dir(dir).map_err(on(dir))? {
            let entry = entry.map_err(on(dir))?;
            let path = entry.path();
            if entry.file_type().map_err(on(&path))?.is_dir() {
                self.find(&path)?;
            } else if let Some(name) = path.to_str().and_then(name_of) {
                self.files.insert(name, path);
            }
        }
        Ok(())
    }

    /// `names` and all that they stand on, in the order in which they can be loaded; without those that are the kernel's own.
    pub fn closure(&self, names: &[&str]) -> Result<Vec<Module>, Fault> {
        let mut order = Vec::new();
        for name in names {
            self.add(&name.replace('-', "_"), &mut Vec::new(), &mut order)?;
        }
        Ok(order)
    }

    /// `above`: those that wait for it.
    fn add(&self, name: &str, above: &mut Vec<String>, order: &mut Vec<Module>) -> Result<(), Fault> {
        if self.own.iter().any(|own| own == name) || order.iter().any(|module| module.name == name) {
            return Ok(());
        }
        let wrong = |found: String| fault(STAGE, found, "choose another kernel");
        let Some(path) = self.files.get(name) else {
            return Err(wrong(format!("the kernel has no module {name}")));
        };
        if above.iter().any(|waiting| waiting == name) {
            return Err(wrong(format!("{} needs itself", path.display())));
        }
        let content = content(path)?;
        let info = Info::read(&content).ok_or_else(|| wrong(format!("{} is no module", path.display())))?;
        let mut needs = info.needs;
        // What it would like to have first: where the kernel has it under that name.
        needs.extend(info.likes.into_iter().filter(|name| self.files.contains_key(name)));
        above.push(name.to_owned());
        for other in &needs {
            self.add(other, above, order)?;
        }
        above.pop();
        needs.retain(|name| !self.own.contains(name));
        order.push(Module {
            name: name.to_owned(),
            path: path.clone(),
            needs,
            content,
        });
        Ok(())
    }
}

/// An archive with `modules/NAME.ko`, and `modules/list`: a line for each, in the order in which they can be loaded,
/// `NAME.ko: NAME.ko …`, behind the colon what it needs itself. `modules/release` says of which kernel they are.
pub fn archive(release: &str, modules: &[Module]) -> Vec<u8> {
    let mut archive = Archive::default();
    archive.directory("modules");
    archive.file("modules/release", 0o444, format!("{release}\n").as_bytes());
    let mut list = String::new();
    for module in modules {
        let needs: String = module.needs.iter().map(|name| format!(" {name}.ko")).collect();
        list += &format!("{}.ko:{needs}\n", module.name);
    }
    archive.file("modules/list", 0o444, list.as_bytes());
    for module in modules {
        archive.file(&format!("modules/{}.ko", module.name), 0o444, unsigned(&module.content));
    }
    archive.end()
}

/// What a module ends with that is signed (Documentation/admin-guide/module-signing.rst).
const SIGNED: &[u8] = b"~Module signature appended~\n";
/// The description of the signature before that: `struct module_signature`, at its end the signature's length, big-endian.
const SIGNATURE: usize = 12;

/// Without its signature. It is the digest of the archive that vouches for a module here, compared before the machine starts;
/// for the signature the guest's kernel would hash all of the module once more, at each start.
fn unsigned(module: &[u8]) -> &[u8] {
    let cut = || {
        let (rest, described) = module.strip_suffix(SIGNED)?.split_last_chunk::<SIGNATURE>()?;
        let length = u32::from_be_bytes(*described.last_chunk()?);
        rest.get(..rest.len().checked_sub(usize::try_from(length).ok()?)?)
    };
    cut().unwrap_or(module)
}

/// The name of the module in a file, if it is one's: `virtio_pci` of `…/virtio-pci.ko.xz`.
fn name_of(file: &str) -> Option<String> {
    let (_, file) = file.rsplit_once('/').unwrap_or(("", file));
    let (name, packing) = file.split_once(".ko")?;
    matches!(packing, "" | ".xz").then(|| name.replace('-', "_"))
}

fn content(path: &Path) -> Result<Vec<u8>, Fault> {
    if path.extension().is_none_or(|e| e != "xz") {
        return fs::read(path).map_err(on(path));
    }
    let mut command = tool::command("xz");
    tool::output(STAGE, "xz", "xz-utils", command.arg("-dc").arg(path))
}

/// What a module says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Info {
    needs: Vec<String>,
    likes: Vec<String>,
}

impl Info {
    /// The section `.modinfo` of a 64-bit little-endian ELF file: `KEY=VALUE`, each ended by a NUL.
    fn read(file: &[u8]) -> Option<Info> {
        let section = section(file, b".modinfo")?;
        let mut info = Info::default();
        for line in section.split(|b| *b == 0) {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            let names = |list: &str, by: fn(char) -> bool| -> Vec<String> {
                let names = list.split(by).filter(|name| !name.is_empty());
                names.map(|name| name.replace('-', "_")).collect()
            };
            if let Some(list) = line.strip_prefix("depends=") {
                info.needs.extend(names(list, |c| c == ','));
            } else if let Some(list) = line.strip_prefix("softdep=pre: ") {
                let list = list.split_once(" post:").map_or(list, |(pre, _)| pre);
                info.likes.extend(names(list, |c| c == ' '));
            }
        }
        Some(info)
    }
}

/// The section of that name (elf(5)).
fn section<'a>(file: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = file.get(at..at.checked_add(length)?)?;
        let value = bytes
            .iter()
            .rev()
            .fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        usize::try_from(value).ok()
    };
    // ELF, 64 bits, little-endian.
    if file.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, entry, entries, names) = (number(0x28, 8)?, number(0x3a, 2)?, number(0x3c, 2)?, number(0x3e, 2)?);
    let header = |n: usize| table.checked_add(n.checked_mul(entry)?);
    let content = |header: usize| {
        let (start, length) = (
            number(header.checked_add(0x18)?, 8)?,
            number(header.checked_add(0x20)?, 8)?,
        );
        file.get(start..start.checked_add(length)?)
    };
    let strings = content(header(names)?)?;
    for n in 0..entries {
        let header = header(n)?;
        let own = strings.get(number(header, 4)?..)?;
        if own.split(|b| *b == 0).next() == Some(name) {
            return content(header);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module that says `info` of itself: three sections, of which the last has the names.
    fn module(info: &str) -> Vec<u8> {
        let names = b"\0.modinfo\0.shstrtab\0";
        let mut file = vec![0; 0x40];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let at = [file.len(), file.len() + info.len()];
        file.extend(info.as_bytes());
        file.extend(names);
        let table = file.len();
        file[0x28..0x30].copy_from_slice(&(table as u64).to_le_bytes());
        for (field, value) in [(0x3a, 0x40u16), (0x3c, 3), (0x3e, 2)] {
            file[field..field + 2].copy_from_slice(&value.to_le_bytes());
        }
        for (name, start, length) in [(0u32, 0, 0), (1, at[0], info.len()), (10, at[1], names.len())] {
            let mut header = [0; 0x40];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&(start as u64).to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(length as u64).to_le_bytes());
            file.extend(header);
        }
        file
    }

    fn kernel(modules: &[(&str, &str)]) -> (tempfile::TempDir, Modules) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("modules.builtin"), "kernel/lib/built-in.ko\n").unwrap();
        for (file, info) in modules {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, module(info)).unwrap();
        }
        let modules = Modules::read(dir.path()).unwrap();
        (dir, modules)
    }

    fn names(modules: &[Module]) -> Vec<&str> {
        modules.iter().map(|module| module.name.as_str()).collect()
    }

    #[test]
    fn modules_come_after_what_they_need() {
        let (_dir, modules) = kernel(&[
            ("kernel/fs/9p/9p.ko", "license=GPL\0depends=9pnet,fscache,netfs\0"),
            ("kernel/fs/fscache.ko", "depends=netfs,built_in\0"),
            ("kernel/fs/netfs.ko", "depends=\0"),
            ("kernel/net/9pnet.ko", "softdep=pre: netfs other post: 9p\0depends=\0"),
            ("kernel/drivers/virtio-rng.ko", "name=virtio_rng\0"),
        ]);
        let found = modules.closure(&["virtio-rng", "9p", "9pnet", "built-in"]).unwrap();
        assert_eq!(names(&found), ["virtio_rng", "netfs", "9pnet", "fscache", "9p"]);
        assert_eq!(found[4].needs, ["9pnet", "fscache", "netfs"]);
        assert_eq!(
            (found[2].needs.as_slice(), found[3].needs.as_slice()),
            (&["netfs".to_owned()][..], &["netfs".to_owned()][..])
        );
        assert!(modules.closure(&["9"]).is_err());
    }

    #[test]
    fn modules_that_need_each_other_are_no_kernels() {
        let (_dir, modules) = kernel(&[("a.ko", "depends=b\0"), ("b.ko", "depends=a\0")]);
        assert!(modules.closure(&["a"]).unwrap_err().found.contains("needs itself"));
    }

    #[test]
    fn an_archive_lists_what_is_in_it_in_order() {
        let (_dir, modules) = kernel(&[("b.ko", "depends=a\0"), ("a.ko", "depends=\0")]);
        let found = modules.closure(&["b"]).unwrap();
        let bytes = archive("6.1", &found);
        assert_eq!(bytes, archive("6.1", &modules.closure(&["b"]).unwrap()));
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.contains("modules/list\0") && text.contains("a.ko:\nb.ko: a.ko\n"),
            "{text}"
        );
        assert!(text.contains("6.1\n"));
    }

    #[test]
    fn a_signature_is_cut_and_what_is_none_is_left() {
        let with = |length: u32, end: &[u8]| [&b"module, signature"[..], &[0; 8], &length.to_be_bytes(), end].concat();
        assert_eq!(unsigned(&with(9, SIGNED)), b"module, ");
        assert_eq!(unsigned(&with(17, SIGNED)), b"");
        for whole in [
            with(18, SIGNED),
            with(u32::MAX, SIGNED),
            with(9, b"~Module\n"),
            SIGNED.to_vec(),
            Vec::new(),
        ] {
            assert_eq!(unsigned(&whole), whole);
        }
    }

    #[test]
    fn what_is_no_module_says_nothing() {
        let whole = module("depends=a\0");
        for length in 0..whole.len() {
            Info::read(&whole[..length]);
        }
        assert_eq!(Info::read(b"\x7fELF"), None);
        assert_eq!(Info::read(&[]), None);
        let mut wild = whole.clone();
        wild[0x28..0x30].fill(0xff);
        assert_eq!(Info::read(&wild), None);
        assert_eq!(Info::read(&whole).unwrap().needs, ["a"]);
    }
}
