//! One run, from the request to the sealed report: build, hash, observe, sign, go, watch, capture, seal, clean up.

mod end;
mod resources;

use crate::absent;
use crate::asking::Asking;
use crate::broker;
use crate::confinement::{Confinement, Files};
use crate::digests;
use crate::digests::mounts::{self, Watched};
use crate::gc;
use crate::guests::{self, Guests};
use crate::helper::Helper;
use crate::journal::Journal;
use crate::monitor::Monitor;
use crate::parts;
use crate::redaction;
use crate::refusal;
use crate::request::{Outcome, Refusal, Request, compile_to_run};
use crate::stdio::{self, InputPump, OutputPump};
use crate::store::{RunDir, Store, new_id};
use crate::supervise::{self, BLOCKED, FORWARDED, Supervision};
use crate::takeover;
use crate::terminal::RawMode;
use crate::verdict::failed_result;
pub(crate) use resources::group_posture;
use resources::{group_fault, quota_posture};
use serde::Serialize;
use serde_json::json;
use sr_common::facts::Image;
use sr_common::{Backend, Choice, Code, Digest, Fault, HostFacts, Observed, RunId, Usage};
use sr_compiler::CompileBundle;
use sr_compiler::bundle::{DeniedAction, ViewKind};
use sr_evidence::attestation::Subject as Attested;
use sr_evidence::event::{RUN_END, RUN_START, end_data, start_data};
use sr_evidence::files;
use sr_evidence::key::SigningKey;
use sr_evidence::keystore::KeyStore;
use sr_evidence::log::EventLog;
use sr_evidence::report::{
    ChangeSummary, Clocks, DeniedOperation, Digests, FileDigest, MountDigest, Outputs, RunResult, StreamOutput,
};
use sr_evidence::seal;
use sr_kernel::cgroup::RunGroup;
use sr_process::posture::{self, Before, Identity};
use sr_process::{Guest, Namespaces, Options, Prepared, Running, Stdio, Stopped};
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Runs `request` to its end. Once the program runs, the calling process is confined for ever: afterwards it can write its
/// report to where the request says, and end. A refusal means that the program was not started, or was killed because its evidence
/// could not be written; how a program that ran ended is in the [`Outcome`].
pub fn run(request: &Request) -> Result<Outcome, Refusal> {
    let start = Instant::now();
    let namespaces = Namespaces::begin();
    let compiled = match compile_to_run(&request.policy, &request.host, &request.caller, &request.store) {
        Ok(compiled) => compiled,
        Err(faults) => return Err(refusal::record(request, faults)),
    };
    let (facts, bundle) = (compiled.facts, compiled.bundle);
    tracing::debug!(micros = start.elapsed().as_micros(), "bundle compiled");
    if request.terminal && bundle.backend == Backend::Wasm {
        let fault = Fault::new(
            Code::Run001,
            "launch.prepare.terminal",
            "a module has no terminal",
            "leave --tty out",
        );
        return Err(refusal::record(request, vec![fault]));
    }
    let mut run = Run::open(request, &facts, &bundle, start).inspect_err(|_| {
        // The journal was opened before the store refused the rest: nothing was made, so it is done with.
        gc::collect(&request.store, None);
    })?;
    run.helper = compiled.helper;
    tracing::debug!(micros = run.clock(), "evidence opened");
    let dir = run.folder.as_ref().map(|folder| folder.dir.path.clone());
    match run.live(namespaces) {
        Ok(()) => run.finish().map_err(|fault| Refusal {
            faults: vec![fault],
            dir,
        }),
        Err(fault) => {
            run.fail(&fault);
            Err(Refusal {
                faults: vec![fault],
                dir,
            })
        }
    }
}

/// Where a run's evidence is kept.
struct Folder {
    dir: RunDir,
    fd: OwnedFd,
}

impl Folder {
    fn make(store: &Store, id: &RunId) -> Result<Folder, Fault> {
        let dir = store.create_run(id)?;
        let fd = files::open_dir(&dir.path).map_err(|e| write_fault("the run's folder", &e.into()))?;
        Ok(Folder { dir, fd })
    }
}

