//! What went in: mounted files by their digests always, trees on request, and nothing that changes meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{LIMIT, Place, Ran, Test, end, is_root, needs};

fn main() {
    support::main(&[
        ("mounted_files_are_hashed", mounted_files_are_hashed),
        ("trees_on_request", trees_on_request),
        ("hidden_names_are_in_no_digest", hidden_names_are_in_no_digest),
        ("what_changes_is_not_started", what_changes_is_not_started),
        ("what_cannot_be_read_is_not_started", what_cannot_be_read_is_not_started),
        ("hashing_can_be_ended", hashing_can_be_ended),
    ]);
}

/// The definition in DESIGN.md, "Digests of trees", word for word.
const REFERENCE: &str = r#"
import hashlib, os, stat, sys

def record(path, name):
    info = os.lstat(path)
    kind, mode = "f", stat.S_IMODE(info.st_mode)
    if stat.S_ISDIR(info.st_mode):
        kind, data = "d", b"".join(record(os.path.join(path, n), n) for n in sorted(os.listdir(path)))
    elif stat.S_ISLNK(info.st_mode):
        kind, mode, data = "l", 0o777, os.readlink(path)
    else:
        data = open(path, "rb").read()
    return b"%s %04o %s\0%s\n" % (kind.encode(), mode, name, hashlib.sha256(data).hexdigest().encode())

print("sha256:" + hashlib.sha256(record(os.fsencode(sys.argv[1]), b"")).hexdigest())
"#;

fn reference(place: &Place, tree: &Path) -> String {
    let mut python = place.command("python3");
    python.args(["-c", REFERENCE]).arg(tree);
    end(python, b"", LIMIT).out.trim().to_owned()
}

fn sha256(place: &Place, file: &Path) -> String {
    let mut command = place.command("sha256sum");
    command.arg(file);
    let ran = end(command, b"", LIMIT);
    format!("sha256:{}", ran.out.split_whitespace().next().unwrap_or_default())
}

/// The digest of the mount at `target` in the last run's report.
fn digest(place: &Place, target: &str) -> Value {
    let report = place.report();
    let mounts = report["digests"]["mounts"].as_array().expect("mounts").clone();
    let found = mounts.into_iter().find(|mount| mount["target"] == target);
    found.unwrap_or_else(|| panic!("{target} is not in the report"))["digest"].clone()
}

fn tree(dir: &Path) {
    fs::create_dir_all(dir.join("sub/empty")).expect("directories");
    fs::write(dir.join("a"), "one\n").expect("a file");
    fs::write(dir.join("sub/large"), vec![7u8; 300_000]).expect("a file");
    fs::write(dir.join("sub-b"), "").expect("a file");
    symlink("sub/large", dir.join("link")).expect("a link");
    symlink("/etc/passwd", dir.join("sub/out")).expect("a link");
    fs::set_permissions(dir.join("a"), fs::Permissions::from_mode(0o751)).expect("a mode");
}

fn with_policy(place: &Place, mounts: &str, evidence: &str, words: &[&str]) -> Ran {
    let text = format!(
        "apiVersion: safe-run/v1\nmetadata: {{name: digests}}\nruntime: {{args: []}}\nmounts: [{mounts}]\nevidence: {{{evidence}}}\n"
    );
    let policy = place.root().join("policy.yaml");
    fs::write(&policy, text).expect("a policy");
    let policy = policy.to_str().expect("UTF-8");
    place.run(&[&["--policy", policy, "--"], words].concat())
}

fn mounted_files_are_hashed(place: &Place) -> Test {
    needs(place, "sha256sum")?;
    let file = place.root().join("input.csv");
    fs::write(&file, "1,2\n")?;
    let mount = format!("{}:/data/input.csv:ro", file.display());
    let ran = place.run(&["--mount", &mount, "--", "cat", "/data/input.csv"]);
    ran.ok()?;
    ensure!(ran.out == "1,2\n", "{ran}");
    let expected = sha256(place, &file);
    ensure!(digest(place, "/data/input.csv") == expected.as_str(), "not {expected}");
    let project = place.project.to_str().expect("UTF-8");
    ensure!(
        digest(place, project).is_null(),
        "a tree was hashed that nobody asked for"
    );
    let events = fs::read_to_string(place.last_run().join("events.jsonl"))?;
    let posture = events
        .lines()
        .find(|l| l.contains("launch.posture"))
        .unwrap_or_default();
    ensure!(
        posture.contains(&expected),
        "the event before the launch names it: {posture}"
    );
    let shown = place.tell(&["show"]);
    ensure!(shown.out.contains(&format!("/data/input.csv {expected}")), "{shown}");
    ensure!(shown.out.contains(&format!("{project} not hashed")), "{shown}");
    place.tell(&["report", "verify"]).ok()?;
    // Again, with what was cached; then changed.
    place.run(&["--mount", &mount, "--", "true"]).ok()?;
    ensure!(digest(place, "/data/input.csv") == expected.as_str(), "from the cache");
    fs::write(&file, "1,3\n")?;
    place.run(&["--mount", &mount, "--", "true"]).ok()?;
    ensure!(
        digest(place, "/data/input.csv") == sha256(place, &file).as_str(),
        "after a change"
    );
    place.nothing_left()
}

