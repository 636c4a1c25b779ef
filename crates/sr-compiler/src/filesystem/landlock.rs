//! Landlock: the view once more, for another part of the kernel to hold; and what of the view may be opened, which it alone
//! holds.

use super::tree::covering;
use crate::bundle::{LandlockAccess, LandlockLinks, LandlockPlan, LandlockRule, ViewEntry, ViewKind};
use crate::compile::Input;
use sr_common::path;
use sr_common::{Code, Control, Fault};
use sr_policy::spec::Files;

/// The newest ABI whose rights this plan knows.
const NEWEST: u32 = 7;
/// What every start of a dynamic program reads, on every architecture and with every C library that is known here.
const LOADERS: [&str; 5] = [
    "/etc/ld.so.cache",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib64/ld-linux-x86-64.so.2",
];

pub(crate) fn plan(input: Input<'_>, entries: &[ViewEntry], faults: &mut Vec<Fault>) -> Option<LandlockPlan> {
    // In a domain nothing can be mounted, and `runsc` mounts.
    if (input.guest && !input.engine) || input.sentry {
        return None;
    }
    let abi = input.facts.landlock_abi.min(NEWEST);
    if abi == 0 {
        if input.policy.files.is_some() || !input.policy.degrade.contains(&Control::Landlock) {
            let remedy = match &input.policy.files {
                None => "boot a kernel with landlock in its lsm= list, or accept its absence with degrade: [landlock]",
                Some(_) => "boot a kernel with landlock in its lsm= list, or leave `files` out",
            };
            faults.push(Fault::new(
                Code::Run001,
                "launch.preflight.landlock",
                "this kernel has no Landlock",
                remedy,
            ));
        }
        return None;
    }
    let mut rules = match &input.policy.files {
        None => vec![rule("/", LandlockAccess::Read)],
        Some(files) => opened(input, files, entries, faults),
    };
    for ViewEntry { target, what } in entries {
        let access = match what {
            // /proc: a process writes its own comm, oom_score_adj, coredump_filter.
            ViewKind::Dev | ViewKind::Devpts | ViewKind::Proc => LandlockAccess::Device,
            _ if what.is_writable() && input.policy.files.is_none() => LandlockAccess::Write,
            _ => continue,
        };
        rules.push(rule(target, access));
    }
    let plan = LandlockPlan {
        abi,
        rules,
        deny_network: abi >= 4,
        scope: abi >= 6,
    };
    if let Some(files) = input.policy.files.as_ref().filter(|_| !plan.keeps_from_truncating()) {
        emptied(files, entries, abi, faults);
    }
    Some(plan)
}

fn rule(path: &str, access: LandlockAccess) -> LandlockRule {
    LandlockRule {
        path: path.to_owned(),
        access,
        links: LandlockLinks::Followed,
    }
}

/// What could be emptied here although `files` does not let it be changed: mounts that take writes.
fn emptied(files: &Files, entries: &[ViewEntry], abi: u32, faults: &mut Vec<Fault>) {
    let kept = |what: &ViewKind| matches!(what, ViewKind::Captured { .. } | ViewKind::Writable { .. });
    for ViewEntry { target, .. } in entries.iter().filter(|entry| kept(&entry.what)) {
        if !files.write.iter().any(|path| path::within(target, path)) {
            faults.push(Fault::new(
                Code::Run001,
                "files.write",
                format!("Landlock ABI {abi} of this kernel cannot keep files in {target} from being emptied"),
                format!("write {target} under files.write, mount it readOnly: true, or run on Linux 6.2 or later"),
            ));
        }
    }
}

/// The rules of `files`, as far as the view lets.
fn opened(input: Input<'_>, files: &Files, entries: &[ViewEntry], faults: &mut Vec<Fault>) -> Vec<LandlockRule> {
    let place = |path: &str, access| LandlockRule {
        links: LandlockLinks::Refused,
        ..rule(&without_links(entries, path), access)
    };
    let command = &input.subject.command;
    let interpreters = command.interpreters.iter().map(|interpreter| interpreter.path.as_str());
    let hashed = [Some(command.path.as_str()), interpreters.clone().next_back()];
    // What else a start reads is left out where a program could have put something else there.
    let start = LOADERS
        .into_iter()
        .chain(interpreters.rev().skip(1))
        .filter(|path| !covering(entries, path).is_some_and(|entry| entry.what.is_writable()));
    let mut rules = vec![rule("/", LandlockAccess::List)];
    rules.extend(hashed.into_iter().flatten().map(|path| LandlockRule {
        links: LandlockLinks::Hashed,
        ..rule(path, LandlockAccess::Read)
    }));
    rules.extend(start.map(|path| LandlockRule {
        links: LandlockLinks::ToFile,
        ..rule(path, LandlockAccess::Read)
    }));
    rules.extend(files.read.iter().map(|path| place(path, LandlockAccess::Read)));
    for (i, path) in files.write.iter().enumerate() {
        match covering(entries, path).map(|entry| &entry.what) {
            Some(what) if what.is_writable() => {
                rules.push(place(path, LandlockAccess::Write));
                continue;
            }
            Some(ViewKind::Dev | ViewKind::Devpts | ViewKind::Proc) => {
                let remedy = "leave it out: what /dev and /proc have may always be opened";
                faults.push(Fault::new(
                    Code::Cmp001,
                    format!("files.write[{i}]"),
                    path.as_str(),
                    remedy,
                ));
                continue;
            }
            _ => {}
        }
        let below = entries
            .iter()
            .filter(|entry| entry.what.is_writable() && path::within(&entry.target, path));
        let before = rules.len();
        rules.extend(below.map(|entry| rule(&entry.target, LandlockAccess::Write)));
        if rules.len() == before {
            faults.push(Fault::new(
                Code::Cmp001,
                format!("files.write[{i}]"),
                format!("{path} is not writable in the view, and nothing below it is"),
                "write it under read, or a place in /tmp or in a mount that is captured or readOnly: false",
            ));
        }
        rules.push(place(path, LandlockAccess::Read));
    }
    rules
}

/// `path` with the links of the view itself (`/bin`, `/lib`) replaced by where they lead.
fn without_links(entries: &[ViewEntry], path: &str) -> String {
    let link = entries.iter().find_map(|entry| match &entry.what {
        ViewKind::Symlink { to } => Some((entry.target.as_str(), to.as_str(), path::relative(path, &entry.target)?)),
        _ => None,
    });
    match link {
        // Of a system directory, within the root: one step, as none of them leads to another.
        Some((_, to, rest)) => path::join(&format!("/{}", to.trim_matches('/')), rest),
        None => path.to_owned(),
    }
}
