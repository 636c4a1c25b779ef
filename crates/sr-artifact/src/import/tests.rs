use super::*;
use crate::provenance::ImageConfig;
use crate::tar::{self, Entry, EntryKind};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A store, and a directory for what is taken in.
struct Ground {
    dir: tempfile::TempDir,
    artifacts: Artifacts,
}

impl Ground {
    fn new() -> Ground {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(&dir.path().join("store")).unwrap();
        Ground { dir, artifacts }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn import(&self, path: &Path, kind: Option<Kind>) -> Result<Artifact, Fault> {
        let request = Import {
            path,
            name: "x",
            kind,
            format: Format::Erofs,
            limits: Limits::default(),
        };
        import(&self.artifacts, &request)
    }

    /// The tree that an image was made of, by the names in it.
    fn names(&self, artifact: &Artifact) -> Vec<String> {
        let mut opened = self.artifacts.open_digest(&artifact.digest).unwrap();
        let image = self.path("image");
        io::copy(&mut opened.file, &mut File::create(&image).unwrap()).unwrap();
        let to = self.path("extracted");
        let _ = fs::remove_dir_all(&to);
        let status = Command::new("fsck.erofs")
            .arg(format!("--extract={}", to.display()))
            .arg(&image)
            .output();
        assert!(status.unwrap().status.success());
        let mut names = Vec::new();
        let mut todo = vec![to.clone()];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    todo.push(path.clone());
                }
                names.push(path.strip_prefix(&to).unwrap().display().to_string());
            }
        }
        names.sort();
        names
    }

    fn refused(&self, path: &Path, why: &str) {
        let fault = self.import(path, None).unwrap_err();
        assert!(fault.found.contains(why), "{why}: {fault}");
        assert_eq!(self.artifacts.list().unwrap(), []);
        let making = fs::read_dir(self.path("store/artifacts/making")).unwrap().count();
        let contents = fs::read_dir(self.path("store/artifacts/sha256")).unwrap().count();
        assert_eq!((making, contents), (0, 0), "nothing is left");
    }
}

