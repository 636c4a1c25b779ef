//! `doctor`: what this host can enforce, what stands in the way, and how to get it. It makes and changes nothing.

use crate::arguments::DoctorArguments;
use crate::environment::Environment;
use crate::failure::{Done, Failure};
use crate::terminal::{self, Style, clean};
use crate::{host_rules, json, obstacles};
use obstacles::Obstacle;
use serde_json::json;
use sr_common::facts::MacFacts;
use sr_common::{Control, Fault, HostFacts, Obligation, Strength};
use sr_runner::subject::{Surroundings, subject};
use sr_runner::{facts, helper};
use std::fmt::Write as _;
use std::path::Path;

/// What was found out.
struct Examination {
    facts: HostFacts,
    /// What would hold a run of the strictest preset; empty where none could start.
    obligations: Vec<Obligation>,
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
    obstacles.extend(obstacles::of_facts(&facts));
    obstacles.extend(obstacles::of_proc());
    obstacles.extend(obstacles::of_apparmor(&mac));
    facts.mac = Some(mac);
    Ok(Examination {
        facts,
        obligations,
        obstacles,
    })
}

/// Compiles the strictest preset, with everything degraded that can be, so that each lack is named and not only the
/// first.
fn trial(facts: &HostFacts, env: &Environment) -> Result<Vec<Obligation>, Vec<Fault>> {
    let Some(mut policy) = sr_policy::preset("strict") else {
        return Ok(Vec::new());
    };
    policy.runtime.command = Some("/bin/sh".into());
    policy.degrade = Control::DEGRADABLE.to_vec();
    let surroundings = Surroundings {
        facts,
        pyenv_version: None,
        cache: None,
    };
    let subject = subject(&policy, Path::new("/"), &env.path, &surroundings).map_err(|f| vec![f])?;
    Ok(sr_compiler::compile(&policy, facts, &subject)?.obligations)
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
