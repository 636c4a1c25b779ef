//! Fetching Firecracker by the library and by the script, from mirrors made here with releases made up here: each refuses what
//! the other refuses, and leaves nothing half done.

#![allow(clippy::unwrap_used)]

use sr_artifact::fetch::{self, Fetch};
use sr_artifact::tar::{self, Entry, EntryKind};
use sr_common::Digest;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

const MACHINE: &str = std::env::consts::ARCH;

/// A mirror's directory, and a table of what is in it.
struct Ground {
    dir: tempfile::TempDir,
    pins: String,
}

fn release() -> String {
    format!("v9.8.7-{MACHINE}")
}

fn program(name: &str) -> Vec<u8> {
    [b"\x7fELF", name.as_bytes(), &[0; 3000]].concat()
}

fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, content) in members {
        let entry = Entry {
            path: path.as_bytes().to_vec(),
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: 0,
            size: content.len() as u64,
            at: 0,
            attributes: false,
            kind: EntryKind::File,
        };
        tar::write_header(&mut bytes, &entry).unwrap();
        bytes.extend(*content);
        tar::pad(&mut bytes, content.len() as u64).unwrap();
    }
    tar::end(&mut bytes).unwrap();
    let mut gzip = Command::new("gzip")
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    gzip.stdin.take().unwrap().write_all(&bytes).unwrap();
    gzip.wait_with_output().unwrap().stdout
}

/// As the project packs one: symbols of debug builds beside the programs.
fn usual() -> Vec<u8> {
    let release = release();
    let name = |program: &str| format!("release-{release}/{program}-{release}");
    archive(&[
        (&format!("release-{release}/LICENSE"), b"text"),
        (&name("firecracker"), &program("firecracker")),
        (&format!("{}.debug", name("firecracker")), &program("symbols")),
        (&name("jailer"), &program("jailer")),
    ])
}

