//! `exec`: another command inside a sandbox that is running. The runner has no way in yet; it is refused, not ignored.

use crate::arguments::ExecArguments;
use crate::environment::Environment;
use crate::failure::Done;
use sr_common::{Code, Fault};

pub fn exec(arguments: ExecArguments, env: &Environment) -> Done {
    super::command_line(arguments.argv)?;
    let (store, run) = super::find_run(env, &arguments.run)?;
    if !store.is_running(&run.id) {
        let found = format!("run {} has ended", run.id.short());
        let remedy = "a command can only join a sandbox that is running; start one with safe-run run";
        return Err(Fault::new(Code::Run001, "run", found, remedy).into());
    }
    let found = "joining a running sandbox is not available in this build";
    let remedy = "start another run; with --session NAME successive runs share their captured writes";
    Err(Fault::new(Code::Run001, "exec", found, remedy).into())
}
