//! `safe-run learn` with real programs: what it writes lets them run, is the same each time, and lets nothing else happen.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use rustix::process::Signal;
use std::fs;
use support::{Going, Place, Ran, Test, end, fail, needs, slow};

fn main() {
    support::main(&[
        ("a_c_program", a_c_program),
        ("a_python_script", a_python_script),
        ("git", git),
        ("gcc", gcc),
        ("curl", curl),
        ("what_was_not_learned_is_denied", what_was_not_learned_is_denied),
        ("names_of_every_kind_may_be_made", names_of_every_kind_may_be_made),
        ("what_was_changed_may_be_changed", what_was_changed_may_be_changed),
        ("several_runs_are_learned_together", several_runs_are_learned_together),
        ("what_was_seen_is_attested", what_was_seen_is_attested),
        (
            "an_exported_profile_holds_under_runc",
            an_exported_profile_holds_under_runc,
        ),
        ("an_exported_profile_comes_back", an_exported_profile_comes_back),
        ("what_cannot_be_learned_is_said", what_cannot_be_learned_is_said),
        ("a_killed_learner_leaves_no_file", a_killed_learner_leaves_no_file),
    ]);
}

/// `safe-run learn WORDS`, which runs the command many times.
fn learn(place: &Place, words: &[&str]) -> Ran {
    end(
        place.safe_run(&[&["learn"], words].concat()),
        b"",
        slow(support::LIMIT) * 3,
    )
}

/// Learned twice: the same bytes. Run under what was learned: 20 times of 20 as it was. Gives the number of system calls.
fn learned(place: &Place, command: &[&str]) -> Result<u64, support::End> {
    let with = |options: &[&str]| learn(place, &[options, &["--"], command].concat());
    with(&["--out", "first.yaml"]).ok()?;
    let ran = with(&["--out", "second.yaml", "--verify", "20"]);
    ran.ok()?;
    ensure!(ran.err.contains("verified 20 of 20 times"), "{ran}");
    let read = |name: &str| fs::read_to_string(place.project.join(name));
    let (first, second) = (read("first.yaml")?, read("second.yaml")?);
    ensure!(first == second, "learned twice:\n{first}\n{second}");
    place.tell(&["validate", "first.yaml"]).ok()?;
    let said = ran.err.split("the closure has ").nth(1).unwrap_or_default();
    let Some(calls) = said.split(' ').next().and_then(|n| n.parse().ok()) else {
        return fail(format!("no size is told: {ran}"));
    };
    Ok(calls)
}

fn a_c_program(place: &Place) -> Test {
    needs(place, "cc")?;
    place.write(
        "h.c",
        "#include <stdio.h>\nint main(void) { puts(\"hi\"); return 0; }\n",
    );
    end(
        {
            let mut cc = place.command("cc");
            cc.args(["h.c", "-o", "h"]);
            cc
        },
        b"",
        support::LIMIT,
    )
    .ok()?;
    let calls = learned(place, &["./h"])?;
    ensure!(calls <= 35, "{calls} system calls");
    // Its library and what the library's loader reads, and nothing to change.
    let policy = fs::read_to_string(place.project.join("first.yaml"))?;
    let files = policy
        .split("files:\n")
        .nth(1)
        .and_then(|rest| rest.split("resources:").next());
    let files = files.unwrap_or_default();
    ensure!(
        files.contains("/libc.so.6") && files.matches(" /").count() <= 3 && files.contains("write: []"),
        "{policy}"
    );
    Ok(())
}

fn a_python_script(place: &Place) -> Test {
    needs(place, "python3")?;
    place.write(
        "s.py",
        "import json, pathlib\npathlib.Path('out.json').write_text(json.dumps({'n': list(range(10))}))\nprint('done')\n",
    );
    learned(place, &["/usr/bin/python3", "s.py"]).map(drop)
}

fn git(place: &Place) -> Test {
    needs(place, "git")?;
    let script = "git init -q repo && cd repo && echo a > a && git add a && \
                  git -c user.name=a -c user.email=a@example.com commit -q -m a";
    let mut sh = place.command("sh");
    sh.args(["-c", script]);
    end(sh, b"", support::LIMIT).ok()?;
    learned(place, &["git", "-C", "repo", "log", "--stat"]).map(drop)
}

