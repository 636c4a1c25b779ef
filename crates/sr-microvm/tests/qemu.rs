//! The driver with QEMU, a kernel of Debian's and the agent, all real; and with a hostile stand-in for the machine, which says
//! what no agent would.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use rustix::process::{Pid, Signal, kill_process};
use sr_common::Control;
use sr_common::guest::{DiskFormat, GuestMount, GuestMountKind, GuestPlan, GuestRoot};
use sr_common::monitor::{Clause, EventName, Order, Said};
use sr_microvm::protocol::frame::{self, Kind};
use sr_microvm::protocol::guest::Guest;
use sr_microvm::protocol::{GuestEnd, Stream};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStdout, Stdio};
use support::{Case, Place, Ran, STAND_IN, Streams, Test, all_but, fail, plan};

fn main() {
    let tests: &[Case] = &[
        ("a_program_prints_and_ends", a_program_prints_and_ends),
        ("the_view_is_as_planned", the_view_is_as_planned),
        (
            "a_signal_that_ends_the_program_ends_the_driver",
            a_signal_that_ends_the_program_ends_the_driver,
        ),
        (
            "signals_pass_a_program_that_reads_no_input",
            signals_pass_a_program_that_reads_no_input,
        ),
        ("input_comes_back_byte_by_byte", input_comes_back_byte_by_byte),
        ("a_flood_of_output_arrives_whole", a_flood_of_output_arrives_whole),
        (
            "output_that_nobody_reads_ends_who_writes_it",
            output_that_nobody_reads_ends_who_writes_it,
        ),
        ("a_terminal_has_keys_and_a_size", a_terminal_has_keys_and_a_size),
        (
            "a_denied_call_fails_as_the_filter_says",
            a_denied_call_fails_as_the_filter_says,
        ),
        (
            "memory_beyond_the_limit_ends_the_program",
            memory_beyond_the_limit_ends_the_program,
        ),
        (
            "processes_beyond_the_limit_are_refused",
            processes_beyond_the_limit_are_refused,
        ),
        ("a_root_on_a_disk", a_root_on_a_disk),
        ("a_program_that_is_not_there", a_program_that_is_not_there),
        ("a_full_disk_is_told", a_full_disk_is_told),
        ("a_guest_that_panics", a_guest_that_panics),
        ("a_machine_that_is_killed", a_machine_that_is_killed),
        ("a_monitor_that_is_not_there", a_monitor_that_is_not_there),
        ("a_monitor_that_fails_at_once", a_monitor_that_fails_at_once),
        ("hostile_guests", hostile_guests),
        ("a_guest_that_does_not_read", a_guest_that_does_not_read),
    ];
    support::main(tests, stand_in);
}

fn piped() -> [Stdio; 3] {
    [Stdio::piped(), Stdio::piped(), Stdio::piped()]
}

/// Reads until `wanted` has come: all that has.
fn read_until(from: &mut impl Read, wanted: &str) -> Result<String, support::End> {
    let mut text = String::new();
    let mut piece = [0; 1000];
    while !text.contains(wanted) {
        match from.read(&mut piece) {
            Ok(read) if read > 0 => text.push_str(&String::from_utf8_lossy(&piece[..read])),
            other => return fail(format!("{other:?} after {text:?}, and no {wanted:?}")),
        }
    }
    Ok(text)
}

