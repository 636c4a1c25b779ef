//! The command line as clap reads it: one type a command. Words only; what they mean stands in `command`.

mod artifact;
mod limits;
mod run;

pub use artifact::{ArtifactAction, ArtifactArguments, BuildAction, FetchAction, ImageFormat};
pub use run::{OutputArguments, PolicyLayer, RunArguments, ShellArguments};

use clap::{Args, Parser, Subcommand, ValueEnum};
use sr_policy::OrAll;
use sr_policy::spec::BackendChoice;
use std::ffi::OsString;
use std::path::PathBuf;

/// The commands in groups. A test holds this list against the commands that exist.
const TEMPLATE: &str = "\
{about}

{usage-heading} {usage}

Run:
  run          Run a command behind a wall: safe-run run -- python3 agent.py
  shell        The same, with your shell and a terminal
  exec         Run another command inside a sandbox that is running

Look and decide:
  runs         List the runs
  show         What a run did, and what held it
  why          What it was denied, by which clause, and what would allow it
  diff         What a run changed
  apply        Take a run's changes over
  discard      Throw a run and its changes away

Policies:
  learn        Watch a command, and write the smallest policy that lets it run
  validate     Check policies; several files at once
  policy       Show a preset, or explain a policy in sentences
  compile      Print what a policy becomes on this host (--dry-run)
  export       A policy's system calls as a seccomp profile of other tools
  import       A seccomp profile of other tools as a policy
  schema       JSON Schemas of the documents

Evidence:
  report       Verify a run's report, or take it out of the run store
  key          Keys that sign reports, and keys that you trust

Virtual machines:
  artifact     Kernels, root file systems and programs that they start from

This host:
  doctor       What this host can enforce, what stands in the way, how to get it
  gc           Remove what killed runs left behind
  explain      A page about an error code
  completions  Completions for your shell

Options:
{options}{after-help}
";

const AFTER: &str = "
A RUN is a unique beginning of its id, or `last`, which is the default.
`safe-run COMMAND --help` says more; `safe-run` alone shows the first minute.";

/// Run programs that you do not trust, under a written policy, and keep evidence of what happened.
#[derive(Debug, Parser)]
#[command(
    name = "safe-run",
    version,
    help_template = TEMPLATE,
    after_help = AFTER,
    disable_help_subcommand = true,
    max_term_width = 110
)]
pub struct Arguments {
    /// More on standard error about what Safe-Run does; twice for all of it.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    #[command(subcommand)]
    pub command: Option<Command>,
}

/// `safe-run run …` alone. A run must start fast, and describing twenty other commands to clap takes as long as
/// everything else before the sandbox.
#[derive(Debug, Parser)]
#[command(
    name = "safe-run run",
    about = "Run a command behind a wall, capture what it writes, and keep a signed report",
    disable_version_flag = true,
    max_term_width = 110
)]
struct RunAlone {
    /// More on standard error about what Safe-Run does; twice for all of it.
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(flatten)]
    run: RunArguments,
}

impl Arguments {
    /// The words of a command line, the program's name first.
    pub fn read(words: &[OsString]) -> Result<Arguments, clap::Error> {
        if words.get(1).is_none_or(|word| word != "run") {
            return Arguments::try_parse_from(words);
        }
        let alone = RunAlone::try_parse_from(&words[1..])?;
        Ok(Arguments {
            verbose: alone.verbose,
            command: Some(Command::Run(Box::new(alone.run))),
        })
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Run(Box<RunArguments>),
    Shell(Box<ShellArguments>),
    Exec(ExecArguments),
    Runs(RunsArguments),
    Show(ShowArguments),
    Why(WhyArguments),
    Learn(LearnArguments),
    Diff(DiffArguments),
    Apply(ApplyArguments),
    Discard(DiscardArguments),
    Validate(ValidateArguments),
    Policy(PolicyArguments),
    Compile(CompileArguments),
    Export(ExportArguments),
    Import(ImportArguments),
    Schema(SchemaArguments),
    Report(ReportArguments),
    #[command(visible_alias = "keys")]
    Key(KeyArguments),
    Artifact(ArtifactArguments),
    Doctor(DoctorArguments),
    Gc(GcArguments),
    Explain(ExplainArguments),
    Completions(CompletionsArguments),
    /// Opens files of /proc for a confined supervisor.
    #[command(hide = true)]
    Broker {
        /// The pid namespace whose processes it looks into.
        #[arg(long)]
        inside: Option<u64>,
    },
    /// Drives a virtual machine monitor in the sandbox that is around it.
    #[command(hide = true)]
    Monitor,
    /// Sleeps with a canary in its arguments, for `doctor --attack`.
    #[command(hide = true)]
    Victim {
        word: String,
    },
}

/// Run another command inside a sandbox that is running.
#[derive(Debug, Args)]
#[command(
    override_usage = "safe-run exec [OPTIONS] [RUN] -- COMMAND [ARGS]...",
    after_help = "\
The command is looked up in the run's own files and stands behind the same wall as its program:
namespaces, user, limits, Landlock, system-call filter, environment, working directory. The run's
supervisor looks at it before its first instruction and records it. It ends with the run, and does
not keep the run going. Its exit status is passed on; 125: it was not started."
)]
pub struct ExecArguments {
    /// A unique beginning of the run's id, or `last`.
    #[arg(default_value = "last")]
    pub run: String,
    /// Give the command a terminal of its own.
    #[arg(long, short)]
    pub tty: bool,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub argv: Vec<OsString>,
}

