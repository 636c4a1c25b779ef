//! `doctor`: what this host can enforce, what stands in the way, and how to get it. It makes and changes nothing.

use crate::arguments::DoctorArguments;
use crate::environment::Environment;
use crate::failure::{Done, Failure};
use crate::terminal::{self, Style, clean};
use crate::{host_rules, json, obstacles, walls};
use obstacles::Obstacle;
use serde_json::json;
use sr_common::facts::MacFacts;
use sr_common::{Control, Fault, HostFacts, Matrix, Obligation, Strength, Subject};
use sr_policy::PolicySpec;
use sr_runner::subject::{Surroundings, subject};
use sr_runner::walls::Look;
use sr_runner::{facts, helper};
use std::fmt::Write as _;
use std::path::Path;

/// What was found out.
struct Examination {
    facts: HostFacts,
    /// What would hold a run of the strictest preset; empty where none could start.
    obligations: Vec<Obligation>,
    /// What each wall says of the preset `standard`; `None`: none could be compiled, which is among the obstacles.
    walls: Option<Matrix>,
    obstacles: Vec<Obstacle>,
}

pub fn doctor(arguments: &DoctorArguments, env: &Environment) -> Done {
    let found = examine(env)?;
    let usable = !found.obstacles.iter().any(|o| o.fatal);
    if arguments.json {
        terminal::out(&json::pretty(&json!({
            "usable": usable,
            "facts": found.facts,
            "obligations": found.obligations,
            "walls": found.walls,
            "obstacles": found.obstacles,
            "store": env.store,
            "keys": env.keys,
        }))?);
    } else {
        terminal::out(&text(&found, usable, env));
    }
    Ok(u8::from(!usable))
}

fn examine(env: &Environment) -> Result<Examination, Failure> {
    let mut obstacles = obstacles::of_store(&env.store);
    let (id_base, helper) = match host_rules::load(env) {
        Ok(rules) => (rules.id_base.unwrap_or(env.id_base), env.helper(&rules)),
        Err(faults) => {
            obstacles.extend(faults.into_iter().map(Obstacle::from));
            (env.id_base, Vec::new())
        }
    };
    let mac = facts::mac();
    let mut facts = facts::gather(&env.store, &env.private(), env.home.as_deref(), id_base)?;
    // It limits all that can be.
    let strictest = sr_policy::preset("strict");
    if let Some(Err(fault)) = strictest.map(|policy| helper::complete(&mut facts, &helper, &policy)) {
        obstacles.push(Obstacle::from(fault));
    }
    let obligations = match trial(&facts, env) {
        Ok(obligations) => obligations,
        Err(faults) => {
            obstacles.extend(faults.into_iter().map(Obstacle::from));
            Vec::new()
        }
    };
    facts.walls = Some(sr_runner::walls::gather(
        &env.store,
        &env.programs,
        &env.path,
        Look::Versions,
    ));
    let walls = match every_wall(&facts, env) {
        Ok(walls) => walls,
        Err(faults) => {
            // What no run at all could do without was seen by the trial.
            for fault in faults {
                let obstacle = Obstacle {
                    fatal: false,
                    ..Obstacle::from(fault)
                };
                if obstacles.iter().all(|known: &Obstacle| known.what != obstacle.what) {
                    obstacles.push(obstacle);
                }
            }
            None
        }
    };
    obstacles.extend(obstacles::of_facts(&facts));
    obstacles.extend(obstacles::of_proc());
    obstacles.extend(obstacles::of_apparmor(&mac));
    facts.mac = Some(mac);
    Ok(Examination {
        facts,
        obligations,
        walls,
        obstacles,
    })
}

/// Compiles the strictest preset, with everything degraded that can be, so that each lack is named and not only the
/// first.
fn trial(facts: &HostFacts, env: &Environment) -> Result<Vec<Obligation>, Vec<Fault>> {
    let Some(mut policy) = sr_policy::preset("strict") else {
        return Ok(Vec::new());
    };
    policy.degrade = Control::DEGRADABLE.to_vec();
    let subject = shell(&mut policy, facts, env)?;
    Ok(sr_compiler::compile(&policy, facts, &subject)?.obligations)
}

