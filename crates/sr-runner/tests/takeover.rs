//! Taking changes over: only what the evidence vouches for, recorded, and with the host's own changes respected, also
//! over the runs of a session.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use rustix::fs::XattrFlags;
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use support::{Place, Ran, Test, fail, skip};

fn main() {
    support::main(&[
        ("a_changed_layer_is_refused", a_changed_layer_is_refused),
        ("a_layer_that_is_gone_is_refused", a_layer_that_is_gone_is_refused),
        ("changed_evidence_is_refused", changed_evidence_is_refused),
        (
            "what_is_put_beside_a_run_without_changes_is_ignored",
            planted_beside_nothing,
        ),
        ("an_unknown_signer_is_refused", an_unknown_signer_is_refused),
        ("an_unsigned_run_is_compared_and_said_to_be_unsigned", an_unsigned_run),
        ("approvals_are_shown_verified_and_taken_out", approvals_are_shown),
        ("changed_approvals_are_found", changed_approvals_are_found),
        ("a_refusal_is_recorded", a_refusal_is_recorded),
        ("another_key_can_approve", another_key_can_approve),
        ("a_killed_apply_leaves_its_intent", a_killed_apply_leaves_its_intent),
        ("two_at_once_are_one_after_the_other", two_at_once),
        (
            "host_changes_between_runs_of_a_session_are_conflicts",
            conflicts_of_a_session,
        ),
        ("an_applied_session_begins_anew", an_applied_session_begins_anew),
        (
            "what_was_written_just_before_a_session_is_no_conflict",
            written_just_before,
        ),
        ("a_session_keeps_what_is_left", a_session_keeps_what_is_left),
        (
            "a_session_goes_on_and_its_older_runs_are_refused",
            older_runs_of_a_session,
        ),
        ("a_killed_run_of_a_session_is_not_taken_over", a_killed_run_of_a_session),
        ("sessions_of_two_directories_stay_apart", sessions_of_two_directories),
        (
            "the_last_run_of_a_session_takes_its_layers_away",
            the_last_run_of_a_session,
        ),
    ]);
}

fn shell(place: &Place, script: &str) -> Test {
    place.run(&["--", "sh", "-c", script]).ok()
}

fn session(place: &Place, script: &str) -> Test {
    place.run(&["--session", "s", "--", "sh", "-c", script]).ok()
}

fn text(place: &Place, name: &str) -> Result<String, support::End> {
    Ok(fs::read_to_string(place.project.join(name))?)
}

fn upper(place: &Place) -> PathBuf {
    place.last_run().join("layers/0/upper")
}

/// Instants of files and instants of runs are told apart by milliseconds.
fn later() {
    std::thread::sleep(Duration::from_millis(30));
}

