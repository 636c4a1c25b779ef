//! A policy of SELinux's, for the tests that may put one into a kernel: the rig's. It is whole and of the tests' own; what
//! Safe-Run and a program may do to each other are the rules that OPERATIONS.md has.

use super::{End, LIMIT, Place, end, needs, on_the_rig, safe_run};
use crate::ensure;
use std::ffi::OsStr;
use std::fs;
use std::process::Command;
use std::sync::{OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};

const FRAME: &str = include_str!("selinux.conf");
const ENFORCE: &str = "/sys/fs/selinux/enforce";

/// As OPERATIONS.md calls it, and those that lack something of it.
pub const JOB: &str = "job_t";
/// What it may not do is only logged.
pub const LOGGED: &str = "logged_t";
/// Safe-Run may not: signal it, look at it, let it be entered with no_new_privs, enter it, trace it.
pub const DEAF: &str = "deaf_t";
pub const UNSEEN: &str = "unseen_t";
pub const NEW_PRIVILEGES: &str = "new_privileges_t";
pub const FORBIDDEN: &str = "forbidden_t";
pub const UNTRACED: &str = "untraced_t";
/// It may not use what Safe-Run gives it for standard streams.
pub const MUTE: &str = "mute_t";
/// A job may enter it, where no_new_privs is not set.
pub const OTHER: &str = "other_t";

pub const SAFE_RUN: &str = "safe_run_t";
/// Without `setexec`.
pub const TIED: &str = "tied_t";
/// Without `compute_av`.
pub const BLIND: &str = "blind_t";

pub fn context(kind: &str) -> String {
    format!("system_u:system_r:{kind}:s0")
}

static HOST: RwLock<()> = RwLock::new(());

/// The policy is loaded and denies while this is held.
pub fn enforced(place: &Place) -> Result<RwLockReadGuard<'static, ()>, End> {
    load(place)?;
    Ok(HOST.read().unwrap_or_else(|e| e.into_inner()))
}

/// The same, and no other test runs meanwhile: for what changes the whole machine.
pub fn alone(place: &Place) -> Result<RwLockWriteGuard<'static, ()>, End> {
    load(place)?;
    Ok(HOST.write().unwrap_or_else(|e| e.into_inner()))
}

/// The policy is loaded and only logs while this is held.
pub struct Permissive(#[allow(unused)] RwLockWriteGuard<'static, ()>);

impl Permissive {
    pub fn set(place: &Place) -> Result<Permissive, End> {
        let alone = Permissive(alone(place)?);
        fs::write(ENFORCE, "0")?;
        Ok(alone)
    }
}

impl Drop for Permissive {
    fn drop(&mut self) {
        fs::write(ENFORCE, "1").expect("SELinux enforces again");
    }
}

/// Once for all tests.
fn load(place: &Place) -> Result<(), End> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    on_the_rig()?;
    needs(place, "checkpolicy")?;
    let load = || -> Result<(), End> {
        let [source, binary] = ["policy.conf", "policy"].map(|name| place.root().join(name));
        fs::write(&source, FRAME.replace("\nRULES\n", &rules()))?;
        let mut compiler = place.command("checkpolicy");
        compiler.args(["-M", "-U", "allow", "-o"]).args([&binary, &source]);
        end(compiler, b"", LIMIT).ok()?;
        // One write is one policy.
        fs::write("/sys/fs/selinux/load", fs::read(&binary)?)?;
        fs::write(ENFORCE, "1")?;
        let own = fs::read_to_string("/proc/self/attr/current")?;
        ensure!(own.starts_with("system_u:system_r:host_t:s0"), "this test is in {own}");
        Ok(())
    };
    let loaded = LOADED.get_or_init(|| {
        load().map_err(|end| match end {
            End::Skip(why) => why,
            End::Fail(failed) => failed.message().unwrap_or_default().to_owned(),
        })
    });
    match loaded {
        Ok(()) => Ok(()),
        Err(why) => super::fail(format!("the policy is not loaded: {why}")),
    }
}

/// As documented for `job_t` and `safe_run_t`, and for those that lack something.
fn rules() -> String {
    let document = include_str!("../../../../OPERATIONS.md");
    let found = document.split("```").find_map(|block| block.strip_prefix("selinux\n"));
    let documented = found.expect("OPERATIONS.md has rules of SELinux's");
    let without = |kind: &str, what: &[&str]| {
        let mut text = documented.replace(JOB, kind);
        for words in what {
            assert!(text.contains(words), "OPERATIONS.md does not say {words}");
            text = text.replace(words, "");
        }
        text
    };
    let look = format!("allow {SAFE_RUN} {UNSEEN}:{{ file lnk_file }} {{ getattr open read }};");
    let mut all = vec![
        documented.to_owned(),
        without(LOGGED, &[]),
        format!("permissive {LOGGED};"),
        without(DEAF, &[" signal sigkill"]),
        without(UNSEEN, &[&look]),
        without(NEW_PRIVILEGES, &["nnp_transition "]),
        without(FORBIDDEN, &["transition ptrace "]),
        without(UNTRACED, &["ptrace "]),
        without(MUTE, &["read write append"]),
        format!(
            "type {OTHER};\nrole system_r types {OTHER};\nallow {JOB} {OTHER}:process transition;\nallow {OTHER} {JOB}:fd use;"
        ),
    ];
    // Others that start the same, and lack something themselves.
    let rules: Vec<&str> = documented.lines().filter(|line| line.starts_with("allow ")).collect();
    for (starter, permission, instead) in [(TIED, "setexec", "setfscreate"), (BLIND, "compute_av", "check_context")] {
        let rules = rules.join("\n").replace(SAFE_RUN, starter).replace(permission, instead);
        all.push(format!("type {starter}, starter;\n{rules}"));
    }
    for program in [
        JOB,
        LOGGED,
        DEAF,
        UNSEEN,
        NEW_PRIVILEGES,
        FORBIDDEN,
        UNTRACED,
        MUTE,
        OTHER,
    ] {
        all.push(format!("typeattribute {program} program;"));
    }
    format!("\n{}\n", all.join("\n"))
}

/// `PROGRAM WORDS` in a domain.
pub fn within(place: &Place, domain: &str, program: impl AsRef<OsStr>, words: &[&str]) -> Command {
    let mut command = place.command("sh");
    let script = "printf %s \"$0\" > /proc/self/attr/exec && exec \"$@\"";
    command.args(["-c", script, &context(domain)]).arg(program).args(words);
    command
}

/// `safe-run WORDS` in a domain of its own.
pub fn safe_run_in(place: &Place, domain: &str, words: &[&str]) -> Command {
    within(place, domain, safe_run(), words)
}
