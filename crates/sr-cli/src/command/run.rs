//! `run` and `shell`: the policy with the flags over it, the run, and the line at its end.

use crate::arguments::{OutputArguments, PolicyLayer, RunArguments, ShellArguments};
use crate::environment::Environment;
use crate::failure::{Done, Failure};
use crate::{host_rules, policies, summary, terminal};
use sr_common::{Code, Fault, canonical};
use sr_policy::spec::{Durability, OnDenied};
use sr_policy::{CommandLine, Overlay, PolicySpec};
use sr_runner::{Outcome, Refusal, Request, Store};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

pub fn run(arguments: RunArguments, env: &Environment) -> Done {
    let command = super::command_line(arguments.argv)?;
    start(arguments.policy, &arguments.output, command, env)
}

pub fn shell(mut arguments: ShellArguments, env: &Environment) -> Done {
    let shell = env.shell.clone().unwrap_or_else(|| "/bin/sh".into());
    arguments.policy.tty = true;
    let command = CommandLine {
        command: shell,
        args: Vec::new(),
    };
    start(arguments.policy, &arguments.output, Some(command), env)
}

fn start(layer: PolicyLayer, output: &OutputArguments, command: Option<CommandLine>, env: &Environment) -> Done {
    let name = layer
        .policy
        .as_deref()
        .unwrap_or_else(|| OsStr::new(policies::DEFAULT))
        .to_owned();
    let terminal = layer.tty;
    let found = policies::find(&name)?;
    let named_digest = digest("policy", &found.spec)?;
    let overlay = overlay(layer, command, &|name| std::env::var_os(name))?;
    let mut policy = if overlay.is_empty() {
        found.spec
    } else {
        found.spec.with_overlay(&overlay)?
    };
    let recorded = recorded(&overlay, output.no_sign)?;
    if output.no_sign {
        policy.evidence.sign = "none".into();
    }
    named_command(&policy)?;
    if let Some(dest) = &output.report {
        writable_report(dest, &policy)?;
    }
    let attack = output
        .attack_results
        .as_deref()
        .map(super::attack::results)
        .transpose()?;
    if output.save.is_some() && policy.syscalls.on_denied != OnDenied::Ask {
        let found = "nobody is asked under this policy, so there would be nothing to save";
        let remedy = "leave --save out, or write syscalls: {onDenied: ask} in the policy";
        return Err(Fault::new(Code::Pol003, "save", found, remedy).into());
    }
    let rules = host_rules::load(env)?;
    let id_base = rules.id_base.unwrap_or(env.id_base);
    let helper = env.helper(&rules);
    let host = host_rules::check(&policy, &found.files, rules, env)?;
    tracing::debug!(policy = %name.display(), store = %env.store.display(), keys = %env.keys.display(), id_base, "run");
    let store = Store::open(&env.store)?;
    let mut caller = super::caller(env);
    caller.id_base = id_base;
    caller.helper = helper;
    let sign = policy.evidence.sign != "none";
    let request = Request {
        policy,
        host,
        policy_source: Some(named_digest),
        overlay: recorded,
        caller,
        store,
        terminal,
        sign,
        attack,
        export: output
            .report
            .iter()
            .chain(&output.save)
            .map(|file| directory_of(file))
            .collect(),
    };
    match sr_runner::run(&request) {
        Ok(outcome) => {
            tracing::debug!(id = %outcome.id, dir = ?outcome.dir, clocks = ?outcome.report.clocks, "end");
            let saved = match &output.save {
                Some(file) => save(&request.policy, &outcome.allowed, file),
                None => Ok(()),
            };
            let done = finish(&outcome, output, env);
            saved?;
            done
        }
        Err(refusal) => Err(refused(refusal, output.report.as_deref())),
    }
}

/// The report is taken out, and the line at the end is written.
fn finish(outcome: &Outcome, output: &OutputArguments, env: &Environment) -> Done {
    let exported = match (&outcome.dir, &output.report) {
        (Some(dir), Some(dest)) => export(dir, dest),
        _ => Ok(()),
    };
    let mut lines = match (output.json, output.quiet) {
        (true, _) => vec![summary::json(outcome, output.report.as_deref())],
        (false, false) => summary::text(outcome, env.err_style),
        (false, true) => Vec::new(),
    };
    if outcome.within_line
        && let Some(first) = lines.first_mut()
    {
        first.insert(0, '\n');
    }
    for line in lines {
        terminal::err(&line);
    }
    exported?;
    Ok(outcome.status)
}