/// The lines of the last run's record.
fn record(place: &Place) -> Vec<Value> {
    let text = fs::read_to_string(place.last_run().join("approvals.jsonl")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn kinds(place: &Place) -> Vec<String> {
    let kind = |line: &Value| line["event"]["type"].as_str().unwrap_or_default().to_owned();
    record(place).iter().map(kind).collect()
}

/// Refused with this code and these words, and with nothing on the host or in the record.
fn refused(place: &Place, words: &[&str]) -> Test {
    let ran = place.tell(&["apply", "--yes"]);
    ensure!(ran.status == 1 && ran.err.contains("SR-EVD-003"), "{words:?}: {ran}");
    for word in words {
        ensure!(ran.err.contains(word), "{word:?}: {ran}");
    }
    ensure!(text(place, "edit")? == "host\n", "{words:?}: something was applied");
    ensure!(!place.project.join("new").exists(), "{words:?}: something was applied");
    ensure!(record(place).is_empty(), "{words:?}: recorded");
    Ok(())
}

type Change = fn(&Path) -> std::io::Result<()>;

fn a_changed_layer_is_refused(place: &Place) -> Test {
    place.write("edit", "host\n");
    place.write("gone", "host\n");
    shell(
        place,
        "echo run > edit; rm gone; mkdir d; echo n > d/f; echo n > new; ln -s edit link; mkfifo pipe",
    )?;
    let upper = upper(place);
    let whole = place.root().join("whole");
    let copy = |from: &Path, to: &Path| -> Test {
        let mut command = place.command("cp");
        support::end(
            {
                command.arg("-a").arg(from).arg(to);
                command
            },
            b"",
            support::LIMIT,
        )
        .ok()
    };
    copy(upper.parent().unwrap(), &whole)?;
    let changes: [(&str, &str, Change); 9] = [
        ("edit", "other content", |u| fs::write(u.join("edit"), "ruN\n")),
        ("d/f", "mode", |u| {
            fs::set_permissions(u.join("d/f"), fs::Permissions::from_mode(0o755))
        }),
        ("link", "points to", |u| {
            fs::remove_file(u.join("link"))?;
            symlink("/etc/passwd", u.join("link"))
        }),
        ("d/f", "no longer in the layer", |u| fs::remove_file(u.join("d/f"))),
        ("d/extra", "not recorded", |u| fs::write(u.join("d/extra"), "")),
        ("gone", "was recorded as deleted", |u| {
            fs::remove_file(u.join("gone"))?;
            fs::write(u.join("gone"), "back\n")
        }),
        ("new", "recorded as a file", |u| {
            fs::remove_file(u.join("new"))?;
            fs::create_dir(u.join("new"))
        }),
        ("d", "shows other parts", |u| {
            // A new directory is opaque by itself, or is not; either way this is another.
            let mark = "user.overlay.opaque";
            match rustix::fs::removexattr(u.join("d"), mark) {
                Ok(()) => Ok(()),
                Err(_) => Ok(rustix::fs::setxattr(u.join("d"), mark, b"y", XattrFlags::empty())?),
            }
        }),
        // What the layer itself cannot hold stands beside it.
        ("pipe", "no longer in the layer", |u| {
            let path = u.with_file_name("upper.manifest.jsonl");
            let kept: Vec<String> = fs::read_to_string(&path)?
                .lines()
                .filter(|line| !line.contains("pipe"))
                .map(str::to_owned)
                .collect();
            fs::write(path, kept.join("\n"))
        }),
    ];
    for (path, words, change) in changes {
        change(&upper)?;
        refused(place, &[path, words, "safe-run discard"])?;
        let diff = place.tell(&["diff"]);
        diff.ok()?;
        ensure!(
            diff.err.contains(&format!("warning: {path}: the stored layer differs")),
            "{path}: {diff}"
        );
        fs::remove_dir_all(upper.parent().unwrap())?;
        copy(&whole, upper.parent().unwrap())?;
    }
    let diff = place.tell(&["diff"]);
    ensure!(diff.status == 0 && !diff.err.contains("warning"), "{diff}");
    place.tell(&["apply", "--yes"]).ok()?;
    ensure!(text(place, "edit")? == "run\n", "the layer is whole again");
    // After some of it was applied, the layer is still the one that was recorded.
    place.tell(&["apply", "--yes"]).ok()
}

fn a_layer_that_is_gone_is_refused(place: &Place) -> Test {
    place.write("edit", "host\n");
    shell(place, "echo run > edit")?;
    fs::remove_dir_all(upper(place))?;
    refused(place, &["is gone from the store"])
}

fn planted_beside_nothing(place: &Place) -> Test {
    place.write("edit", "host\n");
    shell(place, "true")?;
    ensure!(!place.last_run().join("changes.json").exists(), "a manifest of nothing");
    fs::create_dir_all(upper(place))?;
    fs::write(upper(place).join("edit"), "planted\n")?;
    fs::write(upper(place).join("new"), "planted\n")?;
    for command in ["diff", "apply --yes"] {
        let words: Vec<&str> = command.split(' ').collect();
        let ran = place.tell(&words);
        ensure!(!format!("{ran}").contains("planted"), "{command}: {ran}");
    }
    ensure!(
        text(place, "edit")? == "host\n" && !place.project.join("new").exists(),
        "it was applied"
    );
    Ok(())
}

fn changed_evidence_is_refused(place: &Place) -> Test {
    place.write("edit", "host\n");
    shell(place, "echo run > edit; echo new > new")?;
    for name in [
        "changes.json",
        "run_report.json",
        "bundle.json",
        "events.jsonl",
        "attestation.sigstore.json",
    ] {
        let path = place.last_run().join(name);
        let whole = fs::read(&path)?;
        let mut bad = whole.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(&path, &bad)?;
        refused(place, &[name])?;
        fs::remove_file(&path)?;
        refused(place, &[])?;
        fs::write(&path, &whole)?;
    }
    place.tell(&["apply", "--yes"]).ok()?;
    ensure!(text(place, "new")? == "new\n", "all is whole again");
    Ok(())
}

fn an_unknown_signer_is_refused(place: &Place) -> Test {
    place.write("edit", "host\n");
    shell(place, "echo run > edit")?;
    // As if somebody had written all of it anew, with a key of their own.
    fs::rename(&place.keys, place.root().join("elsewhere"))?;
    refused(place, &["signer unknown"])
}

fn an_unsigned_run(place: &Place) -> Test {
    place.write("edit", "host\n");
    place.run(&["--no-sign", "--", "sh", "-c", "echo run > edit"]).ok()?;
    fs::write(upper(place).join("edit"), "ruN\n")?;
    refused(place, &["edit", "other content"])?;
    fs::write(upper(place).join("edit"), "run\n")?;
    let ran = place.tell(&["apply", "--yes"]);
    ran.ok()?;
    ensure!(ran.err.contains("not signed"), "{ran}");
    ensure!(text(place, "edit")? == "run\n", "{ran}");
    let signatures = record(place)
        .iter()
        .all(|line| line["signatures"] == Value::Array(Vec::new()));
    ensure!(signatures, "{:?}", record(place));
    let verified = place.tell(&["report", "verify"]);
    ensure!(
        verified.status == 1 && verified.out.contains("1 approval"),
        "{verified}"
    );
    ensure!(verified.err.contains("not signed"), "{verified}");
    Ok(())
}

fn approvals_are_shown(place: &Place) -> Test {
    place.write("Makefile", "all:\n");
    shell(place, "echo a > a; echo x >> Makefile")?;
    place.tell(&["apply", "--yes"]).ok()?;
    place.tell(&["apply", "last", "Makefile", "--yes"]).ok()?;
    let show = place.tell(&["show"]);
    let lines: Vec<&str> = show.out.lines().filter(|l| l.starts_with("approval ")).collect();
    ensure!(lines.len() == 2, "{show}");
    let uid = rustix::process::getuid().as_raw();
    ensure!(lines[0].contains(&format!("(uid {uid}")), "{show}");
    ensure!(lines[0].ends_with("1 change applied, 1 refused"), "{show}");
    ensure!(lines[1].ends_with("1 change applied, 1 named"), "{show}");
    let record = record(place);
    ensure!(
        kinds(place) == ["apply.intent", "apply.outcome", "apply.intent", "apply.outcome"],
        "{record:?}"
    );
    let report = place.report();
    let intent = &record[0]["event"];
    ensure!(intent["prev"] == report["evidence"]["chainHead"], "{intent}");
    ensure!(
        intent["data"]["manifest"] == report["digests"]["capturedChanges"],
        "{intent}"
    );
    ensure!(intent["data"]["directories"][0]["paths"][0] == "a", "{intent}");
    ensure!(
        record[1]["event"]["data"]["directories"][0]["refused"][0]["path"] == "Makefile",
        "{record:?}"
    );
    ensure!(
        record[2]["event"]["data"]["directories"][0]["named"][0] == "Makefile",
        "{record:?}"
    );
    let out = place.root().join("out.json");
    let out = out.to_str().expect("UTF-8");
    place.tell(&["report", "export", "last", out]).ok()?;
    for what in ["last", out] {
        let verified = place.tell(&["report", "verify", what]);
        verified.ok()?;
        ensure!(verified.out.contains("2 approvals"), "{verified}");
    }
    Ok(())
}

fn changed_approvals_are_found(place: &Place) -> Test {
    shell(place, "echo a > a; echo b > b; echo c > c")?;
    for name in ["a", "b", "c"] {
        place.tell(&["apply", "last", name, "--yes"]).ok()?;
    }
    let path = place.last_run().join("approvals.jsonl");
    let whole = fs::read_to_string(&path)?;
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    ensure!(lines.len() == 6, "{whole}");
    let cases = [
        (whole.replacen("\"a\"", "\"z\"", 1), "approvals.jsonl:1"),
        (lines[1..].concat(), "approvals.jsonl:1"),
        ([&lines[..2], &lines[4..]].concat().concat(), "approvals.jsonl:3"),
        (
            [&lines[..2], &lines[4..], &lines[2..4]].concat().concat(),
            "approvals.jsonl:3",
        ),
    ];
    for (bad, at) in cases {
        fs::write(&path, bad)?;
        let verified = place.tell(&["report", "verify"]);
        ensure!(verified.status == 1 && verified.err.contains(at), "{at}: {verified}");
        let apply = place.tell(&["apply", "--yes"]);
        ensure!(apply.status == 1 && apply.err.contains(at), "{at}: {apply}");
        let show = place.tell(&["show"]);
        ensure!(show.out.contains("does not hold"), "{show}");
    }
    // An outcome that was cut off leaves its intent; a whole decision that was cut off leaves nothing.
    fs::write(&path, lines[..5].concat())?;
    let verified = place.tell(&["report", "verify"]);
    ensure!(
        verified.status == 3 && verified.err.contains("approvals.jsonl:5"),
        "{verified}"
    );
    fs::write(&path, lines[..4].concat())?;
    place.tell(&["report", "verify"]).ok()
}

fn a_refusal_is_recorded(place: &Place) -> Test {
    place.write("edit", "one\n");
    shell(place, "echo run > edit; echo new > new")?;
    later();
    place.write("edit", "host\n");
    let ran = place.tell(&["apply", "--yes"]);
    ensure!(ran.status == 1 && ran.err.contains("conflict"), "{ran}");
    ensure!(
        text(place, "edit")? == "host\n" && !place.project.join("new").exists(),
        "{ran}"
    );
    ensure!(kinds(place) == ["apply.refused"], "{:?}", record(place));
    ensure!(
        record(place)[0]["event"]["data"]["refused"][0]["path"] == "edit",
        "{:?}",
        record(place)
    );
    place.tell(&["report", "verify"]).ok()?;
    place.tell(&["apply", "last", "edit", "--yes"]).ok()?;
    ensure!(text(place, "edit")? == "run\n", "named, it is the run's");
    place.tell(&["report", "verify"]).ok()
}

fn another_key_can_approve(place: &Place) -> Test {
    shell(place, "echo a > a")?;
    place
        .tell(&["key", "generate", "boss", "--algorithm", "ed25519"])
        .ok()?;
    let ran = place.tell(&["apply", "--yes", "--key", "nobody"]);
    ensure!(ran.status == 1 && !place.project.join("a").exists(), "{ran}");
    place.tell(&["apply", "--yes", "--key", "boss"]).ok()?;
    place.tell(&["report", "verify"]).ok()?;
    let without = place.tell(&["report", "verify", "last", "--key", "default"]);
    ensure!(
        without.status == 1 && without.err.contains("approver unknown"),
        "{without}"
    );
    place
        .tell(&["report", "verify", "last", "--key", "default", "--key", "boss"])
        .ok()
}

fn a_killed_apply_leaves_its_intent(place: &Place) -> Test {
    shell(
        place,
        "mkdir d; cd d; i=0; while [ $i -lt 3000 ]; do echo $i > $i; i=$((i+1)); done",
    )?;
    let path = place.last_run().join("approvals.jsonl");
    let mut command = place.safe_run(&["apply", "--yes"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let until = Instant::now() + support::LIMIT;
    while !place.project.join("d/1").exists() {
        ensure!(Instant::now() < until, "nothing was applied");
        std::thread::sleep(Duration::from_micros(200));
    }
    ensure!(
        fs::metadata(&path)?.len() > 0,
        "something was applied before it was recorded"
    );
    let pid = Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::KILL)?;
    child.wait()?;
    if kinds(place) != ["apply.intent"] {
        return skip("the apply was over before it could be killed");
    }
    let done = fs::read_dir(place.project.join("d"))?.count();
    ensure!((1..3000).contains(&done), "{done} files");
    let verified = place.tell(&["report", "verify"]);
    ensure!(
        verified.status == 3 && verified.err.contains("approvals.jsonl:1"),
        "{verified}"
    );
    let show = place.tell(&["show"]);
    ensure!(show.out.contains("its end is not recorded"), "{show}");
    // What was written is the record's and is found to be there: the rest follows. Files that the kill left between
    // writing and noting are conflicts, which naming settles.
    place.tell(&["apply", "last", "d", "--yes"]).ok()?;
    let all = (0..3000)
        .all(|i| fs::read_to_string(place.project.join(format!("d/{i}"))).is_ok_and(|t| t == format!("{i}\n")));
    ensure!(all, "not all is there");
    place.tell(&["report", "verify"]).ok()?;
    ensure!(
        kinds(place) == ["apply.intent", "apply.intent", "apply.outcome"],
        "{:?}",
        kinds(place)
    );
    Ok(())
}

fn two_at_once(place: &Place) -> Test {
    shell(place, "echo a > a")?;
    let dir = fs::File::open(place.last_run())?;
    rustix::fs::flock(&dir, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
    for words in [&["apply", "--yes"][..], &["discard"]] {
        let ran = place.tell(words);
        ensure!(ran.status == 1 && ran.err.contains("another process"), "{ran}");
    }
    ensure!(!place.project.join("a").exists(), "applied");
    drop(dir);
    place.tell(&["apply", "--yes"]).ok()
}

// ---- sessions ----

fn conflict(place: &Place, path: &str) -> Result<Ran, support::End> {
    let ran = place.tell(&["apply", "--yes"]);
    if ran.status != 1 || !ran.err.contains(path) || !ran.err.contains("conflict") {
        return fail(format!("no conflict at {path}: {ran}"));
    }
    Ok(ran)
}

fn conflicts_of_a_session(place: &Place) -> Test {
    place.write("edit", "one\n");
    place.write("untouched", "one\n");
    // A run that leaves nothing does not begin the layer.
    session(place, "cat edit")?;
    later();
    place.write("early", "host\n");
    later();
    session(place, "echo run >> edit; echo run > early")?;
    later();
    place.write("edit", "host\n");
    place.write("untouched", "host\n");
    later();
    session(place, "echo second > more")?;
    let ran = conflict(place, "edit")?;
    ensure!(!ran.err.contains("early") && !ran.err.contains("untouched"), "{ran}");
    ensure!(
        text(place, "edit")? == "host\n" && !place.project.join("more").exists(),
        "{ran}"
    );
    let diff = place.tell(&["diff", "--names"]);
    ensure!(
        diff.out
            .contains("conflict: changed on the host since the capture began"),
        "{diff}"
    );
    place.tell(&["apply", "last", "edit", "--yes"]).ok()?;
    ensure!(text(place, "edit")? == "one\nrun\n", "named, it is the run's");
    place.tell(&["apply", "--yes"]).ok()?;
    ensure!(
        text(place, "more")? == "second\n" && text(place, "early")? == "run\n",
        "the rest"
    );
    place.tell(&["report", "verify"]).ok()
}

fn an_applied_session_begins_anew(place: &Place) -> Test {
    place.write("edit", "one\n");
    session(place, "echo run >> edit")?;
    place.tell(&["apply", "--yes"]).ok()?;
    let again = place.tell(&["apply", "--yes"]);
    ensure!(
        again.status == 0 && again.err.contains("nothing was changed"),
        "{again}"
    );
    let diff = place.tell(&["diff"]);
    ensure!(
        diff.status == 0 && diff.out.contains("nothing was changed") && !diff.err.contains("warning"),
        "{diff}"
    );
    // What the host changes between is what the next run sees, and no conflict.
    later();
    place.write("edit", "host\n");
    later();
    session(place, "echo run >> edit")?;
    place.tell(&["apply", "--yes"]).ok()?;
    ensure!(text(place, "edit")? == "host\nrun\n", "{:?}", text(place, "edit")?);
    place.nothing_left()
}

/// The time at which the layer was made lags behind that of a file written a moment before.
fn written_just_before(place: &Place) -> Test {
    for round in 0..10 {
        place.write("edit", "one\n");
        let name = format!("s{round}");
        place
            .run(&["--session", &name, "--", "sh", "-c", "echo run >> edit"])
            .ok()?;
        place.tell(&["apply", "--yes"]).ok()?;
    }
    Ok(())
}

fn a_session_keeps_what_is_left(place: &Place) -> Test {
    place.write("edit", "one\n");
    place.write("Makefile", "all:\n");
    session(place, "echo run > edit; echo x >> Makefile")?;
    place.tell(&["apply", "--yes"]).ok()?;
    later();
    // The layer goes on with its own version of this file, which the next run sees: a conflict.
    place.write("edit", "host\n");
    later();
    let ran = place.run(&["--session", "s", "--", "cat", "edit", "Makefile"]);
    ensure!(ran.out == "run\nall:\nx\n", "{ran}");
    conflict(place, "edit").map(drop)
}

fn older_runs_of_a_session(place: &Place) -> Test {
    session(place, "echo one > a")?;
    let first = place.last_run();
    session(place, "echo two > a")?;
    let id = first.file_name().and_then(|n| n.to_str()).expect("an id").to_owned();
    let ran = place.tell(&["apply", &id, "--yes"]);
    ensure!(
        ran.status == 1 && ran.err.contains("SR-EVD-003 a:") && ran.err.contains("later run of session s"),
        "{ran}"
    );
    ensure!(!place.project.join("a").exists(), "{ran}");
    place.tell(&["apply", "--yes"]).ok()?;
    ensure!(text(place, "a")? == "two\n", "the newest run's");
    Ok(())
}

/// Where the only session's first layer is.
fn session_layer(place: &Place) -> Option<PathBuf> {
    let mut keys = fs::read_dir(place.store.join("sessions/s")).ok()?.flatten();
    Some(keys.next()?.path().join("0/upper"))
}

/// Starts a run of the session that writes `name`, and kills its supervisor once that is written.
fn killed_session(place: &Place, name: &str) -> Test {
    let script = format!("echo killed > {name}; sleep 60");
    let mut command = place.safe_run(&["run", "--session", "s", "--", "sh", "-c", &script]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let until = Instant::now() + support::LIMIT;
    while !session_layer(place).is_some_and(|upper| fs::metadata(upper.join(name)).is_ok_and(|m| m.len() > 0)) {
        ensure!(Instant::now() < until, "{name} was not written");
        std::thread::sleep(Duration::from_millis(2));
    }
    rustix::process::kill_process(Pid::from_child(&child), Signal::KILL)?;
    child.wait()?;
    // What the supervisor held is held until the sandbox has died after it.
    let folder = fs::File::open(place.store.join("sessions/s"))?;
    while rustix::fs::flock(&folder, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        ensure!(Instant::now() < until, "the session is still locked");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn a_killed_run_of_a_session(place: &Place) -> Test {
    place.write("early", "one\n");
    killed_session(place, "early")?;
    let ran = place.tell(&["apply", "--yes"]);
    ensure!(ran.status == 1 && ran.err.contains("did not come to its end"), "{ran}");
    let diff = place.tell(&["diff"]);
    ensure!(diff.out.contains("early") && diff.err.contains("warning: "), "{diff}");
    later();
    place.write("early", "host\n");
    later();
    session(place, "echo whole > whole")?;
    // The killed run began the layer, although it left no word of it: the host's change is a conflict.
    conflict(place, "early")?;
    place.tell(&["apply", "last", "whole", "--yes"]).ok()?;
    ensure!(
        text(place, "whole")? == "whole\n" && text(place, "early")? == "host\n",
        "only what was named"
    );
    // A kill later on: what was recorded is no more what is there, until a run comes to its end.
    let whole = place.last_run();
    killed_session(place, "late")?;
    let id = whole.file_name().and_then(|n| n.to_str()).expect("an id").to_owned();
    let ran = place.tell(&["apply", &id, "--yes"]);
    ensure!(
        ran.status == 1 && ran.err.contains("late") && ran.err.contains("run --session s -- true"),
        "{ran}"
    );
    session(place, "true")?;
    place.tell(&["apply", "last", "late", "--yes"]).ok()?;
    ensure!(text(place, "late")? == "killed\n", "it was looked at and named");
    place.nothing_left()
}

fn sessions_of_two_directories(place: &Place) -> Test {
    session(place, "echo one > note")?;
    let other = place.root().join("other");
    fs::create_dir(&other)?;
    let mut command = place.safe_run(&["run", "--session", "s", "--", "ls"]);
    command.current_dir(&other);
    let ran = support::end(command, b"", support::LIMIT);
    ran.ok()?;
    ensure!(
        ran.out.is_empty(),
        "the other directory's captured writes are shown: {ran}"
    );
    let ran = place.run(&["--session", "s", "--", "cat", "note"]);
    ensure!(ran.out == "one\n", "{ran}");
    Ok(())
}

fn the_last_run_of_a_session(place: &Place) -> Test {
    session(place, "echo one > note")?;
    session(place, "mkdir d; echo two > d/two; chmod 0 d")?;
    let ran = place.tell(&["discard"]);
    ensure!(ran.status == 0 && !ran.out.contains("session"), "{ran}");
    let ran = place.run(&["--session", "s", "--", "cat", "note"]);
    ensure!(
        ran.out == "one\n",
        "another run of the session is there, so its layer is: {ran}"
    );
    place.tell(&["discard"]).ok()?;
    let ran = place.tell(&["discard"]);
    ensure!(ran.out.contains("session s is empty"), "{ran}");
    let ran = place.run(&["--session", "s", "--", "cat", "note"]);
    ensure!(ran.status != 0, "{ran}");
    Ok(())
}