fn a_program_prints_and_ends(place: &Place) -> Test {
    let mut echo = plan("");
    echo.executable = "/bin/echo".into();
    echo.argv = vec!["echo".into(), "hello".into(), "guest".into()];
    echo.limits.cpu = Some(500);
    let ran = place.run(echo, b"")?;
    ensure!(
        ran.status.code() == Some(0) && ran.out == b"hello guest\n",
        "{}",
        ran.shown()
    );
    ensure!(ran.err.is_empty(), "{}", ran.shown());
    let kinds = ran.said.iter().map(|said| match said {
        Said::Booted { kernel } if kernel.starts_with("6.1.") => "booted",
        Said::Held { .. } => "held",
        Said::Sample { .. } => "sample",
        Said::Ended { agent_bytes } if (1..=4 << 20).contains(agent_bytes) => "agent",
        Said::Event {
            name: EventName::MonitorStarted,
            ..
        } => "started",
        Said::Event {
            name: EventName::MonitorEnded,
            ..
        } => "ended",
        _ => "other",
    });
    let kinds: Vec<&str> = kinds.collect();
    ensure!(kinds.starts_with(&["started", "booted", "held"]), "{kinds:?}");
    ensure!(
        kinds.ends_with(&["sample", "agent", "ended"]) && !kinds.contains(&"other"),
        "{kinds:?}"
    );
    for said in &ran.said {
        if let Said::Held { posture } = said {
            for line in posture {
                ensure!(line.holds, "{line:?}");
            }
            for control in [
                Control::Seccomp,
                Control::NoNewPrivileges,
                Control::Capabilities,
                Control::UserNamespace,
                Control::Filesystem,
                Control::Memory,
                Control::Pids,
                Control::Cpu,
                Control::OpenFiles,
            ] {
                ensure!(posture.iter().any(|line| line.control == control), "no {control:?}");
            }
        }
    }
    Ok(())
}

