//! The run report: what was asked, what held, what happened. Fields are stable; units stand in their names or comments.

use crate::log::ChainState;
use crate::portable::portable;
use crate::{clock, files};
use rustix::fs::Mode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sr_common::{API_VERSION, Cause, Code, Digest, Fault, Obligation, Observed, RunId, Usage, canonical};
use std::os::fd::AsFd;
use std::time::SystemTime;

/// What `kind` says in a run report.
pub const REPORT_KIND: &str = "RunReport";

/// `run_report.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunReport {
    /// `safe-run/v1`.
    pub api_version: String,
    /// `RunReport`.
    pub kind: String,
    pub run_id: RunId,
    /// RFC 3339, UTC, microseconds.
    pub started_at: String,
    /// RFC 3339, UTC, microseconds.
    pub ended_at: String,
    /// From the first clock to the end of the program and its clean-up, microseconds.
    pub duration_micros: u64,
    /// What walled the program in, such as `process` or `microvm:qemu`; of a run that did not start, what was asked for.
    pub backend: String,
    pub digests: Digests,
    /// What this host can enforce, as found: architecture, kernel, Landlock ABI, cgroup versions …
    pub host: Value,
    pub command: CommandLine,
    /// What the kernel said at the exec stop. Empty where the program never came so far.
    pub posture: Vec<Observed>,
    /// Every clause of the policy and what enforced it.
    pub obligations: Vec<Obligation>,
    pub result: RunResult,
    /// The most that was in use at any time.
    pub peaks: Usage,
    /// How often usage was sampled.
    pub samples: u64,
    pub outputs: Outputs,
    /// Operations that were denied; `null` where nothing observed them.
    pub denied: Option<Vec<DeniedOperation>>,
    /// `null` where the backend gives no account of the network.
    pub network: Option<NetworkSummary>,
    /// What the program changed in captured directories; `null` where nothing was captured.
    pub changes: Option<ChangeSummary>,
    /// What the view left out.
    pub hidden: Vec<HiddenEntry>,
    /// Installation prefixes that were shown, read-only, for the command's sake. Absolute, on the host.
    pub prefixes: Vec<String>,
    pub evidence: EvidenceSummary,
    pub clocks: Clocks,
    /// `false` where part of the account is known to be lost (an event that could not be written).
    pub complete: bool,
}

/// SHA-256 of all that went in and of what came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Digests {
    /// The policy in force, presets, flags and all: `policy.json`, byte for byte.
    pub policy: Digest,
    /// The policy as it was named (file or preset), before the flags.
    pub policy_source: Option<Digest>,
    /// The layer that flags put over the policy; `null` where there were none.
    pub overlay: Option<Digest>,
    /// Canonical JSON of the host's facts.
    pub facts: Digest,
    /// Canonical JSON of the compiled bundle.
    pub bundle: Digest,
    /// The file that was executed; `null` where it was never opened, or is in a guest's own root, whose digest `wall` has:
    /// `posture` has what the guest says of it.
    pub executable: Option<FileDigest>,
    /// The `#!` chain, outermost last; the last one is the executable.
    pub interpreters: Vec<FileDigest>,
    /// The script, for `#!`.
    pub script: Option<FileDigest>,
    /// The policy's mounts, then its root directory, as the view showed them before the launch.
    pub mounts: Vec<MountDigest>,
    /// The kernel of the program's own and what runs it; none: the host's kernel is the program's.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub wall: Vec<FileDigest>,
    /// The manifest of captured changes (`changes.json`, byte for byte); `null`: there were none.
    pub captured_changes: Option<Digest>,
}

/// A file of the view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileDigest {
    /// Absolute in the view.
    pub path: String,
    pub digest: Digest,
}

/// A mounted file or tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MountDigest {
    /// Absolute on the host, where it is recorded.
    pub source: Option<String>,
    /// Absolute in the view.
    pub target: String,
    /// Of a file's content, or of a tree as DESIGN.md defines it. `null`: a tree without `evidence.hash: tree`, or a
    /// mount that is hidden.
    pub digest: Option<Digest>,
}

/// What was run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommandLine {
    /// Complete, `#!` resolved.
    pub argv: Vec<String>,
    /// Names of the environment variables, sorted; never values.
    pub env: Vec<String>,
    /// Absolute in the view.
    pub workdir: String,
}

/// How the run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunResult {
    pub cause: Cause,
    /// The program's exit status; `null` where it did not exit by itself.
    pub exit_code: Option<i32>,
    /// The signal that ended the program; `null` where none did.
    pub signal: Option<i32>,
    /// The exit status of `safe-run run`.
    pub status: u8,
    /// The policy's fields whose limits were met, such as `resources.output`.
    pub limits_hit: Vec<String>,
    /// A sentence for people, where there is more to say.
    pub message: Option<String>,
}

/// The program's standard output and error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Outputs {
    pub stdout: StreamOutput,
    pub stderr: StreamOutput,
}