/// What each wall would hold of the preset `standard`, as a launch and `strongest` judge it.
fn every_wall(facts: &HostFacts, env: &Environment) -> Result<Option<Matrix>, Vec<Fault>> {
    let Some(mut policy) = sr_policy::preset("standard") else {
        return Ok(None);
    };
    // Of the directory where somebody stands nothing is asked.
    policy.mounts.clear();
    policy.runtime.workdir = Some("/".into());
    let subject = shell(&mut policy, facts, env)?;
    sr_compiler::matrix(&policy, facts, &subject).map(Some)
}

/// Has the policy start what every host has.
fn shell(policy: &mut PolicySpec, facts: &HostFacts, env: &Environment) -> Result<Subject, Vec<Fault>> {
    policy.runtime.command = Some("/bin/sh".into());
    let surroundings = Surroundings {
        facts,
        pyenv_version: None,
        cache: None,
    };
    subject(policy, Path::new("/"), &env.path, &surroundings).map_err(|f| vec![f])
}

// Writing to a string cannot fail.
fn text(found: &Examination, usable: bool, env: &Environment) -> String {
    let style = env.out_style;
    let facts = &found.facts;
    let mut out = String::new();
    let who = if facts.privileged {
        "root".to_owned()
    } else {
        format!("uid {}", facts.uid)
    };
    let _ = writeln!(
        out,
        "host        {}, Linux {}, {who}",
        clean(&facts.arch),
        clean(&facts.kernel)
    );
    let _ = writeln!(out, "run store   {}", clean(&env.store.to_string_lossy()));
    let _ = writeln!(out, "keys        {}", clean(&env.keys.to_string_lossy()));
    if let Some(mac) = &facts.mac {
        let _ = writeln!(out, "mac         {}", clean(&module(mac)));
    }
    if !found.obligations.is_empty() {
        out.push_str("\nWhat holds a run here:\n");
    }
    for control in controls(&found.obligations) {
        let _ = writeln!(out, "{}", line(control, style));
    }
    if let Some(matrix) = &found.walls {
        out.push_str(&walls::text(matrix, style));
    }
    for (fatal, head) in [
        (true, "What stands in the way of any run:"),
        (false, "What could hold better:"),
    ] {
        let some: Vec<&Obstacle> = found.obstacles.iter().filter(|o| o.fatal == fatal).collect();
        if some.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n{head}");
        for obstacle in some {
            let what = clean(&obstacle.what);
            let _ = writeln!(out, "  {}", if fatal { style.error(&what) } else { style.warn(&what) });
            for line in obstacle.remedy.lines() {
                let _ = writeln!(out, "    {}", clean(line));
            }
        }
    }
    let verdict = if usable {
        style.good("Runs can start here.")
    } else {
        style.error("No run can start here.")
    };
    let _ = writeln!(out, "\n{verdict}");
    out
}

/// What a policy's `mac` can name here.
fn module(mac: &MacFacts) -> String {
    match (&mac.apparmor, &mac.selinux) {
        (Some(apparmor), _) => format!("AppArmor; safe-run itself is {}", apparmor.label),
        (None, Some(selinux)) => {
            let only = if selinux.enforcing {
                ""
            } else {
                ", permissive: it only logs"
            };
            format!("SELinux{only}; safe-run itself is {}", selinux.context)
        }
        (None, None) => "neither AppArmor nor SELinux".into(),
    }
}

/// One obligation a control, the weakest.
fn controls(all: &[Obligation]) -> Vec<&Obligation> {
    let mut shown: Vec<&Obligation> = Vec::new();
    for o in all {
        match shown.iter_mut().find(|s| s.control == o.control) {
            Some(known) if weakness(o) > weakness(known) => *known = o,
            Some(_) => {}
            None => shown.push(o),
        }
    }
    shown
}

fn weakness(o: &Obligation) -> (bool, Option<Strength>) {
    (!o.enforced, o.strength)
}

fn line(o: &Obligation, style: Style) -> String {
    let state = match (o.enforced, o.strength) {
        (false, _) => style.error(&format!("{:11}", "missing")),
        (true, None | Some(Strength::Kernel)) => style.good(&format!("{:11}", "yes")),
        (true, Some(Strength::PerProcess)) => style.warn(&format!("{:11}", "per process")),
        (true, Some(Strength::Sampled)) => style.warn(&format!("{:11}", "sampled")),
    };
    let reason = o
        .reason
        .as_deref()
        .map_or_else(String::new, |r| format!(" ({})", clean(r)));
    format!("  {:18} {state}  {}{reason}", o.control.name(), clean(&o.mechanism))
}
