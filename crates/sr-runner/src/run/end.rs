//! What is left of a run: the verdict, the captured changes, the report and its seal.

use super::{Folder, Run, write_fault};
use crate::changes;
use crate::request::Outcome;
use crate::session;
use crate::stdio::OutputPump;
use crate::supervise::Supervised;
use crate::usage;
use crate::verdict::{SIGXFSZ, failed_result, verdict};
use rustix::fs::{Mode, OFlags};
use serde_json::json;
use sr_common::Fault;
use sr_evidence::attestation::Subject as Attested;
use sr_evidence::event::{CAPTURE_DONE, RUN_END, end_data};
use sr_evidence::files;
use sr_evidence::report::{
    ChangeSummary, CommandLine, Durability, EvidenceSummary, HiddenEntry, NetworkSummary, REPORT_KIND, RunReport,
    RunResult,
};
use sr_evidence::seal;
use sr_observe::learn::Observation;
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

impl Run<'_> {
    pub(super) fn judge(&mut self, seen: Supervised, cpu_micros: u64, writable: BorrowedFd<'_>) -> Result<(), Fault> {
        let mut limits_hit: BTreeSet<&str> = seen.limits_hit;
        self.peaks.cpu_micros = self.peaks.cpu_micros.max(Some(cpu_micros));
        if seen.ended.status & 0x7f == SIGXFSZ && self.disk_was_used_up(writable) {
            limits_hit.insert("resources.disk");
        }
        self.samples = seen.samples;
        // Standard error, or the one that a terminal has.
        self.within_line = seen.output.last().is_some_and(OutputPump::ends_within_line);
        let mut output = seen.output.into_iter().map(OutputPump::result);
        if let Some(stdout) = output.next() {
            self.outputs.stdout = stdout;
        }
        if let Some(stderr) = output.next() {
            self.outputs.stderr = stderr;
        }
        if seen.denied.iter().any(|denied| denied.operation.contains("AF_INET")) {
            self.notes.push("network is off: see network.allow".into());
        }
        self.denied = Some(seen.denied);
        self.allowed = seen.allowed;
        if self.bundle.syscalls_plan.observed {
            self.observed(&seen.seen)?;
        }
        let result = verdict(
            seen.ended.status,
            seen.killed_for,
            &limits_hit,
            seen.guest_out_of_memory,
            seen.trapped.as_ref(),
            self.bundle,
        );
        if let Some(message) = &result.message {
            self.notes.push(message.clone());
        }
        self.result = Some(result);
        match seen.evidence {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    /// Writes what the program was seen to do.
    fn observed(&mut self, seen: &Observation) -> Result<(), Fault> {
        let Some(Folder { fd, .. }) = &self.folder else {
            return Ok(());
        };
        let durable = self.bundle.evidence_plan.durable;
        let digest =
            files::write_document(fd, files::OBSERVED, seen, durable).map_err(|e| write_fault(files::OBSERVED, &e))?;
        self.attested.push(Attested::new(files::OBSERVED, digest));
        let data = json!({"calls": seen.calls.len(), "files": seen.files.len(), "lost": seen.lost, "document": digest});
        self.log.append("supervisor", "run.observed", data)?;
        Ok(())
    }

    /// Whether what the program left bears out that a file could not grow.
    fn disk_was_used_up(&self, writable: BorrowedFd<'_>) -> bool {
        let limit = self.bundle.resources_plan.disk.value;
        let most = (limit / 4096).max(4096);
        let tmpfs = PathBuf::from(format!("/proc/self/fd/{}", writable.as_raw_fd()));
        self.peaks.disk_bytes >= Some(limit)
            || std::iter::once(&tmpfs)
                .chain(&self.layers)
                .any(|path| usage::has_file_of(path, limit, most))
    }

    /// Brings the captured layers into the store and writes their manifest.
    pub(super) fn capture(&mut self, writable: BorrowedFd<'_>) -> Result<(), Fault> {
        // Without evidence nothing is captured either.
        let Some(Folder { dir, fd }) = &self.folder else {
            return Ok(());
        };
        let mut all = Vec::new();
        let mut any = false;
        for (layer, source, target, hidden) in self.captured() {
            any = true;
            let upper = match &self.layers {
                Some(root) => root.join(layer.to_string()).join("upper"),
                None => {
                    let upper = dir.layer(layer);
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                    let live = rustix::fs::openat(writable, format!("u{layer}"), flags, Mode::empty())
                        .map_err(|e| write_fault("the captured layer", &e.into()))?;
                    // A layer without a change is not kept: an absent one is read as empty.
                    if !changes::is_empty(&live)? {
                        if let Some(parent) = upper.parent() {
                            fs::create_dir_all(parent).map_err(|e| write_fault(&parent.display().to_string(), &e))?;
                        }
                        changes::copy_layer(&live, &upper)?;
                    }
                    upper
                }
            };
            let own = upper.parent().filter(|_| self.session_lock.is_some());
            // A new layer begins with this run. When it was made tells less: such times lag behind by a tick of the clock.
            let started = match own.filter(|_| !self.new_layers.contains(&layer)) {
                Some(own) => session::began(own, dir.started()),
                None => dir.started(),
            };
            let scanned = changes::read(&changes::Layer {
                upper: &upper,
                lower: Path::new(source),
                hidden,
                started,
            })?;
            if let Some(own) = own {
                session::settle(own, started, scanned.held.is_empty())
                    .map_err(|e| write_fault("the session's layer", &e))?;
            }
            let record = changes::LayerRecord::new(layer, source, target, started, scanned);
            let found = &record.changes;
            let summary = self.changes.get_or_insert(ChangeSummary {
                files: 0,
                added: 0,
                modified: 0,
                deleted: 0,
            });
            for change in found {
                summary.files += 1;
                match change.kind {
                    changes::Kind::Added => summary.added += 1,
                    changes::Kind::Deleted => summary.deleted += 1,
                    _ => summary.modified += 1,
                }
            }
            all.push(record);
        }
        if !any {
            return Ok(());
        }
        // Without an entry there is nothing to take over, and nothing to vouch for.
        let mut digest = None;
        if all.iter().any(changes::LayerRecord::has_entries) {
            let durable = self.bundle.evidence_plan.durable;
            let written = files::write_document(fd, files::CHANGES, &all, durable)
                .map_err(|e| write_fault(files::CHANGES, &e))?;
            self.attested.push(Attested::new(files::CHANGES, written));
            digest = Some(written);
        }
        self.digests.captured_changes = digest;
        self.log.append(
            "supervisor",
            CAPTURE_DONE,
            json!({"changes": self.changes, "manifest": digest}),
        )?;
        Ok(())
    }

    /// Writes the report, seals the evidence and cleans up.
    pub(super) fn finish(mut self) -> Result<Outcome, Fault> {
        let result = self.result.clone().unwrap_or_else(|| failed_result(None));
        let report = self.report(result);
        let sealed = self.seal(&report);
        tracing::debug!(micros = self.clock(), "evidence sealed");
        let cleaned = self.clean();
        tracing::debug!(micros = self.clock(), "cleaned up");
        sealed?;
        self.notes.extend(cleaned);
        Ok(Outcome {
            id: self.id,
            status: report.result.status,
            report,
            dir: self.folder.map(|folder| folder.dir.path),
            within_line: self.within_line,
            allowed: self.allowed,
            notes: self.notes,
        })
    }

    /// The program was not started, or was killed: records why, as far as the store still takes it, and cleans up.
    pub(super) fn fail(mut self, fault: &Fault) {
        let result = failed_result(Some(fault));
        let begun = if self.recorded { Ok(()) } else { self.record_start() };
        let recorded = begun
            .and_then(|()| self.log.append("supervisor", "run.failed", json!(fault)))
            .and_then(|_| self.log.append("supervisor", RUN_END, end_data(&result)))
            .and_then(|_| if self.key.is_none() { self.load_key() } else { Ok(()) });
        if recorded.is_ok() {
            let report = self.report(result);
            // The fault itself is what the caller is told; evidence that cannot be written stays incomplete.
            let _ = self.seal(&report);
        }
        self.clean();
    }

    fn seal(&mut self, report: &RunReport) -> Result<(), Fault> {
        match &self.folder {
            Some(Folder { fd, .. }) => seal::seal(fd, &mut self.log, report, self.key.as_ref(), &self.attested),
            None => Ok(()),
        }
    }

    /// Takes what nothing after it needs.
    fn report(&mut self, result: RunResult) -> RunReport {
        let process = &self.bundle.process_plan;
        let plan = &self.bundle.filesystem_plan;
        let facts = self.facts;
        let durability = if self.bundle.evidence_plan.durable {
            Durability::Machine
        } else {
            Durability::Process
        };
        RunReport {
            api_version: sr_common::API_VERSION.into(),
            kind: REPORT_KIND.into(),
            run_id: self.id.clone(),
            started_at: self.started_at.clone(),
            ended_at: sr_evidence::report::now(),
            duration_micros: self.clock().unwrap_or(0),
            backend: self.bundle.backend.to_string(),
            digests: self.digests.clone(),
            host: json!({
                "arch": facts.arch,
                "kernel": facts.kernel,
                "privileged": facts.privileged,
                "landlockAbi": facts.landlock_abi,
                "seccomp": facts.seccomp,
                "ptrace": facts.ptrace,
                "cgroup": facts.cgroup,
                "cpus": facts.cpus,
            }),
            command: CommandLine {
                argv: process.argv.clone(),
                env: process.env.keys().cloned().collect(),
                workdir: process.workdir.clone(),
            },
            posture: std::mem::take(&mut self.posture),
            obligations: self.bundle.obligations.clone(),
            result,
            peaks: self.peaks,
            samples: self.samples,
            outputs: self.outputs.clone(),
            // Where denied calls are not told of, that is not "none".
            denied: self
                .denied
                .take()
                .filter(|denied| self.bundle.tells_denials() || !denied.is_empty()),
            network: Some(NetworkSummary { mode: "none".into() }),
            changes: self.changes,
            hidden: plan
                .hidden
                .iter()
                .map(|h| HiddenEntry {
                    path: h.path.clone(),
                    reason: h.reason.clone(),
                })
                .collect(),
            prefixes: plan.prefixes.clone(),
            evidence: EvidenceSummary::new(self.log.state(), durability, self.key.is_some()),
            clocks: self.clocks,
            complete: true,
        }
    }
}
