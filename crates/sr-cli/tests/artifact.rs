//! `safe-run artifact` where things go wrong: killed, on a full disk, with a store that was tampered with.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Ground {
        let dir = tempfile::tempdir().unwrap();
        Ground { dir }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_safe-run"));
        command.arg("artifact").args(words).current_dir(self.dir.path());
        command
            .env("SAFE_RUN_WORKDIR_BASE", self.store())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> (Option<i32>, String) {
        told(&self.command(words).output().unwrap())
    }

    /// An image by its first bytes, of that length.
    fn image(&self, name: &str, length: u64) -> PathBuf {
        let path = self.dir.path().join(name);
        let file = File::create(&path).unwrap();
        file.set_len(length).unwrap();
        file.write_all_at(&0xe0f5_e1e2u32.to_le_bytes(), 1024).unwrap();
        path
    }
}

fn told(output: &Output) -> (Option<i32>, String) {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// Files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

#[test]
fn what_is_damaged_is_told_with_another_exit_status() {
    let ground = Ground::new();
    ground.image("one.img", 4096);
    let (status, text) = ground.run(&["import", "one.img"]);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.starts_with("rootfs/one "), "{text}");
    assert_eq!(
        ground.run(&["verify"]),
        (Some(0), "ok       rootfs/one\n1 content verified, 0 damaged\n".into())
    );
    let content = files(&ground.store().join("artifacts/sha256")).remove(0);
    fs::set_permissions(&content, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&content, "other").unwrap();
    for words in [&["verify"][..], &["verify", "one"]] {
        let (status, text) = ground.run(words);
        assert_eq!(status, Some(1), "{text}");
        assert!(
            text.contains("DAMAGED  rootfs/one: ") && text.contains("1 damaged"),
            "{text}"
        );
    }
    let (status, text) = ground.run(&["verify", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(status == Some(1) && json[0]["damage"].is_string(), "{text}");
    assert_eq!(ground.run(&["import", "one.img"]).0, Some(0));
    assert_eq!(ground.run(&["verify"]).0, Some(0));
}

#[test]
fn what_no_name_means_is_gone_after_gc() {
    let ground = Ground::new();
    ground.image("one.img", 4096);
    ground.run(&["import", "one.img"]);
    assert_eq!(ground.run(&["gc"]), (Some(0), "everything is in use\n".into()));
    assert_eq!(ground.run(&["remove", "rootfs/one"]).0, Some(0));
    assert_eq!(
        ground.run(&["list"]).1,
        "no artifacts yet: safe-run artifact build kernel\n"
    );
    let contents = || files(&ground.store().join("artifacts/sha256")).len();
    let (_, text) = ground.run(&["gc", "--dry-run"]);
    assert!(text.starts_with("would remove sha256:") && contents() == 1, "{text}");
    let (_, text) = ground.run(&["gc"]);
    assert!(text.starts_with("removed sha256:") && contents() == 0, "{text}");
}

#[test]
fn a_killed_import_leaves_no_name_and_what_it_left_is_collected() {
    let ground = Ground::new();
    let image = ground.image("large.img", 64 << 30);
    let mut child = ground
        .command(&["import"])
        .arg(&image)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let making = ground.store().join("artifacts/making");
    // A file may be hashed before it is copied; that is not waited for.
    let mut begun = false;
    for _ in 0..500 {
        begun = making.is_dir() && fs::read_dir(&making).unwrap().count() > 0;
        if begun || child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(begun, "the copy had not begun");
    assert_eq!(
        ground.run(&["list"]).1,
        "no artifacts yet: safe-run artifact build kernel\n"
    );
    let (_, text) = ground.run(&["gc"]);
    assert!(text.starts_with("removed ") && text.contains("/making/"), "{text}");
    assert_eq!(files(&ground.store().join("artifacts")), Vec::<PathBuf>::new());
}

#[test]
fn a_full_disk_is_told_and_nothing_half_stays() {
    let ground = Ground::new();
    let image = ground.image("image.img", 8 << 20);
    let store = ground.store();
    fs::create_dir(&store).unwrap();
    let script = "mount -t tmpfs -o size=2m x \"$1\" || exit 99\n\
                  \"$2\" artifact import \"$3\" && exit 98\n\
                  find \"$1\" -type f\n\
                  \"$2\" artifact list";
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script, "sh"]).arg(&store);
    command
        .arg(env!("CARGO_BIN_EXE_safe-run"))
        .arg(&image)
        .env("SAFE_RUN_WORKDIR_BASE", &store);
    let (status, text) = told(&command.output().unwrap());
    if status == Some(99) || text.contains("unshare failed") {
        println!("SKIP a_full_disk_is_told_and_nothing_half_stays: no small file system can be made here: {text}");
        return;
    }
    assert_eq!(status, Some(0), "{text}");
    assert!(
        text.contains("No space left on device") && text.contains("make room"),
        "{text}"
    );
    assert!(text.starts_with("no artifacts yet"), "no file was found: {text}");
}
