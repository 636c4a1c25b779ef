//! Obligations: every clause of the policy, what will enforce it here, and how strongly.

use crate::bundle::{CompileBundle, DeniedAction, IdMap, Limit, LimitMechanism, MacPlan, SyscallsPlan};
use crate::compile::Input;
use crate::{mac, resources};
use sr_common::{Choice, Control, Coverage, Obligation, Strength};
use sr_policy::spec::{DeniedScope, Mac, OnOutput, RequiredStrength};

/// `other`: what another wall than the native one says of itself.
pub(crate) fn list(input: Input<'_>, bundle: &CompileBundle, other: Option<&Coverage>) -> Vec<Obligation> {
    let mut all = Vec::from_iter(bundle.choice.as_ref().map(chosen));
    if let Some(other) = other {
        all.extend(other.obligations());
        return all;
    }
    all.extend(wall(input, bundle));
    all.extend(view(input, bundle));
    all.extend(limits(input, bundle));
    all.extend(calls_and_network(input, bundle));
    all.extend(mandatory(input, bundle));
    all.extend(evidence(input, bundle));
    all
}

/// Which wall it is, where the policy leaves that open.
fn chosen(choice: &Choice) -> Obligation {
    let mechanism = format!("{}: {}", choice.picked, choice.because());
    Obligation {
        reason: (!choice.passed_over.is_empty()).then(|| choice.against().join("; ")),
        ..kept(
            "runtime.backend",
            choice.asked.as_str(),
            Control::UserNamespace,
            mechanism,
        )
    }
}

fn kept(clause: &str, requested: impl Into<String>, control: Control, mechanism: impl Into<String>) -> Obligation {
    Obligation {
        clause: clause.to_owned(),
        requested: requested.into(),
        control,
        mechanism: mechanism.into(),
        strength: None,
        enforced: true,
        reason: None,
    }
}

fn by_kernel(clause: &str, requested: impl Into<String>, control: Control, mechanism: impl Into<String>) -> Obligation {
    Obligation {
        strength: Some(Strength::Kernel),
        ..kept(clause, requested, control, mechanism)
    }
}

// What every run has, whatever the policy says: the backend's own promises.
fn wall(input: Input<'_>, bundle: &CompileBundle) -> Vec<Obligation> {
    let Input { policy, .. } = input;
    let runtime = &policy.runtime;
    let namespace =
        |control, what: &str| by_kernel("runtime.backend", what, control, format!("{what} of the run's own"));
    let user = match &bundle.process_plan.user.map {
        IdMap::Single { host_uid, .. } => format!("user namespace: {} inside is {host_uid} on the host", runtime.user),
        IdMap::Range { base, count } => format!("user namespace: 0..{count} inside is {base}.. on the host"),
    };
    let mut all = vec![
        by_kernel("runtime.user", runtime.user.to_string(), Control::UserNamespace, user),
        namespace(Control::MountNamespace, "mount namespace"),
        namespace(Control::PidNamespace, "pid namespace"),
        namespace(Control::IpcNamespace, "ipc namespace"),
        namespace(Control::UtsNamespace, "uts namespace"),
        namespace(Control::CgroupNamespace, "cgroup namespace"),
        by_kernel(
            "runtime.backend",
            "no capabilities",
            Control::Capabilities,
            "all sets emptied before exec",
        ),
        by_kernel(
            "runtime.backend",
            "no new privileges",
            Control::NoNewPrivileges,
            "PR_SET_NO_NEW_PRIVS",
        ),
    ];
    let posture = kept(
        "runtime.backend",
        "posture read before the first instruction",
        Control::PostureAtExec,
        "",
    );
    all.push(if bundle.process_plan.posture_at_exec {
        Obligation {
            mechanism: "ptrace exec stop".to_owned(),
            ..posture
        }
    } else {
        let reason = "ptrace is forbidden on this host; what exec itself changes is not seen".to_owned();
        Obligation {
            mechanism: format!(
                "handshake just before exec; launch floor: {} execveat",
                crate::syscalls::LAUNCH_FLOOR.join(" ")
            ),
            enforced: false,
            reason: Some(reason),
            ..posture
        }
    });
    let landlock = by_kernel("runtime.backend", "the view, held a second time", Control::Landlock, "");
    all.push(match &bundle.filesystem_plan.landlock {
        Some(plan) => Obligation {
            mechanism: format!("landlock ABI {}", plan.abi),
            ..landlock
        },
        None => {
            let reason = "this kernel has no Landlock; mounts alone hold the view".to_owned();
            Obligation {
                mechanism: "none".to_owned(),
                strength: None,
                enforced: false,
                reason: Some(reason),
                ..landlock
            }
        }
    });
    let command = runtime.command.as_deref().unwrap_or(&input.subject.command.written);
    all.push(kept(
        "runtime.command",
        command,
        Control::ExecutableDigest,
        "run by the descriptor that was hashed",
    ));
    all.push(kept(
        "runtime.args",
        format!("{} arguments", runtime.args.len()),
        Control::ExecutableDigest,
        "argv in the bundle",
    ));
    // Names only: values may be secrets.
    let names: Vec<&str> = runtime.env.keys().map(String::as_str).collect();
    all.push(kept(
        "runtime.env",
        names.join(" "),
        Control::Filesystem,
        "environment made anew; nothing is inherited",
    ));
    let workdir = runtime
        .workdir
        .as_deref()
        .unwrap_or("the current directory where it is shown, else /");
    all.push(kept(
        "runtime.workdir",
        workdir,
        Control::Filesystem,
        format!("chdir {}", bundle.process_plan.workdir),
    ));
    all
}

