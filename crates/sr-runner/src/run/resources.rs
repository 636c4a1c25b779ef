//! What a run makes outside its own namespaces: its control group, and the layers of captured directories that the store keeps.

use super::{Run, write_fault};
use crate::journal::{Journal, Resource};
use crate::removal;
use crate::session;
use sr_common::{Code, Control, Fault, Observed};
use sr_compiler::CompileBundle;
use sr_compiler::bundle::{Backing, IdMap, Limit, LimitMechanism, ViewKind};
use sr_evidence::files;
use sr_kernel::cgroup::{Clause, Limits, RunGroup};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Of the folder of the captured layers: what the program wrote elsewhere.
const SCRATCH: &str = "scratch";

/// The run's control group.
pub(super) struct Grouping {
    name: String,
    /// What this process makes.
    own: Limits,
    /// What the helper makes.
    helped: Limits,
}

impl Grouping {
    /// Whether the sandbox's first process is born in it, as in version 2.
    pub(super) fn at_birth(&self) -> bool {
        let own = [&self.own.memory, &self.own.cpu, &self.own.pids];
        own.into_iter().flatten().any(|clause| clause.at.version == 2)
    }

    /// How many directories the program's process joins by itself.
    pub(super) fn joins(&self) -> Result<usize, Fault> {
        RunGroup::joins(&self.name, &self.own).map_err(group_fault)
    }
}

impl<'a> Run<'a> {
    /// The name of the run's control group, what it is to hold and who makes it.
    pub(super) fn grouping(&self) -> Grouping {
        let resources = &self.bundle.around().resources_plan;
        let clause = |limit: &Option<Limit>, by_helper: bool| match limit {
            Some(Limit {
                mechanism:
                    LimitMechanism::Cgroup {
                        version,
                        parent,
                        helper,
                    },
                value,
                ..
            }) if *helper == by_helper => Some(Clause {
                at: sr_common::facts::CgroupController {
                    version: *version,
                    parent: parent.clone(),
                },
                limit: Some(*value),
            }),
            _ => None,
        };
        let limits = |by_helper| Limits {
            memory: clause(&resources.memory, by_helper),
            cpu: clause(&resources.cpu, by_helper),
            pids: clause(&resources.pids, by_helper),
        };
        Grouping {
            name: format!("safe-run-{}", self.id),
            own: limits(false),
            helped: limits(true),
        }
    }

    pub(super) fn make_group(&mut self, Grouping { name, own, helped }: &Grouping) -> Result<(), Fault> {
        if *own != Limits::default() {
            let planned = RunGroup::plan(name, own).map_err(group_fault)?;
            if let Some(journal) = &mut self.journal {
                let groups: Vec<_> = planned.into_iter().map(|path| Resource::Cgroup { path }).collect();
                journal.will_make(&groups)?;
            }
            self.group = Some(RunGroup::create(name, own).map_err(group_fault)?);
        }
        if let Some(helper) = &self.helper
            && *helped != Limits::default()
        {
            // What it makes is in a journal of its own.
            helper.make_group(&self.id, helped)?;
            let made = RunGroup::attach(name, helped).map_err(group_fault)?;
            self.group = Some(match self.group.take() {
                Some(own) => own.with(made),
                None => made,
            });
        }
        Ok(())
    }

    /// Makes the folders of captured layers that live in the store.
    pub(super) fn make_layers(&mut self) -> Result<(), Fault> {
        let plan = &self.bundle.filesystem_plan;
        if plan.writable.backing != Backing::Store {
            return Ok(());
        }
        let root = match (&plan.session, &self.folder) {
            (Some(name), _) => {
                let (path, lock) = self.request.store.session(name)?;
                self.session_lock = Some(lock);
                path.join(session::key(plan))
            }
            (None, Some(folder)) => folder.dir.path.join("layers"),
            // Nothing is captured then.
            (None, None) => return Ok(()),
        };
        if let Some(files) = self.bundle.resources_plan.quota() {
            self.limit_disk(&root, files)?;
        }
        let owner = |inside: u32| match self.bundle.process_plan.user.map {
            IdMap::Range { base, .. } => Some(base + inside),
            IdMap::Single { .. } => None,
        };
        for layer in self.captured().map(|(layer, ..)| layer) {
            let own = root.join(layer.to_string());
            if !own.join("upper").is_dir() {
                self.new_layers.insert(layer);
            }
            for (name, id) in [
                ("upper", owner(self.bundle.process_plan.user.inside)),
                ("work", owner(0)),
            ] {
                let path = own.join(name);
                let made = fs::create_dir_all(&path).and_then(|()| match id {
                    Some(id) => std::os::unix::fs::chown(&path, Some(id), Some(id)),
                    None => Ok(()),
                });
                made.map_err(|e| write_fault(&path.display().to_string(), &e))?;
            }
        }
        if self.quota.is_some() {
            let owner = owner(self.bundle.process_plan.user.inside);
            self.make_scratch(&root.join(SCRATCH), owner)?;
        }
        self.layers = Some(root);
        Ok(())
    }

