//! `safe-run`: arguments, human output and exit codes. How anything is enforced it does not know.

mod arguments;
mod command;
mod coverage;
mod environment;
mod failure;
mod host_rules;
mod json;
mod log;
mod obstacles;
mod policies;
mod read;
mod summary;
mod terminal;
mod walls;

use arguments::{Arguments, Command};
use clap::error::ErrorKind;
use command as c;
use environment::Environment;
use failure::{Done, Kind};
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let kind = kind(&words);
    let arguments = match Arguments::read(&words) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody is left to be told if this cannot be written.
            let _ = error.print();
            return ExitCode::from(usage(&error, kind));
        }
    };
    log::start(arguments.verbose);
    let Some(command) = arguments.command else {
        terminal::out(include_str!("explain/first_minute.txt"));
        return ExitCode::SUCCESS;
    };
    let json = wants_json(&command);
    let status = match dispatch(command) {
        Ok(status) => status,
        Err(failure) => {
            failure.report(json, environment::err_style());
            failure.status(kind)
        }
    };
    ExitCode::from(status)
}

fn dispatch(asked: Command) -> Done {
    // These need nothing of their surroundings, and work where HOME and the current directory do not.
    match asked {
        Command::Explain(ref a) => return c::explain::explain(a.code.as_deref()),
        Command::Schema(ref a) => return c::schema::schema(a.document),
        Command::Policy(ref a) => return c::policy::policy(&a.action),
        Command::Completions(ref a) => return c::completions::completions(a.shell),
        Command::Validate(ref a) => return c::validate::validate(a, environment::err_style()),
        Command::Import(ref a) => return c::export::import(a),
        Command::Broker { inside } => return c::broker::broker(inside),
        Command::Monitor => return Ok(sr_microvm::monitor::run()),
        Command::Victim { .. } => return c::attack::victim(),
        _ => {}
    }
    let env = &Environment::read()?;
    match asked {
        Command::Run(a) => c::run::run(*a, env),
        Command::Shell(a) => c::run::shell(*a, env),
        Command::Exec(a) => c::exec::exec(a, env),
        Command::Runs(a) => c::runs::runs(&a, env),
        Command::Show(a) => c::show::show(&a, env),
        Command::Why(a) => c::why::why(&a, env),
        Command::Learn(a) => c::learn::learn(a, env),
        Command::Diff(a) => c::diff::diff(&a, env),
        Command::Apply(a) => c::apply::apply(&a, env),
        Command::Discard(a) => c::discard::discard(&a.run, env),
        Command::Compile(a) => c::compile::compile(a, env),
        Command::Export(a) => c::export::export(&a, env),
        Command::Report(a) => c::report::report(&a.action, env),
        Command::Key(a) => c::key::key(&a.action, env),
        Command::Artifact(a) => c::artifact::artifact(&a.action, env),
        Command::Doctor(a) if a.attack => c::attack::attack(&a, env),
        Command::Doctor(a) => c::doctor::doctor(&a, env),
        Command::Gc(a) => c::gc::collect(&a, env),
        // Answered above.
        Command::Explain(_)
        | Command::Schema(_)
        | Command::Policy(_)
        | Command::Completions(_)
        | Command::Validate(_)
        | Command::Broker { .. }
        | Command::Monitor
        | Command::Victim { .. }
        | Command::Import(_) => Ok(0),
    }
}

/// What kind of command the words mean, also where clap does not understand them.
fn kind(words: &[OsString]) -> Kind {
    let first = words
        .iter()
        .skip(1)
        .find(|word| !word.as_encoded_bytes().starts_with(b"-"));
    match first.and_then(|word| word.to_str()) {
        Some("run" | "shell" | "exec") => Kind::Run,
        _ => Kind::Plain,
    }
}

/// Help and version are no errors; everything else is 2, and 125 where 2 would be the program's.
fn usage(error: &clap::Error, kind: Kind) -> u8 {
    match (error.kind(), kind) {
        (ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, _) => 0,
        (_, Kind::Run) => 125,
        (_, Kind::Plain) => 2,
    }
}

/// Whether faults are to be written as JSON.
fn wants_json(command: &Command) -> bool {
    match command {
        Command::Run(a) => a.output.json,
        Command::Shell(a) => a.output.json,
        Command::Runs(a) => a.json,
        Command::Show(a) => a.json,
        Command::Why(a) => a.json,
        Command::Diff(a) => a.json,
        Command::Apply(a) => a.json,
        Command::Doctor(a) => a.json,
        Command::Gc(a) => a.json,
        Command::Artifact(a) => a.action.json(),
        Command::Compile(a) => a.format == arguments::Format::Json,
        Command::Validate(a) => a.format == arguments::Format::Json,
        Command::Report(a) => matches!(a.action, arguments::ReportAction::Verify { json: true, .. }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_errors_of_run_are_not_the_programs_own() {
        let of = |line: &[&str]| {
            let words: Vec<OsString> = std::iter::once("safe-run")
                .chain(line.iter().copied())
                .map(Into::into)
                .collect();
            usage(&Arguments::read(&words).unwrap_err(), kind(&words))
        };
        assert_eq!(
            (
                of(&["run", "--cpus", "1", "true"]),
                of(&["-v", "exec"]),
                of(&["shell", "x"])
            ),
            (125, 125, 125)
        );
        assert_eq!((of(&["valdate"]), of(&["validate"]), of(&["show", "--run"])), (2, 2, 2));
        assert_eq!((of(&["run", "--help"]), of(&["--version"])), (0, 0));
    }
}
