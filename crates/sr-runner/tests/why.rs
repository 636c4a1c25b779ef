//! `safe-run why` against denials of every kind: each case names what is tried, and the clause that has to be named for it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use std::fs;
use support::{Place, Test, fail, needs};

fn main() {
    support::main(&[
        ("calls", calls),
        ("a_call_that_ends_the_run", a_call_that_ends_the_run),
        ("paths", paths),
        ("limits", limits),
        ("refusals", refusals),
        (
            "what_was_not_looked_at_is_no_denial",
            what_was_not_looked_at_is_no_denial,
        ),
        ("a_path_that_changes_meanwhile", a_path_that_changes_meanwhile),
        ("flags_that_lie_in_memory_are_read", flags_that_lie_in_memory_are_read),
        ("a_flood_of_denials_is_paced", a_flood_of_denials_is_paced),
        (
            "a_joined_command_is_told_of_its_paths",
            a_joined_command_is_told_of_its_paths,
        ),
    ]);
}

/// The findings of the last run.
fn findings(place: &Place) -> Result<Vec<Value>, support::End> {
    let ran = place.tell(&["why", "--json"]);
    ran.ok()?;
    let all: Value = serde_json::from_str(&ran.out)?;
    Ok(all["findings"].as_array().cloned().unwrap_or_default())
}

/// Whether one finding says just this; `remedy`: a part of it, or that there is none.
fn names(found: &[Value], what: &str, clause: &str, remedy: Option<&str>) -> Test {
    let Some(one) = found.iter().find(|f| f["what"] == what) else {
        return fail(format!("{what} is not named: {found:#?}"));
    };
    let fits = match (remedy, one["remedy"].as_str()) {
        (None, None) => true,
        (Some(part), Some(remedy)) => remedy.contains(part),
        _ => false,
    };
    ensure!(one["clause"] == clause && fits, "{what}: {one:#}");
    Ok(())
}

const CALL: &str = "import ctypes\n\
    libc = ctypes.CDLL(None, use_errno=True)\n\
    def call(*a): libc.syscall(*map(ctypes.c_long, a))\n";

/// Number, arguments, what is named, clause, and a part of the remedy.
type Call = (&'static str, &'static str, &'static str, Option<&'static str>);

/// By x86_64's numbers.
const CALLS: [Call; 29] = [
    // On request.
    (
        "154, 0, 0, 0",
        "modify_ldt",
        "syscalls.profile",
        Some("allow: [modify_ldt]"),
    ),
    ("136, 0, 0", "ustat", "syscalls.profile", Some("allow: [ustat]")),
    ("139, 3", "sysfs", "syscalls.profile", Some("allow: [sysfs]")),
    (
        "448, -1, 0",
        "process_mrelease",
        "syscalls.profile",
        Some("allow: [process_mrelease]"),
    ),
    ("101, 0", "ptrace", "syscalls.profile", None),
    ("310, 1, 0, 0, 0, 0, 0", "process_vm_readv", "syscalls.profile", None),
    ("323, 0", "userfaultfd", "syscalls.profile", None),
    ("298, 0, 0, -1, -1, 0", "perf_event_open", "syscalls.profile", None),
    // The wall.
    ("165, 0, 0, 0, 0, 0", "mount", "syscalls.profile", None),
    ("272, 0x10000000", "unshare", "syscalls.profile", None),
    ("308, -1, 0", "setns", "syscalls.profile", None),
    ("321, 0, 0, 0", "bpf", "syscalls.profile", None),
    ("250, 0, 0", "keyctl", "syscalls.profile", None),
    ("161, 0", "chroot", "syscalls.profile", None),
    ("304, -1, 0, 0", "open_by_handle_at", "syscalls.profile", None),
    ("103, 10, 0, 0", "syslog", "syscalls.profile", None),
    ("438, -1, 0, 0", "pidfd_getfd", "syscalls.profile", None),
    // By an argument.
    ("16, 0, 0x5412, 0", "ioctl TIOCSTI", "syscalls.profile", None),
    ("16, 0, 0x541c, 0", "ioctl TIOCLINUX", "syscalls.profile", None),
    (
        "56, 0x10000011, 0, 0, 0, 0",
        "clone CLONE_NEWUSER",
        "syscalls.profile",
        None,
    ),
    ("135, 0x400000", "personality 0x400000", "syscalls.profile", None),
    (
        "133, 0, 0o60644, 0",
        "mknod of a block device",
        "syscalls.profile",
        None,
    ),
    (
        "302, 1, 7, 0, 0",
        "prlimit64 of process 1, the sandbox's init",
        "syscalls.profile",
        None,
    ),
    (
        "141, 0, 1, 5",
        "setpriority of process 1, the sandbox's init",
        "syscalls.profile",
        None,
    ),
    // The network.
    ("41, 2, 1, 0", "socket AF_INET", "network.mode", Some("allowlist")),
    ("41, 10, 1, 0", "socket AF_INET6", "network.mode", Some("allowlist")),
    ("41, 16, 3, 0", "socket AF_NETLINK", "network.mode", None),
    ("41, 17, 3, 0", "socket AF_PACKET", "network.mode", None),
    // By name.
    (
        "319, 0, 0",
        "memfd_create",
        "syscalls.deny",
        Some("out of syscalls.deny"),
    ),
];

