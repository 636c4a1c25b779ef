//! What the native wall holds of a policy here, told by compiling it; every other wall stands within one.

use super::clause::Clause;
use crate::compile::{Input, compile};
use sr_common::facts::Command;
use sr_common::{Answer, Backend, Control, Declaration, Fault, Hold, Holder, Lack, Obligation, Strength, Subject};
use sr_policy::spec::BackendChoice;

/// The native wall's word.
pub(super) struct Native {
    /// Of what it has whatever the policy says.
    pub promises: Vec<Declaration>,
    /// Of each clause but those about a guest.
    pub clauses: Vec<(Clause, Declaration)>,
    pub lacks: Vec<Lack>,
}

/// Compiles the policy for the native wall; where that is refused, once more without what may be missing, so that every
/// clause is told of and not only those at fault. What no wall could be compiled of is a fault.
pub(super) fn native(input: Input<'_>) -> Result<Native, Vec<Fault>> {
    let Input {
        policy, facts, subject, ..
    } = input;
    let mut plain = policy.clone();
    plain.runtime.backend = BackendChoice::This(Backend::Process);
    plain.microvm = None;
    plain.wasm = None;
    // What no kernel executes is judged by each wall.
    let subject = &Subject {
        command: Command {
            module: None,
            ..subject.command.clone()
        },
        ..subject.clone()
    };
    let (bundle, mut faults) = match compile(&plain, facts, subject) {
        Ok(bundle) => (bundle, Vec::new()),
        Err(faults) => {
            plain.degrade = Control::DEGRADABLE.to_vec();
            let bundle = compile(&plain, facts, subject).or_else(|_| {
                plain.files = None;
                compile(&plain, facts, subject)
            })?;
            (bundle, faults)
        }
    };
    let declare = |obligation: &Obligation, faults: &mut Vec<Fault>| {
        let mut declared = declaration(obligation);
        if !obligation.enforced && !policy.degrade.contains(&obligation.control) {
            declared.answer = Answer::Refused;
            refuse(&mut declared, faults);
        }
        declared
    };
    let (promised, told): (Vec<_>, Vec<_>) = bundle.obligations.iter().partition(|o| o.clause == super::PROMISES);
    let promises = promised.into_iter().map(|o| declare(o, &mut faults)).collect();
    let mut clauses = Vec::new();
    for clause in Clause::all(policy) {
        let name = clause.name(policy);
        let declared = match told.iter().find(|o| o.clause == name) {
            Some(obligation) => declare(obligation, &mut faults),
            None => {
                let (requested, control) = clause.asked(policy);
                let mut declared = Declaration {
                    clause: name,
                    requested,
                    control,
                    holds: Vec::new(),
                    answer: Answer::Held,
                    reason: None,
                    remedy: None,
                };
                match clause {
                    Clause::GuestRoot => {
                        declared.answer = Answer::Refused;
                        declared.reason = Some("there is no guest that could have it".to_owned());
                        declared.remedy = Some("leave microvm.rootfs out, or write backend: microvm".to_owned());
                    }
                    // Judged by the engine's wall; to every other it is a fault.
                    Clause::Wasm(_) => declared.answer = Answer::Refused,
                    Clause::Vmm | Clause::Kernel | Clause::Accel | Clause::BootTimeout => {
                        declared.holds = vec![by(Holder::Supervisor, "there is no guest", None)];
                    }
                    _ if refuse(&mut declared, &mut faults) => {}
                    _ if facts.landlock_abi == 0 => {
                        declared.answer = Answer::Refused;
                        declared.reason = Some("this kernel has no Landlock, which alone holds it".to_owned());
                        declared.remedy = Some("boot a kernel with Landlock, or leave `files` out".to_owned());
                    }
                    _ => {
                        let mechanism = format!("landlock ABI {}", facts.landlock_abi);
                        declared.holds = vec![by(Holder::Host, mechanism, Some(Strength::Kernel))];
                    }
                }
                declared
            }
        };
        clauses.push((clause, declared));
    }
    let lacks = faults.into_iter().map(lack).collect();
    Ok(Native {
        promises,
        clauses,
        lacks,
    })
}

pub(super) fn by(by: Holder, mechanism: impl Into<String>, strength: Option<Strength>) -> Hold {
    Hold {
        by,
        mechanism: mechanism.into(),
        strength,
    }
}

fn declaration(obligation: &Obligation) -> Declaration {
    let holder = match obligation.strength {
        Some(Strength::Kernel | Strength::PerProcess) => Holder::Host,
        Some(Strength::Sampled) | None => Holder::Supervisor,
    };
    let hold = by(holder, obligation.mechanism.as_str(), obligation.strength);
    let none = !obligation.enforced && obligation.mechanism == "none";
    Declaration {
        clause: obligation.clause.clone(),
        requested: obligation.requested.clone(),
        control: obligation.control,
        holds: if none { Vec::new() } else { vec![hold] },
        answer: if obligation.enforced {
            Answer::Held
        } else {
            Answer::Degraded
        },
        reason: obligation.reason.clone(),
        remedy: None,
    }
}

/// Takes the faults that are about this clause out of `faults`, and has the first say why; `false`: there is none.
fn refuse(declared: &mut Declaration, faults: &mut Vec<Fault>) -> bool {
    let about = |fault: &Fault| {
        let stage = match declared.control {
            Control::Mac => "launch.preflight.mac",
            Control::PostureAtExec => "launch.preflight.ptrace",
            Control::Landlock if declared.clause == super::PROMISES => "launch.preflight.landlock",
            _ => "",
        };
        let rest = fault.path.strip_prefix(&declared.clause);
        fault.path == stage || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let (mine, others): (Vec<Fault>, Vec<Fault>) = std::mem::take(faults).into_iter().partition(about);
    *faults = others;
    let Some(fault) = mine.into_iter().next() else {
        return false;
    };
    declared.answer = Answer::Refused;
    declared.reason = Some(fault.found);
    declared.remedy = Some(fault.remedy);
    true
}

fn lack(fault: Fault) -> Lack {
    Lack {
        path: fault.path,
        found: fault.found,
        remedy: fault.remedy,
    }
}
