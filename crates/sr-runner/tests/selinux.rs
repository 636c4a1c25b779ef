//! A context that a policy names: it is in force from the first instruction, as the kernel itself says; it denies what the
//! view alone allows; nothing leads out of it; and what does not hold the program is refused. On the rig, where the kernel
//! has SELinux in AppArmor's stead.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use support::selinux::{self, JOB, Permissive, SAFE_RUN, alone, context, enforced, safe_run_in, within};
use support::{End, Going, LIMIT, Place, Ran, Test, end, needs};

fn main() {
    support::main(&[
        ("a_context_of_the_policys", a_context_of_the_policys),
        (
            "a_context_of_the_policys_for_a_user",
            a_context_of_the_policys_for_a_user,
        ),
        ("a_context_with_a_category", a_context_with_a_category),
        ("a_context_that_cannot_be_left", a_context_that_cannot_be_left),
        ("a_context_that_is_not_known", a_context_that_is_not_known),
        ("a_context_that_may_not_be_entered", a_context_that_may_not_be_entered),
        ("a_context_that_only_logs", a_context_that_only_logs),
        ("a_context_on_a_host_that_only_logs", a_context_on_a_host_that_only_logs),
        ("a_context_that_lets_no_signal_in", a_context_that_lets_no_signal_in),
        ("a_context_that_shows_nothing", a_context_that_shows_nothing),
        ("a_context_without_its_streams", a_context_without_its_streams),
        ("a_context_for_who_joins", a_context_for_who_joins),
        ("a_context_for_a_user_who_joins", a_context_for_a_user_who_joins),
        ("a_context_without_an_exec_stop", a_context_without_an_exec_stop),
    ]);
}

/// The view gives `/tmp`; the policy takes one name there away.
const TRY: &str = "for name in kept other; do (: > /tmp/$name) && echo $name; done; tr -d '\\0' < /proc/self/attr/current; echo; \
    exec cat /proc/self/attr/current";

/// What it says of that in `context`.
fn held(context: &str) -> String {
    format!("other\n{context}\n{context}\0")
}

/// `--policy FILE` of one that says `clauses`.
fn policy(place: &Place, clauses: &str) -> [String; 2] {
    let text = format!(
        "apiVersion: safe-run/v1\nmetadata: {{name: m}}\nextends: standard\nruntime: {{command: /bin/true, args: []}}\nmounts: []\n{clauses}\n"
    );
    let file = place.root().join("policy.yaml");
    fs::write(&file, text).expect("a policy");
    ["--policy".into(), file.to_str().expect("UTF-8").into()]
}

/// A policy with that context.
fn of(place: &Place, kind: &str) -> [String; 2] {
    policy(place, &clause(kind))
}

fn clause(kind: &str) -> String {
    format!("mac: {{selinux: {:?}}}", context(kind))
}