/// List the runs, the newest last.
#[derive(Debug, Args)]
pub struct RunsArguments {
    /// Show only the newest COUNT.
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20)]
    pub limit: usize,
    /// Show all of them.
    #[arg(long)]
    pub all: bool,
    /// As a JSON array.
    #[arg(long)]
    pub json: bool,
}

/// What a run did, what it used, and what held it.
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// A unique beginning of the run's id, or `last`.
    #[arg(default_value = "last")]
    pub run: String,
    /// The report itself.
    #[arg(long)]
    pub json: bool,
}

/// Watch a command under a policy, and write the smallest policy that lets it do the same again: its system calls, the
/// arguments that select among their uses, which directories it changes, and twice what it used.
#[derive(Debug, Args)]
#[command(after_help = "\
The command runs behind the wall of the policy under which it is watched; what that denies is told, and not learned. What
was seen stays in the run's folder: --with adds it to what is learned later.")]
pub struct LearnArguments {
    /// The policy under which it is watched: a preset, or a file. Default: standard.
    #[arg(long, short, value_name = "POLICY")]
    pub policy: Option<OsString>,
    /// The wall behind which it is watched.
    #[arg(long, value_name = "BACKEND", value_parser = limits::backend)]
    pub backend: Option<BackendChoice>,
    /// How often it is watched; what was seen in each run counts.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub runs: u32,
    /// Also what was seen in this earlier run of `learn`; more than once.
    #[arg(long, value_name = "RUN")]
    pub with: Vec<String>,
    /// Write the policy here, not to standard output.
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Then run under what was learned, N times, and show what is other than it was.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1")]
    pub verify: Option<u32>,
    /// The command and its arguments. Left out: the policy's own.
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub argv: Vec<OsString>,
}

