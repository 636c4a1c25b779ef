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

pub(crate) fn ended_for(trap: Trap) -> Cause {
    match trap {
        Trap::Fuel => Cause::Fuel,
        Trap::Memory | Trap::Table => Cause::Memory,
        Trap::Stack => Cause::Stack,
        Trap::HostCall => Cause::Policy,
        Trap::Other => Cause::Trap,
    }
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
    RunResult {
        cause,
        exit_code,
        signal: if killed_for.is_some() {
            signal.or(Some(SIGKILL))
        } else {
            signal
        },
        status,
        limits_hit: hit.iter().map(|s| (*s).to_owned()).collect(),
        message,
    }
}