    /// Makes the folder of all that the program can write, and has it limited before anything is in it.
    fn limit_disk(&mut self, root: &Path, files: u64) -> Result<(), Fault> {
        let failed = |e: std::io::Error| write_fault(&root.display().to_string(), &e);
        let Some(helper) = &self.helper else {
            let found = "a project quota was planned, and there is no helper to make it";
            return Err(Fault::new(
                Code::Run001,
                "launch.preflight.quota",
                found,
                "start the run again",
            ));
        };
        fs::DirBuilder::new().mode(0o700).create(root).map_err(failed)?;
        let dir = files::open_dir(root).map_err(|e| failed(e.into()))?;
        helper.limit_disk(dir.as_fd(), self.bundle.resources_plan.disk.value, files)?;
        self.quota = Some(dir);
        Ok(())
    }

    /// Makes the scratch directories, which are on the same disk then and count for the same limit. They end with the run.
    fn make_scratch(&mut self, root: &Path, owner: Option<u32>) -> Result<(), Fault> {
        if let Some(journal) = &mut self.journal {
            journal.will_make(&[Resource::Folder { path: root.to_owned() }])?;
        }
        let modes = self
            .bundle
            .around()
            .filesystem_plan
            .entries
            .iter()
            .filter_map(|entry| match entry.what {
                ViewKind::Scratch { mode } => Some(mode),
                _ => None,
            });
        let failed = |e: std::io::Error| write_fault(&root.display().to_string(), &e);
        fs::create_dir(root).map_err(failed)?;
        for (number, mode) in modes.enumerate() {
            let path = root.join(number.to_string());
            fs::create_dir(&path)
                .and_then(|()| std::os::unix::fs::chown(&path, owner, owner))
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
                .map_err(failed)?;
        }
        self.scratch = Some(root.to_owned());
        Ok(())
    }

