//! The kernel's own answers beside the plan's: in a run, every call that the plan denies or does not know is made, by every
//! entry, and each must end as the plan says. Allowed calls are made where they harm nobody: on descriptors that do not
//! exist. What the interpreter makes of a filter is thus what the kernel makes of it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use sr_compiler::bundle::SyscallsPlan;
use sr_compiler::syscalls::bpf::{RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS, RET_USER_NOTIF};
use sr_compiler::syscalls::expected;
use sr_compiler::syscalls::interpreter::SeccompData;
use sr_compiler::{Arch, syscall_name};
use std::fmt::Write;
use std::fs;
use support::{LIMIT, Place, Ran, Test, end, needs};

fn main() {
    support::main(&[
        ("standard_answers_as_its_plan", standard_answers_as_its_plan),
        ("strict_answers_as_its_plan", strict_answers_as_its_plan),
    ]);
}

const EBADF: i32 = 9;
const SIGSYS: i32 = -1;

/// Calls that look at their first argument first, a descriptor.
const ON_A_DESCRIPTOR: [&str; 29] = [
    "read",
    "write",
    "pread64",
    "pwrite64",
    "lseek",
    "ioctl",
    "fstat",
    "fstatfs",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fchmod",
    "fchown",
    "fchdir",
    "getdents64",
    "close",
    "dup",
    "fcntl",
    "syncfs",
    "readahead",
    "bind",
    "connect",
    "listen",
    "getsockname",
    "getpeername",
    "shutdown",
    "recvfrom",
    "sendto",
    "accept4",
];

/// `uretprobe` and `uprobe`, through which the kernel's own probes come back on x86_64: newer kernels ask no filter about
/// them. Called from anywhere else they fail.
const UNASKED: [u32; 2] = [335, 336];

fn line(lines: &mut String, entry: char, nr: u32, wanted: i32, args: [u64; 6]) {
    let [a, b, c, d, e, f] = args;
    // Writing to a string cannot fail.
    let _ = writeln!(lines, "{entry} {nr} {wanted} {a:x} {b:x} {c:x} {d:x} {e:x} {f:x}");
}

/// What the program gets that makes a call to which the plan's answer is `answer`; `None` where the call would be made.
fn denied(plan: &SyscallsPlan, name: Option<&str>, answer: u32) -> Option<i32> {
    match answer {
        RET_KILL_PROCESS => Some(SIGSYS),
        RET_USER_NOTIF => {
            let rule = plan
                .conditional
                .iter()
                .find(|rule| Some(rule.syscall.as_str()) == name)?;
            rule.only_for.is_empty().then_some(i32::from(rule.otherwise_errno?))
        }
        answer if answer & 0xffff_0000 == RET_ERRNO => i32::try_from(answer & 0xffff).ok(),
        _ => None,
    }
}

/// The calls to make: those that are denied, and those that are allowed.
fn calls(plan: &SyscallsPlan, arch: Arch) -> (String, String) {
    let (mut denied_ones, mut allowed_ones) = (String::new(), String::new());
    for nr in 0..1024 {
        let name = syscall_name(arch, nr);
        let data = |args| SeccompData {
            nr,
            arch: arch.audit(),
            instruction_pointer: 0,
            args,
        };
        // All zero, and around what a rule compares with.
        let mut inputs = vec![[0; 6]];
        for rule in plan
            .conditional
            .iter()
            .filter(|rule| Some(rule.syscall.as_str()) == name)
        {
            for test in rule.allow.iter().chain(&rule.deny) {
                for value in [
                    test.value,
                    test.value.wrapping_add(1),
                    test.value.wrapping_sub(1),
                    test.value ^ test.mask,
                    test.mask,
                ] {
                    for high in [0, 0xffff_ffff_0000_0000] {
                        let mut args = [0; 6];
                        args[usize::from(test.index)] = u64::from(value) | high;
                        inputs.push(args);
                    }
                }
            }
        }
        if arch == Arch::X86_64 && UNASKED.contains(&nr) {
            inputs.clear();
        }
        for args in inputs {
            if let Some(wanted) = denied(plan, name, expected(plan, &data(args))) {
                line(&mut denied_ones, 'n', nr, wanted, args);
            }
        }
        if arch == Arch::X86_64 {
            line(&mut denied_ones, 'x', nr, SIGSYS, [0; 6]);
            line(&mut denied_ones, 'i', nr, SIGSYS, [0; 6]);
        }
        if name.is_some_and(|name| ON_A_DESCRIPTOR.contains(&name)) {
            let args = [u64::MAX, 0x5401, 0, 0, 0, 0];
            if expected(plan, &data(args)) == RET_ALLOW {
                line(&mut allowed_ones, 'n', nr, EBADF, args);
            }
        }
    }
    (denied_ones, allowed_ones)
}