impl Ground {
    fn new(archive: &[u8]) -> Ground {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("firecracker-{}.tgz", release());
        fs::create_dir_all(dir.path().join("mirror")).unwrap();
        fs::create_dir_all(dir.path().join("work")).unwrap();
        fs::create_dir_all(dir.path().join("scripts")).unwrap();
        fs::write(dir.path().join("mirror").join(&name), archive).unwrap();
        let ground = Ground {
            dir,
            pins: format!("{}  {name}\n", Digest::of(archive).hex()),
        };
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts");
        for script in ["fetch.sh", "get_firecracker.sh", "get_rootfs.sh"] {
            let to = ground.path("scripts").join(script);
            fs::copy(scripts.join(script), &to).unwrap();
        }
        fs::write(ground.path("scripts/firecracker.sha256"), &ground.pins).unwrap();
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn mirror(&self) -> PathBuf {
        self.path("mirror").join(format!("firecracker-{}.tgz", release()))
    }

    /// What went wrong, first in the library and then in the script.
    fn fetch(&self, version: Option<&str>, from: &str, proxy: Option<&str>) -> [Result<(), String>; 2] {
        let library = self.library(version, from, proxy);
        self.holds(library.is_ok());
        let mut words = vec!["get_firecracker.sh"];
        words.extend(version);
        words.extend(["--from", from]);
        let script = self.script(&words, proxy.map(|proxy| ("SAFE_RUN_PROXY_URL", proxy)));
        self.holds(script.is_ok());
        [library, script]
    }

    fn library(&self, version: Option<&str>, from: &str, proxy: Option<&str>) -> Result<(), String> {
        let fetched = fetch::firecracker(&Fetch {
            pins: &self.pins,
            version,
            from: Some(from),
            to: &self.path("work/artifacts"),
            proxy,
        });
        fetched.map_err(|fault| fault.to_string()).map(|fetched| {
            assert_eq!(fetched.version, "9.8.7");
            assert_eq!(fetched.programs[1].digest, Digest::of(&program("firecracker")));
        })
    }

    fn script(&self, words: &[&str], variable: Option<(&str, &str)>) -> Result<(), String> {
        let mut command = Command::new("sh");
        command
            .arg(self.path("scripts").join(words[0]))
            .args(&words[1..])
            .current_dir(self.path("work"));
        for name in ["SAFE_RUN_PROXY_URL", "SAFE_RUN_USE_LOCAL_PROXY"] {
            command.env_remove(name);
        }
        let output = command.envs(variable).output().unwrap();
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Both programs, or nothing at all; then it is as it was before.
    fn holds(&self, both: bool) {
        let artifacts = self.path("work/artifacts");
        let names = |dir: &Path| -> Vec<String> {
            let entries = fs::read_dir(dir).into_iter().flatten();
            let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        if both {
            for name in ["firecracker", "jailer"] {
                let path = artifacts.join("bin").join(name);
                assert_eq!(fs::read(&path).unwrap(), program(name));
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
            }
            assert_eq!(names(&artifacts), ["bin"]);
            assert_eq!(names(&artifacts.join("bin")), ["firecracker", "jailer"]);
            fs::remove_dir_all(&artifacts).unwrap();
        } else {
            assert_eq!(names(&artifacts.join("bin")), [""; 0]);
            assert!(
                names(&artifacts).iter().all(|name| name == "bin"),
                "{:?}",
                names(&artifacts)
            );
        }
    }

    fn from(&self) -> String {
        self.path("mirror").display().to_string()
    }
}

/// A server on the loopback that gives files of a directory, and keeps what it was asked. As a proxy it is asked for whole URLs.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(dir: PathBuf) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (mut request, mut byte) = (Vec::new(), [0]);
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                    request.push(byte[0]);
                }
                let text = String::from_utf8_lossy(&request).into_owned();
                let target = text.split(' ').nth(1).unwrap_or_default().to_owned();
                seen.lock().unwrap().push(target.clone());
                let body = fs::read(dir.join(target.rsplit('/').next().unwrap_or_default()));
                let answer = match body {
                    Ok(body) => [
                        format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(),
                        &body,
                    ]
                    .concat(),
                    Err(_) => b"HTTP/1.0 404 Not Found\r\n\r\n".to_vec(),
                };
                // Whoever asked may have gone.
                let _ = stream.write_all(&answer);
            }
        });
        Server { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn refused(ground: &Ground, version: Option<&str>, from: &str, why: &str) {
    for result in ground.fetch(version, from, None) {
        let told = result.unwrap_err();
        assert!(told.contains(why), "{why}: {told}");
    }
}

#[test]
fn a_pinned_release_comes_from_a_directory() {
    let ground = Ground::new(&usual());
    for version in [None, Some("9.8.7"), Some("v9.8.7")] {
        assert_eq!(ground.fetch(version, &ground.from(), None), [Ok(()), Ok(())]);
    }
}

#[test]
fn and_from_a_server_also_through_a_proxy() {
    let ground = Ground::new(&usual());
    let server = Server::start(ground.path("mirror"));
    let name = format!("firecracker-{}.tgz", release());
    assert_eq!(
        ground.fetch(None, &format!("{}/deep/", server.address), None),
        [Ok(()), Ok(())]
    );
    assert_eq!(server.asked(), [format!("/deep/{name}"), format!("/deep/{name}")]);
    // No such host: the proxy is asked, whatever other variables say.
    let from = "http://mirror.invalid/x";
    assert_eq!(ground.fetch(None, from, Some(&server.address)), [Ok(()), Ok(())]);
    assert_eq!(server.asked(), [format!("{from}/{name}"), format!("{from}/{name}")]);
    refused(
        &ground,
        None,
        &format!("{}/none", Server::start(ground.path("work")).address),
        "404",
    );
}

#[test]
fn a_script_takes_the_proxy_that_its_variables_name() {
    let ground = Ground::new(&usual());
    // Says how it was called, and fails: nothing is asked of any network.
    let curl = ground.path("scripts/curl");
    fs::write(&curl, "#!/bin/sh\necho \"called: $*\" >&2\nexit 7\n").unwrap();
    fs::set_permissions(&curl, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}",
        ground.path("scripts").display(),
        std::env::var("PATH").unwrap()
    );
    let local = Some("http://127.0.0.1:7890");
    let named = Some("http://proxy.example.com:1");
    for (wanted, url, taken) in [
        (None, None, None),
        (Some("1"), None, local),
        (Some("true"), named, named),
        (None, named, named),
        (Some("0"), named, None),
        (Some("0"), None, None),
    ] {
        let mut command = Command::new("sh");
        command
            .arg(ground.path("scripts/get_firecracker.sh"))
            .current_dir(ground.path("work"))
            .env("PATH", &path);
        command
            .env_remove("SAFE_RUN_PROXY_URL")
            .env_remove("SAFE_RUN_USE_LOCAL_PROXY");
        command.envs(wanted.map(|value| ("SAFE_RUN_USE_LOCAL_PROXY", value)));
        command.envs(url.map(|value| ("SAFE_RUN_PROXY_URL", value)));
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains("called: -q --fail"), "{told}");
        let found = told
            .split("--proxy ")
            .nth(1)
            .map(|rest| rest.split(' ').next().unwrap());
        assert_eq!(found, taken, "{wanted:?} {url:?}: {told}");
        assert!(told.contains("--proto =https --proto-redir =https "), "{told}");
        ground.holds(false);
    }
}