fn gcc(place: &Place) -> Test {
    needs(place, "gcc")?;
    place.write("h.c", "int main(void) { return 0; }\n");
    learned(place, &["gcc", "-O1", "h.c", "-o", "h"]).map(drop)
}

fn curl(place: &Place) -> Test {
    needs(place, "curl")?;
    let page = place.write("page", "hello\n");
    learned(place, &["curl", "-s", &format!("file://{}", page.display())]).map(drop)
}

fn what_was_not_learned_is_denied(place: &Place) -> Test {
    needs(place, "python3")?;
    learn(
        place,
        &[
            "--out",
            "p.yaml",
            "--",
            "/usr/bin/python3",
            "-c",
            "import socket, fcntl, os; print(1)",
        ],
    )
    .ok()?;
    let under = |script: &str| place.run(&["--policy", "./p.yaml", "--", "/usr/bin/python3", "-c", script]);
    under("import socket, fcntl, os; print(1)").ok()?;
    let ran = under("import socket, fcntl, os; socket.socketpair()");
    ran.ended(1)?;
    ensure!(ran.err.contains("syscalls: {allow: [socketpair]}"), "{ran}");
    // The call was learned, and not this use of it: FIONREAD.
    let ran = under("import socket, fcntl, os; fcntl.ioctl(0, 0x541b, b'1234')");
    ran.ended(1)?;
    ensure!(ran.err.contains("arguments: {ioctl: […, 21531]}"), "{ran}");
    for open in ["'/etc/hostname'", "'p.yaml'", "'x', 'w'", "'/tmp/x', 'w'"] {
        let ran = under(&format!("import socket, fcntl, os; open({open})"));
        ran.ended(1)?;
        ensure!(ran.err.contains("PermissionError: [Errno 13]"), "{open}: {ran}");
    }
    place.nothing_left()
}

/// What is saved is saved again, under another name too; what is nowhere near is not.
/// Names that are made by other calls than open: links, pipes, sockets. What the policy beneath denied is denied again, and
/// no difference.
fn names_of_every_kind_may_be_made(place: &Place) -> Test {
    needs(place, "python3")?;
    let script = "import os, socket, shutil\n\
        shutil.rmtree('d', ignore_errors=True); os.makedirs('d/e')\n\
        open('d/f', 'w').close(); os.link('d/f', 'd/g'); os.symlink('f', 'd/h'); os.mkfifo('d/e/p')\n\
        socket.socket(socket.AF_UNIX).bind('d/e/s')\n\
        try: socket.socket(socket.AF_INET)\n\
        except OSError: pass\n\
        print(sorted(os.listdir('d')), sorted(os.listdir('d/e')))";
    let ran = learn(
        place,
        &[
            "--out",
            "p.yaml",
            "--verify",
            "2",
            "--",
            "/usr/bin/python3",
            "-c",
            script,
        ],
    );
    ran.ok()?;
    ensure!(ran.err.contains("verified 2 of 2 times"), "{ran}");
    ensure!(
        ran.out.starts_with("['e', 'f', 'g', 'h'] ['p', 's']\n")
            && ran.err.contains("denied while learning: socket AF_INET"),
        "{ran}"
    );
    // Git is told that it cannot link, while it is watched too.
    needs(place, "git")?;
    let script = "rm -rf repo copy; git init -q repo && cd repo && echo a > a && git add a && \
                  git -c user.name=a -c user.email=a@example.com commit -q -m a && git clone -q . ../copy";
    let ran = learn(place, &["--out", "p.yaml", "--verify", "2", "--", "sh", "-c", script]);
    ran.ok()?;
    ensure!(ran.err.contains("verified 2 of 2 times"), "{ran}");
    place.nothing_left()
}

fn what_was_changed_may_be_changed(place: &Place) -> Test {
    needs(place, "python3")?;
    place.write("out/old", "old");
    place.write("other", "other");
    let script =
        "import os, sys; open('out/' + sys.argv[1], 'w').write('x'); os.replace('out/' + sys.argv[1], 'out/old')";
    let python = ["/usr/bin/python3", "-c", script];
    learn(place, &[&["--out", "p.yaml", "--"], &python[..], &["a"]].concat()).ok()?;
    let policy = place.project.join("p.yaml");
    let under = |words: &[&str]| place.run(&[&["--policy", policy.to_str().unwrap(), "--"], words].concat());
    under(&[&python[..], &["b"]].concat()).ok()?;
    let ran = under(&["/usr/bin/python3", "-c", "open('other', 'w')"]);
    ran.ended(1)?;
    ensure!(ran.err.contains("PermissionError: [Errno 13]"), "{ran}");
    place.nothing_left()
}

