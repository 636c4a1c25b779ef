//! Images as others read them: the programs that belong to each file system unpack what was written here.

#![allow(clippy::unwrap_used)]

use sr_artifact::image::{self, Format};
use sr_artifact::tar::{Entry, EntryKind};
use sr_artifact::tree::{Limits, Style, Tree};
use sr_artifact::{Artifacts, Kind, Provenance};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Enough names for several blocks of a directory, contents of every length that is cut otherwise, links, owners.
fn tree() -> Tree {
    let mut tree = Tree::new(tempfile::tempfile().unwrap(), Style::Layers, Limits::default());
    let mut add = |path: String, kind: EntryKind, content: &[u8]| {
        let entry = Entry {
            path: path.into_bytes(),
            mode: if kind == EntryKind::Directory { 0o751 } else { 0o4711 },
            uid: 1234,
            gid: 70_000,
            mtime: 1_600_000_000,
            size: content.len() as u64,
            at: 0,
            attributes: false,
            kind,
        };
        tree.add(&entry, content).unwrap();
    };
    add("./".into(), EntryKind::Directory, b"");
    add("empty".into(), EntryKind::Directory, b"");
    for length in [0, 1, 31, 32, 4031, 4032, 4033, 4095, 4096, 4097, 8128, 8192, 100_000] {
        let content: Vec<u8> = (0..length).map(|n: u32| (n % 251) as u8).collect();
        add(format!("files/{length}"), EntryKind::File, &content);
    }
    for n in 0..700 {
        add(
            format!("many/{}-{n}", "name".repeat(n % 7)),
            EntryKind::File,
            n.to_string().as_bytes(),
        );
    }
    for name in [
        "!before-the-dots",
        "-",
        "zz",
        "é",
        "with space",
        "new\nline",
        "quote\"'",
        &"l".repeat(255),
    ] {
        add(format!("odd/{name}"), EntryKind::File, b"x");
    }
    add("link".into(), EntryKind::Symlink(b"../../etc/passwd".into()), b"");
    add("long".into(), EntryKind::Symlink(b"x/".repeat(1500)), b"");
    add("other-name".into(), EntryKind::Hardlink(b"files/100000".into()), b"");
    tree
}

/// What is below a directory: what it is, its mode, size, owner, and content or target.
fn seen(root: &Path, owners: bool) -> BTreeMap<PathBuf, String> {
    fn below(root: &Path, dir: &Path, owners: bool, found: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            let what = match () {
                () if stat.is_symlink() => format!("link {:?}", fs::read_link(&path).unwrap()),
                () if stat.is_dir() => {
                    below(root, &path, owners, found);
                    format!("directory {:o} {}", stat.mode(), stat.mtime())
                }
                () => {
                    let digest = sr_common::Digest::of(&fs::read(&path).unwrap());
                    format!("file {:o} {} {} {digest}", stat.mode(), stat.mtime(), stat.nlink())
                }
            };
            let owner = if owners {
                format!(" {}:{}", stat.uid(), stat.gid())
            } else {
                String::new()
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), what + &owner);
        }
    }
    let mut found = BTreeMap::new();
    below(root, root, owners, &mut found);
    found
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn run(program: &str, arguments: &[&str], dir: &Path) {
    let mut command = Command::new(program);
    let path = format!("/usr/sbin:/sbin:{}", std::env::var("PATH").unwrap_or_default());
    let output = command.args(arguments).env("PATH", path).current_dir(dir).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

/// The tree as GNU tar unpacks it: what the others are compared with.
fn expected(tree: &Tree, dir: &Path) -> PathBuf {
    let mut bytes = Vec::new();
    image::archive(tree, &mut bytes).unwrap();
    let (file, root) = (dir.join("tree.tar"), dir.join("expected"));
    fs::write(&file, bytes).unwrap();
    fs::create_dir(&root).unwrap();
    run("tar", &["-xpf", "tree.tar", "-C", "expected"], dir);
    root
}

fn written(artifacts: &Artifacts, tree: &Tree, format: Format, to: &Path) -> sr_common::Digest {
    let draft = image::write(artifacts, tree, format).unwrap();
    let kept = artifacts
        .keep(draft, Kind::Rootfs, "test", Provenance::default())
        .unwrap();
    let mut opened = artifacts.open_digest(&kept.digest).unwrap();
    std::io::copy(&mut opened.file, &mut fs::File::create(to).unwrap()).unwrap();
    kept.digest
}

#[test]
fn every_image_holds_the_tree_and_is_the_same_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let artifacts = Artifacts::open(&dir.join("store")).unwrap();
    let expected = seen(&expected(&tree(), dir), is_root());
    assert!(expected.len() > 700, "{}", expected.len());
    for format in [Format::Erofs, Format::Squashfs, Format::Ext4] {
        let (image, to) = (dir.join(format.as_str()), dir.join(format!("of-{format}")));
        let digest = written(&artifacts, &tree(), format, &image);
        assert_eq!(Format::of(&fs::read(&image).unwrap()), Some(format));
        let (image, to_text) = (image.to_str().unwrap(), to.to_str().unwrap());
        match format {
            Format::Erofs => {
                let extract = format!("--extract={to_text}");
                run("fsck.erofs", &[&extract, "--preserve", image], dir);
            }
            Format::Squashfs => run("unsquashfs", &["-quiet", "-no-progress", "-dest", to_text, image], dir),
            Format::Ext4 => {
                run("e2fsck", &["-fn", image], dir);
                fs::create_dir(&to).unwrap();
                run("debugfs", &["-R", &format!("rdump / {to_text}"), image], dir);
                // What a check asks for.
                fs::remove_dir(to.join("lost+found")).unwrap();
            }
        }
        let found = seen(&to, is_root());
        for (path, what) in &expected {
            // fsck.erofs makes a file of each name of one, and it and debugfs give it away after they have set its mode; nobody
            // but root gets setuid files.
            let plain = |what: &str| match (format, is_root()) {
                (Format::Squashfs, true) => what.to_owned(),
                (Format::Squashfs, false) => what.replace("file 104", "file 100"),
                // Nor does debugfs give away links.
                (Format::Ext4, _) if what.starts_with("link ") => what.rsplit_once('"').unwrap().0.to_owned(),
                _ => what.replace(" 2 sha256", " 1 sha256").replace("file 104", "file 100"),
            };
            let found = found.get(path).map(|found| plain(found));
            assert_eq!(found, Some(plain(what)), "{format}: {}", path.display());
        }
        assert_eq!(found.len(), expected.len(), "{format}");
        assert_eq!(
            written(&artifacts, &tree(), format, &dir.join("again")),
            digest,
            "{format}"
        );
    }
}