fn view(input: Input<'_>, bundle: &CompileBundle) -> Vec<Obligation> {
    let Input { policy, subject, .. } = input;
    let rootfs = &policy.rootfs;
    let shown = match &rootfs.path {
        Some(path) => format!("{} {path}, {}", word(&rootfs.source), word(&rootfs.writable)),
        None => format!("{}, {}", word(&rootfs.source), word(&rootfs.writable)),
    };
    let mut all = vec![
        by_kernel(
            "rootfs",
            shown,
            Control::Filesystem,
            "mounts and pivot_root; the old root detached",
        ),
        by_kernel(
            "rootfs.installation",
            word(&rootfs.installation),
            Control::Filesystem,
            match bundle.filesystem_plan.prefixes.as_slice() {
                [] => "no installation outside the system directories".to_owned(),
                prefixes => format!("read-only: {}", prefixes.join(" ")),
            },
        ),
    ];
    for (i, (mount, resolved)) in policy.mounts.iter().zip(&subject.mounts).enumerate() {
        let (requested, mechanism) = match (mount.read_only, mount.captured) {
            (true, _) => ("read-only", "bind mount, read-only"),
            (false, true) => ("captured", "overlay: writes kept apart"),
            (false, false) => ("writable", "bind mount"),
        };
        let requested = format!("{} at {}, {requested}", resolved.source, resolved.target);
        all.push(by_kernel(
            &format!("mounts[{i}]"),
            requested,
            Control::Filesystem,
            mechanism,
        ));
    }
    let hidden = bundle.filesystem_plan.hidden.len();
    let mechanism = format!("{hidden} paths left out of lower layers or covered");
    all.push(by_kernel("hide", policy.hide.join(" "), Control::Filesystem, mechanism));
    if let (Some(files), Some(landlock)) = (&policy.files, &bundle.filesystem_plan.landlock) {
        for (clause, paths, done) in [
            ("files.read", &files.read, "opened"),
            ("files.write", &files.write, "changed"),
        ] {
            let mechanism = format!("landlock ABI {}: nothing else is {done}", landlock.abi);
            all.push(by_kernel(clause, paths.join(" "), Control::Landlock, mechanism));
        }
    }
    if let Some(session) = &policy.session {
        all.push(kept(
            "session",
            session.clone(),
            Control::Filesystem,
            "captured layers kept in the run store",
        ));
    }
    all
}

fn limits(input: Input<'_>, bundle: &CompileBundle) -> Vec<Obligation> {
    let Input { policy, .. } = input;
    let asked = &policy.resources;
    let plan = &bundle.resources_plan;
    let mut all: Vec<Obligation> = resources::limits(plan)
        .map(|(control, name, limit)| {
            let clause = format!("resources.{name}");
            let Some(limit) = limit else {
                return kept(&clause, "all", control, "no limit asked");
            };
            let requested = match control {
                Control::Cpu => asked.cpu.map(|cpu| cpu.to_string()),
                Control::Memory => asked.memory.map(|size| size.to_string()),
                Control::Disk => Some(asked.disk.to_string()),
                _ => asked.pids.map(|n| n.to_string()),
            };
            Obligation {
                strength: Some(limit.strength),
                enforced: resources::satisfies(asked.strength, limit.strength),
                reason: weakness(control, limit, asked.strength),
                ..kept(
                    &clause,
                    requested.unwrap_or_default(),
                    control,
                    mechanism(control, limit, bundle),
                )
            }
        })
        .collect();
    let sampled = |clause, requested: String, control, mechanism: &str| Obligation {
        strength: Some(Strength::Sampled),
        ..kept(clause, requested, control, mechanism)
    };
    all.push(sampled(
        "resources.wallTime",
        asked.wall_time.to_string(),
        Control::WallTime,
        "supervisor's timer, then SIGKILL",
    ));
    all.push(Obligation {
        strength: Some(Strength::PerProcess),
        ..kept(
            "resources.openFiles",
            asked.open_files.to_string(),
            Control::OpenFiles,
            "RLIMIT_NOFILE",
        )
    });
    let at_the_limit = match asked.on_output {
        OnOutput::Kill => "pipes of the supervisor's; SIGKILL at the limit",
        OnOutput::Truncate => "pipes of the supervisor's; dropped after the limit",
    };
    all.push(kept(
        "resources.output",
        asked.output.to_string(),
        Control::Output,
        at_the_limit,
    ));
    all
}

