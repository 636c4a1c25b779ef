//! The arguments of `run` and `shell`.

use super::limits::{backend, cpu, duration, memory, mount, pids, size, variable};
use clap::Args;
use sr_common::{ByteSize, Millis};
use sr_policy::spec::{BackendChoice, Mount};
use sr_policy::{Cpus, OrAll};
use std::ffi::OsString;
use std::path::PathBuf;

/// Run a command behind a wall, capture what it writes, and keep a signed report.
#[derive(Debug, Args)]
#[command(
    override_usage = "safe-run run [OPTIONS] [--] COMMAND [ARGS]...\n       safe-run run --policy FILE [OPTIONS]",
    after_help = "Everything after the first word that is no option belongs to the command. Without a policy the
preset `standard` holds: no network, the system directories read-only, the current directory
visible with its writes captured, 2 CPUs, 2 GiB of memory, 10 minutes. Flags are a recorded layer
over the policy.

Examples:
  safe-run run -- python3 agent.py
  safe-run run --cpu 1 --memory 512MB --timeout 30s python3 agent_script.py
  safe-run run --policy strict --report report.json -- ./submission
  safe-run run --mount ./data:/data -e CI=1 -- make test

Exit status: the program's own; 128+N where signal N ended it; 124 after the wall time; 137 where
another limit ended it; 125 where Safe-Run itself failed.

--json writes {id, status, cause, exitCode, signal, limitsHit, durationMicros, changes, notes, dir,
report} in the place of the last line; faults become an array of {code, path, found, remedy, …}."
)]
pub struct RunArguments {
    #[command(flatten)]
    pub policy: PolicyLayer,
    #[command(flatten)]
    pub output: OutputArguments,
    /// The command and its arguments. Left out: the policy's own.
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub argv: Vec<OsString>,
}

/// Your shell behind a wall, with a terminal of its own: `run --tty -- $SHELL`.
#[derive(Debug, Args)]
pub struct ShellArguments {
    #[command(flatten)]
    pub policy: PolicyLayer,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// The policy and the flags over it.
#[derive(Debug, Default, Args)]
pub struct PolicyLayer {
    /// A file if it holds `/` or `.`, else a preset: strict, standard, agent, build [default: standard]
    #[arg(long, short, value_name = "POLICY", help_heading = "Policy")]
    pub policy: Option<OsString>,
    /// The wall: auto, strongest, process, gvisor, microvm, or microvm: and firecracker, cloud-hypervisor, qemu
    #[arg(long, value_name = "BACKEND", value_parser = backend, help_heading = "Policy")]
    pub backend: Option<BackendChoice>,
    /// Keep captured writes under NAME for the next run (`auto`: the workspace's; `none`: do not)
    #[arg(long, value_name = "NAME", help_heading = "Policy")]
    pub session: Option<String>,
    /// uid and gid inside the sandbox
    #[arg(long, value_name = "UID", help_heading = "Policy")]
    pub user: Option<u32>,

    /// Set a variable; NAME alone passes yours on. Nothing else is inherited
    #[arg(short = 'e', long = "env", value_name = "NAME=VALUE", value_parser = variable, help_heading = "Program")]
    pub env: Vec<(String, Option<String>)>,
    /// Start in this directory of the sandbox
    #[arg(long, short = 'w', value_name = "DIR", help_heading = "Program")]
    pub workdir: Option<String>,
    /// Give the program a terminal of its own
    #[arg(long, short, help_heading = "Program")]
    pub tty: bool,

    /// Show a host path: `:ro` (default), `:rw` writes through, `:captured` keeps writes apart
    #[arg(long, value_name = "SRC:DST[:ro|rw]", value_parser = mount, help_heading = "Files")]
    pub mount: Vec<Mount>,

    /// CPUs' worth of time, such as 1 or 0.5, or `all`
    #[arg(long, value_name = "N", value_parser = cpu, allow_negative_numbers = true, help_heading = "Limits")]
    pub cpu: Option<OrAll<Cpus>>,
    /// Such as 512MB (10⁶) or 512MiB (2²⁰), or `all`
    #[arg(long, short, value_name = "SIZE", value_parser = memory, allow_negative_numbers = true, help_heading = "Limits")]
    pub memory: Option<OrAll<ByteSize>>,
    /// Wall time, such as 30s, 10min, 2h
    #[arg(long, value_name = "TIME", value_parser = duration, allow_negative_numbers = true, help_heading = "Limits")]
    pub timeout: Option<Millis>,
    /// Processes and threads, or `all`
    #[arg(long, value_name = "N", value_parser = pids, allow_negative_numbers = true, help_heading = "Limits")]
    pub pids: Option<OrAll<u32>>,
    /// Captured writes, /tmp and /dev/shm together
    #[arg(long, value_name = "SIZE", value_parser = size, allow_negative_numbers = true, help_heading = "Limits")]
    pub disk: Option<ByteSize>,
    /// Open files of each process
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub open_files: Option<u32>,
    /// Standard output and standard error together
    #[arg(long, value_name = "SIZE", value_parser = size, allow_negative_numbers = true, help_heading = "Limits")]
    pub output: Option<ByteSize>,
}

/// What Safe-Run itself writes.
#[derive(Debug, Default, Args)]
pub struct OutputArguments {
    /// Write the report here too, with FILE.evidence/ beside it, which `report verify FILE` needs
    #[arg(long, value_name = "FILE", help_heading = "Evidence")]
    pub report: Option<PathBuf>,
    /// Where denied calls are asked about (syscalls.onDenied: ask): write the policy here with what you allowed
    #[arg(long, value_name = "FILE", help_heading = "Policy")]
    pub save: Option<PathBuf>,
    /// Do not sign the report
    #[arg(long, help_heading = "Evidence")]
    pub no_sign: bool,
    /// The results of `doctor --attack`, for this run to attest
    #[arg(long, value_name = "FILE", hide = true)]
    pub attack_results: Option<PathBuf>,
    /// The last line on standard error, or the faults, as JSON
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// No last line on standard error; faults are still written
    #[arg(long, short, help_heading = "Output")]
    pub quiet: bool,
}