/// Why a run was refused, ended or denied something: the policy's clause, and what would allow it.
#[derive(Debug, Args)]
pub struct WhyArguments {
    /// A unique beginning of the run's id, or `last`.
    #[arg(default_value = "last")]
    pub run: String,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// What a run changed in the directories whose writes were captured. Deletions come first.
#[derive(Debug, Args)]
pub struct DiffArguments {
    /// A unique beginning of the run's id, or `last`.
    #[arg(default_value = "last")]
    pub run: String,
    /// Names of the changed files only, no lines.
    #[arg(long, conflicts_with = "json")]
    pub names: bool,
    /// As a JSON array.
    #[arg(long)]
    pub json: bool,
}

/// Take a run's changes over to the real files.
#[derive(Debug, Args)]
#[command(
    after_help = "Never applied: setuid bits, devices, FIFOs, file capabilities. What changed on the host since the
run (or its session) began, and what runs by itself on the host (`.git/` but its objects and refs, `.envrc`,
`Makefile`, `Cargo.toml` …), is applied only where its path is named. The stored changes must be those
that the run's evidence vouches for. Who applied what is recorded: safe-run show.

Examples:
  safe-run apply                       everything of the last run that is safe to take over
  safe-run apply last src/main.py      one file
  safe-run apply last Makefile --yes   a file that runs by itself, without asking"
)]
pub struct ApplyArguments {
    /// A unique beginning of the run's id, or `last`.
    #[arg(default_value = "last")]
    pub run: String,
    /// Only these, and these even where they conflict or run by themselves.
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Sign the approval with this key of yours. Without it: the key `default`, if the run is signed.
    #[arg(long, value_name = "NAME")]
    pub key: Option<String>,
    /// Show what would be applied, and apply nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// The outcome as a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Throw a run away: its captured changes, events and report.
#[derive(Debug, Args)]
pub struct DiscardArguments {
    /// A unique beginning of the run's id, or `last`.
    #[arg(default_value = "last")]
    pub run: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// Check policies: their form and the combination rules.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  safe-run validate policy.yaml
  safe-run validate --format json policies/*.yaml
  safe-run validate --host policy.yaml     also against this host's paths and its operator's ceilings

Exit status: 0 all are valid, 2 at least one is not.")]
pub struct ValidateArguments {
    /// Policy files (YAML, JSON, TOML) or presets.
    #[arg(required = true, value_name = "POLICY")]
    pub policies: Vec<OsString>,
    /// `json`: an array of faults on standard output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// As with this wall: auto, strongest, process, gvisor, microvm …
    #[arg(long, value_name = "BACKEND", value_parser = limits::backend)]
    pub backend: Option<BackendChoice>,
    /// Judge by this host too: paths, the run store, keys, the operator's ceilings.
    #[arg(long)]
    pub host: bool,
}

/// Show a preset, or explain a policy in sentences.
#[derive(Debug, Args)]
pub struct PolicyArguments {
    #[command(subcommand)]
    pub action: PolicyAction,
}

#[derive(Debug, Subcommand)]
pub enum PolicyAction {
    /// The complete policy, every default written out.
    Show {
        /// `strict`, `standard`, `agent`, `build`, or a file.
        #[arg(default_value = "standard")]
        policy: OsString,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// In sentences: what the program may and may not do.
    Explain {
        /// A file, or `strict`, `standard`, `agent`, `build`.
        #[arg(default_value = "standard")]
        policy: OsString,
    },
}

/// A policy's system calls as a seccomp profile that container runtimes load. What it cannot say: which calls are told of, and
/// other errnos than one.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// What is exported.
    #[arg(value_enum)]
    pub what: Profile,
    /// oci: for config.json; docker: for --security-opt seccomp=FILE; kubernetes: for the kubelet's seccomp folder.
    #[arg(long, value_enum, default_value_t = ProfileFormat::Oci)]
    pub format: ProfileFormat,
    /// A file if it holds `/` or `.`, else a preset.
    #[arg(long, value_name = "POLICY", default_value = "standard")]
    pub policy: OsString,
}

/// A seccomp profile that Docker, Kubernetes or an OCI runtime reads, as a policy over the preset standard; what a policy
/// cannot say of it is told on standard error.
#[derive(Debug, Args)]
pub struct ImportArguments {
    /// What is imported.
    #[arg(value_enum)]
    pub what: Profile,
    pub file: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    Seccomp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProfileFormat {
    Oci,
    Docker,
    Kubernetes,
}

/// Print what a policy becomes on this host: every plan, the digests of its inputs, the obligations.
#[derive(Debug, Args)]
#[command(override_usage = "safe-run compile --dry-run --policy POLICY [-- COMMAND [ARGS]...]")]
pub struct CompileArguments {
    /// Print the bundle and start nothing. Required: nothing else can be done with a bundle.
    #[arg(long)]
    pub dry_run: bool,
    /// A file if it holds `/` or `.`, else a preset.
    #[arg(long, value_name = "POLICY", default_value = "standard")]
    pub policy: OsString,
    /// As with this wall: auto, strongest, process, gvisor, microvm …; `all`: what each wall would hold of each clause.
    #[arg(long, value_name = "BACKEND", value_parser = limits::backend_or_all)]
    pub backend: Option<OrAll<BackendChoice>>,
    /// With `--backend all`: as a JSON object.
    #[arg(long, requires = "backend")]
    pub json: bool,
    /// Instead of the policy's command.
    #[arg(last = true, value_name = "COMMAND")]
    pub argv: Vec<OsString>,
    /// How faults are written.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Document {
    Policy,
    Bundle,
    Event,
    Report,
    /// A line of `approvals.jsonl`.
    Approval,
    /// What `compile --dry-run --backend all --json` writes.
    Coverage,
}

/// The JSON Schema of a document.
#[derive(Debug, Args)]
pub struct SchemaArguments {
    #[arg(value_enum)]
    pub document: Document,
}

/// Verify a run's report and the events, approvals, signatures and files that belong to it; take it out of the store.
#[derive(Debug, Args)]
pub struct ReportArguments {
    #[command(subcommand)]
    pub action: ReportAction,
}

#[derive(Debug, Subcommand)]
pub enum ReportAction {
    /// Names the first thing that does not hold.
    #[command(
        after_help = "Exit status: 0 verified; 3 incomplete: the run was killed or still goes on; 1 everything else, also
a consistent report whose signer is unknown, or that is not signed."
    )]
    Verify {
        /// A report, the directory of a run, a unique beginning of a run's id, or `last`.
        #[arg(default_value = "last")]
        file: PathBuf,
        /// Trust this public key (a PEM file, or the name of an own key) and no other. Repeatable.
        #[arg(long = "key", value_name = "KEY")]
        keys: Vec<String>,
        /// As a JSON object, with every check.
        #[arg(long)]
        json: bool,
    },
    /// Takes a report out of the run store, with all that verification needs beside it: FILE.evidence/.
    Export {
        /// A unique beginning of the run's id, or `last`.
        run: String,
        /// The report's new place.
        file: PathBuf,
    },
}

/// Keys that sign reports, and keys whose signatures you trust.
#[derive(Debug, Args)]
pub struct KeyArguments {
    #[command(subcommand)]
    pub action: KeyAction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyKind {
    #[value(name = "ecdsa-p256")]
    EcdsaP256,
    Ed25519,
}

#[derive(Debug, Subcommand)]
pub enum KeyAction {
    /// Own keys and trusted ones.
    List {
        /// As a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Make a key. The key `default` is made by the first run.
    Generate {
        #[arg(default_value = "default")]
        name: String,
        #[arg(long, value_enum, default_value_t = KeyKind::EcdsaP256)]
        algorithm: KeyKind,
    },
    /// A key's id, algorithm and public half.
    Show {
        #[arg(default_value = "default")]
        name: String,
    },
    /// Take signatures by this public key from now on.
    Trust {
        /// A PEM public key, got from its owner and not from the evidence.
        file: PathBuf,
    },
    /// Take them no longer.
    Untrust {
        /// Its key id, or a unique beginning of it.
        key_id: String,
    },
    /// The public half (PEM), for others to verify with. The secret half never leaves its directory.
    Export {
        #[arg(default_value = "default")]
        name: String,
        /// To this file instead of standard output.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// What this host can enforce, what stands in the way, and how to get it.
#[derive(Debug, Args)]
#[command(
    override_usage = "safe-run doctor [--json]\n       safe-run doctor --attack [--policy POLICY] [--json]",
    after_help = "\
--attack runs those programs of Safe-Run's own escape corpus that would harm nothing even if nothing
held them, each under the policy, with canaries in a temporary directory ($TMPDIR) that tell whether
one got out. A project of theirs stands in the place of the current directory. The results are
attested by a signed report: safe-run report verify; safe-run discard takes all of its runs away.

Exit status: 0 runs can start here, 1 they cannot. With --attack: 0 all that ran was held, or is a
limit that SECURITY.md states; 1 something escaped, or is unclear, or nothing ran."
)]
pub struct DoctorArguments {
    /// Attack this host's sandbox with the harmless part of the escape corpus.
    #[arg(long)]
    pub attack: bool,
    /// Under this policy: a file if it holds `/` or `.`, else a preset [default: standard]
    #[arg(long, short, value_name = "POLICY", requires = "attack")]
    pub policy: Option<OsString>,
    /// As a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Remove what killed runs left behind: control groups, working folders. Finished runs are kept.
#[derive(Debug, Args)]
pub struct GcArguments {
    /// As a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// A page about an error code or a combination rule.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// Such as SR-RUN-001, or the id of a rule. Left out: the list of both.
    pub code: Option<String>,
}

/// Completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example: safe-run completions bash > ~/.local/share/bash-completion/completions/safe-run")]
pub struct CompletionsArguments {
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests;