fn mechanism(control: Control, limit: &Limit, bundle: &CompileBundle) -> String {
    let how = mechanism_alone(control, limit, bundle);
    match limit.mechanism {
        LimitMechanism::Cgroup { helper: true, .. } => format!("{how}, by safe-run-helper"),
        _ => how,
    }
}

fn mechanism_alone(control: Control, limit: &Limit, bundle: &CompileBundle) -> String {
    match (&limit.mechanism, control) {
        (LimitMechanism::Cgroup { version: 1, .. }, Control::Cpu) => "cgroup v1 cpu.cfs_quota_us".to_owned(),
        (LimitMechanism::Cgroup { version: 1, .. }, Control::Memory) => "cgroup v1 memory.limit_in_bytes".to_owned(),
        (LimitMechanism::Cgroup { version: 1, .. }, _) => "cgroup v1 pids.max".to_owned(),
        (LimitMechanism::Cgroup { version, .. }, Control::Cpu) => format!("cgroup v{version} cpu.max"),
        (LimitMechanism::Cgroup { version, .. }, Control::Memory) => format!("cgroup v{version} memory.max"),
        (LimitMechanism::Cgroup { version, .. }, _) => format!("cgroup v{version} pids.max"),
        (LimitMechanism::Rlimit, Control::Memory) => "RLIMIT_AS".to_owned(),
        (LimitMechanism::Rlimit, _) => "RLIMIT_NPROC".to_owned(),
        (LimitMechanism::Affinity { cpus }, _) => format!("affinity to {cpus} CPUs; sched_setaffinity denied"),
        (LimitMechanism::Guest, _) => "the guest's own kernel".to_owned(),
        (LimitMechanism::Tmpfs, _) => format!("tmpfs of that size, {} inodes", bundle.filesystem_plan.writable.inodes),
        (LimitMechanism::Quota { files }, _) => {
            format!("project quota of that size, {files} files, by safe-run-helper")
        }
        (LimitMechanism::Watchdog, Control::Disk) => "size of the store sampled; RLIMIT_FSIZE a file".to_owned(),
        (LimitMechanism::Watchdog, _) => "resident memory sampled; RLIMIT_AS a process".to_owned(),
    }
}

fn weakness(control: Control, limit: &Limit, demanded: RequiredStrength) -> Option<String> {
    let why = match (limit.strength, control) {
        (Strength::Kernel, _) => return None,
        (_, Control::Disk) => "the store is a directory: a session, or more than memory holds".to_owned(),
        _ => format!("no cgroup with the {} controller can be made here", control.name()),
    };
    Some(match resources::satisfies(demanded, limit.strength) {
        true => why,
        false => format!("{why}; weaker than demanded, accepted by degrade"),
    })
}

fn calls_and_network(input: Input<'_>, bundle: &CompileBundle) -> Vec<Obligation> {
    let asked = &input.policy.syscalls;
    let plan = &bundle.syscalls_plan;
    let told: Vec<&str> = plan
        .conditional
        .iter()
        .filter(|rule| rule.told)
        .map(|rule| rule.syscall.as_str())
        .collect();
    let told = match told.as_slice() {
        [] => String::new(),
        names => format!("; told to the supervisor: {}", names.join(" ")),
    };
    let filter = format!(
        "seccomp BPF, {} instructions: {} calls allowed, {} by argument{told}",
        plan.program.len(),
        plan.allowed.len(),
        plan.conditional
            .iter()
            .filter(|rule| !rule.allow.is_empty() || !rule.deny.is_empty())
            .count()
    );
    let mut all = vec![
        by_kernel("syscalls.profile", plan.profile.clone(), Control::Seccomp, filter),
        by_kernel(
            "syscalls.onDenied",
            word(&asked.on_denied),
            Control::Seccomp,
            "the filter's answer to calls not allowed",
        ),
    ];
    if !asked.allow.is_empty() {
        let mechanism = "added to the filter; calls with argument rules keep them";
        all.push(by_kernel(
            "syscalls.allow",
            asked.allow.join(" "),
            Control::Seccomp,
            mechanism,
        ));
    }
    if !asked.arguments.is_empty() {
        let calls = asked
            .arguments
            .iter()
            .map(|(call, values)| format!("{call} {}", values.len()));
        let requested = calls.collect::<Vec<_>>().join(", ");
        let mechanism = "tests of the filter on the argument that selects the call's use";
        all.push(by_kernel("syscalls.arguments", requested, Control::Seccomp, mechanism));
    }
    if !asked.deny.is_empty() {
        let reason = asked
            .deny
            .iter()
            .any(|name| name == "execve")
            .then(|| "execveat stays: the program itself is started with it".to_owned());
        let denied = by_kernel(
            "syscalls.deny",
            asked.deny.join(" "),
            Control::Seccomp,
            "taken out of the filter",
        );
        all.push(Obligation { reason, ..denied });
    }
    let scope = match &bundle.filesystem_plan.landlock {
        Some(plan) if plan.scope => "; landlock scope",
        _ => "",
    };
    let mechanism = format!("empty network namespace; socket() of AF_UNIX only{scope}");
    all.push(by_kernel(
        "network.mode",
        word(&input.policy.network.mode),
        Control::Network,
        mechanism,
    ));
    all
}