fn calls(place: &Place) -> Test {
    if !cfg!(target_arch = "x86_64") {
        return support::skip("the calls are written as x86_64's numbers");
    }
    needs(place, "python3")?;
    let policy = "apiVersion: safe-run/v1\nmetadata: {name: w}\nextends: standard\nruntime: {args: []}\nmounts: []\n\
                  syscalls: {deny: [memfd_create]}\n";
    place.write("policy.yaml", policy);
    let lines: String = CALLS.iter().map(|(call, ..)| format!("call({call})\n")).collect();
    let script = format!("{CALL}{lines}print('done')");
    let ran = place.run(&["--policy", "./policy.yaml", "--", "/usr/bin/python3", "-c", &script]);
    ran.ok()?;
    // The last line names some of them, and the way to the rest.
    ensure!(
        ran.out == "done\n"
            && ran
                .err
                .contains("denied: modify_ldt (to allow it: syscalls: {allow: [modify_ldt]})"),
        "{ran}"
    );
    ensure!(ran.err.contains("26 more → safe-run why"), "{ran}");
    let found = findings(place)?;
    for (_, what, clause, remedy) in CALLS {
        names(&found, what, clause, remedy)?;
    }
    ensure!(found.len() == CALLS.len(), "more was denied: {found:#?}");
    let events = place.events("operation.denied");
    ensure!(events.len() == CALLS.len(), "{events:#?}");
    ensure!(
        events
            .iter()
            .all(|e| e["data"]["program"].as_str().is_some_and(|p| p.starts_with("python3"))),
        "{events:#?}"
    );
    place.tell(&["report", "verify", "last"]).ok()?;
    // What is said to allow a call does.
    let named = "[modify_ldt, ustat, sysfs, process_mrelease]";
    place.write(
        "policy.yaml",
        &policy.replace("deny: [memfd_create]", &format!("allow: {named}")),
    );
    place
        .run(&["--policy", "./policy.yaml", "--", "/usr/bin/python3", "-c", &script])
        .ok()?;
    let left: Vec<Value> = findings(place)?.iter().map(|f| f["what"].clone()).collect();
    let expected: Vec<&str> = CALLS[4..CALLS.len() - 1].iter().map(|(_, what, ..)| *what).collect();
    ensure!(left == expected, "{left:?}");
    Ok(())
}

fn a_call_that_ends_the_run(place: &Place) -> Test {
    if !cfg!(target_arch = "x86_64") {
        return support::skip("the call is written as x86_64's number");
    }
    needs(place, "python3")?;
    // A child's: the run ends with all that it has.
    let script = format!("{CALL}import os, time\nif os.fork() == 0: call(275, 0, 0, 0, 0, 0, 0)\ntime.sleep(30)");
    let ran = place.run(&[
        "--policy",
        "strict",
        "--",
        "/usr/bin/python3",
        "-c",
        &script,
        &place.mark(),
    ]);
    ran.ended(159)?;
    ensure!(place.report()["result"]["cause"] == "policy", "{ran}");
    names(
        &findings(place)?,
        "splice",
        "syscalls.profile",
        Some("profile: standard"),
    )?;
    place.nothing_left()
}