/// `run --policy FILE -- COMMAND`.
fn words<'a>(policy: &'a [String; 2], command: &[&'a str]) -> Vec<&'a str> {
    let [flag, file] = policy;
    [&["run", "--quiet", flag, file, "--"], command].concat()
}

fn run_in(place: &Place, domain: &str, policy: &[String; 2], command: &[&str]) -> Ran {
    end(safe_run_in(place, domain, &words(policy, command)), b"", LIMIT)
}

fn run(place: &Place, policy: &[String; 2], command: &[&str]) -> Ran {
    run_in(place, SAFE_RUN, policy, command)
}

/// `safe-run WORDS` in its domain, of an ordinary user.
fn as_nobody(place: &Place, words: &[&str]) -> Result<Command, End> {
    const OTHER: u32 = 65534;
    // His copy, made once: one that runs cannot be written anew.
    let own = place.root().join("safe-run");
    if !own.exists() {
        place.as_nobody()?;
    }
    let mut command = within(place, SAFE_RUN, own, words);
    command.uid(OTHER).gid(OTHER);
    Ok(command)
}

/// The only line about it in `lines`.
fn only_line(lines: &Value) -> Result<&Value, End> {
    let found: Vec<&Value> = lines
        .as_array()
        .into_iter()
        .flatten()
        .filter(|line| line["control"] == "mac")
        .collect();
    ensure!(found.len() == 1, "{found:?} of {lines}");
    Ok(found[0])
}

/// Obligation and posture of the last run say that `context` held it.
fn recorded(place: &Place, context: &str) -> Test {
    let report = place.report();
    let obligation = only_line(&report["obligations"])?;
    ensure!(obligation["enforced"] == true, "{obligation}");
    let line = only_line(&report["posture"])?;
    let observed = format!("attr/current: {context}");
    ensure!(line["holds"] == true && line["observed"] == observed.as_str(), "{line}");
    place.tell(&["report", "verify"]).ok()
}

/// Nothing ran; why is said, and recorded.
fn refused(place: &Place, ran: &Ran, said: &[&str]) -> Test {
    ran.ended(125)?;
    ensure!(ran.out.is_empty(), "{ran}");
    for words in said {
        ensure!(ran.err.contains(words), "{words:?} is not said: {ran}");
    }
    ensure!(place.report()["result"]["cause"] == "supervisor", "{}", place.report());
    place.tell(&["report", "verify"]).ok()?;
    place.nothing_left()
}

fn a_context_of_the_policys(place: &Place) -> Test {
    let _policy = enforced(place)?;
    let ran = run(place, &of(place, JOB), &["sh", "-c", TRY]);
    ran.ok()?;
    ensure!(ran.out == held(&context(JOB)), "{ran}");
    ensure!(ran.err.contains("/tmp/kept: Permission denied"), "{ran}");
    recorded(place, &context(JOB))?;
    // The same view without it.
    let ran = run(place, &policy(place, ""), &["sh", "-c", TRY]);
    ran.ok()?;
    ensure!(ran.out == format!("kept\n{}", held(&context(SAFE_RUN))), "{ran}");
    let doctor = end(safe_run_in(place, SAFE_RUN, &["doctor"]), b"", LIMIT);
    let said = format!("SELinux; safe-run itself is {}\n", context(SAFE_RUN));
    ensure!(doctor.out.contains(&said), "{doctor}");
    place.nothing_left()
}

fn a_context_of_the_policys_for_a_user(place: &Place) -> Test {
    let _policy = enforced(place)?;
    let policy = of(place, JOB);
    let ran = end(as_nobody(place, &words(&policy, &["sh", "-c", TRY]))?, b"", LIMIT);
    ran.ok()?;
    ensure!(ran.out == held(&context(JOB)), "{ran}");
    let line = only_line(&place.report()["posture"])?.clone();
    ensure!(line["holds"] == true, "{line}");
    place.nothing_left()
}

/// The range is part of it: what is of another category may be read and not be written.
fn a_context_with_a_category(place: &Place) -> Test {
    let _policy = enforced(place)?;
    let own = format!("{}:c1", context(JOB));
    let script = "echo x > /tmp/mine; cat /tmp/mine; ls -Z /tmp/mine; exec cat /proc/self/attr/current";
    let clause = format!("mac: {{selinux: {own:?}}}");
    let ran = run(place, &policy(place, &clause), &["sh", "-c", script]);
    ran.ok()?;
    ensure!(
        ran.out.starts_with("x\n") && ran.out.ends_with(&format!("{own}\0")),
        "{ran}"
    );
    recorded(place, &own)?;
    // Another way to write the same is none: what is compared is what the kernel shows.
    let clause = clause.replace(":c1", "-s0");
    let ran = run(place, &policy(place, &clause), &["echo", "started"]);
    refused(
        place,
        &ran,
        &["SR-RUN-002 launch.posture.mac", "as the kernel shows it"],
    )
}

/// A policy that itself lets the program enter another domain: no_new_privs does not.
fn a_context_that_cannot_be_left(place: &Place) -> Test {
    let _policy = enforced(place)?;
    needs(place, "python3")?;
    let other = context(selinux::OTHER);
    let script = "import errno, os, subprocess, sys\n\
        for file in 'current', 'exec':\n\
        \x20   fd = os.open('/proc/self/attr/' + file, os.O_WRONLY)\n\
        \x20   try: os.write(fd, sys.argv[1].encode()); print(file, 'done')\n\
        \x20   except OSError as e: print(file, errno.errorcode[e.errno])\n\
        print(open('/proc/self/attr/current').read().strip('\\0'), flush=True)\n\
        try: os.execvp('cat', ['cat', '/proc/self/attr/current'])\n\
        except OSError as e: print('cat', errno.errorcode[e.errno])";
    let command = ["python3", "-c", script, other.as_str()];
    let ran = run(place, &of(place, JOB), &command);
    ran.ok()?;
    let said = format!("current EACCES\nexec done\n{}\ncat EPERM\n", context(JOB));
    ensure!(ran.out == said, "{ran}");
    recorded(place, &context(JOB))?;
    // Without no_new_privs the policy's own rule is all that counts.
    let ran = end(within(place, JOB, "python3", &command[1..]), b"", LIMIT);
    ensure!(
        ran.out == format!("current EACCES\nexec done\n{}\n{other}\0", context(JOB)),
        "the control: {ran}"
    );
    place.nothing_left()
}

fn a_context_that_is_not_known(place: &Place) -> Test {
    let _policy = enforced(place)?;
    for clauses in [clause("nobody_t"), format!("{}\ndegrade: [mac]", clause("nobody_t"))] {
        let ran = run(place, &policy(place, &clauses), &["echo", "started"]);
        let said = format!(
            "put the program behind the SELinux context {}: Invalid",
            context("nobody_t")
        );
        refused(
            place,
            &ran,
            &["SR-RUN-001 launch.preflight.mac", &said, "knows no such context"],
        )?;
    }
    Ok(())
}

fn a_context_that_may_not_be_entered(place: &Place) -> Test {
    let _policy = enforced(place)?;
    for (kind, said) in [
        (selinux::FORBIDDEN, "Permission denied"),
        (selinux::NEW_PRIVILEGES, "Operation not permitted"),
        (selinux::UNTRACED, "Operation not permitted"),
    ] {
        let ran = run(place, &of(place, kind), &["echo", "started"]);
        let said = format!("SR-RUN-002 launch.exec: cannot execute the program: {said}");
        refused(place, &ran, &[&said, "audit log"])?;
    }
    let ran = run_in(place, selinux::TIED, &of(place, JOB), &["echo", "started"]);
    refused(
        place,
        &ran,
        &["SR-RUN-001 launch.preflight.mac", "Permission denied", "`setexec`"],
    )
}

/// In such a type nothing is denied.
fn a_context_that_only_logs(place: &Place) -> Test {
    let _policy = enforced(place)?;
    let ran = run(place, &of(place, selinux::LOGGED), &["echo", "started"]);
    let shown = format!("attr/current: {}; its type is permissive", context(selinux::LOGGED));
    refused(
        place,
        &ran,
        &["SR-RUN-002 launch.posture.mac", &shown, "semanage permissive -d"],
    )?;
    let line = only_line(&place.report()["posture"])?.clone();
    ensure!(line["holds"] == false, "{line}");
    // That it is so cannot be known where the policy lets nobody ask.
    let ran = run_in(place, selinux::BLIND, &of(place, JOB), &["echo", "started"]);
    refused(
        place,
        &ran,
        &["SR-RUN-002 launch.posture.mac", "cannot be asked", "`compute_av`"],
    )
}

fn a_context_on_a_host_that_only_logs(place: &Place) -> Test {
    let _policy = Permissive::set(place)?;
    let ran = run(place, &of(place, JOB), &["echo", "started"]);
    let found = "SR-RUN-001 launch.preflight.mac: mac.selinux: SELinux only logs here (permissive)";
    refused(place, &ran, &[found, "setenforce 1", "degrade: [mac]"])?;
    let clauses = format!("{}\ndegrade: [mac]", clause(JOB));
    let ran = run(place, &policy(place, &clauses), &["cat", "/proc/self/attr/current"]);
    ran.ok()?;
    ensure!(ran.out == format!("{}\0", context(SAFE_RUN)), "{ran}");
    let report = place.report();
    let obligation = only_line(&report["obligations"])?;
    ensure!(obligation["enforced"] == false, "{obligation}");
    ensure!(
        !report["posture"].to_string().contains("\"mac\""),
        "{}",
        report["posture"]
    );
    let doctor = end(safe_run_in(place, SAFE_RUN, &["doctor"]), b"", LIMIT);
    ensure!(doctor.out.contains("SELinux, permissive: it only logs"), "{doctor}");
    place.nothing_left()
}

/// The program would hear of no request to end.
fn a_context_that_lets_no_signal_in(place: &Place) -> Test {
    let _policy = enforced(place)?;
    let ran = run(place, &of(place, selinux::DEAF), &["echo", "started"]);
    refused(
        place,
        &ran,
        &["SR-RUN-002 launch.posture.mac", "`signal` and `sigkill`"],
    )?;
    // Where it is let in, it is heard of.
    let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let policy = of(place, JOB);
    let run = Going::start(safe_run_in(place, SAFE_RUN, &words(&policy, &["sh", "-c", script])))?;
    ensure!(run.cancel()? == 3, "the program did not hear of it");
    place.nothing_left()
}

fn a_context_that_shows_nothing(place: &Place) -> Test {
    let _policy = enforced(place)?;
    let ran = run(place, &of(place, selinux::UNSEEN), &["echo", "started"]);
    refused(
        place,
        &ran,
        &[
            "SR-RUN-002 launch.posture: cannot read /proc/",
            "OPERATIONS.md",
            "audit log",
        ],
    )
}

/// The kernel takes them away in the exec.
fn a_context_without_its_streams(place: &Place) -> Test {
    let _policy = enforced(place)?;
    let ran = run(place, &of(place, selinux::MUTE), &["echo", "started"]);
    refused(
        place,
        &ran,
        &["SR-RUN-002 launch.posture.openFiles", "`fd use` and `fifo_file`"],
    )
}

fn joined(place: &Place, start: Command, join: Command) -> Test {
    let run = Going::start(start)?;
    let ran = end(join, b"", LIMIT);
    ran.ok()?;
    ensure!(ran.out == held(&context(JOB)), "{ran}");
    let events = place.events("exec.started");
    ensure!(events.len() == 1, "{events:?}");
    let line = only_line(&events[0]["data"]["posture"])?;
    ensure!(
        line["holds"] == true && line["observed"] == format!("attr/current: {}", context(JOB)),
        "{line}"
    );
    run.cancel()?;
    place.nothing_left()
}

const JOIN: [&str; 6] = ["exec", "last", "--", "sh", "-c", TRY];

fn a_context_for_who_joins(place: &Place) -> Test {
    let _policy = enforced(place)?;
    let policy = of(place, JOB);
    let start = safe_run_in(place, SAFE_RUN, &words(&policy, &["sh", "-c", "echo ready; sleep 100"]));
    joined(place, start, safe_run_in(place, SAFE_RUN, &JOIN))
}

fn a_context_for_a_user_who_joins(place: &Place) -> Test {
    let _policy = enforced(place)?;
    let policy = of(place, JOB);
    let start = as_nobody(place, &words(&policy, &["sh", "-c", "echo ready; sleep 100"]))?;
    joined(place, start, as_nobody(place, &JOIN)?)
}

/// What the exec does is not seen there, and not claimed; it holds all the same.
fn a_context_without_an_exec_stop(place: &Place) -> Test {
    let _policy = alone(place)?;
    let switch = "/proc/sys/kernel/yama/ptrace_scope";
    let before = fs::read_to_string(switch)?;
    for (kind, status) in [(JOB, 0), (selinux::LOGGED, 125)] {
        let policy = policy(place, &format!("{}\ndegrade: [postureAtExec]", clause(kind)));
        let command = as_nobody(place, &words(&policy, &["cat", "/proc/self/attr/current"]))?;
        fs::write(switch, "2")?;
        let ran = end(command, b"", LIMIT);
        fs::write(switch, before.trim())?;
        ran.ended(status)?;
        let line = only_line(&place.report()["posture"])?.clone();
        ensure!(
            line["holds"] == (status == 0) && line["observed"].to_string().contains("not executed yet"),
            "{line}"
        );
        ensure!(status != 0 || ran.out == format!("{}\0", context(JOB)), "{ran}");
    }
    place.nothing_left()
}