fn mandatory(input: Input<'_>, bundle: &CompileBundle) -> Option<Obligation> {
    let asked = input.policy.mac.as_ref()?;
    let (Mac::Apparmor(name) | Mac::Selinux(name)) = asked;
    let asked_for = by_kernel(mac::clause(asked), name.as_str(), Control::Mac, "");
    let written = |module: &str, plan: &MacPlan| {
        let word = plan.word();
        format!("{module}: `{word}` in /proc/thread-self/{}/exec", plan.directory())
    };
    Some(match &bundle.mac_plan {
        Some(plan @ MacPlan::Apparmor { .. }) => Obligation {
            mechanism: written("AppArmor", plan),
            ..asked_for
        },
        Some(plan @ MacPlan::Selinux { .. }) => Obligation {
            mechanism: written("SELinux", plan),
            ..asked_for
        },
        None => Obligation {
            mechanism: "none".to_owned(),
            strength: None,
            enforced: false,
            reason: mac::lack(asked, input.facts),
            ..asked_for
        },
    })
}

/// What is told of what the filter denies, and by whom.
fn told(plan: &SyscallsPlan, asked: DeniedScope) -> Obligation {
    let mechanism = match (plan.told, plan.paths.is_empty()) {
        (true, true) => "user notification of denied calls".to_owned(),
        (_, false) => format!(
            "user notification of denied calls, and of {} calls with a path",
            plan.paths.len()
        ),
        (false, true) => "sockets alone are told, if anything".to_owned(),
    };
    let reason = (asked != DeniedScope::Network && !plan.told).then(|| {
        match plan.on_denied {
            DeniedAction::Log => "what is only logged is the kernel's to tell",
            _ => "nobody can be told where sendmsg, by which the listener is handed over, is denied",
        }
        .to_owned()
    });
    Obligation {
        reason,
        ..by_kernel("evidence.denied", word(&asked), Control::Seccomp, mechanism)
    }
}

fn evidence(input: Input<'_>, bundle: &CompileBundle) -> Vec<Obligation> {
    let asked = &input.policy.evidence;
    let count = |directory, hashed| {
        let mounts = bundle.evidence_plan.mounts.iter();
        mounts
            .filter(|m| (m.directory, m.hashed) == (directory, hashed))
            .count()
    };
    let mut hashed = "SHA-256 before the launch: executable, interpreter, script".to_owned();
    for (yes, what) in [(true, ", mounted"), (false, "; not hashed:")] {
        for (kind, n) in [("files", count(false, yes)), ("directories", count(true, yes))] {
            if n > 0 {
                hashed.push_str(&format!("{what} {kind} ({n})"));
            }
        }
    }
    let digest = |clause: &str, requested: String, mechanism: &str| {
        kept(clause, requested, Control::ExecutableDigest, mechanism)
    };
    vec![
        digest(
            "evidence.sign",
            asked.sign.clone(),
            if asked.sign == "none" {
                "not signed, as asked"
            } else {
                "chain head and report signed"
            },
        ),
        digest(
            "evidence.sampleInterval",
            asked.sample_interval.to_string(),
            "supervisor's samples",
        ),
        digest("evidence.hash", word(&asked.hash), &hashed),
        digest(
            "evidence.durability",
            word(&asked.durability),
            match bundle.evidence_plan.kept {
                true => "events written as they happen",
                false => "nothing is written, as asked",
            },
        ),
        told(&bundle.syscalls_plan, asked.denied),
        by_kernel(
            "evidence.observe",
            word(&asked.observe),
            Control::Seccomp,
            match bundle.syscalls_plan.observed {
                true => "user notification of every call but those of each start and end",
                false => "nothing, as asked",
            },
        ),
    ]
}

// An enum as documents write it.
pub(crate) fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|v| v.as_str().map(str::to_owned))
        .unwrap_or_default()
}
