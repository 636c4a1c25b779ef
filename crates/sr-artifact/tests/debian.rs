//! Kernels and root file systems of Debian's own packages, fetched through apt by whoever runs this: the same packages give the
//! same digests, and what they give is what a guest needs.

#![allow(clippy::unwrap_used)]

use sr_artifact::image::Format;
use sr_artifact::{Artifact, Artifacts, Kind, Wanted, kernel, rootfs};
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether this host has what is asked for; else why not.
fn debian() -> Result<(), String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !release.lines().any(|line| line == "ID=debian") {
        return Err("this host is not Debian".into());
    }
    for program in ["apt-get", "dpkg-deb", "xz"] {
        if Command::new(program).arg("--version").output().is_err() {
            return Err(format!("there is no {program} here"));
        }
    }
    Ok(())
}

fn stores(dir: &Path) -> [Artifacts; 2] {
    ["a", "b"].map(|name| Artifacts::open(&dir.join(name)).unwrap())
}

fn content(artifacts: &Artifacts, artifact: &Artifact) -> Vec<u8> {
    let mut bytes = Vec::new();
    artifacts
        .open_digest(&artifact.digest)
        .unwrap()
        .file
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

#[test]
fn a_kernel_and_its_modules_are_the_same_each_time() {
    if let Err(why) = debian() {
        println!("SKIP a_kernel_and_its_modules_are_the_same_each_time: {why}");
        return;
    }
    if !cfg!(target_arch = "x86_64") {
        println!("SKIP a_kernel_and_its_modules_are_the_same_each_time: kernels are unpacked for x86_64 alone");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = stores(dir.path()).map(|artifacts| kernel::build(&artifacts, None, "default").unwrap());
    assert_eq!(first, second);
    let [artifacts, _] = stores(dir.path());
    let [kernel, modules] = &first;
    let (found, with) = artifacts
        .kernel(&Wanted::named(Kind::Kernel, "default").unwrap())
        .unwrap();
    assert_eq!((&found, with), (kernel, Some(modules.digest)));
    let release = kernel.provenance.release.clone().unwrap();
    assert_eq!(kernel.provenance.inputs[0].name, format!("linux-image-{release}"));

    let image = content(&artifacts, kernel);
    assert_eq!(&image[..4], b"\x7fELF");
    // What a monitor starts it by: a note of the name Xen and the kind 18, of four bytes or eight.
    let note = |length: u8| [4, 0, 0, 0, length, 0, 0, 0, 18, 0, 0, 0, b'X', b'e', b'n', 0];
    assert!(image.windows(16).any(|window| window == note(4) || window == note(8)));

    let archive = dir.path().join("modules.cpio");
    fs::write(&archive, content(&artifacts, modules)).unwrap();
    let list = list(&fs::read(&archive).unwrap());
    let mut loaded = BTreeSet::new();
    for (file, needs) in &list {
        assert!(needs.iter().all(|need| loaded.contains(need)), "{file} comes too early");
        loaded.insert(file.clone());
    }
    for name in [
        "virtio_pci",
        "virtio_mmio",
        "virtio_console",
        "9p",
        "erofs",
        "ext4",
        "vmw_vsock_virtio_transport",
    ] {
        assert!(loaded.contains(&format!("{name}.ko")), "{name}: {loaded:?}");
    }
}

/// The lines of `modules/list` of an archive.
fn list(archive: &[u8]) -> Vec<(String, Vec<String>)> {
    let name = b"modules/list\0";
    let at = archive.windows(name.len()).position(|window| window == name).unwrap();
    let start = (at + name.len()).next_multiple_of(4);
    let header = &archive[at - 110..at];
    let length = usize::from_str_radix(std::str::from_utf8(&header[54..62]).unwrap(), 16).unwrap();
    let text = std::str::from_utf8(&archive[start..start + length]).unwrap();
    let line = |line: &str| {
        let (file, needs) = line.split_once(':').unwrap();
        (file.to_owned(), needs.split_whitespace().map(str::to_owned).collect())
    };
    text.lines().map(line).collect()
}

#[test]
fn a_root_file_system_is_the_same_each_time() {
    if let Err(why) = debian() {
        println!("SKIP a_root_file_system_is_the_same_each_time: {why}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let packages = ["less".to_owned()];
    let [first, second] = stores(dir.path())
        .map(|artifacts| rootfs::build(&artifacts, None, &packages, Format::Erofs, "default").unwrap());
    assert_eq!(first, second);
    let names: Vec<&str> = first
        .provenance
        .inputs
        .iter()
        .map(|input| input.name.as_str())
        .collect();
    assert!(names.contains(&"less") && names.contains(&"libc6"), "{names:?}");
    let [artifacts, _] = stores(dir.path());
    let image = dir.path().join("image");
    fs::write(&image, content(&artifacts, &first)).unwrap();
    let to = dir.path().join("extracted");
    let output = Command::new("fsck.erofs")
        .arg(format!("--extract={}", to.display()))
        .arg(&image)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    // It stands for itself: its own loader finds its own libraries.
    let library = to.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let mut libraries = fs::read_dir(&library).unwrap().map(|entry| entry.unwrap().path());
    let is_loader = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("ld-linux");
    let output = Command::new(libraries.find(is_loader).unwrap())
        .arg("--library-path")
        .arg(&library)
        .arg(to.join("usr/bin/bash"))
        .args(["-c", "echo $BASH"])
        .output()
        .unwrap();
    assert!(output.status.success() && !output.stdout.is_empty(), "{output:?}");
    assert!(fs::read_to_string(to.join("etc/passwd")).unwrap().starts_with("root:"));
    assert_eq!(fs::read_link(to.join("usr/bin/awk")).unwrap(), Path::new("mawk"));
    assert_eq!(fs::read_link(to.join("bin")).unwrap(), Path::new("usr/bin"));
}
