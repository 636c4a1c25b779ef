//! `exec`: another command inside a sandbox that is running.

use crate::arguments::ExecArguments;
use crate::environment::Environment;
use crate::failure::Done;
use crate::host_rules;
use crate::terminal;
use sr_runner::Joining;

pub fn exec(arguments: ExecArguments, env: &Environment) -> Done {
    let argv: Vec<String> = super::command_line(arguments.argv)?
        .map(|line| std::iter::once(line.command).chain(line.args).collect())
        .unwrap_or_default();
    let (store, run) = super::find_run(env, &arguments.run)?;
    let helper = env.helper(&host_rules::load(env)?);
    let outcome = sr_runner::exec(&Joining {
        store: &store,
        run: &run,
        argv: &argv,
        terminal: arguments.tty,
        helper: &helper,
    })?;
    for note in &outcome.notes {
        terminal::err(&format!("safe-run: {}", terminal::clean(note)));
    }
    Ok(outcome.status)
}
