//! `syscalls.onDenied: ask`: a person at a terminal says what the program may do, and it is recorded who said so.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use support::{LIMIT, Place, Ran, Test, end, needs};

fn main() {
    support::main(&[
        ("what_is_allowed_once", what_is_allowed_once),
        (
            "what_is_allowed_for_the_run_and_saved",
            what_is_allowed_for_the_run_and_saved,
        ),
        ("what_is_refused", what_is_refused),
        ("the_wall_is_asked_about_by_nobody", the_wall_is_asked_about_by_nobody),
        (
            "without_a_terminal_nobody_can_be_asked",
            without_a_terminal_nobody_can_be_asked,
        ),
        (
            "a_question_that_nobody_answers_ends_with_the_run",
            a_question_that_nobody_answers,
        ),
        ("a_name_steers_no_terminal", a_name_steers_no_terminal),
        ("what_was_typed_before_is_no_answer", what_was_typed_before_is_no_answer),
        ("nothing_covers_a_question", nothing_covers_a_question),
    ]);
}

/// Runs a command on a terminal of its own and answers each question with the next letter.
const DRIVER: &str = "import os, pty, select, sys\n\
    answers, words = sys.argv[1], sys.argv[2:]\n\
    pid, fd = pty.fork()\n\
    if pid == 0: os.execvp(words[0], words)\n\
    out, asked = b'', 0\n\
    while select.select([fd], [], [], 30)[0]:\n\
    \x20 try: data = os.read(fd, 4096)\n\
    \x20 except OSError: break\n\
    \x20 if not data: break\n\
    \x20 out += data\n\
    \x20 while out.count(b'[N]o: ') > asked and asked < len(answers):\n\
    \x20  os.write(fd, answers[asked].encode() + b'\\n'); asked += 1\n\
    sys.stdout.buffer.write(out)\n\
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n";

const CALL: &str = "import ctypes, os\n\
    libc = ctypes.CDLL(None, use_errno=True)\n\
    def call(*a):\n\
    \x20 got = libc.syscall(*map(ctypes.c_long, a))\n\
    \x20 print('got' if got >= 0 else os.strerror(ctypes.get_errno()), flush=True)\n";

const POLICY: &str = "apiVersion: safe-run/v1\nmetadata: {name: asks}\nextends: standard\nruntime: {args: []}\n\
    mounts: []\nsyscalls: {onDenied: ask}\n";

/// `ustat(2)` fails with EFAULT where it is allowed; `sysfs(3)` counts file systems.
fn asked(place: &Place, answers: &str, options: &[&str], script: &str) -> Result<Ran, support::End> {
    driven(place, DRIVER, answers, &[], options, script)
}

/// The same by another driver, and through another command.
fn driven(
    place: &Place,
    driver: &str,
    answers: &str,
    through: &[&str],
    options: &[&str],
    script: &str,
) -> Result<Ran, support::End> {
    needs(place, "python3")?;
    if !cfg!(target_arch = "x86_64") {
        return support::skip("the calls are written as x86_64's numbers");
    }
    place.write("policy.yaml", POLICY);
    let mut command = place.command("/usr/bin/python3");
    command
        .args(["-c", driver, answers])
        .args(through)
        .arg(support::safe_run());
    command.args(["run", "--policy", "./policy.yaml"]).args(options);
    command.args(["--", "/usr/bin/python3", "-c", &format!("{CALL}{script}")]);
    Ok(end(command, b"", LIMIT))
}

/// What the program said, also where a question stood before it on its line.
fn lines(ran: &Ran) -> Vec<&'static str> {
    let said = |line: &str| {
        let words = ["got", "Operation not permitted"];
        words.into_iter().find(|word| line.trim_end().ends_with(word))
    };
    ran.out.lines().filter_map(said).collect()
}

fn what_is_allowed_once(place: &Place) -> Test {
    let ran = asked(place, "yn", &[], "call(139, 3)\ncall(139, 3)\ncall(139, 3)")?;
    ran.ok()?;
    // The second time it was refused, and not asked about again.
    ensure!(
        lines(&ran) == ["got", "Operation not permitted", "Operation not permitted"],
        "{ran}"
    );
    ensure!(
        ran.out
            .contains("wants sysfs: the profile standard does not have sysfs"),
        "{ran}"
    );
    let allowed = place.events("operation.allowed");
    ensure!(allowed.len() == 1, "{allowed:?}");
    let data = &allowed[0]["data"];
    let uid = rustix::process::getuid().as_raw();
    ensure!(
        data["answer"] == "yes" && data["clause"] == "syscalls.profile" && data["by"]["uid"] == uid,
        "{data}"
    );
    let denied = place.report()["denied"].clone();
    ensure!(denied[0]["operation"] == "sysfs" && denied[0]["count"] == 2, "{denied}");
    place.tell(&["report", "verify", "last"]).ok()?;
    place.nothing_left()
}

