//! `discard`: throws a run and its captured changes away; with the results of an attack, the runs of its cases.

use crate::environment::Environment;
use crate::failure::Done;
use crate::terminal::{self, count};

pub fn discard(name: &str, env: &Environment) -> Done {
    let (store, run) = super::find_run(env, name)?;
    let cases = super::attack::runs_of(&store, &run.path);
    for case in &cases {
        store.discard(case)?;
    }
    let session = store.discard(&run)?;
    terminal::out(&format!("run {} is gone\n", run.id.short()));
    if !cases.is_empty() {
        terminal::out(&format!("with it {} of its attack\n", count(cases.len() as u64, "run")));
    }
    if let Some(name) = session {
        terminal::out(&format!("session {name} is empty: that was its last run\n"));
    }
    Ok(0)
}
