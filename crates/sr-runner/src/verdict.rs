//! How a run ended: the one cause, from the wait status and what the supervisor knows.

use sr_common::monitor::Trap;
use sr_common::{Cause, Fault};
use sr_compiler::CompileBundle;
use sr_compiler::bundle::{DeniedAction, Limit, MonitorPlan};
use sr_evidence::report::RunResult;
use std::collections::BTreeSet;

pub(crate) fn failed_result(fault: Option<&Fault>) -> RunResult {
    RunResult {
        cause: Cause::Supervisor,
        exit_code: None,
        signal: None,
        status: 125,
        limits_hit: Vec::new(),
        message: fault.map(|f| format!("{} {}: {}", f.code, f.path, f.found)),
    }
}

/// With what a worker ends for it.
fn status_for(trap: Trap) -> i32 {
    match trap {
        Trap::Fuel | Trap::Memory | Trap::Table | Trap::Stack => 137,
        Trap::HostCall => 126,
        Trap::Other => 134,
    }
}

/// Whether the plan has a limit of that kind.
fn is_asked(trap: Trap, bundle: &CompileBundle) -> bool {
    match bundle.wall_plan.as_ref().map(|wall| &wall.monitor) {
        Some(MonitorPlan::Wasm { limits, host_calls, .. }) => match trap {
            Trap::Fuel => limits.fuel.is_some(),
            Trap::HostCall => !host_calls.rules.is_empty(),
            _ => true,
        },
        _ => false,
    }
}

fn ended_for(trap: Trap) -> Cause {
    match trap {
        Trap::Fuel => Cause::Fuel,
        Trap::Memory | Trap::Table => Cause::Memory,
        Trap::Stack => Cause::Stack,
        Trap::HostCall => Cause::Policy,
        Trap::Other => Cause::Trap,
    }
}

/// The limit that it is; what the policy does not say has no clause.
fn met(trap: Trap, bundle: &CompileBundle) -> Option<&'static str> {
    let clauses: &[&str] = match trap {
        Trap::Fuel => &["wasm.fuel"],
        Trap::Stack => &["wasm.stack"],
        Trap::Table => &["wasm.tableElements"],
        Trap::Memory => &["wasm.memory", "resources.memory"],
        Trap::HostCall | Trap::Other => &[],
    };
    let said = |clause: &str| bundle.obligations.iter().any(|o| o.clause == clause);
    clauses.iter().copied().find(|clause| said(clause))
}

fn trap_message(trap: Trap, detail: &str) -> String {
    match trap {
        Trap::Fuel => "the module has computed all that it may (wasm.fuel)".to_owned(),
        Trap::Memory => format!("the module's memory reached its limit (wasm.memory, resources.memory): {detail}"),
        Trap::Table => format!("the module's tables reached their limit (wasm.tableElements): {detail}"),
        Trap::Stack => "the module's stack was used up (wasm.stack)".to_owned(),
        Trap::HostCall => {
            format!("the module called what its rules deny, and cannot be told so (wasm.hostCalls): {detail}")
        }
        Trap::Other => format!("the module did what its engine ends it for: {detail}"),
    }
}

const SIGKILL: i32 = 9;
pub(crate) const SIGXFSZ: i32 = 25;
const SIGSYS: i32 = 31;