/// One stream. With a terminal both streams are one, and stand under `stdout`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamOutput {
    /// Bytes passed on.
    pub bytes: u64,
    /// Bytes beyond the limit, which were not passed on.
    pub dropped: u64,
    /// Digest of the bytes passed on; `null` where they were not hashed.
    pub digest: Option<Digest>,
}

/// Something that the program tried and was denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeniedOperation {
    /// What was tried, such as `ptrace` or `connect 10.0.0.1:80`.
    pub operation: String,
    /// What denied it: `seccomp`, `landlock`, `egress` …
    pub by: String,
    /// How often.
    pub count: u64,
    /// What the caller's executable is called, by the caller's own account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The policy's field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clause: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What to write in the policy to allow it; left out where no policy can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// The network that the program had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkSummary {
    /// `none` or `allowlist`.
    pub mode: String,
}

/// How much changed in captured directories, in files and directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeSummary {
    /// All changed paths.
    pub files: u64,
    pub added: u64,
    pub modified: u64,
    pub deleted: u64,
}

/// A host path that the view did not show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HiddenEntry {
    pub path: String,
    pub reason: String,
}

/// The chain as it stood when the report was written, after its last event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceSummary {
    /// `hash` of the last event.
    pub chain_head: Digest,
    /// Number of events.
    pub count: u64,
    /// RFC 6962 tree over the events' hashes.
    pub merkle_root: Digest,
    pub durability: Durability,
    /// Whether heads and attestation were to be signed.
    pub signed: bool,
}

impl EvidenceSummary {
    pub fn new(chain: ChainState, durability: Durability, signed: bool) -> Self {
        EvidenceSummary {
            chain_head: chain.head,
            count: chain.count,
            merkle_root: chain.merkle_root,
            durability,
            signed,
        }
    }

    pub fn chain(&self) -> ChainState {
        ChainState {
            count: self.count,
            head: self.chain_head,
            merkle_root: self.merkle_root,
        }
    }
}

/// What the evidence survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Durability {
    /// The death of every process of the run.
    Process,
    /// Loss of power, from the launch on.
    Machine,
}

/// The four clocks, in microseconds since the run began; `null` where the run never came so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Clocks {
    /// The sandbox is built.
    pub built_micros: Option<u64>,
    /// The wall is up.
    pub wall_micros: Option<u64>,
    /// The program's first instruction.
    pub launched_micros: Option<u64>,
    /// The program and all it started have ended.
    pub ended_micros: Option<u64>,
    /// The result is in hand: all but the report and its signature is written.
    pub result_micros: Option<u64>,
}

/// The JSON Schema of `run_report.json`.
pub fn report_schema() -> Value {
    let mut schema = schemars::schema_for!(RunReport).to_value();
    if let Some(map) = schema.as_object_mut() {
        map.insert("title".into(), "Safe-Run run report, v1".into());
    }
    schema
}

impl RunReport {
    /// The bytes of `run_report.json`: canonical JSON and a newline.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Fault> {
        // `host` is free-form: it may hold 64-bit numbers, which become strings. The typed fields cannot grow so large.
        let host = portable(self.host.clone()).ok_or_else(|| fault("host nests too deep"))?;
        let encoded = match host == self.host {
            true => canonical::to_exact_bytes(self),
            false => canonical::to_exact_bytes(&RunReport { host, ..self.clone() }),
        };
        let mut bytes = encoded.map_err(|e| fault(e.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads a report strictly: known fields only, canonical bytes, one newline at the end and nothing after it.
    pub fn parse(bytes: &[u8]) -> Result<RunReport, String> {
        let report: RunReport = serde_json::from_slice(bytes).map_err(|e| format!("is not a run report: {e}"))?;
        if report.api_version != API_VERSION || report.kind != REPORT_KIND {
            return Err(format!(
                "is not a run report: apiVersion {:?}, kind {:?}",
                report.api_version, report.kind
            ));
        }
        if let Some(bad) = [&report.started_at, &report.ended_at]
            .into_iter()
            .find(|t| !clock::is_rfc3339_micros(t))
        {
            return Err(format!(
                "is not a run report: {bad:?} is not RFC 3339 in UTC with microseconds"
            ));
        }
        match report.to_bytes() {
            Ok(canonical) if canonical == bytes => Ok(report),
            _ => Err("is not canonical JSON (RFC 8785) and one newline".into()),
        }
    }
}

/// Now, as `startedAt` and `endedAt` write it.
pub fn now() -> String {
    clock::rfc3339(SystemTime::now())
}

/// Writes `run_report.json`, atomically, and gives the file's digest. `durable`: flushed to the disk.
pub fn write_report(dir: impl AsFd, report: &RunReport, durable: bool) -> Result<Digest, Fault> {
    let bytes = report.to_bytes()?;
    files::write_atomic(dir.as_fd(), files::REPORT, &bytes, Mode::RUSR | Mode::WUSR, durable)
        .map_err(|e| fault(format!("{} cannot be written: {e}", files::REPORT)))?;
    Ok(Digest::of(&bytes))
}

fn fault(found: impl Into<String>) -> Fault {
    Fault::new(
        Code::Evd002,
        "evidence.report",
        found,
        "make room in the run store and see that it is writable",
    )
}
