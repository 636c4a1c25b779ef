//! Landlock: the view once more, for another part of the kernel to hold.

use crate::bundle::{LandlockAccess, LandlockPlan, LandlockRule, ViewEntry, ViewKind};
use crate::compile::Input;
use sr_common::{Code, Control, Fault};

/// The newest ABI whose rights this plan knows.
const NEWEST: u32 = 7;

pub(crate) fn plan(input: Input<'_>, entries: &[ViewEntry], faults: &mut Vec<Fault>) -> Option<LandlockPlan> {
    let abi = input.facts.landlock_abi.min(NEWEST);
    if abi == 0 {
        if !input.policy.degrade.contains(&Control::Landlock) {
            let remedy = "boot a kernel with landlock in its lsm= list, or accept its absence with degrade: [landlock]";
            faults.push(Fault::new(
                Code::Run001,
                "launch.preflight.landlock",
                "this kernel has no Landlock",
                remedy,
            ));
        }
        return None;
    }
    let rule = |path: &str, access| LandlockRule {
        path: path.to_owned(),
        access,
    };
    let mut rules = vec![rule("/", LandlockAccess::Read)];
    for ViewEntry { target, what } in entries {
        let access = match what {
            ViewKind::Scratch { .. } | ViewKind::Captured { .. } | ViewKind::Writable { .. } => LandlockAccess::Write,
            // /proc: a process writes its own comm, oom_score_adj, coredump_filter.
            ViewKind::Dev | ViewKind::Devpts | ViewKind::Proc => LandlockAccess::Device,
            _ => continue,
        };
        rules.push(rule(target, access));
    }
    Some(LandlockPlan {
        abi,
        rules,
        deny_network: abi >= 4,
        scope: abi >= 6,
    })
}