fn told_of_paths(place: &Place, mounts: &str) {
    let policy = format!(
        "apiVersion: safe-run/v1\nmetadata: {{name: w}}\nextends: standard\nruntime: {{args: []}}\nmounts: {mounts}\n\
         evidence: {{denied: paths}}\n"
    );
    place.write("policy.yaml", &policy);
}

fn paths(place: &Place) -> Test {
    let outside = place.root().join("outside");
    fs::create_dir(&outside)?;
    fs::write(outside.join("kept"), "x")?;
    for name in [".env", "data/file", "data/.env"] {
        place.write(name, "x\n");
    }
    let data = place.project.join("data");
    told_of_paths(
        place,
        &format!(
            "[{{source: ., captured: true}}, {{source: {}, target: /data}}]",
            data.display()
        ),
    );
    let outside = outside.display();
    let script = format!(
        "cat /etc/shadow; cat {outside}/kept; cd {outside}; ls /root; echo > /usr/x; mkdir /usr/lib/y; rm /usr/bin/env\n\
         cat .env; (cd / && cat {project}/.env); echo > /data/new; echo > /data/file; chmod 600 /data/file; cat /data/.env\n\
         cat none; rm data/file; cat data/file; echo fine > fine; cat fine",
        project = place.project.display(),
    );
    let ran = place.run(&["--policy", "./policy.yaml", "--", "sh", "-c", &script]);
    ran.ok()?;
    ensure!(ran.out == "fine\n", "{ran}");
    let found = findings(place)?;
    let project = place.project.display();
    let shown = |path: &dyn std::fmt::Display| format!("source: {path}");
    for (what, clause, remedy) in [
        ("openat /etc/shadow".to_owned(), "mounts", shown(&"/etc/shadow")),
        (
            format!("openat {outside}/kept"),
            "mounts",
            shown(&format!("{outside}/kept")),
        ),
        (format!("chdir {outside}"), "mounts", shown(&outside)),
        (
            "openat /usr/x".to_owned(),
            "rootfs.writable",
            "writable: overlay".into(),
        ),
        (
            "mkdir /usr/lib/y".to_owned(),
            "rootfs.writable",
            "writable: overlay".into(),
        ),
        (
            "unlinkat /usr/bin/env".to_owned(),
            "rootfs.writable",
            "writable: overlay".into(),
        ),
        (format!("openat {project}/.env"), "hide", "out of hide".into()),
        (
            "openat /data/new".to_owned(),
            "mounts",
            format!("source: {}, captured: true", data.display()),
        ),
        ("openat /data/file".to_owned(), "mounts", "readOnly: false".into()),
        ("fchmodat /data/file".to_owned(), "mounts", "readOnly: false".into()),
        ("openat /data/.env".to_owned(), "hide", "out of hide".into()),
    ] {
        // rm and chmod have other calls under other versions of theirs.
        let denied = found.iter().filter(|f| f["kind"] == "denied");
        let path = what.split(' ').next_back().unwrap_or_default();
        let same: Vec<Value> = denied
            .filter(|f| {
                f["what"]
                    .as_str()
                    .is_some_and(|w| w.ends_with(path) && f["clause"] == clause)
            })
            .cloned()
            .collect();
        let Some(one) = same.first() else {
            return fail(format!("{what} is not named: {found:#?}"));
        };
        names(&same, one["what"].as_str().unwrap(), clause, Some(&remedy))?;
    }
    // What is nowhere, and what the program itself removed.
    let none = found.iter().find(|f| {
        f["what"]
            .as_str()
            .is_some_and(|w| w.ends_with("/none") || w.ends_with("project/data/file"))
    });
    ensure!(none.is_none(), "{none:?}");
    place.nothing_left()
}

/// As many processes as there may be, and more tried all the time.
const FORKS: &str = "import os, time\n\
    end = time.monotonic() + 9\n\
    while time.monotonic() < end:\n\
    \x20 try:\n\
    \x20  if os.fork() == 0: time.sleep(9)\n\
    \x20 except OSError: time.sleep(0.01)";

