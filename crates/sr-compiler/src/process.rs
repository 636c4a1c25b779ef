//! The program: what is executed, with which arguments, environment and identity; and what a host must have before
//! any of it makes sense.

use crate::bundle::{FilesystemPlan, IdMap, ProcessPlan, UserPlan};
use crate::compile::Input;
use crate::filesystem;
use crate::syscalls::Arch;
use sr_common::{Code, Control, Fault};
use std::collections::BTreeMap;

/// Ids that a privileged supervisor's sandbox has: all that ordinary programs know.
const RANGE: u32 = 65_536;

const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// What cannot be degraded, and what is not.
pub(crate) fn preflight(input: Input<'_>, faults: &mut Vec<Fault>) {
    let Input { policy, facts, .. } = input;
    let mut fault = |stage: &str, found: String, remedy: &str| {
        faults.push(Fault::new(
            Code::Run001,
            format!("launch.preflight.{stage}"),
            found,
            remedy,
        ));
    };
    if Arch::parse(&facts.arch).is_none() {
        fault(
            "arch",
            format!("the processor is {:?}", facts.arch),
            "run it on x86_64 or aarch64",
        );
    }
    if let Some(reason) = &facts.user_namespaces_blocked {
        let remedy = "allow them as the reason says (`safe-run doctor` tells how), or run as root on the host itself";
        fault(
            "userNamespaces",
            format!("user namespaces cannot be made here: {reason}"),
            remedy,
        );
    }
    if !facts.seccomp {
        let remedy =
            "use a kernel built with CONFIG_SECCOMP_FILTER; in a container, one that does not forbid seccomp(2)";
        fault("seccomp", "this kernel takes no seccomp filter".to_owned(), remedy);
    }
    if !facts.ptrace && !policy.degrade.contains(&Control::PostureAtExec) {
        let remedy = "set kernel.yama.ptrace_scope to 2 or less and allow ptrace in the container, or write \
                      degrade: [postureAtExec]: the posture is then read at a handshake just before exec";
        fault(
            "ptrace",
            "a child of one's own cannot be seized with ptrace here".to_owned(),
            remedy,
        );
    }
    if !facts.privileged && facts.uid == 0 {
        let remedy = "run it as an ordinary user, or give the container CAP_SYS_ADMIN";
        fault(
            "user",
            "root without CAP_SYS_ADMIN: the program would be uid 0 outside".to_owned(),
            remedy,
        );
    }
    if facts.privileged
        && (facts.id_base < RANGE || facts.id_base.checked_add(RANGE - 1).is_none_or(|last| last == u32::MAX))
    {
        let found = format!("the sandbox's id range begins at {}", facts.id_base);
        fault(
            "idRange",
            found,
            "choose 65536 host ids that belong to nobody, from 65536 upwards",
        );
    }
}

pub(crate) fn plan(input: Input<'_>, view: &FilesystemPlan, faults: &mut Vec<Fault>) -> ProcessPlan {
    let Input {
        policy, facts, subject, ..
    } = input;
    let command = &subject.command;
    if facts.privileged && policy.runtime.user >= RANGE {
        let found = format!("user {} is not among the sandbox's {RANGE} ids", policy.runtime.user);
        faults.push(Fault::new(
            Code::Cmp001,
            "runtime.user",
            found,
            "write a number below 65536",
        ));
    }
    let workdir = filesystem::workdir(input, view, faults);
    let (executable, script) = match command.interpreters.last() {
        None => (command.path.clone(), None),
        Some(interpreter) => (interpreter.path.clone(), Some(command.path.clone())),
    };
    ProcessPlan {
        executable,
        script,
        argv: argv(input),
        env: environment(input, &workdir),
        workdir,
        hostname: "sandbox".to_owned(),
        user: UserPlan {
            inside: policy.runtime.user,
            map: if facts.privileged {
                IdMap::Range {
                    base: facts.id_base,
                    count: RANGE,
                }
            } else {
                IdMap::Single {
                    host_uid: facts.uid,
                    host_gid: facts.gid,
                }
            },
        },
        posture_at_exec: facts.ptrace,
    }
}

// As the kernel would have it: each interpreter with its one argument goes in front of the path of what it interprets.
fn argv(input: Input<'_>) -> Vec<String> {
    let command = &input.subject.command;
    let mut argv = Vec::new();
    for interpreter in command.interpreters.iter().rev() {
        argv.push(interpreter.path.clone());
        argv.extend(interpreter.argument.clone());
    }
    argv.push(if command.interpreters.is_empty() {
        command.written.clone()
    } else {
        command.path.clone()
    });
    argv.extend(input.policy.runtime.args.iter().cloned());
    argv
}

fn environment(input: Input<'_>, workdir: &str) -> BTreeMap<String, String> {
    let mut path = input.subject.command.path_dirs.clone();
    path.push(PATH.to_owned());
    let made_up = [
        ("PATH", path.join(":")),
        ("HOME", filesystem::HOME.to_owned()),
        ("USER", filesystem::USER.to_owned()),
        ("LOGNAME", filesystem::USER.to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("TMPDIR", "/tmp".to_owned()),
        ("PWD", workdir.to_owned()),
        ("SAFE_RUN", "1".to_owned()),
    ];
    let mut env: BTreeMap<String, String> = made_up
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    env.extend(input.policy.runtime.env.clone());
    env
}