#[test]
fn what_is_not_pinned_is_not_fetched() {
    let ground = Ground::new(&usual());
    for version in ["9.8.6", "9.8.7.1", "1"] {
        refused(&ground, Some(version), &ground.from(), "not pinned");
    }
    for odd in ["9.8.7-debug", "../x", "9 8", ""] {
        let [library, script] = ground.fetch(Some(odd), &ground.from(), None);
        assert!(library.is_err(), "{odd}");
        // An empty word is none for a script.
        assert_eq!(script.is_ok(), odd.is_empty(), "{odd}");
    }
}

#[test]
fn another_archive_than_the_pinned_one_is_refused() {
    let whole = usual();
    let ground = Ground::new(&whole);
    let mut changed = whole.clone();
    changed[20] ^= 1;
    for other in [&changed[..], &whole[..whole.len() - 1], &whole[..100], b""] {
        fs::write(ground.mirror(), other).unwrap();
        refused(&ground, None, &ground.from(), "not the pinned one");
    }
    fs::remove_file(ground.mirror()).unwrap();
    let [library, script] = ground.fetch(None, &ground.from(), None);
    assert!(library.is_err() && script.is_err());
}

#[test]
fn what_is_no_release_build_is_refused() {
    let release = release();
    let name = |program: &str| format!("release-{release}/{program}-{release}");
    let elf = program("x");
    for members in [
        // A debug build by its name, in the place of the program and beside it.
        vec![(name("jailer"), &elf), (format!("{}.debug", name("firecracker")), &elf)],
        vec![
            (name("jailer"), &elf),
            (format!("debug-{release}/firecracker-{release}"), &elf),
        ],
        vec![(name("firecracker"), &elf)],
        vec![(format!("../{}", name("firecracker")), &elf), (name("jailer"), &elf)],
        vec![],
    ] {
        let members: Vec<(&str, &[u8])> = members
            .iter()
            .map(|(name, content)| (name.as_str(), content.as_slice()))
            .collect();
        let ground = Ground::new(&archive(&members));
        refused(&ground, None, &ground.from(), "it is no release build");
    }
    // Packed wrongly, by whoever is pinned.
    let ground = Ground::new(b"no archive");
    let [library, script] = ground.fetch(None, &ground.from(), None);
    assert!(library.is_err() && script.is_err());
    let ground = Ground::new(&archive(&[
        (&name("firecracker"), b"#!/bin/sh"),
        (&name("jailer"), &elf),
    ]));
    assert!(
        ground
            .library(None, &ground.from(), None)
            .unwrap_err()
            .contains("is no program")
    );
    ground.holds(false);
}

#[test]
fn what_a_killed_fetch_left_is_gone_after_the_next() {
    let ground = Ground::new(&usual());
    let left = ground.path("work/artifacts/making/left");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("archive"), "half").unwrap();
    ground.library(None, &ground.from(), None).unwrap();
    ground.holds(true);
}

#[test]
fn the_files_of_a_root_file_system_are_held_to_their_digest() {
    let ground = Ground::new(&usual());
    let machine = if MACHINE == "x86_64" { "amd64" } else { "arm64" };
    let name = format!("ubuntu-base-24.04.9-base-{machine}.tar.gz");
    let table = format!("{}  {name}\n", Digest::of(b"files").hex());
    fs::write(ground.path("scripts/rootfs.sha256"), table).unwrap();
    let from = ground.from();
    let get = || ground.script(&["get_rootfs.sh", "--from", &from], None);
    let kept = ground.path("work/artifacts/rootfs").join(&name);
    assert!(get().is_err());
    fs::write(ground.path("mirror").join(&name), b"other").unwrap();
    assert!(get().unwrap_err().contains("not the pinned one"));
    assert!(!kept.exists());
    fs::write(ground.path("mirror").join(&name), b"files").unwrap();
    get().unwrap();
    assert_eq!(fs::read(&kept).unwrap(), b"files");
    let left: Vec<_> = fs::read_dir(ground.path("work/artifacts"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["rootfs"]);
}