fn limits(place: &Place) -> Test {
    needs(place, "python3")?;
    let cases: [(&[&str], &str, &str); 5] = [
        (
            &["--timeout", "200ms", "--", "sleep", "9"],
            "wallTime",
            "wallTime: 400ms",
        ),
        (
            &[
                "--memory",
                "64MiB",
                "--",
                "/usr/bin/python3",
                "-c",
                "x = bytearray(1 << 30)\nimport time; time.sleep(9)",
            ],
            "memory",
            "memory: 128MiB",
        ),
        (&["--output", "4KiB", "--", "seq", "100000"], "output", "output: 8KiB"),
        (
            &[
                "--disk",
                "1MiB",
                "--",
                "sh",
                "-c",
                "head -c 4M /dev/zero > /tmp/x; sleep 9",
            ],
            "disk",
            "disk: 2MiB",
        ),
        (
            &["--pids", "8", "--", "/usr/bin/python3", "-c", FORKS],
            "pids",
            "pids: 16",
        ),
    ];
    for (words, what, remedy) in cases {
        place.run(words);
        let found = findings(place)?;
        // An ordinary user's memory is held by addresses, too, and then met by the program alone.
        if what == "memory" && found.is_empty() {
            continue;
        }
        names(&found, what, &format!("resources.{what}"), Some(remedy))?;
    }
    place.nothing_left()
}

fn refusals(place: &Place) -> Test {
    let refused = |directory: &std::path::Path, words: &[&str]| {
        let mut command = place.safe_run(&[&["run"], words].concat());
        command.current_dir(directory);
        support::end(command, b"", support::LIMIT)
    };
    let cases: [(&std::path::Path, &[&str], &str, &str); 4] = [
        (&place.home, &["--", "true"], "mounts[0].source", "no working directory"),
        (
            &place.project,
            &["--", "no-such-program"],
            "runtime.command",
            "not found",
        ),
        (
            &place.project,
            &["--mount", "none:/x", "--", "true"],
            "mounts[1].source",
            "none",
        ),
        (&place.project, &["--", "./README"], "runtime.command", "README"),
    ];
    for (directory, words, clause, found) in cases {
        let ran = refused(directory, words);
        ran.ended(125)?;
        let all = findings(place)?;
        let one = all.iter().find(|f| f["kind"] == "refused");
        let fits = one.is_some_and(|f| {
            f["clause"] == clause && f["reason"].as_str().is_some_and(|r| r.contains(found)) && f["remedy"].is_string()
        });
        ensure!(fits, "{}: {all:#?}", directory.display());
    }
    Ok(())
}

/// The default looks at no path, and says nothing of one.
fn what_was_not_looked_at_is_no_denial(place: &Place) -> Test {
    place.run(&["--", "sh", "-c", "cat /etc/shadow; echo > /usr/x"]);
    let found = findings(place)?;
    ensure!(
        found.is_empty() && place.report()["denied"] == serde_json::json!([]),
        "{found:#?}"
    );
    let ran = place.tell(&["why"]);
    ensure!(ran.out.contains("ended by itself"), "{ran}");
    let policy = "apiVersion: safe-run/v1\nmetadata: {name: w}\nextends: standard\nruntime: {args: []}\nmounts: []\n\
                  evidence: {denied: network}\n";
    place.write("policy.yaml", policy);
    place.run(&["--policy", "./policy.yaml", "--", "true"]).ok()?;
    ensure!(place.report()["denied"].is_null(), "nothing observed them");
    let ran = place.tell(&["why"]);
    ensure!(ran.out.contains("were not told of"), "{ran}");
    Ok(())
}