fn several_runs_are_learned_together(place: &Place) -> Test {
    needs(place, "python3")?;
    let script = |what: &str| format!("import os; {what}; print(1)");
    let (first, second) = (script("os.getpgid(0)"), script("os.getsid(0)"));
    learn(place, &["--out", "one.yaml", "--", "/usr/bin/python3", "-c", &first]).ok()?;
    let words = [
        "--with",
        "last",
        "--out",
        "both.yaml",
        "--",
        "/usr/bin/python3",
        "-c",
        &second,
    ];
    learn(place, &words).ok()?;
    let both = fs::read_to_string(place.project.join("both.yaml"))?;
    let one = fs::read_to_string(place.project.join("one.yaml"))?;
    ensure!(one.contains("getpgid") && !one.contains("getsid"), "{one}");
    ensure!(both.contains("getpgid") && both.contains("getsid"), "{both}");
    for script in [&first, &second] {
        place
            .run(&["--policy", "./both.yaml", "--", "/usr/bin/python3", "-c", script])
            .ok()?;
    }
    Ok(())
}

fn what_was_seen_is_attested(place: &Place) -> Test {
    learn(place, &["--out", "p.yaml", "--", "true"]).ok()?;
    place.tell(&["report", "verify", "last"]).ok()?;
    let seen = place.last_run().join("observed.json");
    let text = fs::read_to_string(&seen)?;
    ensure!(text.contains("\"execve\"") || text.contains("\"mmap\""), "{text}");
    fs::write(&seen, text.replace("\"mmap\"", "\"mmaq\""))?;
    let ran = place.tell(&["report", "verify", "last"]);
    ensure!(ran.status == 1 && ran.err.contains("observed.json"), "{ran}");
    Ok(())
}

/// Learned here, loaded there: the program runs, and what it did not do while it was watched it cannot do.
fn an_exported_profile_holds_under_runc(place: &Place) -> Test {
    if !support::is_root() {
        return support::skip("runc is started by root here");
    }
    needs(place, "runc")?;
    needs(place, "cc")?;
    // With an argument it asks for more than it was seen to.
    let source = "#include <stdio.h>\n#include <sys/socket.h>\n\
        int main(int argc, char **argv) { int fds[2]; puts(\"hi\");\n\
        if (argc > 1 && socketpair(AF_UNIX, SOCK_STREAM, 0, fds)) { perror(\"socketpair\"); return 7; } return 0; }\n";
    place.write("h.c", source);
    let mut cc = place.command("cc");
    cc.args(["-static", "h.c", "-o", "h"]);
    end(cc, b"", support::LIMIT).ok()?;
    learn(place, &["--out", "p.yaml", "--", "./h"]).ok()?;
    let exported = place.tell(&["export", "seccomp", "--policy", "./p.yaml", "--format", "docker"]);
    exported.ok()?;
    let profile: serde_json::Value = serde_json::from_str(&exported.out)?;
    let bundle = place.root().join("bundle");
    fs::create_dir_all(bundle.join("rootfs"))?;
    fs::copy(place.project.join("h"), bundle.join("rootfs/h"))?;
    let runc = |words: &[&str]| {
        let mut runc = place.command("runc");
        runc.args(words).current_dir(&bundle);
        end(runc, b"", support::LIMIT)
    };
    runc(&["spec"]).ok()?;
    let config = bundle.join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(&config)?)?;
    spec["process"]["terminal"] = false.into();
    spec["linux"]["seccomp"] = profile;
    for (args, status) in [(vec!["/h"], 0), (vec!["/h", "more"], 7)] {
        spec["process"]["args"] = args.into();
        fs::write(&config, serde_json::to_vec(&spec)?)?;
        let id = format!("{}-{status}", place.mark());
        let ran = runc(&["run", &id]);
        ensure!(ran.status == status && ran.out == "hi\n", "{ran}");
        ensure!(status == 0 || ran.err.contains("Operation not permitted"), "{ran}");
    }
    Ok(())
}

