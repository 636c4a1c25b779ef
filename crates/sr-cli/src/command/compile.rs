//! `compile --dry-run`: what a policy becomes on this host.

use crate::arguments::CompileArguments;
use crate::environment::Environment;
use crate::failure::Done;
use crate::terminal::clean;
use crate::{coverage, host_rules, json, policies, terminal};
use sr_common::{Code, Fault};
use sr_policy::{OrAll, Overlay};
use sr_runner::{Store, compile_for_host, coverage_for_host};

pub fn compile(arguments: CompileArguments, env: &Environment) -> Done {
    if !arguments.dry_run {
        let remedy = "add --dry-run to print the bundle, or start it with `safe-run run`, which compiles anew";
        return Err(Fault::new(
            Code::Cmp002,
            "compile",
            "without --dry-run there is nothing to do with a bundle",
            remedy,
        )
        .into());
    }
    let found = policies::find(&arguments.policy)?;
    let overlay = Overlay {
        backend: arguments.backend.and_then(OrAll::limit),
        command: super::command_line(arguments.argv)?,
        ..Overlay::default()
    };
    let policy = if overlay.is_empty() {
        found.spec
    } else {
        found.spec.with_overlay(&overlay)?
    };
    let rules = host_rules::load(env)?;
    let mut caller = super::caller(env);
    caller.id_base = rules.id_base.unwrap_or(env.id_base);
    caller.helper = env.helper(&rules);
    let host = host_rules::check(&policy, &found.files, rules, env)?;
    let store = Store::open(&env.store)?;
    if arguments.backend == Some(OrAll::ALL) {
        let matrix = coverage_for_host(&policy, &host, &caller, &store)?;
        let shown = match arguments.json {
            true => json::pretty(&matrix)?,
            false => coverage::text(&matrix, env.out_style),
        };
        terminal::out(&shown);
        return Ok(0);
    }
    let compiled = compile_for_host(&policy, &host, &caller, &store)?;
    for line in compiled.bundle.choice.iter().flat_map(sr_common::Choice::lines) {
        terminal::err(&format!("safe-run: {}", clean(&line)));
    }
    terminal::out(&json::pretty(&compiled.bundle)?);
    Ok(0)
}
