//! `discard`: throws a run and its captured changes away.

use crate::environment::Environment;
use crate::failure::Done;
use crate::terminal;

pub fn discard(name: &str, env: &Environment) -> Done {
    let (store, run) = super::find_run(env, name)?;
    let session = store.discard(&run)?;
    terminal::out(&format!("run {} is gone\n", run.id.short()));
    if let Some(name) = session {
        terminal::out(&format!("session {name} is empty: that was its last run\n"));
    }
    Ok(0)
}