/// The one cause of an end, from the wait status and what the supervisor knows.
pub(crate) fn verdict(
    status: i32,
    killed_for: Option<Cause>,
    hit: &BTreeSet<&str>,
    guest_out_of_memory: bool,
    trapped: Option<&(Trap, String)>,
    bundle: &CompileBundle,
) -> RunResult {
    let signal = (status & 0x7f != 0).then_some(status & 0x7f);
    let exit_code = signal.is_none().then_some((status >> 8) & 0xff);
    let own_status = match (exit_code, signal) {
        (Some(code), _) => u8::try_from(code).unwrap_or(125),
        (_, Some(signal)) => u8::try_from(128 + signal).unwrap_or(137),
        _ => 125,
    };
    let failed = own_status != 0;
    // Of a worker that ended as one does for it; else it is the host that has seen more.
    let trapped = trapped.filter(|(by, _)| exit_code == Some(status_for(*by)) && is_asked(*by, bundle));
    let calls = &bundle.syscalls_plan;
    let (cause, status) = match killed_for {
        Some(Cause::Timeout) => (Cause::Timeout, 124),
        // As where the kernel ends it by itself.
        Some(Cause::Policy) => (Cause::Policy, 128 + SIGSYS as u8),
        Some(cause) => (cause, 137),
        // The engine's word.
        None if trapped.is_some() => (trapped.map_or(Cause::Trap, |(by, _)| ended_for(*by)), own_status),
        // The kernel ended one process of the run for want of memory: what it left is not the program's own result.
        None if hit.contains("resources.memory") => (Cause::Memory, 137),
        // A program can send itself any signal: this one is the policy's only where its denied calls end in it.
        None if signal == Some(SIGSYS) && calls.on_denied == DeniedAction::Kill => (Cause::Policy, own_status),
        None if failed && hit.contains("resources.disk") => (Cause::Disk, own_status),
        None if failed && hit.contains("resources.pids") => (Cause::Pids, own_status),
        None if signal.is_some() => (Cause::Signal, own_status),
        None => (Cause::Exit, own_status),
    };
    let resources = &bundle.resources_plan;
    // Only what has a limit ends for it.
    let value = |limit: &Option<Limit>| limit.as_ref().map_or(0, |limit| limit.value);
    let message = match cause {
        Cause::Timeout => Some(format!(
            "the wall time of {} was used up ({})",
            resources.wall_time,
            bundle.time_clause()
        )),
        _ if trapped.is_some() && killed_for.is_none() => trapped.map(|(by, detail)| trap_message(*by, detail)),
        Cause::Memory if guest_out_of_memory => Some(
            "the guest's kernel had no memory left, though the program kept to its limit (resources.memory)".to_owned(),
        ),
        Cause::Memory => Some(format!(
            "the memory limit of {} was used up (resources.memory)",
            sr_common::ByteSize(value(&resources.memory))
        )),
        Cause::Pids => Some(format!(
            "the limit of {} processes was used up (resources.pids)",
            value(&resources.pids)
        )),
        Cause::Disk => Some(format!(
            "the disk limit of {} was used up (resources.disk)",
            sr_common::ByteSize(resources.disk.value)
        )),
        Cause::Output => Some(format!(
            "the output limit of {} was used up (resources.output)",
            resources.output
        )),
        Cause::Policy if killed_for.is_some() => {
            Some("a system call that the policy denies ended the run (syscalls.onDenied: kill)".into())
        }
        Cause::Policy if !calls.told => Some(
            "a system call that the policy denies ended the program (syscalls.onDenied: kill); a SIGSYS that it sends \
             itself looks the same"
                .into(),
        ),
        Cause::Policy | Cause::Signal if signal == Some(SIGSYS) => Some(
            "SIGSYS ended the program: it was sent from inside, or answered a system call by another entry point than \
             the native one (int 0x80, x32), which no policy allows"
                .into(),
        ),
        Cause::Signal if signal == Some(SIGXFSZ) => Some(format!(
            "SIGXFSZ ended the program: it was sent from inside, or answered the wish for a file larger than the disk \
             limit of {} (resources.disk)",
            sr_common::ByteSize(resources.disk.value)
        )),
        _ => None,
    };
    let limits: BTreeSet<&str> = hit
        .iter()
        .copied()
        .chain(trapped.and_then(|(by, _)| met(*by, bundle)))
        .collect();
    RunResult {
        cause,
        exit_code,
        signal: if killed_for.is_some() {
            signal.or(Some(SIGKILL))
        } else {
            signal
        },
        status,
        limits_hit: limits.into_iter().map(str::to_owned).collect(),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sr_common::module::ModuleLimits;
    use sr_compiler::bundle::WallPlan;

    /// Of `/bin/true`, and as if a module with that fuel were run.
    fn bundle(fuel: Option<u64>) -> CompileBundle {
        let mut spec = sr_policy::preset("standard").unwrap();
        spec.mounts.clear();
        spec.runtime.command = Some("/bin/true".into());
        let dir = tempfile::tempdir().unwrap();
        let store = crate::Store::open(&dir.path().join("store")).unwrap();
        let caller = crate::request::tests::caller(dir.path());
        let mut made = crate::compile_for_host(&spec, &Default::default(), &caller, &store)
            .unwrap()
            .bundle;
        let monitor = serde_json::json!({"wasm": {
            "argv": [], "kind": "core", "code": "/wall/code", "settings": {"metering": "deadline", "stack": 1 << 20},
            "preopens": [], "hostCalls": {}, "ownTime": false,
            "limits": ModuleLimits { memory: 1 << 20, table_elements: 1, open_files: 1, fuel },
        }});
        made.wall_plan = Some(WallPlan {
            monitor: serde_json::from_value(monitor).unwrap(),
            root: "/guest".into(),
            images: Vec::new(),
            boot_timeout: sr_common::Millis(1000),
            around: Box::new(made.clone()),
        });
        made
    }

    fn cause(status: i32, by: Trap, bundle: &CompileBundle) -> (Cause, u8, Vec<String>) {
        let trapped = (by, "words".to_owned());
        let result = verdict(status, None, &BTreeSet::new(), false, Some(&trapped), bundle);
        (result.cause, result.status, result.limits_hit)
    }

    /// A worker that was taken over can say anything; how it ends is the host's to see.
    #[test]
    fn a_trap_is_believed_where_the_worker_ends_as_one_does_for_it() {
        let exit = |status: i32| status << 8;
        let (metered, plain) = (bundle(Some(7)), bundle(None));
        assert_eq!(cause(exit(137), Trap::Fuel, &metered), (Cause::Fuel, 137, vec![]));
        assert_eq!(cause(exit(134), Trap::Other, &plain), (Cause::Trap, 134, vec![]));
        let memory = vec!["resources.memory".to_owned()];
        assert_eq!(cause(exit(137), Trap::Memory, &plain), (Cause::Memory, 137, memory));
        for (status, by) in [
            (exit(137), Trap::Fuel),
            (exit(5), Trap::Other),
            (exit(0), Trap::Memory),
            (exit(126), Trap::HostCall),
        ] {
            assert_eq!(cause(status, by, &plain).0, Cause::Exit, "{by:?}");
        }
        const SIGSEGV: i32 = 11;
        assert_eq!(cause(SIGSEGV, Trap::Memory, &plain), (Cause::Signal, 139, vec![]));
    }
}