/// A run under way, and what is known of it so far.
struct Run<'a> {
    request: &'a Request,
    facts: &'a HostFacts,
    bundle: &'a CompileBundle,
    start: Instant,
    started_at: String,
    id: RunId,
    /// `None`: the policy keeps no evidence.
    folder: Option<Folder>,
    journal: Option<Journal>,
    log: EventLog,
    /// Whether the documents and the first event are written.
    recorded: bool,
    key: Option<SigningKey>,
    group: Option<RunGroup>,
    /// Who made the group, where this process may not.
    helper: Option<Helper>,
    /// What is left of the sandbox: its init, which ends.
    ending: Option<Running>,
    /// Keeps a session to this run.
    session_lock: Option<OwnedFd>,
    /// Where the captured layers are, if in the store.
    layers: Option<PathBuf>,
    /// That folder, where a project quota limits what is in it.
    quota: Option<OwnedFd>,
    /// What the program wrote elsewhere, where that is not memory.
    scratch: Option<PathBuf>,
    /// Those of them that this run made.
    new_layers: BTreeSet<u32>,
    digests: Digests,
    posture: Vec<Observed>,
    attested: Vec<Attested>,
    result: Option<RunResult>,
    peaks: Usage,
    samples: u64,
    outputs: Outputs,
    within_line: bool,
    changes: Option<ChangeSummary>,
    denied: Option<Vec<DeniedOperation>>,
    allowed: Vec<String>,
    clocks: Clocks,
    notes: Vec<String>,
}

pub(crate) fn write_fault(what: &str, error: &std::io::Error) -> Fault {
    Fault::new(
        Code::Run001,
        "store",
        format!("{what} cannot be written: {error}"),
        "make room in the run store and see that it is writable, or name another with SAFE_RUN_WORKDIR_BASE",
    )
}

impl<'a> Run<'a> {
    fn open(
        request: &'a Request,
        facts: &'a HostFacts,
        bundle: &'a CompileBundle,
        start: Instant,
    ) -> Result<Self, Fault> {
        let store: &Store = &request.store;
        let id = new_id()?;
        let durable = bundle.evidence_plan.durable;
        let journal = Journal::create(store.journal(&id))?;
        let captures = bundle
            .filesystem_plan
            .entries
            .iter()
            .any(|entry| matches!(entry.what, ViewKind::Captured { .. }));
        let folder = match bundle.evidence_plan.kept {
            true => Some(Folder::make(store, &id)?),
            // The policy's rules refuse that; a bundle may come from elsewhere.
            false if captures => {
                let found = "none, and the program's writes are to be captured";
                return Err(Fault::new(
                    Code::Run001,
                    "evidence.durability",
                    found,
                    "write durability: process",
                ));
            }
            false => None,
        };
        let log = match &folder {
            Some(folder) => EventLog::create(&folder.fd, &id, durable)?.with_start(start),
            None => EventLog::unkept(&id),
        };
        let nothing = StreamOutput {
            bytes: 0,
            dropped: 0,
            digest: None,
        };
        Ok(Run {
            request,
            facts,
            bundle,
            start,
            started_at: sr_evidence::report::now(),
            digests: Digests {
                policy: Digest::ZERO,
                policy_source: request.policy_source,
                overlay: None,
                facts: bundle.inputs.facts,
                bundle: Digest::ZERO,
                executable: None,
                interpreters: Vec::new(),
                script: None,
                mounts: Vec::new(),
                wall: Vec::new(),
                captured_changes: None,
            },
            attested: Vec::new(),
            id,
            folder,
            journal: Some(journal),
            log,
            recorded: false,
            key: None,
            group: None,
            helper: None,
            ending: None,
            session_lock: None,
            layers: None,
            quota: None,
            scratch: None,
            new_layers: BTreeSet::new(),
            posture: Vec::new(),
            result: None,
            peaks: Usage::default(),
            samples: 0,
            outputs: Outputs {
                stdout: nothing.clone(),
                stderr: nothing,
            },
            within_line: false,
            changes: None,
            denied: None,
            allowed: Vec::new(),
            clocks: Clocks::default(),
            notes: [
                bundle.choice.as_ref().map_or_else(Vec::new, Choice::lines),
                parts::unused(bundle.backend, &request.caller.programs)
                    .into_iter()
                    .collect(),
                absent::notes(&bundle.filesystem_plan),
            ]
            .concat(),
        })
    }