fn judged(ran: &Ran, lines: &str) -> Test {
    ran.ok()?;
    let all = format!("tried {}\n", lines.lines().count());
    ensure!(
        !ran.out.contains("BAD") && ran.out.ends_with(&all),
        "wanted {all}: {ran}"
    );
    Ok(())
}

fn answers_as_its_plan(place: &Place, preset: &str, least: usize) -> Test {
    needs(place, "gcc")?;
    let Some(arch) = Arch::parse(std::env::consts::ARCH) else {
        return support::skip("no filter is made for this machine");
    };
    let mut gcc = place.command("gcc");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/filter_in_kernel/probe.c");
    gcc.args(["-O1", "-o", "probe", source]);
    end(gcc, b"", LIMIT).ok()?;
    let probe = format!("{}:/own:ro", place.project.display());
    let run = |input: &str, program: &str| {
        let words = [
            "--quiet",
            "--policy",
            preset,
            "--timeout",
            "30s",
            "--mount",
            &probe,
            "--",
            program,
        ];
        place.input(&words, input.as_bytes())
    };
    let plan = || -> Result<SyscallsPlan, support::End> {
        let bundle: serde_json::Value = serde_json::from_slice(&fs::read(place.last_run().join("bundle.json"))?)?;
        Ok(serde_json::from_value(bundle["syscallsPlan"].clone())?)
    };
    run("", "/bin/true").ok()?;
    let first = plan()?;
    let (denied_ones, allowed_ones) = calls(&first, arch);
    let all = denied_ones + &allowed_ones;
    ensure!(all.lines().count() >= least, "{} calls", all.lines().count());
    ensure!(allowed_ones.lines().count() >= 25, "{allowed_ones}");
    judged(&run(&all, "/own/probe"), &all)?;
    ensure!(plan()? == first, "the two runs had other plans");
    place.nothing_left()?;
    // On the bare host the allowed ones reach the kernel too, and what is no filter's answer is seen.
    let bare = |input: &str| end(place.command(place.project.join("probe")), input.as_bytes(), LIMIT);
    judged(&bare(&allowed_ones), &allowed_ones)?;
    let mut unwalled = String::new();
    line(&mut unwalled, 'n', 1023, 1, [0; 6]);
    if arch == Arch::X86_64 {
        line(&mut unwalled, 'x', 39, SIGSYS, [0; 6]);
        line(&mut unwalled, 'i', 20, SIGSYS, [0; 6]);
    }
    let ran = bare(&unwalled);
    ensure!(
        ran.out.matches("BAD").count() == unwalled.lines().count(),
        "on the host: {ran}"
    );
    Ok(())
}

fn standard_answers_as_its_plan(place: &Place) -> Test {
    answers_as_its_plan(place, "standard", 700)
}

/// Where denied calls kill, each kills the child that makes it.
fn strict_answers_as_its_plan(place: &Place) -> Test {
    answers_as_its_plan(place, "strict", 700)
}