/// Writes the policy with what was allowed in it.
fn save(policy: &PolicySpec, allowed: &[String], file: &Path) -> Result<(), Fault> {
    if allowed.is_empty() {
        return Ok(());
    }
    let mut policy = policy.clone();
    for operation in allowed {
        let (call, value) = operation.split_once(' ').unwrap_or((operation, ""));
        let value = value
            .strip_prefix("0x")
            .and_then(|hex| u32::from_str_radix(hex, 16).ok());
        match (policy.syscalls.arguments.get_mut(call), value) {
            (Some(values), Some(value)) => values.push(value),
            _ => policy.syscalls.allow.push(call.to_owned()),
        }
    }
    policy.syscalls.allow.sort();
    policy.syscalls.allow.dedup();
    policies::save(file, &policy)
}

/// A run that did not come about has a report that says so; it is taken out like any other.
fn refused(refusal: Refusal, dest: Option<&Path>) -> Failure {
    let mut faults = refusal.faults;
    if let (Some(dir), Some(dest)) = (&refusal.dir, dest) {
        // Why there was no run comes first; that its report is missing too stands beside it.
        faults.extend(export(dir, dest).err());
    }
    Failure(faults)
}

pub(super) fn export(run: &Path, dest: &Path) -> Result<(), Fault> {
    let dir = sr_evidence::files::open_dir(run).map_err(|e| {
        let found = format!("{} cannot be opened: {e}", run.display());
        Fault::new(
            Code::Evd002,
            "report",
            found,
            "the report is in the run store: safe-run show",
        )
    })?;
    sr_evidence::export::export_evidence(&dir, dest)
}

fn directory_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Looks before an hour's run whether there will be a report, and whether it can be written where it is wanted.
fn writable_report(dest: &Path, policy: &PolicySpec) -> Result<(), Fault> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    if policy.evidence.durability == Durability::None {
        let found = "the policy says evidence.durability: none, so there will be no report";
        let remedy = "leave --report out, or write durability: process in the policy";
        return Err(Fault::new(Code::Evd002, "report", found, remedy));
    }
    let parent = directory_of(dest);
    let found = match accessat(CWD, &parent, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
        Err(e) => format!("{} cannot be written in {}: {e}", dest.display(), parent.display()),
        Ok(()) if dest.is_dir() => format!("{} is a directory", dest.display()),
        Ok(()) => return Ok(()),
    };
    Err(Fault::new(
        Code::Evd002,
        "report",
        found,
        "name a file in a directory that you can write to",
    ))
}