    /// Writes what the run is made from, and the chain's first event.
    fn record_start(&mut self) -> Result<(), Fault> {
        let Some(Folder { fd, .. }) = &self.folder else {
            return Ok(());
        };
        let (request, bundle, durable) = (self.request, self.bundle, self.bundle.evidence_plan.durable);
        let policy = files::write_document(fd, files::POLICY, &redaction::policy(&request.policy), durable)
            .map_err(|e| write_fault(files::POLICY, &e))?;
        let recorded = redaction::bundle(bundle, &request.policy, policy);
        let bundle_digest =
            files::write_document(fd, files::BUNDLE, &recorded, durable).map_err(|e| write_fault(files::BUNDLE, &e))?;
        self.digests.policy = policy;
        self.digests.bundle = bundle_digest;
        self.digests.overlay = match &request.overlay {
            Some(value) => sr_common::canonical::digest(&redaction::overlay(value)).ok(),
            None => None,
        };
        self.attested = vec![
            Attested::new(files::POLICY, policy),
            Attested::new(files::BUNDLE, bundle_digest),
        ];
        if let Some(results) = &request.attack {
            let written = files::write_document(fd, files::ATTACK, results, durable)
                .map_err(|e| write_fault(files::ATTACK, &e))?;
            self.attested.push(Attested::new(files::ATTACK, written));
        }
        let mut data = start_data(&self.id, &policy, &bundle_digest);
        if let Some(map) = data.as_object_mut() {
            map.insert("argv".into(), json!(bundle.process_plan.argv));
            map.insert("backend".into(), json!(bundle.backend));
        }
        self.log.append("supervisor", RUN_START, data)?;
        self.recorded = true;
        Ok(())
    }

    fn clock(&self) -> Option<u64> {
        u64::try_from(self.start.elapsed().as_micros()).ok()
    }

