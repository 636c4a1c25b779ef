//! A plan as the seccomp profile of the OCI runtime specification (`linux.seccomp` in config-linux.md), which Docker and
//! Kubernetes read too. A profile can say less than a plan: what it denies gets one errno, and nobody is told.

use super::profiles::EPERM;
use super::profiles::words;
use super::{Arch, known_syscall};
use crate::bundle::{ArgumentTest, ConditionalRule, DeniedAction, SyscallsPlan};
use serde_json::{Value, json};

/// What runtimes themselves do between loading the profile and the program's exec: runc its own files, its language's
/// runtime whatever it does between.
const RUNTIME: &str = "execve openat fstatfs getdents64 fstat newfstatat fcntl futex epoll_pwait nanosleep madvise
    rt_sigprocmask sigaltstack sched_yield getpid gettid tgkill";

/// The profile.
pub fn profile(plan: &SyscallsPlan) -> Value {
    let arch = match Arch::parse(&plan.arch) {
        Some(Arch::Aarch64) => "SCMP_ARCH_AARCH64",
        _ => "SCMP_ARCH_X86_64",
    };
    let mut always: Vec<&str> = plan.allowed.iter().chain(&plan.paths).map(AsRef::as_ref).collect();
    always
        .extend(words(RUNTIME).filter(|name| known_syscall(name) && !plan.denied.iter().any(|denied| denied == name)));
    always.sort_unstable();
    always.dedup();
    let mut syscalls = vec![json!({"names": always, "action": "SCMP_ACT_ALLOW"})];
    for rule in &plan.conditional {
        let name = &rule.syscall;
        if words(RUNTIME).any(|runtime| runtime == name) {
            continue;
        }
        // What is told of to some programs alone goes on for all others; a profile knows none of them.
        if !rule.only_for.is_empty() {
            syscalls.push(json!({"names": [name], "action": "SCMP_ACT_ALLOW"}));
        } else if rule.allow.is_empty() && rule.deny.is_empty() {
            let errno = rule.otherwise_errno.unwrap_or(EPERM);
            syscalls.push(json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": errno}));
        } else {
            // Entries of one call are alternatives.
            syscalls.extend(alternatives(rule).into_iter().map(|test| {
                let argument = json!({
                    "index": test.index, "value": test.mask, "valueTwo": test.value, "op": "SCMP_CMP_MASKED_EQ",
                });
                json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]})
            }));
        }
    }
    let (action, errno) = match plan.on_denied {
        // Nobody is there to be asked.
        DeniedAction::Errno | DeniedAction::Ask => ("SCMP_ACT_ERRNO", Some(EPERM)),
        DeniedAction::Kill => ("SCMP_ACT_KILL_PROCESS", None),
        DeniedAction::Log => ("SCMP_ACT_LOG", None),
    };
    let mut profile = json!({"defaultAction": action, "architectures": [arch], "syscalls": syscalls});
    if let (Some(errno), Some(map)) = (errno, profile.as_object_mut()) {
        map.insert("defaultErrnoRet".into(), json!(errno));
    }
    profile
}

/// Tests of one argument each, any of which allows the call: what the rule says. Two comparisons of one argument cannot
/// stand in one entry (libseccomp takes none, and runc makes alternatives of them, which would allow all).
fn alternatives(rule: &ConditionalRule) -> Vec<ArgumentTest> {
    let denied = |test: &ArgumentTest| {
        rule.deny
            .iter()
            .any(|deny| deny.index == test.index && test.mask == u32::MAX && test.value & deny.mask == deny.value)
    };
    if !rule.allow.is_empty() {
        return rule.allow.iter().filter(|test| !denied(test)).copied().collect();
    }
    let Some(index) = rule.deny.first().map(|test| test.index) else {
        return Vec::new();
    };
    let values: Vec<u32> = rule.deny.iter().map(|test| test.value).collect();
    let mut all = Vec::new();
    all_but(&values, 0, 0, &mut |mask, value| {
        all.push(ArgumentTest { index, mask, value })
    });
    all
}

/// Every 32-bit value but these, as `value & mask == prefix`: the sides of a binary tree in which none of them lies.
fn all_but(values: &[u32], bits: u32, prefix: u32, give: &mut impl FnMut(u32, u32)) {
    let mask = match bits {
        0 => 0,
        bits => u32::MAX << (32 - bits),
    };
    if values.iter().all(|value| value & mask != prefix) {
        give(mask, prefix);
    } else if bits < 32 {
        let next = 1 << (31 - bits);
        all_but(values, bits + 1, prefix, give);
        all_but(values, bits + 1, prefix | next, give);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_some_is_all_but_some() {
        let values = [1, 0x5412, u32::MAX];
        let mut tests = Vec::new();
        all_but(&values, 0, 0, &mut |mask, value| tests.push((mask, value)));
        let covered = |value: u32| tests.iter().filter(|(mask, prefix)| value & mask == *prefix).count();
        for value in values {
            assert_eq!(covered(value), 0, "{value:#x}");
            for bit in 0..32 {
                let other = value ^ (1 << bit);
                assert_eq!(covered(other), usize::from(!values.contains(&other)), "{other:#x}");
            }
        }
        // No number is covered twice, so the sizes add up.
        let size = |mask: u32| 1u64 << mask.count_zeros();
        assert_eq!(tests.iter().map(|(mask, _)| size(*mask)).sum::<u64>(), (1 << 32) - 3);
    }
}