fn trees_on_request(place: &Place) -> Test {
    needs(place, "python3")?;
    let data = place.root().join("data");
    tree(&data);
    tree(&place.project);
    let mounts = "{source: ../data, target: /data}, {source: ., target: /work, captured: true}";
    let ran = with_policy(place, mounts, "hash: files", &["true"]);
    ran.ok()?;
    ensure!(
        digest(place, "/data").is_null() && digest(place, "/work").is_null(),
        "hash: files"
    );
    let ran = with_policy(place, mounts, "hash: tree", &["sh", "-c", "echo changed > /work/a"]);
    ran.ok()?;
    let expected = reference(place, &data);
    ensure!(expected.starts_with("sha256:"), "the reference: {expected}");
    ensure!(
        digest(place, "/data") == expected.as_str(),
        "not {expected}: {}",
        digest(place, "/data")
    );
    let expected = reference(place, &place.project);
    ensure!(
        digest(place, "/work") == expected.as_str(),
        "as it was before the launch: {expected}"
    );
    let obligations = place.report()["obligations"].to_string();
    ensure!(obligations.contains("mounted directories (2)"), "{obligations}");
    fs::write(data.join("sub/large"), "small")?;
    with_policy(place, mounts, "hash: tree", &["true"]).ok()?;
    ensure!(
        digest(place, "/data") == reference(place, &data).as_str(),
        "after a change"
    );
    place.tell(&["report", "verify"]).ok()
}

/// Credentials must not be guessed from a digest: a tree is hashed as the program sees it.
fn hidden_names_are_in_no_digest(place: &Place) -> Test {
    needs(place, "python3")?;
    tree(&place.project);
    let expected = reference(place, &place.project);
    place.write(".env", "TOKEN=hunter2\n");
    place.write("sub/.npmrc", "//registry.example.com/:_authToken=x\n");
    let mounts = "{source: ., target: /work, captured: true}";
    let ran = with_policy(place, mounts, "hash: tree", &["ls", "-A", "/work"]);
    ran.ok()?;
    ensure!(!ran.out.contains(".env"), "{ran}");
    ensure!(
        digest(place, "/work") == expected.as_str(),
        "not {expected}: {}",
        digest(place, "/work")
    );
    Ok(())
}

fn what_changes_is_not_started(place: &Place) -> Test {
    let data = place.root().join("data");
    tree(&data);
    // Large enough that the other thread has its turn while it is hashed.
    let mut script = b"#!/bin/sh\necho started; exit\n".to_vec();
    script.resize(16 << 20, b'x');
    fs::write(data.join("a"), script)?;
    fs::set_permissions(data.join("a"), fs::Permissions::from_mode(0o755))?;
    let file = fs::OpenOptions::new().write(true).open(data.join("a"))?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = file.write_all_at(b"x", 1 << 20);
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        let outcome = (|| {
            for (mounts, evidence) in [
                ("{source: ../data/a, target: /file}", "hash: files"),
                ("{source: ../data, target: /data}", "hash: tree"),
            ] {
                let ran = with_policy(place, mounts, evidence, &["echo", "started"]);
                ensure!(ran.status == 125 && !ran.out.contains("started"), "{ran}");
                ensure!(
                    ran.err.contains("mounts[0].source") && ran.err.contains("changed"),
                    "{ran}"
                );
            }
            Ok(())
        })();
        done.store(true, Ordering::Relaxed);
        outcome
    })?;
    place.nothing_left()
}

fn what_cannot_be_read_is_not_started(place: &Place) -> Test {
    let data = place.root().join("data");
    tree(&data);
    fs::set_permissions(data.join("sub-b"), fs::Permissions::from_mode(0o000))?;
    for (mounts, evidence) in [
        ("{source: ../data/sub-b, target: /file}", "hash: files"),
        ("{source: ../data, target: /data}", "hash: tree"),
    ] {
        let ran = with_policy(place, mounts, evidence, &["echo", "started"]);
        // Root reads it; the program inside still does not.
        if is_root() {
            ran.ok()?;
        } else {
            ensure!(ran.status == 125 && !ran.out.contains("started"), "{ran}");
            ensure!(ran.err.contains("sub-b cannot be hashed"), "{ran}");
        }
    }
    place.nothing_left()
}

/// Nobody waits for a terabyte to be hashed who has thought better of it.
fn hashing_can_be_ended(place: &Place) -> Test {
    let data = place.root().join("data");
    fs::create_dir(&data)?;
    fs::File::create(data.join("huge"))?.set_len(1 << 40)?;
    let policy = place.root().join("policy.yaml");
    for (source, evidence) in [("../data/huge", "hash: files"), ("../data", "hash: tree")] {
        let text = format!(
            "apiVersion: safe-run/v1\nmetadata: {{name: huge}}\nruntime: {{args: []}}\n\
             mounts: [{{source: {source}, target: /in}}]\nevidence: {{{evidence}}}\n"
        );
        fs::write(&policy, text)?;
        let words = [
            "run",
            "--policy",
            policy.to_str().expect("UTF-8"),
            "--",
            "echo",
            "started",
        ];
        let child = place
            .safe_run(&words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        std::thread::sleep(Duration::from_millis(500));
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        let asked = Instant::now();
        let output = child.wait_with_output()?;
        let err = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(125) && output.stdout.is_empty(),
            "{}: {err}",
            output.status
        );
        ensure!(
            err.contains("mounts[0].source") && err.contains("asked to end"),
            "{err}"
        );
        ensure!(
            asked.elapsed() < Duration::from_secs(5),
            "it took {:?}",
            asked.elapsed()
        );
        place.nothing_left()?;
    }
    Ok(())
}