    /// Everything between the opened and the sealed evidence. While the sandbox builds itself, its evidence is begun.
    fn live(&mut self, namespaces: Namespaces) -> Result<(), Fault> {
        let grouping = self.grouping();
        if grouping.at_birth() {
            self.make_group(&grouping)?;
        }
        self.make_layers()?;
        let asking = match self.bundle.syscalls_plan.on_denied {
            DeniedAction::Ask => Some(Asking::open(takeover::approver())?),
            _ => None,
        };
        let signals = sr_kernel::process::signal_descriptor(&[&FORWARDED[..], &BLOCKED[..]].concat())
            .map_err(|e| Fault::new(Code::Run001, "launch.prepare.signals", e.to_string(), ""))?;
        let (stdio, mut ends) = self.make_stdio()?;
        let around = self.bundle.around();
        let wall = self.bundle.wall_plan.as_ref();
        let (monitor, extra) = wall.map(|wall| Monitor::new(self.bundle, wall)).transpose()?.unzip();
        let process = &self.bundle.process_plan;
        let building = sr_process::begin(
            namespaces,
            around,
            Options {
                layers: self.layers.as_deref(),
                scratch: self.scratch.as_deref(),
                kept: self.request.caller.runtime.as_deref(),
                stdio,
                extra,
                guest: wall.filter(|wall| wall.shows_program()).map(|wall| Guest {
                    root: &wall.root,
                    executable: &process.executable,
                    script: process.script.as_deref(),
                }),
                cgroup: self.group.as_ref().and_then(RunGroup::dir_fd),
                groups: grouping.joins()?,
            },
        )?;
        tracing::debug!(
            micros = self.clock(),
            unkept = building.unkept().map(tracing::field::display),
            "sandbox begun"
        );
        self.record_start()?;
        tracing::debug!(micros = self.clock(), "evidence begun");
        gc::collect(&self.request.store, Some(&self.id));
        if !grouping.at_birth() {
            self.make_group(&grouping)?;
        }
        let joined = match &self.group {
            Some(group) => group.task_files().map_err(group_fault)?,
            None => Vec::new(),
        };
        tracing::debug!(micros = self.clock(), "control groups made");
        let devices = building.devices();
        let mut prepared = building.finish()?;
        self.clocks.built_micros = self.clock();
        tracing::debug!(micros = self.clock(), "sandbox built");
        let (identity, watched) = self.hash(&mut prepared, signals.as_fd())?;
        let writable = prepared
            .writable
            .try_clone()
            .map_err(|e| write_fault("a descriptor", &e))?;
        let executable = prepared
            .executable
            .try_clone()
            .map_err(|e| write_fault("a descriptor", &e))?;
        if let Some(master) = &prepared.terminal {
            ends.terminal(master)?;
        }
        let master = prepared
            .terminal
            .as_ref()
            .map(|m| m.try_clone())
            .transpose()
            .map_err(|e| write_fault("a pty", &e))?;
        if let (Some(helper), Some(group)) = (&self.helper, &self.group)
            && !group.is_own()
        {
            helper.enter(prepared.init()?)?;
        }
        let groups: Vec<_> = joined.iter().map(AsFd::as_fd).collect();
        // While the host's mounts are left behind, which waits for a grace period, and the program comes to its exec.
        let meanwhile = || {
            let before = Before::take(around, devices)?;
            self.load_key()?;
            tracing::debug!(micros = self.clock(), "key loaded");
            Ok(before)
        };
        let (stopped, before) = prepared.start(&groups, meanwhile)?;
        let before = before?;
        drop(joined);
        self.clocks.wall_micros = self.clock();
        tracing::debug!(micros = self.clock(), "at the exec stop");
        self.observe(&before, &stopped, &executable, identity, &watched)?;
        // Only where paths are told, and only now: a moment later the program may be gone.
        let inside = match around.syscalls_plan.looks_at_paths() {
            true => broker::pid_namespace(stopped.program.unsigned_abs()).ok(),
            false => None,
        };
        tracing::debug!(micros = self.clock(), "posture observed");
        drop((executable, watched));
        // Nothing of what is recorded may be lost with the machine: then the program waits for the disk.
        let durable = self.bundle.evidence_plan.durable;
        if durable {
            self.sign_launch()?;
        }
        if let Some(monitor) = &monitor {
            monitor.start(self.bundle, self.request.terminal)?;
        }
        let running = stopped.resume()?;
        self.clocks.launched_micros = self.clock();
        tracing::debug!(micros = self.clock(), "program started");
        // While the program comes to run.
        let signed = if durable { Ok(()) } else { self.sign_launch() };
        let prepared = signed.and_then(|()| {
            let files = self.files(writable.as_fd());
            Confinement::prepare(&files, &self.request.caller.broker, inside)
        });
        let confinement = match prepared {
            Ok(confinement) => confinement,
            Err(fault) => {
                running.reap();
                return Err(fault);
            }
        };

        let stdin = rustix::stdio::stdin();
        let raw = master.as_ref().and_then(|_| RawMode::enter(stdin));
        let guests = Guests::new(guests::Host {
            bundle: self.bundle,
            store: &self.request.store,
            // Nobody joins a program that has a kernel of its own.
            dir: self
                .folder
                .as_ref()
                .filter(|_| wall.is_none())
                .map(|folder| folder.fd.as_fd()),
            running: &running,
            group: self.group.as_ref(),
            before: &before,
            posture: &self.posture,
        });
        let mut seen = supervise::supervise(Supervision {
            running: &running,
            plan: &around.resources_plan,
            calls: &around.syscalls_plan,
            view: &around.filesystem_plan,
            mounts: &around.evidence_plan.mounts,
            monitor,
            time_clause: self.bundle.time_clause(),
            executed: self
                .digests
                .executable
                .iter()
                .chain(&self.digests.script)
                .cloned()
                .collect(),
            group: self.group.as_ref(),
            helper: self.helper.as_ref(),
            writable: writable.as_fd(),
            quota: self.quota.as_ref().map(AsFd::as_fd),
            layers: self.layers.as_deref(),
            input: ends.input,
            output: ends.output,
            signals,
            terminal: master.as_ref().map(|m| (m.as_fd(), stdin)),
            wall_time: self.bundle.resources_plan.wall_time.duration(),
            sample_interval: self.bundle.evidence_plan.sample_interval.duration(),
            log: &mut self.log,
            guests,
            asking,
            confinement,
        });
        running.kill();
        self.peaks = seen.peaks;
        self.posture.append(&mut seen.posture);
        // Where init has seen that nothing is left to write, the rest is done while the kernel takes the sandbox down.
        let cpu = match seen.ended.alone {
            Some(cpu) => {
                self.ending = Some(running);
                cpu
            }
            None => running.reap(),
        };
        self.clocks.ended_micros = self.clock();
        tracing::debug!(micros = self.clock(), "program ended");
        supervise::drain(&mut seen.output, &self.bundle.resources_plan, &mut seen.limits_hit);
        drop(raw);
        self.judge(seen, cpu, writable.as_fd())?;
        self.capture(writable.as_fd())?;
        let result = self.result.clone().unwrap_or_else(|| failed_result(None));
        self.log.append("supervisor", RUN_END, end_data(&result))?;
        self.clocks.result_micros = self.clock();
        tracing::debug!(micros = self.clock(), "result recorded");
        Ok(())
    }