fn the_view_is_as_planned(place: &Place) -> Test {
    // Each line says what it is, and what was found.
    const SCRIPT: &str = "\
echo id $(id -u) $(id -g) $(id -G)
echo name $(cat /proc/sys/kernel/hostname)
echo one $(ls -d /proc/1 2>&1)
echo setting $( (echo 5 > /proc/sys/kernel/printk) 2>&1)
echo core $(head -c 1 /proc/kcore | wc -c) $(ls /proc/acpi | wc -l)
echo null $(head -c 3 /dev/zero | tee /dev/null | od -An -tx1)
echo made $( (mknod /tmp/n c 1 3) 2>&1)
echo dev $( (echo x > /dev/x) 2>&1)
echo program $( (echo x >> /usr/bin/env) 2>&1)
echo net $(cat /proc/net/dev | tail -n +3 | cut -d: -f1)
echo mask $(umask)
echo shared $(cat /tmp/below/shared)
echo own > /tmp/below/own; echo tmp > /tmp/file; echo shm > /dev/shm/file
echo both $(cat /tmp/file /dev/shm/file)
echo stdout > /dev/stdout
mkdir made && echo content > made/file
echo age $(( $(date +%s) / 1000 ))
exit 7";
    let mut plan = plan(SCRIPT);
    let root = place.root();
    let below = root.join("tmp/below");
    fs::create_dir_all(&below).unwrap();
    fs::write(below.join("shared"), "words\n").unwrap();
    fs::set_permissions(&below, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    plan.mounts.push(GuestMount {
        target: "/tmp/below".into(),
        what: GuestMountKind::Shared { directory: true },
    });
    let ran = place.run(plan, b"")?;
    ensure!(ran.status.code() == Some(7), "{}", ran.shown());
    let out = String::from_utf8_lossy(&ran.out);
    let line = |name: &str| {
        out.lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or("nothing")
            .trim()
            .to_owned()
    };
    for (name, expected) in [
        ("id", "1000 1000 1000"),
        ("name", "sandbox"),
        ("one", "ls: cannot access '/proc/1': No such file or directory"),
        (
            "setting",
            "sh: 1: cannot create /proc/sys/kernel/printk: Read-only file system",
        ),
        ("core", "0 0"),
        ("null", "00 00 00"),
        ("made", "mknod: /tmp/n: Operation not permitted"),
        ("dev", "sh: 1: cannot create /dev/x: Read-only file system"),
        ("net", "lo"),
        ("mask", "0022"),
        ("shared", "words"),
        ("both", "tmp shm"),
        ("stdout", ""),
    ] {
        let found = line(name).replace("sh: 5:", "sh: 1:");
        let found = match found.split_once(": cannot create") {
            Some((_, rest)) => format!("sh: 1: cannot create{rest}"),
            None => found,
        };
        ensure!(found == expected, "{name}: {found:?} in {}", ran.shown());
    }
    // By its owner where the tests' user is not root, and by the mount where it is.
    let program = line("program");
    let refused = program.ends_with(": Permission denied") || program.ends_with(": Read-only file system");
    ensure!(refused && program.contains("cannot create /usr/bin/env"), "{program}");
    let hours = std::time::UNIX_EPOCH.elapsed()?.as_secs() / 1000;
    ensure!(
        line("age") == hours.to_string() || line("age") == (hours - 1).to_string(),
        "the clock: {}",
        line("age")
    );
    // On the host, as a run's captured writes are.
    ensure!(fs::read(root.join("work/made/file"))? == b"content\n", "what it wrote");
    ensure!(
        fs::read(below.join("own"))? == b"own\n",
        "what it wrote below a file system of the guest's"
    );
    ensure!(
        !root.join("tmp/file").exists(),
        "what is in the guest's memory is not on the host"
    );
    Ok(())
}

fn a_signal_that_ends_the_program_ends_the_driver(place: &Place) -> Test {
    // What it has started goes with it.
    let ran = place.run(plan("sleep 1000 & echo started; kill -SEGV $$"), b"")?;
    ensure!(
        ran.status.signal() == Some(11) && ran.out == b"started\n",
        "{}",
        ran.shown()
    );
    Ok(())
}

fn signals_pass_a_program_that_reads_no_input(place: &Place) -> Test {
    let script = "trap 'echo told; exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let mut driver = place.start(place.machine()?, plan(script), piped());
    let mut stdin = driver.child.stdin.take().unwrap();
    let mut stdout = driver.child.stdout.take().unwrap();
    // Far more than there is room for on the way.
    let feeding = std::thread::spawn(move || stdin.write_all(&vec![b'x'; 4 << 20]).is_err());
    driver.until(|said| matches!(said, Said::Held { .. }))?;
    driver.order(&Order::Go);
    read_until(&mut stdout, "ready\n")?;
    driver.until(|said| matches!(said, Said::Sample { .. }))?;
    kill_process(Pid::from_raw(driver.child.id() as i32).unwrap(), Signal::TERM)?;
    read_until(&mut stdout, "told\n")?;
    let status = driver.child.wait()?;
    ensure!(status.code() == Some(9), "{status}");
    ensure!(feeding.join().unwrap(), "all of the input was taken");
    Ok(())
}

fn input_comes_back_byte_by_byte(place: &Place) -> Test {
    let input: Vec<u8> = (0..1u32 << 20)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let ran = place.run(plan("cat; echo end >&2"), &input)?;
    ensure!(ran.out == input, "{} bytes came back: {}", ran.out.len(), ran.status);
    ensure!(ran.status.code() == Some(0) && ran.err == b"end\n", "{}", ran.status);
    Ok(())
}

fn a_flood_of_output_arrives_whole(place: &Place) -> Test {
    let script = "head -c 8388608 /dev/zero & head -c 3000000 /dev/zero >&2; wait";
    let ran = place.run(plan(script), b"")?;
    ensure!(
        (ran.out.len(), ran.err.len()) == (8 << 20, 3_000_000) && ran.status.code() == Some(0),
        "{} and {} bytes, {}",
        ran.out.len(),
        ran.err.len(),
        ran.status
    );
    Ok(())
}

fn output_that_nobody_reads_ends_who_writes_it(place: &Place) -> Test {
    let mut driver = place.start(place.machine()?, plan("yes; echo status $? >&2"), piped());
    let mut stdout: ChildStdout = driver.child.stdout.take().unwrap();
    let mut stderr = driver.child.stderr.take().unwrap();
    driver.until(|said| matches!(said, Said::Held { .. }))?;
    driver.order(&Order::Go);
    read_until(&mut stdout, "y\ny\n")?;
    drop(stdout);
    read_until(&mut stderr, "status 141\n")?;
    ensure!(driver.child.wait()?.code() == Some(0), "its status");
    Ok(())
}

fn a_terminal_has_keys_and_a_size(place: &Place) -> Test {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let slave = fs::OpenOptions::new().read(true).write(true).open(name.to_str()?)?;
    let size = |rows, columns| rustix::termios::Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&master, size(30, 100))?;
    let script = "\
tty; stty size; trap 'echo interrupted' INT; trap 'stty size' WINCH; read word; echo \"got $word\"
while [ \"$word\" != last ]; do read word; done; echo \"$word\"; exit 3";
    let plan = GuestPlan {
        terminal: true,
        ..plan(script)
    };
    let stdio = [slave.try_clone()?.into(), slave.try_clone()?.into(), slave.into()];
    let mut driver = place.start(place.machine()?, plan, stdio);
    let mut master = fs::File::from(master);
    driver.until(|said| matches!(said, Said::Held { .. }))?;
    driver.order(&Order::Go);
    let first = read_until(&mut master, "30 100\r\n")?;
    ensure!(first.starts_with("/dev/pts/0\r\n"), "{first:?}");
    master.write_all(b"word\r")?;
    // The guest's terminal shows what is typed.
    read_until(&mut master, "word\r\ngot word\r\n")?;
    master.write_all(b"\x03")?;
    read_until(&mut master, "interrupted")?;
    rustix::termios::tcsetwinsize(&master, size(40, 90))?;
    kill_process(Pid::from_raw(driver.child.id() as i32).unwrap(), Signal::WINCH)?;
    read_until(&mut master, "40 90\r\n")?;
    master.write_all(b"last\r")?;
    read_until(&mut master, "last\r\nlast\r\n")?;
    let status = driver.child.wait()?;
    ensure!(status.code() == Some(3), "{status}");
    Ok(())
}

fn a_denied_call_fails_as_the_filter_says(place: &Place) -> Test {
    // mkdir(2), with an errno that it never has.
    let plan = GuestPlan {
        filter: all_but(83, 74),
        ..plan("mkdir /work/a; echo $?; : > /work/b")
    };
    let ran = place.run(plan, b"")?;
    let err = String::from_utf8_lossy(&ran.err);
    ensure!(ran.out == b"1\n" && err.contains("Bad message"), "{}", ran.shown());
    let work = place.root().join("work");
    ensure!(
        !work.join("a").exists() && work.join("b").exists(),
        "what else it does goes on"
    );
    Ok(())
}

fn memory_beyond_the_limit_ends_the_program(place: &Place) -> Test {
    // At one stroke: a program that comes near the limit slowly is read anew from its files again and again, for want of
    // memory to keep it.
    let script = "echo begun; python3 -c 'bytearray(150 << 20)'; echo not this";
    let ran = place.run(plan(script), b"")?;
    ensure!(
        ran.status.signal() == Some(9) && ran.out == b"begun\n",
        "{}",
        ran.shown()
    );
    ensure!(
        ran.said.contains(&Said::Limit { clause: Clause::Memory }),
        "{}",
        ran.shown()
    );
    let outside = |said: &Said| {
        matches!(
            said,
            Said::Event {
                name: EventName::GuestOutOfMemory,
                ..
            }
        )
    };
    ensure!(
        !ran.said.iter().any(outside),
        "it was the limit, not the machine: {}",
        ran.shown()
    );
    let peak = ran.said.iter().rev().find_map(|said| match said {
        Said::Sample { usage } => usage.memory_bytes,
        _ => None,
    });
    ensure!(
        peak.is_some_and(|bytes| bytes > 60 << 20 && bytes <= 64 << 20),
        "{peak:?}"
    );
    Ok(())
}

fn processes_beyond_the_limit_are_refused(place: &Place) -> Test {
    let script = "i=0; while [ $i -lt 50 ]; do sleep 1000 & i=$((i+1)); done";
    let ran = place.run(plan(script), b"")?;
    let err = String::from_utf8_lossy(&ran.err);
    ensure!(
        ran.status.code() == Some(2) && err.contains("Cannot fork"),
        "{}",
        ran.shown()
    );
    ensure!(
        ran.said.contains(&Said::Limit { clause: Clause::Pids }),
        "{}",
        ran.shown()
    );
    Ok(())
}

/// Each file system that a disk can have, nothing of which can be written; programs are found there as execvp(3) finds them,
/// and what was executed is told by the guest.
fn a_root_on_a_disk(place: &Place) -> Test {
    let shell = "cat /etc/plain /link; (echo x >/work/new) 2>/dev/null || echo read-only";
    for (format, argv, expected, executed) in [
        (
            DiskFormat::Erofs,
            ["/bin/sh", "-c", shell],
            "plainplainread-only\n",
            &["/bin/sh"][..],
        ),
        (
            DiskFormat::Squashfs,
            ["sh", "-c", shell],
            "plainplainread-only\n",
            &["/bin/sh"],
        ),
        (
            DiskFormat::Ext4,
            ["job", "a", "b"],
            "job: a b\n",
            &["/bin/sh", "/bin/job"],
        ),
    ] {
        let disk = place.disk(format)?;
        let mut plan = plan("");
        plan.root = GuestRoot::Disk {
            device: "vda".into(),
            format,
        };
        plan.share = None;
        plan.executable = argv[0].to_owned();
        plan.argv = argv.map(str::to_owned).to_vec();
        plan.env.insert("PATH".into(), "relative:/no/such:/bin".into());
        plan.mounts.retain(|mount| mount.target != "/dev/shm");
        let mut argv = place.machine()?;
        let drive = format!("if=none,id=disk,format=raw,readonly=on,file={}", disk.display());
        argv.extend(["-drive", &drive, "-device", "virtio-blk-pci,drive=disk"].map(str::to_owned));
        let mut driver = place.start(argv, plan, piped());
        let streams = Streams::of(&mut driver.child, Vec::new());
        let held = driver.until(|said| matches!(said, Said::Held { .. } | Said::Failed { .. }))?;
        let Said::Held { posture } = &held else {
            return fail(format!("{format:?}: {held:?}"));
        };
        ensure!(posture.iter().all(|seen| seen.holds), "{format:?}: {posture:?}");
        let seen = posture.iter().filter(|seen| seen.control == Control::ExecutableDigest);
        let seen: Vec<(&str, &str)> = seen.map(|seen| (&*seen.requested, &*seen.observed)).collect();
        let wanted: Vec<(&str, &str)> = executed
            .iter()
            .map(|path| (*path, "a file of the root's disk"))
            .collect();
        ensure!(seen == wanted, "{format:?}: {seen:?}");
        driver.order(&Order::Go);
        let ran = driver.end(streams)?;
        ensure!(ran.out == expected.as_bytes(), "{format:?}: {}", ran.shown());
    }
    Ok(())
}

fn a_program_that_is_not_there(place: &Place) -> Test {
    let plan = GuestPlan {
        executable: "/usr/bin/no-such-program".into(),
        ..plan("")
    };
    let mut driver = place.start(place.machine()?, plan, piped());
    let streams = Streams::of(&mut driver.child, Vec::new());
    let ran = driver.end(streams)?;
    ensure!(ran.status.code() == Some(125) && ran.out.is_empty(), "{}", ran.shown());
    let Some((path, found)) = ran.failure() else {
        return fail(ran.shown());
    };
    ensure!(
        path == "launch.guest" && found.contains("open /usr/bin/no-such-program in the view: No such file"),
        "{path} {found}"
    );
    Ok(())
}

fn a_full_disk_is_told(place: &Place) -> Test {
    const SCRIPT: &str = "\
head -c 3000000 /dev/zero > /small/file; echo $?; rm /small/file
exec python3 -c 'import mmap, os
file = os.open(\"/small/map\", os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 3 << 20)
mmap.mmap(file, 3 << 20)[:] = b\"x\" * (3 << 20)
os.write(1, b\"mapped\\n\")
os._exit(0)'";
    fs::create_dir_all(place.root().join("small"))?;
    let ran = place.run(plan(SCRIPT), b"")?;
    // By a call, to the program; through a map it is too late for that, and then it is no success.
    let err = String::from_utf8_lossy(&ran.err);
    ensure!(err.contains("No space left on device"), "{}", ran.shown());
    ensure!(ran.out == b"1\nmapped\n", "{}", ran.shown());
    let found = ran
        .failure()
        .is_some_and(|(path, found)| path == "run.guest" && found.contains("No space left"));
    ensure!(ran.status.code() == Some(125) && found, "{}", ran.shown());
    Ok(())
}

fn a_guest_that_panics(place: &Place) -> Test {
    // Who is root there may ask the kernel to, without any capability, where the plan does not cover the file.
    let mut plan = GuestPlan {
        user: 0,
        ..plan("echo before; sleep 0.2; echo c > /proc/sysrq-trigger; sleep 100")
    };
    plan.mounts.retain(|mount| mount.target != "/proc/sysrq-trigger");
    let ran = place.run(plan, b"")?;
    ensure!(
        ran.status.code() == Some(125) && ran.out == b"before\n",
        "{}",
        ran.shown()
    );
    let panicked = ran.said.iter().any(|said| {
        matches!(said, Said::Event { name: EventName::GuestPanicked, detail } if detail.contains("sysrq triggered crash"))
    });
    ensure!(panicked, "{}", ran.shown());
    ensure!(
        ran.failure().is_some_and(|(path, _)| path == "run.guest"),
        "{}",
        ran.shown()
    );
    Ok(())
}

fn a_machine_that_is_killed(place: &Place) -> Test {
    let mut driver = place.start(place.machine()?, plan("echo ready; sleep 1000"), piped());
    let mut stdout = driver.child.stdout.take().unwrap();
    driver.until(|said| matches!(said, Said::Held { .. }))?;
    driver.order(&Order::Go);
    read_until(&mut stdout, "ready\n")?;
    let pid = driver.child.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let machine: i32 = children.trim().parse()?;
    kill_process(Pid::from_raw(machine).unwrap(), Signal::KILL)?;
    let failed = driver.until(|said| matches!(said, Said::Failed { .. }))?;
    let Said::Failed { path, found, .. } = failed else {
        return fail("no failure");
    };
    ensure!(path == "run.monitor" && found.contains("signal: 9"), "{path} {found}");
    ensure!(driver.child.wait()?.code() == Some(125), "its status");
    Ok(())
}

/// What comes of a machine that is no machine.
fn with_monitor(place: &Place, argv: &[&str]) -> Result<Ran, support::End> {
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    let mut driver = place.start(argv, plan("true"), piped());
    let streams = Streams::of(&mut driver.child, vec![b'x'; 1 << 20]);
    while let Ok(said) = driver.until(|said| matches!(said, Said::Held { .. } | Said::Failed { .. })) {
        if matches!(said, Said::Failed { .. }) {
            break;
        }
        driver.order(&Order::Go);
    }
    driver.end(streams)
}

fn a_monitor_that_is_not_there(place: &Place) -> Test {
    let ran = with_monitor(place, &["/no/such/vmm"])?;
    ensure!(ran.status.code() == Some(125), "{}", ran.shown());
    ensure!(
        ran.failure().is_some_and(|(path, _)| path == "launch.preflight.qemu"),
        "{}",
        ran.shown()
    );
    Ok(())
}

fn a_monitor_that_fails_at_once(place: &Place) -> Test {
    let ran = with_monitor(place, &["/bin/sh", "-c", "echo no KVM here >&2; exit 1"])?;
    ensure!(ran.status.code() == Some(125), "{}", ran.shown());
    let right = |(path, found): (&str, &str)| path == "launch.boot" && found.contains("no KVM here");
    ensure!(ran.failure().is_some_and(right), "{}", ran.shown());
    Ok(())
}

/// In the machine's stead: says what `what` names, and then stays.
fn stand_in(what: &str) {
    let socket = sr_kernel::process::inherited(10).unwrap();
    let mut socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(false).unwrap();
    let mut out = Vec::new();
    let mut guest = Guest::new(&mut out, "6.1.0").unwrap();
    let say = |socket: &mut std::os::unix::net::UnixStream, out: &mut Vec<u8>| {
        // The driver may have ended this by now.
        let _ = socket.write_all(out);
        out.clear();
    };
    let end = GuestEnd {
        status: 0,
        peaks: Default::default(),
        agent_bytes: 0,
    };
    match what {
        "garbage" => out = b"\x7fELF\x02\x01\x01".repeat(1000),
        "a frame without end" => {
            out.extend(b"B\xff\xff\xff\x7f");
            out.extend([0; 1 << 20]);
        }
        "another version" => {
            out.clear();
            frame::write(&mut out, Kind::Hello, &[&9u16.to_le_bytes(), b"6.1"]).unwrap();
        }
        "an end before a beginning" => {
            out.clear();
            guest.exited(&mut out, &end).unwrap();
        }
        "an end before the program's" => guest.exited(&mut out, &end).unwrap(),
        "output before the go" => {
            guest.posture(&mut out, &[]).unwrap();
            guest.output(&mut out, Stream::Out, b"early").unwrap();
        }
        "a posture that is none" => frame::write(&mut out, Kind::Posture, &[b"[[[[[[[["]).unwrap(),
        _ => {
            guest.posture(&mut out, &[]).unwrap();
            say(&mut socket, &mut out);
            if what != "nothing more" {
                heard_go(&mut socket);
            }
        }
    }
    match what {
        "more output than there is room for" => {
            // Nobody takes it: the driver has no reader.
            for _ in 0..40 {
                guest.output(&mut out, Stream::Err, &[b'e'; 60_000]).unwrap();
            }
        }
        "credit for nothing" => frame::write(&mut out, Kind::Credit, &[&[0], &u32::MAX.to_le_bytes()]).unwrap(),
        "events without end" => {
            for _ in 0..2000 {
                guest
                    .event(&mut out, &sr_microvm::protocol::GuestEvent::LimitOfMemory { times: 1 })
                    .unwrap();
            }
        }
        _ => {}
    }
    say(&mut socket, &mut out);
    // A guest that only stays is the supervisor's to end.
    let mut sink = [0; 4096];
    while what != "nothing more" && socket.read(&mut sink).is_ok_and(|n| n > 0) {}
    std::thread::sleep(std::time::Duration::from_secs(1000));
}

/// Until the host has said so.
fn heard_go(socket: &mut std::os::unix::net::UnixStream) {
    let mut decoder = frame::Decoder::default();
    let mut piece = [0; 1000];
    loop {
        let read = socket.read(&mut piece).unwrap_or(0);
        if read == 0 {
            return;
        }
        decoder.push(&piece[..read]).unwrap();
        while let Some(frame) = decoder.frame().unwrap() {
            if frame.kind == Kind::Go {
                return;
            }
        }
    }
}

fn hostile_guests(place: &Place) -> Test {
    let own = std::env::current_exe()?;
    for (what, at, found) in [
        ("garbage", "launch.guest", "no known kind"),
        ("a frame without end", "launch.guest", "a frame of 2147483647 bytes"),
        ("another version", "launch.guest", "version 9, where 1 is spoken"),
        ("an end before a beginning", "launch.guest", "Exited while it is Begin"),
        (
            "an end before the program's",
            "launch.guest",
            "Exited while it is Planned",
        ),
        ("output before the go", "launch.guest", "Bytes while it is Held"),
        ("a posture that is none", "launch.guest", "a posture that is none"),
        (
            "more output than there is room for",
            "run.guest",
            "of a stream with room for",
        ),
        ("credit for nothing", "run.guest", "credit for 4294967295 bytes more"),
        ("events without end", "run.guest", "more than 1000 events"),
    ] {
        let ran = with_monitor(place, &[own.to_str().unwrap(), STAND_IN, what])?;
        ensure!(ran.status.code() == Some(125), "{what}: {}", ran.shown());
        let right = |(path, why): (&str, &str)| path == at && why.contains(found);
        ensure!(ran.failure().is_some_and(right), "{what}: {:?}", ran.failure());
    }
    Ok(())
}

/// It holds up nobody: the driver goes on, and takes no more input than there is room for.
fn a_guest_that_does_not_read(place: &Place) -> Test {
    let own = std::env::current_exe()?.to_str().unwrap().to_owned();
    let argv = vec![own, STAND_IN.into(), "nothing more".into()];
    let mut driver = place.start(argv, plan("true"), piped());
    let mut stdin = driver.child.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || {
        let mut taken = 0;
        while let Ok(n) = stdin.write(&[b'x'; 4096]) {
            taken += n;
        }
        taken
    });
    driver.until(|said| matches!(said, Said::Held { .. }))?;
    driver.order(&Order::Go);
    for _ in 0..20 {
        kill_process(Pid::from_raw(driver.child.id() as i32).unwrap(), Signal::TERM)?;
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let pid = driver.child.id();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?
            .trim()
            .strip_suffix(" kB")?
            .parse::<u64>()
            .ok()
    });
    ensure!(driver.child.try_wait()?.is_none(), "it has ended");
    ensure!(resident.is_some_and(|kib| kib < 32 << 10), "{resident:?} KiB");
    driver.child.kill()?;
    driver.child.wait()?;
    let taken = feeding.join().unwrap();
    // What is on the way, and what pipes and sockets hold.
    ensure!(taken < 1 << 20, "{taken} bytes of input were taken");
    Ok(())
}
