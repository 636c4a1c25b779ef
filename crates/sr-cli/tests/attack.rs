//! `doctor --attack`: that it finds nothing where all holds, and what gets out where a policy lets it; what it attests, what it
//! skips, and that nothing of it stays.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::Value;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A store, keys and a place for temporary files of a test's own.
struct Place {
    top: TempDir,
}

impl Place {
    fn new() -> Place {
        let top = tempfile::Builder::new().prefix("sr").tempdir().unwrap();
        for name in ["t", "home", "work"] {
            fs::create_dir(top.path().join(name)).unwrap();
        }
        if rustix::process::geteuid().is_root() {
            // A writable mount of what is root's is refused.
            chown(top.path().join("t"), Some(1000), Some(1000)).unwrap();
        }
        Place { top }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.top.path().canonicalize().unwrap().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_safe-run"));
        command
            .args(words)
            .current_dir(self.at("work"))
            .env("HOME", self.at("home"))
            .env("TMPDIR", self.at("t"))
            // The cases are run from elsewhere.
            .env("SAFE_RUN_WORKDIR_BASE", "../store")
            .env("SAFE_RUN_KEY_DIR", self.at("keys"))
            .stdin(Stdio::null());
        command
    }

    fn safe_run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn policy(&self, more: &str) -> String {
        let path = self.at("policy.yaml");
        let text = format!("apiVersion: safe-run/v1\nmetadata: {{name: p}}\nruntime: {{args: []}}\n{more}\n");
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn runs(&self) -> Vec<String> {
        names(&self.at("store/runs"))
    }

    /// Nothing but runs, and these are over, as are those that were `seen`.
    fn nothing_stays(&self, seen: &[String]) {
        assert_eq!(names(&self.at("t")), [] as [&str; 0]);
        assert_eq!(names(&self.at("store")), ["cache", "journal", "runs", "sessions"]);
        assert_eq!(names(&self.at("store/journal")), [] as [&str; 0]);
        let here = self.at("t").to_str().unwrap().to_owned();
        let of_ours = |name: &String| {
            let line = fs::read(format!("/proc/{name}/cmdline")).unwrap_or_default();
            let cwd = fs::read_link(format!("/proc/{name}/cwd")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&here) || cwd.starts_with(&here)
        };
        let own = std::process::id().to_string();
        let left: Vec<String> = names(Path::new("/proc"))
            .into_iter()
            .filter(|n| *n != own && of_ours(n))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        let groups = groups(Path::new("/sys/fs/cgroup"));
        for run in seen {
            assert!(groups.iter().all(|group| !group.contains(run)), "{run}");
        }
    }
}

/// The names of all control groups below `dir`.
fn groups(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.push(entry.file_name().to_string_lossy().into_owned());
            found.extend(groups(&entry.path()));
        }
    }
    found
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn cases(results: &Value) -> &Vec<Value> {
    results["results"]["cases"].as_array().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

fn has_compiler() -> bool {
    Command::new("cc")
        .arg("--version")
        .output()
        .is_ok_and(|o| o.status.success())
}

#[test]
fn what_holds_is_attested_and_a_changed_byte_is_not() {
    let place = Place::new();
    let output = place.safe_run(&["doctor", "--attack", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let found = json(&output);
    let counts = &found["results"]["counts"];
    assert_eq!(
        (&counts["escaped"], &counts["unclear"]),
        (&0.into(), &0.into()),
        "{counts}"
    );
    assert_eq!(found["report"]["verification"], "verified");
    for case in cases(&found) {
        let ran = case["outcome"] != "skipped";
        assert!(
            ran || case["detail"].as_str().is_some_and(|why| !why.is_empty()),
            "{case}"
        );
        assert!(ran || !has_compiler(), "{case}");
        let runs = case["runs"].as_array().unwrap();
        assert_eq!(
            (runs.len() == 1, case["attempts"].as_u64() > Some(0)),
            (ran, ran),
            "{case}"
        );
        for run in runs {
            let report = place
                .at("store/runs")
                .join(run["id"].as_str().unwrap())
                .join("run_report.json");
            let digest = sr_common::Digest::of(&fs::read(report).unwrap());
            assert_eq!(run["report"], digest.to_string());
        }
    }
    place.nothing_stays(&place.runs());

    // What the report attests is what was printed, and travels with it.
    let id = found["report"]["id"].as_str().unwrap();
    let attested = place.at("store/runs").join(id).join("attack.json");
    let kept: Value = serde_json::from_slice(&fs::read(&attested).unwrap()).unwrap();
    assert_eq!(kept, found["results"]);
    assert_eq!(place.safe_run(&["report", "verify"]).status.code(), Some(0));
    let report = place.at("r.json").to_str().unwrap().to_owned();
    assert_eq!(
        place.safe_run(&["report", "export", "last", &report]).status.code(),
        Some(0)
    );
    assert_eq!(place.safe_run(&["report", "verify", &report]).status.code(), Some(0));
    let statement = fs::read_to_string(place.at("store/runs").join(id).join("attestation.sigstore.json")).unwrap();
    assert!(statement.contains("dsseEnvelope"), "{statement}");

    for file in [attested, place.at("r.json.evidence/attack.json")] {
        let whole = fs::read(&file).unwrap();
        let mut changed = whole.clone();
        let at = changed.windows(6).position(|w| w == b"\"held\"").unwrap();
        changed[at + 1] = b'H';
        fs::write(&file, changed).unwrap();
        let of = if file.starts_with(place.at("store")) {
            "last"
        } else {
            &report
        };
        let verified = place.safe_run(&["report", "verify", of]);
        assert_eq!(verified.status.code(), Some(1));
        assert!(
            String::from_utf8_lossy(&verified.stderr).contains("attack.json"),
            "{verified:?}"
        );
        fs::write(&file, whole).unwrap();
        assert_eq!(place.safe_run(&["report", "verify", of]).status.code(), Some(0));
    }

    // Another run is none of its.
    assert_eq!(place.safe_run(&["run", "--quiet", "--", "true"]).status.code(), Some(0));
    assert_eq!(place.safe_run(&["discard", id]).status.code(), Some(0));
    assert_eq!(place.runs().len(), 1);
}

#[test]
fn what_a_policy_lets_out_is_seen() {
    let place = Place::new();
    let here = place.at("t");
    let policy = place.policy(&format!("mounts: [{{source: {}, readOnly: false}}]", here.display()));
    // Without a compiler: what is in shell and in Python is enough.
    let attack = |words: &[&str]| {
        let mut command = place.command(&[&["doctor", "--attack"], words].concat());
        command.env("PATH", "/nonexistent").output().unwrap()
    };
    let output = attack(&["--policy", &policy, "--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let found = json(&output);
    let by_name = cases(&found).iter().find(|c| c["id"] == "filesystem/by_name").unwrap();
    assert_eq!(by_name["outcome"], "escaped", "{by_name}");
    let detail = by_name["detail"].as_str().unwrap();
    assert!(detail.starts_with("read: DIR/public"), "{detail}");
    // It is attested as well as good news is.
    assert_eq!(found["report"]["verification"], "verified");
    let in_c = cases(&found)
        .iter()
        .filter(|c| c["detail"] == "there is no C compiler: no cc on PATH")
        .count();
    assert!(
        in_c >= 50 && found["results"]["counts"]["skipped"] == in_c,
        "{}",
        found["results"]["counts"]
    );
    place.nothing_stays(&place.runs());

    let text = attack(&["--policy", &policy]);
    let said = String::from_utf8_lossy(&text.stdout);
    assert!(
        said.contains("ESCAPED filesystem/by_name: ") && said.contains(" got out."),
        "{said}"
    );
    assert!(
        said.contains(&format!("skipped {in_c}: there is no C compiler: no cc on PATH")),
        "{said}"
    );
    let strict = attack(&["--policy", "strict"]);
    assert_eq!(strict.status.code(), Some(0), "{strict:?}");
    let said = String::from_utf8_lossy(&strict.stdout);
    assert!(said.contains("Nothing that ran got out."), "{said}");
}

#[test]
fn what_the_view_cannot_run_is_skipped_by_name() {
    let place = Place::new();
    let root = place.at("root");
    fs::create_dir_all(root.join("tmp")).unwrap();
    let policy = place.policy(&format!(
        "rootfs: {{source: dir, path: {}}}\nmounts: []",
        root.display()
    ));
    let output = place.safe_run(&["doctor", "--attack", "--policy", &policy, "--json"]);
    let found = json(&output);
    let mut skipped = 0;
    for case in cases(&found).iter().filter(|c| c["outcome"] == "skipped") {
        skipped += 1;
        let why = case["detail"].as_str().unwrap();
        let missing = [
            "/usr/bin/python3",
            "/bin/sh",
            "no C compiler",
            "does not run in the view",
            "cannot compile",
        ];
        assert!(missing.iter().any(|word| why.contains(word)), "{case}");
        assert_eq!(case["runs"].as_array().unwrap().len(), 0);
    }
    assert_eq!(found["results"]["counts"]["skipped"], skipped);
    assert!(skipped >= 5, "{skipped}");
    // Whether programs in C can be made that need nothing of the view is the host's matter.
    let ran = skipped < cases(&found).len();
    assert_eq!(output.status.code(), Some(i32::from(!ran)));
    assert_eq!(found["report"].is_null(), !ran);
    place.nothing_stays(&place.runs());
}

#[test]
fn nothing_stays_of_what_was_interrupted() {
    let place = Place::new();
    let mut child = place
        .command(&["doctor", "--attack"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while place.runs().len() < 3 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    let seen = place.runs();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(place.runs(), [] as [&str; 0]);
    place.nothing_stays(&seen);
}

#[test]
fn results_are_the_attacks_own() {
    let place = Place::new();
    let file = place.at("attack.json");
    fs::write(&file, r#"{"kind":"AttackResults"}"#).unwrap();
    let words = ["run", "--attack-results", file.to_str().unwrap(), "--", "true"];
    assert_eq!(place.safe_run(&words).status.code(), Some(125));
    assert_eq!(place.safe_run(&["doctor", "--policy", "strict"]).status.code(), Some(2));
}