    /// What of the host this process still reads and writes after the launch.
    fn files<'b>(&self, writable: BorrowedFd<'b>) -> Files<'b> {
        let store = &self.request.store;
        let groups = || self.group.iter().flat_map(RunGroup::paths);
        let sessions = self.layers.as_deref().filter(|_| self.session_lock.is_some());
        let sources = self.captured().map(|(_, source, ..)| PathBuf::from(source));
        Files {
            look: sources.chain([PathBuf::from("/proc")]).collect(),
            keep: [store.cache(), store.journals()]
                .into_iter()
                .chain(self.folder.iter().map(|folder| folder.dir.path.clone()))
                .chain(sessions.and_then(Path::parent).map(Path::to_owned))
                .chain(groups().map(Path::to_owned))
                .chain(self.request.export.iter().cloned())
                .collect(),
            remove_from: groups().filter_map(Path::parent).map(Path::to_owned).collect(),
            open: vec![writable],
        }
    }

    fn make_stdio(&self) -> Result<(Stdio, Ends), Fault> {
        if self.request.terminal {
            return Ok((
                Stdio::Terminal,
                Ends {
                    input: None,
                    output: Vec::new(),
                },
            ));
        }
        let fault = |e: std::io::Error| Fault::new(Code::Run001, "launch.prepare.stdio", e.to_string(), "");
        let (inside, [in_write, out_read, err_read]) = stdio::pipes(&self.bundle.process_plan.user).map_err(fault)?;
        let input = InputPump::new(rustix::stdio::stdin(), in_write).map_err(fault).ok();
        let output = [(out_read, rustix::stdio::stdout()), (err_read, rustix::stdio::stderr())]
            .into_iter()
            .map(|(from, to)| OutputPump::new(from, to))
            .collect::<Result<_, _>>()
            .map_err(fault)?;
        Ok((Stdio::Pipes(inside), Ends { input, output }))
    }

    /// Hashes what will be executed and what is mounted, by the descriptors that were opened in the view.
    fn hash(&mut self, prepared: &mut Prepared, signals: BorrowedFd<'_>) -> Result<(Identity, Watched), Fault> {
        let around = self.bundle.around();
        let process = &around.process_plan;
        let digest = |file: &fs::File, path: &str| -> Result<(FileDigest, rustix::fs::Stat), Fault> {
            let fault = |e: std::io::Error| {
                Fault::new(
                    Code::Run001,
                    "launch.preflight.executable",
                    format!("{path} cannot be hashed: {e}"),
                    "make the file readable: what cannot be read cannot be vouched for",
                )
            };
            let stat = rustix::fs::fstat(file).map_err(|e| fault(e.into()))?;
            if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
                return Err(fault(std::io::Error::other("it is not a regular file")));
            }
            let digest = digests::of_file(&self.request.store, file, &stat, &mut || false).map_err(fault)?;
            Ok((
                FileDigest {
                    path: path.to_owned(),
                    digest,
                },
                stat,
            ))
        };
        let places = std::mem::take(&mut prepared.mounts);
        let (mut mounted, mut watched) = mounts::hash(&self.request.store, around, places, signals)?;
        if let Some(wall) = &self.bundle.wall_plan {
            let own = &self.bundle.evidence_plan.mounts;
            let parts = mounted.split_off(own.len().min(mounted.len()));
            self.digests.wall = images_as_planned(&wall.images, parts)?;
            for (seen, mount) in mounted.iter_mut().zip(own) {
                seen.target.clone_from(&mount.target);
            }
        }
        self.digests.mounts = mounted;
        if let (Some(file), Some(path)) = (prepared.script.take(), &process.script) {
            let (script, stat) = digest(&file, path)?;
            self.digests.script = Some(script);
            watched.add_script(path, file, Identity::of(&stat));
        }
        let (executed, stat) = digest(&prepared.executable, &process.executable)?;
        let executable = match (self.bundle.wall_plan.is_some(), prepared.guest.take()) {
            // In an image, whose digest is among the wall's; or a module, which is one of its images itself.
            (true, None) => {
                let wall = self.bundle.wall_plan.as_ref();
                let module = wall.and_then(|wall| wall.images.iter().find(|image| image.role == "module"));
                self.digests.wall.push(executed);
                module.map(|image| FileDigest {
                    path: self.bundle.process_plan.executable.clone(),
                    digest: image.digest,
                })
            }
            (true, Some(file)) => {
                self.digests.wall.push(executed);
                let inside = &self.bundle.process_plan;
                if let (Some(file), Some(path)) = (prepared.guest_script.take(), &inside.script) {
                    let (script, stat) = digest(&file, path)?;
                    self.digests.script = Some(script);
                    watched.add_script(path, file, Identity::of(&stat));
                }
                let (executable, stat) = digest(&file, &inside.executable)?;
                watched.add_script(&inside.executable, file, Identity::of(&stat));
                Some(executable)
            }
            (false, _) => Some(executed),
        };
        if self.bundle.process_plan.script.is_some() {
            self.digests.interpreters.extend(executable.clone());
        }
        self.digests.executable = executable;
        Ok((Identity::of(&stat), watched))
    }

    /// The exec stop: reads the posture and records it. Nothing of the program has run.
    fn observe(
        &mut self,
        before: &Before,
        stopped: &Stopped,
        executable: &fs::File,
        identity: Identity,
        watched: &Watched,
    ) -> Result<(), Fault> {
        let around = self.bundle.around();
        let extra = self.bundle.wall_plan.is_some();
        self.posture = posture::observe(around, before, stopped.program, (executable, identity), None, extra)?;
        if let Some(group) = &self.group {
            self.posture.extend(group_posture(group, stopped.program)?);
        }
        if let Some((quota, files)) = self.quota.as_ref().zip(self.bundle.resources_plan.quota()) {
            let seen = quota_posture(quota.as_fd(), around, files, stopped.program)?;
            self.posture.extend(seen);
        }
        let (unchanged, changed) = watched.observe();
        self.posture.extend(unchanged);
        let holds = changed.or_else(|| posture::first_mismatch(&self.posture));
        let seen = Seen {
            posture: &self.posture,
            executable: self.digests.executable.as_ref(),
            script: self.digests.script.as_ref(),
            mounts: &self.digests.mounts,
        };
        self.log.append("kernel", "launch.posture", seen)?;
        if let Some(fault) = holds {
            return Err(fault);
        }
        self.log.append(
            "supervisor",
            "run.launch",
            json!({"program": self.bundle.process_plan.executable}),
        )?;
        Ok(())
    }

    fn sign_launch(&mut self) -> Result<(), Fault> {
        let Some(Folder { fd, .. }) = &self.folder else {
            return Ok(());
        };
        let head = seal::seal_launch(
            fd,
            &mut self.log,
            &self.id,
            self.digests.policy,
            self.digests.bundle,
            self.key.as_ref(),
        )?;
        self.attested.extend(head);
        Ok(())
    }

    fn load_key(&mut self) -> Result<(), Fault> {
        if !self.request.sign || !self.bundle.evidence_plan.sign {
            return Ok(());
        }
        // From here on nobody else of this user may look into this process, which is about to hold a key.
        sr_kernel::process::set_not_dumpable()
            .map_err(|e| Fault::new(Code::Run001, "launch.prepare", format!("PR_SET_DUMPABLE: {e}"), ""))?;
        let keys = KeyStore::open(&self.request.caller.keys);
        let key = match self.request.policy.evidence.sign.as_str() {
            "default" => keys.default_key()?,
            name => keys.signing_key(name)?,
        };
        self.key = Some(key);
        Ok(())
    }
}