    /// (layer, source on the host, target in the view, masks) of every captured directory.
    pub(super) fn captured(
        &self,
    ) -> impl Iterator<Item = (u32, &'a str, &'a str, &'a [sr_compiler::bundle::LayerMask])> + use<'a> {
        let bundle = self.bundle;
        bundle
            .filesystem_plan
            .entries
            .iter()
            .filter_map(|entry| match &entry.what {
                ViewKind::Captured {
                    source, layer, hidden, ..
                } => Some((*layer, source.as_str(), entry.target.as_str(), hidden.as_slice())),
                _ => None,
            })
    }

    /// Waits for what is left of the sandbox, and removes what the run made outside its namespaces. Problems are told, and left to `safe-run gc`.
    pub(super) fn clean(&mut self) -> Option<String> {
        if let Some(init) = self.ending.take() {
            init.reap();
        }
        let group = self.group.take();
        let mut left = None;
        if let (Some(_), Some(helper)) = (self.quota.take(), &self.helper)
            && let Err(fault) = helper.free_disk()
        {
            left = Some(format!("a project quota is left for the next run: {}", fault.found));
        }
        if let Some(scratch) = self.scratch.take()
            && let Err(e) = removal::remove(&scratch)
        {
            left = Some(format!("{} is left for `safe-run gc`: {e}", scratch.display()));
        }
        if let Some(helper) = self.helper.take()
            && group.as_ref().is_some_and(|group| !group.is_own())
            && let Err(fault) = helper.remove()
        {
            left = Some(format!("a control group is left for the next run: {}", fault.found));
        }
        if let Some(group) = group
            && !group.remove_empty()
        {
            let removed = group.kill_all().map_err(|e| vec![e]).and_then(|()| group.remove());
            if let Err(errors) = removed {
                let first = errors.first().map(ToString::to_string).unwrap_or_default();
                return Some(format!("a control group is left for `safe-run gc`: {first}"));
            }
        }
        if left.is_some() {
            return left;
        }
        match self.journal.take().map(Journal::close) {
            Some(Err(fault)) => Some(fault.to_string()),
            _ => None,
        }
    }
}

/// What the kernel says to anybody of a directory that has a project: its limits for the size of the file system. And the same
/// of each place where the program can write, seen as it sees them.
pub(super) fn quota_posture(
    quota: BorrowedFd<'_>,
    bundle: &CompileBundle,
    files: u64,
    program: i32,
) -> Result<Vec<Observed>, Fault> {
    let fault =
        |what: &str, e: std::io::Error| Fault::new(Code::Run002, "launch.posture.disk", format!("{what}: {e}"), "");
    let bytes = bundle.resources_plan.disk.value;
    let line = |what: &str, stat: &rustix::fs::StatFs| {
        let seen = (stat.f_blocks.saturating_mul(stat.f_bsize as u64), stat.f_files);
        Observed {
            control: Control::Disk,
            requested: format!("{bytes} bytes, {files} files"),
            mechanism: "project quota, made by safe-run-helper".into(),
            observed: format!("statfs of {what}: {} bytes, {} files", seen.0, seen.1),
            holds: seen.0 <= bytes && seen.1 <= files,
        }
    };
    let (project, inherited) = sr_kernel::quota::project(quota).map_err(|e| fault("the layers' project", e))?;
    let stat = rustix::fs::fstatfs(quota).map_err(|e| fault("the layers", e.into()))?;
    let mut seen = vec![line("the layers' folder", &stat)];
    seen.push(Observed {
        control: Control::Disk,
        requested: "a project of its own, for all that is made in it".into(),
        mechanism: "FS_IOC_FSGETXATTR".into(),
        observed: format!("project {project}, inherited: {inherited}"),
        holds: project != 0 && inherited,
    });
    for entry in &bundle.filesystem_plan.entries {
        if matches!(entry.what, ViewKind::Scratch { .. } | ViewKind::Captured { .. }) {
            let path = format!("/proc/{program}/root{}", entry.target);
            let stat = rustix::fs::statfs(&path).map_err(|e| fault(&path, e.into()))?;
            seen.push(line(&entry.target, &stat));
        }
    }
    Ok(seen)
}

pub(super) fn group_fault(error: sr_kernel::cgroup::CgroupError) -> Fault {
    Fault::new(
        Code::Run001,
        "launch.preflight.cgroup",
        error.to_string(),
        "see `safe-run doctor`: this host's cgroups",
    )
}

pub(crate) fn group_posture(group: &RunGroup, program: i32) -> Result<Vec<Observed>, Fault> {
    let fault =
        |e: sr_kernel::cgroup::CgroupError| Fault::new(Code::Run002, "launch.posture.cgroup", e.to_string(), "");
    let member = group.contains(program.unsigned_abs()).map_err(fault)?;
    let mut seen = vec![Observed {
        control: Control::Memory,
        requested: "member of the run's control group".into(),
        mechanism: match group.is_own() {
            true => "the group's tasks file".into(),
            false => "moved by safe-run-helper".into(),
        },
        observed: format!("/proc/PID/cgroup names the group: {member}"),
        holds: member,
    }];
    for (asked, now) in group.read_back().zip(group.observe().map_err(fault)?) {
        let file = now.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let control = match file.split('.').next() {
            Some("cpu") => Control::Cpu,
            Some("pids") => Control::Pids,
            _ => Control::Memory,
        };
        seen.push(Observed {
            control,
            requested: asked.value.clone(),
            mechanism: format!("cgroup {file}"),
            observed: format!("{file}: {}", now.value),
            holds: asked.value == now.value,
        });
    }
    Ok(seen)
}