fn archive(entries: &[(&str, EntryKind, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, kind, content) in entries {
        let entry = Entry {
            path: path.as_bytes().to_vec(),
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: 5,
            size: content.len() as u64,
            at: 0,
            attributes: false,
            kind: kind.clone(),
        };
        tar::write_header(&mut bytes, &entry).unwrap();
        bytes.extend(*content);
        tar::pad(&mut bytes, content.len() as u64).unwrap();
    }
    tar::end(&mut bytes).unwrap();
    bytes
}

fn packed(program: &str, content: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(content).unwrap();
    child.wait_with_output().unwrap().stdout
}

fn machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// An image of these layers, each with what it is packed to.
struct Image {
    layers: Vec<(Vec<u8>, Vec<u8>)>,
    config: Value,
}

impl Image {
    fn new(layers: Vec<(Vec<u8>, Vec<u8>)>) -> Image {
        let ids: Vec<String> = layers.iter().map(|(plain, _)| Digest::of(plain).to_string()).collect();
        let config = json!({
            "architecture": machine(),
            "os": "linux",
            "config": {"Env": ["PATH=/bin", "A=1"], "Entrypoint": ["/run"], "Cmd": null, "WorkingDir": "/srv", "User": "7:8"},
            "rootfs": {"type": "layers", "diff_ids": ids},
        });
        Image { layers, config }
    }

    fn usual() -> Image {
        let lower = archive(&[
            ("etc/", EntryKind::Directory, b""),
            ("etc/gone", EntryKind::File, b"x"),
            ("etc/kept", EntryKind::File, b"x"),
        ]);
        let middle = archive(&[
            ("etc/.wh.gone", EntryKind::File, b""),
            ("dev/null", EntryKind::File, b""),
        ]);
        let upper = archive(&[("run", EntryKind::File, &b"#!/bin/sh\n".repeat(500))]);
        Image::new(vec![
            (lower.clone(), packed("gzip", &lower)),
            (middle.clone(), packed("zstd", &middle)),
            (upper.clone(), upper),
        ])
    }

    /// Files of an OCI layout.
    fn layout(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = vec![("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
        let mut add = |kind: &str, bytes: &[u8]| {
            let digest = Digest::of(bytes);
            files.push((format!("blobs/sha256/{}", digest.hex()), bytes.to_vec()));
            json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": bytes.len()})
        };
        let config = add("config.v1+json", self.config.to_string().as_bytes());
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|(_, packed)| add("layer.v1.tar", packed))
            .collect();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string();
        let manifest = add("manifest.v1+json", manifest.as_bytes());
        let index = json!({"schemaVersion": 2, "manifests": [manifest]}).to_string();
        files.push(("index.json".to_owned(), index.into_bytes()));
        files
    }

    /// Files of a `docker save` archive of the older form.
    fn saved(&self) -> Vec<(String, Vec<u8>)> {
        let config = self.config.to_string();
        let name = format!("{}.json", Digest::of(config.as_bytes()).hex());
        let layers: Vec<String> = (0..self.layers.len()).map(|n| format!("{n}/layer.tar")).collect();
        let manifest = json!([{"Config": name, "RepoTags": ["x:latest"], "Layers": layers}]).to_string();
        let mut files = vec![
            (name, config.into_bytes()),
            ("manifest.json".to_owned(), manifest.into_bytes()),
        ];
        files.extend(
            layers
                .into_iter()
                .zip(self.layers.iter().map(|(plain, _)| plain.clone())),
        );
        files
    }
}

fn packed_up(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<_> = files
        .iter()
        .map(|(name, content)| (name.as_str(), EntryKind::File, content.as_slice()))
        .collect();
    archive(&entries)
}

fn put(ground: &Ground, name: &str, files: &[(String, Vec<u8>)]) -> PathBuf {
    for (file, content) in files {
        ground.file(&format!("{name}/{file}"), content);
    }
    ground.path(name)
}

#[test]
fn an_image_is_the_same_in_whatever_it_comes() {
    let ground = Ground::new();
    let image = Image::usual();
    let layout = put(&ground, "layout", &image.layout());
    let first = ground.import(&layout, None).unwrap();
    assert_eq!(ground.names(&first), ["dev", "dev/null", "etc", "etc/kept", "run"]);
    let config = ImageConfig {
        env: vec!["PATH=/bin".into(), "A=1".into()],
        entrypoint: vec!["/run".into()],
        cmd: vec![],
        working_dir: Some("/srv".into()),
        user: Some("7:8".into()),
    };
    assert_eq!(first.provenance.config.as_ref(), Some(&config));
    let names: Vec<&str> = first
        .provenance
        .inputs
        .iter()
        .map(|input| input.name.as_str())
        .collect();
    assert_eq!(names, ["manifest", "config", "layer 1", "layer 2", "layer 3"]);
    let saved = packed_up(&image.saved());
    let archived = packed_up(&image.layout());
    for (name, bytes) in [
        ("layout.tar", archived.clone()),
        ("layout.tar.gz", packed("gzip", &archived)),
        ("saved.tar", saved.clone()),
        ("saved.tar.zst", packed("zstd", &saved)),
    ] {
        let other = ground.import(&ground.file(name, &bytes), None).unwrap();
        assert_eq!((other.digest, other.size), (first.digest, first.size), "{name}");
        assert_eq!(other.provenance.config.as_ref(), Some(&config), "{name}");
    }
}

#[test]
fn a_blob_that_is_not_what_it_is_called_is_refused() {
    let whole = Image::usual().layout();
    // Each document and layer: another byte, one too many, none at all.
    for n in 1..whole.len() - 1 {
        let ground = Ground::new();
        let mut changed = whole.clone();
        let last = changed[n].1.len() - 1;
        changed[n].1[last] ^= 1;
        ground.refused(&put(&ground, "changed", &changed), "");
        let mut longer = whole.clone();
        longer[n].1.push(0);
        ground.refused(&put(&ground, "longer", &longer), "is another one");
        let mut missing = whole.clone();
        missing.remove(n);
        ground.refused(&put(&ground, "missing", &missing), "");
    }
}

#[test]
fn a_layer_that_is_not_what_the_config_knows_is_refused() {
    let ground = Ground::new();
    let mut image = Image::usual();
    image.config["rootfs"]["diff_ids"][1] = json!(Digest::of(b"other"));
    ground.refused(&put(&ground, "layout", &image.layout()), "than the config knows");
    let saved = ground.file("saved.tar", &packed_up(&image.saved()));
    ground.refused(&saved, "than the config knows");
    image.config["rootfs"]["diff_ids"] = json!([]);
    ground.refused(&put(&ground, "fewer", &image.layout()), "its config knows 0");
    let mut files = Image::usual().saved();
    files[0].1.push(b' ');
    ground.refused(&ground.file("config.tar", &packed_up(&files)), "is another one");
}

#[test]
fn a_document_that_stands_twice_is_nobodys() {
    let ground = Ground::new();
    for (n, mut files) in [Image::usual().layout(), Image::usual().saved()]
        .into_iter()
        .enumerate()
    {
        let again = files[1].clone();
        files.push(again);
        ground.refused(&ground.file(&format!("{n}.tar"), &packed_up(&files)), "twice");
    }
}

#[test]
fn an_image_for_another_machine_or_one_of_several_is_refused() {
    let ground = Ground::new();
    let mut image = Image::usual();
    image.config["architecture"] = json!("s390x");
    ground.refused(&put(&ground, "other", &image.layout()), "linux/s390x");
    let mut files = Image::usual().layout();
    let last = files.len() - 1;
    let index: Value = serde_json::from_slice(&files[last].1).unwrap();
    let one = &index["manifests"][0];
    let platform = |os: &str, architecture: &str| {
        let mut one = one.clone();
        one["platform"] = json!({"os": os, "architecture": architecture});
        one
    };
    files[last].1 = json!({"manifests": [platform("linux", "s390x")]})
        .to_string()
        .into_bytes();
    ground.refused(&put(&ground, "none", &files), "no image for linux");
    let mut two = one.clone();
    two["digest"] = json!(Digest::of(b"other"));
    two["annotations"] = json!({"org.opencontainers.image.ref.name": "second"});
    files[last].1 = json!({"manifests": [one, two]}).to_string().into_bytes();
    ground.refused(&put(&ground, "several", &files), "second");
    // Of several machines' this one's is taken, and notes of other kinds are passed over.
    let all = [
        platform("linux", "s390x"),
        platform("linux", machine()),
        platform("unknown", "unknown"),
    ];
    let inner = json!({"manifests": all}).to_string();
    let name = Digest::of(inner.as_bytes());
    files.push((format!("blobs/sha256/{}", name.hex()), inner.clone().into_bytes()));
    let list = json!({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": name, "size": inner.len()});
    files[last].1 = json!({"manifests": [list]}).to_string().into_bytes();
    ground.import(&put(&ground, "nested", &files), None).unwrap();
}

#[test]
fn hostile_layers_are_refused_or_lead_nowhere() {
    let image = |entries: &[(&str, EntryKind, &[u8])]| {
        let layer = archive(entries);
        Image::new(vec![(layer.clone(), layer)]).layout()
    };
    let hard = |target: &str| EntryKind::Hardlink(target.into());
    let link = |target: &str| EntryKind::Symlink(target.into());
    let ground = Ground::new();
    for (n, (entry, why)) in [
        (("../x", EntryKind::File, &b"x"[..]), "leads out"),
        (("a/../../x", EntryKind::File, b"x"), "leads out"),
        (("h", hard("/etc/passwd"), b""), "no file of the archive"),
        (("h", hard("../../etc/passwd"), b""), "leads out"),
    ]
    .into_iter()
    .enumerate()
    {
        ground.refused(&put(&ground, &format!("bad-{n}"), &image(&[entry])), why);
    }
    let victim = ground.file("victim/file", b"untouched");
    let outside = victim.parent().unwrap().to_str().unwrap();
    let through = image(&[
        ("/absolute", EntryKind::File, b"x"),
        ("out", link("../../../../.."), b""),
        (&outside[1..], EntryKind::Directory, b""),
        ("victims", link(outside), b""),
        ("victims/file", EntryKind::File, b"written"),
        ("victims/file", EntryKind::File, b"written again"),
    ]);
    let taken = ground.import(&put(&ground, "through", &through), None).unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"untouched");
    assert!(ground.names(&taken).contains(&"absolute".to_owned()));
}

#[test]
fn devices_of_an_archive_are_told_as_left_out() {
    let ground = Ground::new();
    let mut layer = archive(&[("dev/null", EntryKind::File, b""), ("f", EntryKind::File, b"x")]);
    // A character device, and its header's sum anew.
    layer[156] = b'3';
    layer[148..156].copy_from_slice(b"        ");
    let sum: u32 = layer[..512].iter().map(|b| u32::from(*b)).sum();
    layer[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let taken = ground.import(&ground.file("x.tar", &layer), None).unwrap();
    assert_eq!(taken.provenance.notes, ["left out: devices, FIFOs and sockets (1)"]);
    assert_eq!(ground.names(&taken), ["f"]);
}

#[test]
fn what_grows_beyond_its_limits_is_refused() {
    let ground = Ground::new();
    let layer = archive(&[("zeros", EntryKind::File, &vec![0; 4 << 20])]);
    let image = Image::new(vec![(layer.clone(), packed("gzip", &layer))]);
    let path = put(&ground, "bomb", &image.layout());
    let mut request = Import {
        path: &path,
        name: "x",
        kind: None,
        format: Format::Erofs,
        limits: Limits {
            bytes: 1 << 20,
            entries: 1000,
        },
    };
    let fault = import(&ground.artifacts, &request).unwrap_err();
    assert!(fault.found.contains("more than the 1048576"), "{fault}");
    let tar = ground.file("bomb.tar.gz", &packed("gzip", &layer));
    request.path = &tar;
    let fault = import(&ground.artifacts, &request).unwrap_err();
    assert!(fault.found.contains("larger than what is taken"), "{fault}");
}

#[test]
fn a_directory_gives_the_same_image_whoever_copied_it() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let ground = Ground::new();
    let [first, second] = ["first", "second"].map(|name| {
        let names = if name == "first" {
            ["a/1", "b", "a/2"]
        } else {
            ["b", "a/2", "a/1"]
        };
        for file in names {
            ground.file(&format!("{name}/{file}"), file.as_bytes());
        }
        let root = ground.path(name);
        symlink("/etc/passwd", root.join("link")).unwrap();
        fs::set_permissions(root.join("b"), fs::Permissions::from_mode(0o4755)).unwrap();
        ground.import(&root, None).unwrap()
    });
    assert_eq!(first.digest, second.digest);
    assert_eq!(ground.names(&first), ["a", "a/1", "a/2", "b", "link"]);
    // A plain archive of it has the same names.
    let tar = ground.path("plain.tar");
    let status = Command::new("tar")
        .arg("-cf")
        .arg(&tar)
        .arg("-C")
        .arg(ground.path("first"))
        .arg(".")
        .status();
    assert!(status.unwrap().success());
    let third = ground.import(&tar, None).unwrap();
    assert_eq!(ground.names(&third), ground.names(&first));
    assert!(ground.import(&ground.path("first"), Some(Kind::Kernel)).is_err());
}

/// An ELF file whose one segment is loaded there.
fn elf(address: u64) -> Vec<u8> {
    let mut file = vec![0; 64 + 56];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[0x20] = 64;
    file[0x36] = 56;
    file[0x38] = 1;
    file[64] = 1;
    file[64 + 0x10..64 + 0x18].copy_from_slice(&address.to_le_bytes());
    file
}

#[test]
fn files_are_what_their_first_bytes_say() {
    let ground = Ground::new();
    let of = |offset: usize, magic: &[u8]| {
        let mut bytes = vec![0; 4096];
        bytes[offset..offset + magic.len()].copy_from_slice(magic);
        bytes
    };
    let kernel = elf(0xffff_ffff_8100_0000);
    let program = elf(0x40_0000);
    for (n, (bytes, kind, told)) in [
        (of(1024, &[0xe2, 0xe1, 0xf5, 0xe0]), None, Some(Kind::Rootfs)),
        (of(0, b"hsqs"), None, Some(Kind::Rootfs)),
        (of(1080, &[0x53, 0xef]), None, Some(Kind::Rootfs)),
        (kernel.clone(), None, Some(Kind::Kernel)),
        (of(0, b"070701"), None, Some(Kind::Initrd)),
        (of(0, b"070701"), Some(Kind::Modules), Some(Kind::Modules)),
        (
            packed("gzip", &of(0, b"070701")),
            Some(Kind::Initrd),
            Some(Kind::Initrd),
        ),
        (program.clone(), Some(Kind::Program), Some(Kind::Program)),
        // Not what is meant.
        (program.clone(), None, None),
        (program.clone(), Some(Kind::Kernel), None),
        (kernel.clone(), Some(Kind::Program), None),
        (kernel, Some(Kind::Rootfs), None),
        (packed("gzip", b"x"), None, None),
        (b"text".to_vec(), None, None),
        (b"text".to_vec(), Some(Kind::Rootfs), None),
        (Vec::new(), None, None),
        (program[..70].to_vec(), None, None),
    ]
    .into_iter()
    .enumerate()
    {
        let path = ground.file(&n.to_string(), &bytes);
        let taken = ground.import(&path, kind);
        assert_eq!(taken.as_ref().ok().map(|taken| taken.kind), told, "{n}: {taken:?}");
        if let Ok(taken) = taken {
            assert_eq!(taken.digest, Digest::of(&bytes), "{n}");
        }
    }
    assert!(ground.import(&ground.path("none"), None).is_err());
    let fifo = ground.path("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let fault = ground.import(&fifo, None).unwrap_err();
    assert!(fault.found.contains("neither"), "{fault}");
}