/// The digests of the monitor and its images, which must be those that the bundle names.
fn images_as_planned(images: &[Image], parts: Vec<MountDigest>) -> Result<Vec<FileDigest>, Fault> {
    for (at, image) in images.iter().enumerate() {
        let seen = parts.get(at).and_then(|part| part.digest);
        if seen != Some(image.digest) {
            let found = format!(
                "{} is not the {} that was planned: its digest is {}, not {}",
                image.path,
                image.role,
                seen.map_or_else(|| "unknown".to_owned(), |digest| digest.to_string()),
                image.digest
            );
            let remedy = "`safe-run artifact verify` says what is damaged; build or import it anew";
            let path = format!("launch.preflight.{}", image.role);
            return Err(Fault::new(Code::Run002, path, found, remedy));
        }
    }
    let file = |part: MountDigest| {
        Some(FileDigest {
            path: part.source?,
            digest: part.digest?,
        })
    };
    Ok(parts.into_iter().filter_map(file).collect())
}

/// What is recorded at the exec stop.
#[derive(Serialize)]
struct Seen<'a> {
    posture: &'a [Observed],
    executable: Option<&'a FileDigest>,
    script: Option<&'a FileDigest>,
    mounts: &'a [MountDigest],
}

/// The supervisor's ends of stdin, stdout and stderr.
struct Ends {
    input: Option<InputPump>,
    output: Vec<OutputPump>,
}