/// The flags as a layer over a policy.
fn overlay(
    layer: PolicyLayer,
    command: Option<CommandLine>,
    caller: &dyn Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<Overlay, Fault> {
    Ok(Overlay {
        backend: layer.backend,
        command,
        env: variables(layer.env, caller)?,
        workdir: layer.workdir,
        user: layer.user,
        mounts: layer.mount,
        cpu: layer.cpu,
        memory: layer.memory,
        pids: layer.pids,
        disk: layer.disk,
        wall_time: layer.timeout,
        open_files: layer.open_files,
        output: layer.output,
        session: layer.session,
    })
}

fn variables(
    asked: Vec<(String, Option<String>)>,
    caller: &dyn Fn(&str) -> Option<std::ffi::OsString>,
) -> Result<BTreeMap<String, String>, Fault> {
    let mut variables = BTreeMap::new();
    for (name, value) in asked {
        let value = match value {
            Some(value) => value,
            None => {
                let fault = |found: &str| {
                    let remedy = format!("set it, or write -e {name}=VALUE");
                    Fault::new(Code::Pol002, format!("runtime.env.{name}"), found, remedy)
                };
                let own = caller(&name).ok_or_else(|| fault("it is not set in your environment"))?;
                own.into_string()
                    .map_err(|_| fault("its value in your environment is not UTF-8"))?
            }
        };
        variables.insert(name, value);
    }
    Ok(variables)
}

/// The flags as the report's digest of them covers them; `None` where there were none.
fn recorded(overlay: &Overlay, no_sign: bool) -> Result<Option<serde_json::Value>, Fault> {
    if overlay.is_empty() && !no_sign {
        return Ok(None);
    }
    let mut value = serde_json::to_value(overlay).map_err(|e| {
        Fault::new(
            Code::Pol002,
            "overlay",
            format!("the flags cannot be recorded: {e}"),
            "use finite numbers",
        )
    })?;
    if let (true, Some(map)) = (no_sign, value.as_object_mut()) {
        map.insert("sign".into(), "none".into());
    }
    Ok(Some(value))
}

fn digest(what: &str, policy: &PolicySpec) -> Result<sr_common::Digest, Failure> {
    Ok(canonical::digest(policy).map_err(|e| {
        Fault::new(
            Code::Cmp002,
            what,
            format!("cannot be written as canonical JSON: {e}"),
            "use finite numbers",
        )
    })?)
}

fn named_command(policy: &PolicySpec) -> Result<(), Fault> {
    if policy.runtime.command.is_some() {
        return Ok(());
    }
    let remedy =
        "write it after `--`: safe-run run [OPTIONS] -- COMMAND [ARGS]...; or as runtime.command in the policy";
    Err(Fault::new(
        Code::Pol001,
        "runtime.command",
        "there is nothing to run",
        remedy,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser;
    use sr_common::ByteSize;
    use sr_policy::OrAll;

    fn layered(line: &[&str]) -> Overlay {
        let parsed = Arguments::try_parse_from([&["safe-run", "run"], line].concat()).unwrap();
        let Some(Command::Run(run)) = parsed.command else {
            panic!("not run")
        };
        let command = crate::command::command_line(run.argv).unwrap();
        overlay(run.policy, command, &|name| (name == "HOST_VAR").then(|| "h".into())).unwrap()
    }

    #[test]
    fn every_flag_reaches_its_field() {
        let line = "--cpu 0.5 --memory 512MiB --timeout 30s --pids 9 --disk 1GiB --open-files 99 --output 1MiB --backend microvm:qemu --user 1234 \
                    --workdir /w --session s --mount ./a:/a:rw -e A=1 -e HOST_VAR cmd x";
        let got = layered(&line.split_whitespace().collect::<Vec<_>>());
        let json = serde_json::to_value(&got).unwrap();
        let expected = serde_json::json!({
            "backend": "microvm:qemu",
            "command": {"command": "cmd", "args": ["x"]},
            "env": {"A": "1", "HOST_VAR": "h"},
            "workdir": "/w", "user": 1234,
            "mounts": [{"source": "./a", "target": "/a", "readOnly": false, "captured": false}],
            "cpu": 0.5, "memory": "512MiB", "pids": 9, "disk": "1GiB", "wallTime": "30s", "openFiles": 99,
            "output": "1MiB", "session": "s",
        });
        assert_eq!(json, expected);
        assert_eq!(got.memory, Some(OrAll::Limit(ByteSize(512 << 20))));
    }

    #[test]
    fn no_flags_leave_no_layer() {
        assert_eq!(recorded(&layered(&[]), false).unwrap(), None);
        assert_eq!(
            recorded(&layered(&[]), true).unwrap(),
            Some(serde_json::json!({"sign": "none"}))
        );
        assert!(recorded(&layered(&["true"]), false).unwrap().is_some());
    }

    #[test]
    fn a_variable_that_is_not_set_is_refused() {
        let fault = variables(vec![("NOPE".into(), None)], &|_| None).unwrap_err();
        assert_eq!((fault.code, fault.path.as_str()), (Code::Pol002, "runtime.env.NOPE"));
    }

    #[test]
    fn nothing_to_run() {
        let fault = named_command(&sr_policy::preset("standard").unwrap()).unwrap_err();
        assert_eq!((fault.code, fault.path.as_str()), (Code::Pol001, "runtime.command"));
    }
}