fn an_exported_profile_comes_back(place: &Place) -> Test {
    needs(place, "python3")?;
    learn(
        place,
        &["--out", "p.yaml", "--", "/usr/bin/python3", "-c", "import fcntl"],
    )
    .ok()?;
    for format in ["oci", "docker", "kubernetes"] {
        let exported = place.tell(&["export", "seccomp", "--policy", "./p.yaml", "--format", format]);
        exported.ok()?;
        let profile = place.write("profile.json", &exported.out);
        let imported = place.tell(&["import", "seccomp", &profile.display().to_string()]);
        imported.ok()?;
        place.write("back.yaml", &imported.out);
        let ran = place.run(&[
            "--policy",
            "./back.yaml",
            "--",
            "/usr/bin/python3",
            "-c",
            "import fcntl",
        ]);
        ran.ok()?;
        let ran = place.run(&[
            "--policy",
            "./back.yaml",
            "--",
            "/usr/bin/python3",
            "-c",
            "import os; os.getpgid(0)",
        ]);
        ensure!(ran.status != 0 && ran.err.contains("denied: getpgid"), "{ran}");
    }
    let ran = place.tell(&["import", "seccomp", "/etc/passwd"]);
    ensure!(ran.status == 2 && ran.err.contains("not JSON"), "{ran}");
    Ok(())
}

fn what_cannot_be_learned_is_said(place: &Place) -> Test {
    let ran = learn(place, &["--", "no-such-program"]);
    ensure!(ran.status != 0 && ran.err.contains("command not found"), "{ran}");
    let ran = learn(place, &[]);
    ensure!(ran.status != 0 && ran.err.contains("nothing to learn"), "{ran}");
    place.run(&["--", "true"]).ok()?;
    let ran = learn(place, &["--with", "last", "--", "true"]);
    ensure!(ran.status != 0 && ran.err.contains("observed.json is missing"), "{ran}");
    // What the policy under which it is watched denies is told, and not learned.
    let ran = learn(place, &["--out", "p.yaml", "--", "cat", "/etc/shadow"]);
    ran.ok()?;
    ensure!(ran.err.contains("denied while learning: openat /etc/shadow"), "{ran}");
    place.nothing_left()
}

/// The policy under which it watches, that of a base with paths of its own, is in no directory.
fn a_killed_learner_leaves_no_file(place: &Place) -> Test {
    let temporary = place.root().join("tmp");
    fs::create_dir(&temporary)?;
    place.write("data/given", "given");
    let base = "apiVersion: safe-run/v1\nmetadata: {name: base}\nextends: ./more.yaml\n\
        runtime: {command: /bin/true, args: []}\nmounts: [{source: ./data, target: /data}]\n";
    place.write("base.yaml", base);
    place.write(
        "more.yaml",
        "apiVersion: safe-run/v1\nmetadata: {name: more}\nextends: standard\nruntime: {args: []}\nmounts: []\n",
    );
    let script = "cat /data/given; ls -l /proc/self/fd; sleep 1";
    let words = [
        "learn",
        "--policy",
        "base.yaml",
        "--out",
        "p.yaml",
        "--",
        "sh",
        "-c",
        script,
    ];
    let mut command = place.safe_run(&words);
    command.env("TMPDIR", &temporary);
    let mut learner = Going::start(command)?;
    let left = || -> Result<Vec<_>, support::End> {
        let entries = fs::read_dir(&temporary)?.collect::<Result<Vec<_>, _>>()?;
        Ok(entries.into_iter().map(|entry| entry.path()).collect())
    };
    ensure!(left()?.is_empty(), "while it watches: {:?}", left()?);
    learner.signal(Signal::KILL)?;
    ensure!(learner.wait()? == 137, "it was not killed");
    ensure!(left()?.is_empty(), "left behind: {:?}", left()?);
    // What it started goes on to its end.
    place.nothing_left()?;
    // The control: left alone it comes to its end, and the program has nothing of the policy's file.
    let ran = learn(place, &words[1..]);
    ran.ok()?;
    ensure!(ran.out.starts_with("given") && !ran.out.contains("memfd"), "{ran}");
    place.nothing_left()
}