impl Ends {
    /// Both directions go through the pty's master.
    fn terminal(&mut self, master: &OwnedFd) -> Result<(), Fault> {
        let fault = |e: std::io::Error| Fault::new(Code::Run001, "launch.prepare.terminal", e.to_string(), "");
        let stdin = rustix::stdio::stdin();
        if let Ok(size) = rustix::termios::tcgetwinsize(stdin) {
            rustix::termios::tcsetwinsize(master, size).map_err(|e| fault(e.into()))?;
        }
        let copy = || master.try_clone().map_err(fault);
        self.output = vec![OutputPump::new(copy()?, rustix::stdio::stdout()).map_err(fault)?];
        self.input = Some(InputPump::new(stdin, copy()?).map_err(fault)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that was exchanged after it was found, and one that nobody hashed.
    #[test]
    fn an_image_that_is_not_the_planned_one_is_refused() {
        let image = |role: &str| Image {
            role: role.into(),
            path: format!("/store/{role}"),
            digest: Digest::of(role.as_bytes()),
            format: None,
        };
        let part = |role: &str, digest| MountDigest {
            source: Some(format!("/store/{role}")),
            target: format!("/wall/{role}"),
            digest,
        };
        let images = [image("kernel"), image("initrd")];
        let kernel = part("kernel", Some(images[0].digest));
        let planned = vec![kernel.clone(), part("initrd", Some(images[1].digest))];
        let judged = |parts| images_as_planned(&images, parts).map_err(|fault| (fault.code, fault.path));
        assert_eq!(judged(planned).unwrap().len(), 2);
        let refused = Err((Code::Run002, "launch.preflight.initrd".to_owned()));
        for parts in [
            vec![kernel.clone(), part("initrd", Some(Digest::of(b"other")))],
            vec![kernel.clone(), part("initrd", None)],
            vec![kernel],
        ] {
            assert_eq!(judged(parts), refused);
        }
    }
}
