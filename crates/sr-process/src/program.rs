//! The steps of the program's own process, in the order that design §5 gives: limits, capabilities, identity,
//! security module, no_new_privs, Landlock, descriptors, seccomp, exec.

use crate::mac;
use crate::sandbox::Stdio;
use crate::view::{SLOT_PTY, c_string};
use sr_common::{Code, Fault};
use sr_compiler::bundle::{CompileBundle, IdMap, LimitMechanism};
use sr_kernel::seccomp::Instruction;
use sr_kernel::step::{CStringArray, Fd, Step};
use std::os::fd::{AsRawFd, RawFd};

const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;

/// The program's stdin, stdout and stderr, and whether they are a terminal.
pub(crate) struct Ends {
    pub fds: [Fd; 3],
    pub terminal: bool,
}

impl Ends {
    /// A terminal is one more step: it becomes `owner`'s, and its master is sent over `channel`.
    pub(crate) fn of(stdio: &Stdio, owner: u32, channel: RawFd, steps: &mut Vec<Step>) -> Self {
        match stdio {
            Stdio::Pipes(fds) => Ends {
                fds: [0, 1, 2].map(|i: usize| Fd::Inherited(fds[i].as_raw_fd())),
                terminal: false,
            },
            Stdio::Terminal => {
                steps.push(Step::OpenPty {
                    channel,
                    slave: SLOT_PTY,
                    owner,
                });
                Ends {
                    fds: [Fd::Slot(SLOT_PTY); 3],
                    terminal: true,
                }
            }
        }
    }
}

/// What the program's process is given by descriptor besides.
pub(crate) struct Given {
    pub executable: Fd,
    pub landlock: Fd,
    /// The socket at which it waits for its go, where there is no exec stop.
    pub gate: Option<RawFd>,
    /// What stays open for it besides its standard streams.
    pub extra: Option<RawFd>,
}

/// What the program's process inherits from the one that makes it, which does it before it has to wait for anything.
pub(crate) fn inherited() -> [Step; 2] {
    [Step::DropBounding, Step::DefaultSignals]
}

/// `channel`: the process's end of the socket to the supervisor. [`inherited`] must have been done.
pub(crate) fn steps(bundle: &CompileBundle, ends: &Ends, given: &Given, channel: RawFd) -> Result<Vec<Step>, Fault> {
    let process = &bundle.process_plan;
    let resources = &bundle.resources_plan;
    let mut steps = vec![
        Step::NewSession,
        Step::Stdio {
            stdin: ends.fds[0],
            stdout: ends.fds[1],
            stderr: ends.fds[2],
        },
    ];
    if ends.terminal {
        steps.push(Step::ControllingTerminal);
    }
    // What is open counts against the limit on descriptors, which the filter's listener needs one of.
    let mut kept = vec![given.executable, Fd::Inherited(channel)];
    kept.extend(bundle.filesystem_plan.landlock.as_ref().map(|_| given.landlock));
    kept.extend(given.gate.into_iter().chain(given.extra).map(Fd::Inherited));
    steps.push(Step::CloseAllBut(kept));
    for (name, value) in &resources.rlimits {
        let (resource, hard) = sr_kernel::process::rlimit(name).ok_or_else(|| {
            Fault::new(
                Code::Run001,
                "launch.prepare.rlimits",
                format!("the resource limit {name} cannot be read"),
                "in a container, let its filter allow prlimit64(2)",
            )
        })?;
        // A hard limit can only be lowered without CAP_SYS_RESOURCE; the host's own, lower one is within the policy.
        steps.push(Step::Rlimit {
            resource,
            value: (*value).min(hard),
        });
    }
    if let Some(cpu) = &resources.cpu
        && let LimitMechanism::Affinity { cpus } = cpu.mechanism
    {
        steps.push(Step::Affinity { cpus });
    }
    let clear_groups = matches!(process.user.map, IdMap::Range { .. });
    steps.push(Step::Capabilities {
        keep: CAP_SETGID | CAP_SETUID,
    });
    steps.push(Step::Identity {
        uid: process.user.inside,
        gid: process.user.inside,
        clear_groups,
    });
    steps.push(Step::Capabilities { keep: 0 });
    steps.push(Step::ChangeDir(c_string(&process.workdir)?));
    if let Some(plan) = &bundle.mac_plan {
        steps.push(mac::step(plan)?);
    }
    steps.push(Step::NoNewPrivileges);
    if bundle.filesystem_plan.landlock.is_some() {
        steps.push(Step::EnterLandlock {
            ruleset: given.landlock,
        });
    }
    if given.gate.is_some() {
        // Its memory is still a copy of the supervisor's from before there was a key, and no stranger runs inside yet.
        steps.push(Step::Dumpable);
    }
    steps.push(Step::CloseOnExec);
    steps.extend(given.extra.map(|extra| Step::KeepOpen(Fd::Inherited(extra))));
    let program = bundle
        .syscalls_plan
        .program
        .iter()
        .map(|&(code, jt, jf, k)| Instruction { code, jt, jf, k })
        .collect::<Vec<_>>();
    let told = bundle.syscalls_plan.tells();
    steps.push(Step::Seccomp {
        program,
        listener: told.then_some(channel),
    });
    if let Some(gate) = given.gate {
        steps.push(Step::Handshake { channel, gate });
    }
    let argv = process.argv.iter().map(|a| c_string(a)).collect::<Result<_, _>>()?;
    let envp = process
        .env
        .iter()
        .map(|(k, v)| c_string(&format!("{k}={v}")))
        .collect::<Result<_, _>>()?;
    steps.push(Step::Execute {
        fd: given.executable,
        argv: CStringArray::new(argv),
        envp: CStringArray::new(envp),
    });
    Ok(steps)
}
