//! Our filters beside those that libseccomp makes of the same plans: two that know nothing of each other, down to the
//! numbers of the calls.
#![allow(clippy::unwrap_used)] // A panic is a failed test.

mod common;

use common::filters::{ARCHITECTURES, arguments, at, plans};
use sr_compiler::bundle::SyscallsPlan;
use sr_compiler::syscalls::bpf::{X32_BIT, from_bytes};
use sr_compiler::syscalls::interpreter::{Instruction, Program, SeccompData};
use sr_compiler::{Arch, syscall_name};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// What `libseccomp/filter.py` makes of a plan: the filters, and the names that it does not know.
fn theirs(plan: &SyscallsPlan, optimize: &str, out: &Path) -> (Vec<Vec<Instruction>>, Vec<String>) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/libseccomp/filter.py");
    let mut python = Command::new("python3")
        .arg(script)
        .arg(out)
        .args([optimize, "all"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = python.stdin.take().unwrap();
    stdin.write_all(&serde_json::to_vec(plan).unwrap()).unwrap();
    drop(stdin);
    let said = python.wait_with_output().unwrap();
    assert!(said.status.success(), "filter.py: {}", said.status);
    let names = String::from_utf8(said.stdout).unwrap();
    let bytes = std::fs::read(out).unwrap();
    let (mut rest, mut filters) = (bytes.as_slice(), Vec::new());
    while let Some((length, more)) = rest.split_first_chunk() {
        let (code, more) = more.split_at(8 * u32::from_le_bytes(*length) as usize);
        filters.push(from_bytes(code).unwrap());
        rest = more;
    }
    (filters, names.split_whitespace().map(str::to_owned).collect())
}

/// The strictest answer is the one that the kernel takes.
fn answer(filters: &[Program<'_>], data: &SeccompData) -> u32 {
    let answers = filters.iter().map(|filter| filter.run(data));
    answers.min_by_key(|answer| answer.cast_signed() & !0xffff).unwrap()
}

#[test]
fn libseccomp_makes_the_same_filters() {
    let load = "import ctypes; ctypes.CDLL('libseccomp.so.2')";
    let loaded = Command::new("python3")
        .args(["-c", load])
        .stderr(Stdio::null())
        .status();
    if !loaded.is_ok_and(|status| status.success()) {
        println!("SKIP libseccomp_makes_the_same_filters: python3 cannot load libseccomp.so.2");
        return;
    }
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libseccomp-filters");
    // A list and a binary tree, in turn.
    let plans = Arch::ALL
        .into_iter()
        .flat_map(|arch| plans(arch).into_iter().map(move |plan| (arch, plan)));
    for ((arch, plan), optimize) in plans.zip(["1", "2"].into_iter().cycle()) {
        let ours = Program::check(&plan.program).unwrap();
        let (filters, unknown) = theirs(&plan, optimize, &out);
        let filters: Vec<_> = filters.iter().map(|code| Program::check(code).unwrap()).collect();
        assert_eq!(filters.len(), 2);
        let unknown: BTreeSet<&str> = unknown.iter().map(String::as_str).collect();
        let lacks = |nr: u32| {
            let name = syscall_name(arch, nr).unwrap_or_default();
            unknown.contains(name) || unknown.contains(nr.to_string().as_str())
        };
        let lacks: Vec<bool> = (0..1024).map(lacks).collect();
        // An older libseccomp lacks the newest calls.
        let newer = (0..1024)
            .filter(|nr| syscall_name(arch, *nr).is_some() && lacks[*nr as usize])
            .count();
        assert!(newer < 30, "{unknown:?}");
        let mut compared = 0;
        let mut same = |data: SeccompData| {
            compared += 1;
            let (ours, theirs) = (ours.run(&data), answer(&filters, &data));
            assert_eq!(ours, theirs, "{arch} {} {:?} {data:x?}", plan.profile, plan.on_denied);
        };
        for nr in 0..1024 {
            match syscall_name(arch, nr) {
                Some(_) if !lacks[nr as usize] => same(at(arch.audit(), nr)),
                // It takes numbers without a name only for the machine that it runs on.
                None if arch == Arch::X86_64 && cfg!(target_arch = "x86_64") => same(at(arch.audit(), nr)),
                _ => {}
            }
            if arch == Arch::X86_64 {
                same(at(arch.audit(), nr | X32_BIT));
            }
            for (_, token) in ARCHITECTURES.iter().filter(|(_, token)| *token != arch.audit()) {
                same(at(*token, nr));
            }
        }
        let known = |data: &SeccompData| !lacks[data.nr as usize];
        arguments(&plan, arch)
            .into_iter()
            .step_by(11)
            .filter(known)
            .for_each(&mut same);
        let (profile, denied) = (&plan.profile, plan.on_denied);
        println!("{arch} {profile} {denied:?}: {compared} answers are the same; {newer} calls are newer than it");
    }
}