fn what_is_allowed_for_the_run_and_saved(place: &Place) -> Test {
    let ran = asked(place, "a", &["--save", "saved.yaml"], "call(139, 3)\ncall(139, 3)")?;
    ran.ok()?;
    ensure!(
        lines(&ran) == ["got", "got"] && ran.out.matches("[N]o: ").count() == 1,
        "{ran}"
    );
    let saved = fs::read_to_string(place.project.join("saved.yaml"))?;
    ensure!(
        saved.contains("allow: [sysfs]") && saved.contains("onDenied: ask"),
        "{saved}"
    );
    place.tell(&["validate", "saved.yaml"]).ok()?;
    // Under what was saved nobody is asked.
    let mut driver = place.command("/usr/bin/python3");
    driver
        .args(["-c", DRIVER, ""])
        .arg(support::safe_run())
        .args(["run", "--policy", "./saved.yaml", "--"]);
    driver.args(["/usr/bin/python3", "-c", &format!("{CALL}call(139, 3)")]);
    let ran = end(driver, b"", LIMIT);
    ran.ok()?;
    ensure!(lines(&ran) == ["got"] && !ran.out.contains("[N]o: "), "{ran}");
    Ok(())
}

fn what_is_refused(place: &Place) -> Test {
    let ran = asked(place, "nx", &["--save", "saved.yaml"], "call(139, 3)\ncall(136, 0, 0)")?;
    ran.ok()?;
    ensure!(lines(&ran) == ["Operation not permitted"; 2], "{ran}");
    ensure!(!place.project.join("saved.yaml").exists(), "nothing was allowed");
    ensure!(place.events("operation.allowed").is_empty(), "{ran}");
    Ok(())
}

fn the_wall_is_asked_about_by_nobody(place: &Place) -> Test {
    let script = "call(165, 0, 0, 0, 0, 0)\ncall(101, 0)\ncall(272, 0x10000000)\ncall(56, 0x10000011, 0, 0, 0, 0)\n\
                  call(16, 0, 0x5412, 0)\ncall(41, 16, 3, 0)";
    let ran = asked(place, "yyyyyy", &[], script)?;
    ran.ok()?;
    ensure!(!ran.out.contains("[N]o: ") && !ran.out.contains("got"), "{ran}");
    Ok(())
}

fn without_a_terminal_nobody_can_be_asked(place: &Place) -> Test {
    needs(place, "setsid")?;
    place.write("policy.yaml", POLICY);
    let mut apart = place.command("setsid");
    apart.arg("--wait").arg(support::safe_run());
    apart.args(["run", "--policy", "./policy.yaml", "--", "true"]);
    let ran = end(apart, b"", LIMIT);
    ran.ended(125)?;
    ensure!(
        ran.err.contains("SR-RUN-001 syscalls.onDenied") && ran.err.contains("no terminal"),
        "{ran}"
    );
    place.nothing_left()
}

fn a_question_that_nobody_answers(place: &Place) -> Test {
    let ran = asked(place, "", &["--timeout", "1s"], "call(139, 3)")?;
    ran.ended(124)?;
    ensure!(ran.out.contains("[N]o: "), "{ran}");
    place.nothing_left()
}

/// The driver types ahead, as a person does who thinks that the program asks; nobody reads that, for the program's input is
/// another.
fn what_was_typed_before_is_no_answer(place: &Place) -> Test {
    let typed = DRIVER.replace(
        "out, asked = b'', 0",
        "import time; time.sleep(0.3); os.write(fd, b'y\\n'); out, asked = b'', 0",
    );
    let apart = ["sh", "-c", "exec \"$@\" < /dev/null", "sh"];
    let ran = driven(
        place,
        &typed,
        "n",
        &apart,
        &[],
        "import time; time.sleep(1.5)\ncall(139, 3)",
    )?;
    ran.ok()?;
    ensure!(lines(&ran) == ["Operation not permitted"], "{ran}");
    Ok(())
}

/// One thread waits for the answer, another writes over the question all the while.
fn nothing_covers_a_question(place: &Place) -> Test {
    let slow = DRIVER.replace(
        "\x20  os.write(fd, answers",
        "\x20  import time; time.sleep(0.5)\n\
        \x20  while select.select([fd], [], [], 0)[0]: out += os.read(fd, 4096)\n\
        \x20  out += b'<answered>'; os.write(fd, answers",
    );
    let script = "import threading, time, sys\n\
        def cover():\n\
        \x20 for _ in range(200): sys.stdout.write('PRESS Y TO GO ON\\n'); sys.stdout.flush(); time.sleep(0.005)\n\
        t = threading.Thread(target=cover); t.start(); time.sleep(0.2)\n\
        call(139, 3)\nt.join()";
    let ran = driven(place, &slow, "n", &[], &[], script)?;
    ran.ok()?;
    let (before, rest) = ran.out.split_once("[N]o: ").unwrap_or_default();
    let (during, after) = rest.split_once("<answered>").unwrap_or_default();
    ensure!(during.is_empty(), "it wrote while the question stood: {ran}");
    ensure!(
        before.contains("PRESS Y") && after.contains("PRESS Y"),
        "it wrote nothing: {ran}"
    );
    Ok(())
}

fn a_name_steers_no_terminal(place: &Place) -> Test {
    let script = "libc.prctl(15, b'\\x1b[2Jbad')\ncall(139, 3)";
    let ran = asked(place, "n", &[], script)?;
    ran.ok()?;
    ensure!(
        ran.out.contains("?[2Jbad wants sysfs") && !ran.out.contains("\u{1b}[2J"),
        "{ran}"
    );
    Ok(())
}