/// While one thread opens what its path names, another exchanges the path: whatever is recorded as denied was denied, and
/// what is opened is never more than the wall allows.
fn a_path_that_changes_meanwhile(place: &Place) -> Test {
    needs(place, "python3")?;
    told_of_paths(place, "[]");
    let script = "import ctypes, threading, os, time\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        path = ctypes.create_string_buffer(b'/etc/passwd', 64)\n\
        end = time.monotonic() + 3\n\
        def change():\n\
        \x20 while time.monotonic() < end:\n\
        \x20  path.raw = b'/etc/shadow'.ljust(64, b'\\0'); path.raw = b'/etc/passwd'.ljust(64, b'\\0')\n\
        threads = [threading.Thread(target=change) for _ in range(2)]\n\
        for t in threads: t.start()\n\
        opened = denied = 0\n\
        while time.monotonic() < end:\n\
        \x20 fd = libc.open(path, 0)\n\
        \x20 if fd < 0: denied += 1; continue\n\
        \x20 opened += 1\n\
        \x20 text = os.read(fd, 4096); os.close(fd)\n\
        \x20 assert b'sandbox' in text or b'nobody' in text, text\n\
        for t in threads: t.join()\n\
        print(opened > 0, denied > 0)";
    let ran = place.run(&["--policy", "./policy.yaml", "--", "/usr/bin/python3", "-c", script]);
    ran.ok()?;
    ensure!(ran.out == "True True\n", "no race: {ran}");
    names(&findings(place)?, "openat /etc/shadow", "mounts", Some("/etc/shadow"))?;
    place.nothing_left()
}

/// `openat2` says what it wants in a structure; a wrong address is the kernel's to refuse.
fn flags_that_lie_in_memory_are_read(place: &Place) -> Test {
    needs(place, "python3")?;
    told_of_paths(place, "[]");
    let script = "import ctypes, errno\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        def openat2(path, flags, resolve=0, how=None, dir=-100):\n\
        \x20 structure = (ctypes.c_uint64 * 3)(flags, 0, resolve)\n\
        \x20 fd = libc.syscall(437, dir, path, structure if how is None else ctypes.c_void_p(how), ctypes.c_size_t(24))\n\
        \x20 print('opened' if fd >= 0 else errno.errorcode[ctypes.get_errno()])\n\
        \x20 return fd\n\
        openat2(b'/etc/passwd', 0); openat2(b'/etc/shadow', 0); openat2(b'/usr/bin/env', 1); openat2(b'/usr/bin/env', 0)\n\
        openat2(b'/etc/passwd', 0, how=8); usr = openat2(b'/usr', 0o200000)\n\
        openat2(b'/etc/shadow', 0, resolve=0x10, dir=usr)";
    let ran = place.run(&["--policy", "./policy.yaml", "--", "/usr/bin/python3", "-c", script]);
    ran.ok()?;
    ensure!(
        ran.out == "opened\nENOENT\nEROFS\nopened\nEFAULT\nopened\nENOENT\n",
        "{ran}"
    );
    let found = findings(place)?;
    names(&found, "openat2 /etc/shadow", "mounts", Some("/etc/shadow"))?;
    names(&found, "openat2 /usr/bin/env", "rootfs.writable", Some("overlay"))?;
    // Below another root it is another file.
    ensure!(found.iter().all(|f| f["count"] == 1), "{found:#?}");
    place.nothing_left()
}

/// A program that does nothing but be denied has the supervisor's time, which no limit of its own counts.
fn a_flood_of_denials_is_paced(place: &Place) -> Test {
    if !cfg!(target_arch = "x86_64") {
        return support::skip("the call is written as x86_64's number");
    }
    needs(place, "python3")?;
    let script = format!(
        "{CALL}import time\nend = time.monotonic() + 1\nn = 0\nwhile time.monotonic() < end: call(101, 0); n += 1\nprint(n)"
    );
    let ran = place.run(&["--", "/usr/bin/python3", "-c", &script]);
    ran.ok()?;
    let count = findings(place)?[0]["count"].as_u64().unwrap_or(0);
    ensure!(ran.out.trim() == count.to_string(), "{count} were counted: {ran}");
    // 500 in each tenth of a second, and those of the span that the end fell into.
    ensure!((500..=6000).contains(&count), "{count}");
    ensure!(place.events("operation.denied").len() == 1, "one event is enough");
    Ok(())
}

fn a_joined_command_is_told_of_its_paths(place: &Place) -> Test {
    told_of_paths(place, "[]");
    let run = place.start(&["--policy", "./policy.yaml", "--", "sh", "-c", "echo up; sleep 60"])?;
    let ran = place.tell(&["exec", "--", "cat", "/etc/shadow"]);
    ran.ended(1)?;
    run.cancel()?;
    names(&findings(place)?, "openat /etc/shadow", "mounts", Some("/etc/shadow"))?;
    place.nothing_left()
}
