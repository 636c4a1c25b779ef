//! One module a command: from its arguments to its exit status.

pub mod apply;
pub mod artifact;
pub mod attack;
pub mod broker;
pub mod compile;
pub mod completions;
pub mod diff;
pub mod discard;
pub mod doctor;
pub mod exec;
pub mod explain;
pub mod export;
pub mod gc;
pub mod key;
pub mod learn;
pub mod policy;
pub mod report;
pub mod run;
pub mod runs;
pub mod schema;
pub mod show;
pub mod validate;
pub mod why;

use crate::environment::Environment;
use crate::failure::Failure;
use sr_common::{Code, Fault};
use sr_evidence::keystore::KeyStore;
use sr_evidence::verify::VerifyOptions;
use sr_runner::{Caller, RunDir, Store};
use std::ffi::OsString;

/// The run that `name` means. No store is made for it.
fn find_run(env: &Environment, name: &str) -> Result<(Store, RunDir), Failure> {
    if !env.store.is_dir() {
        let remedy = "start one: safe-run run -- COMMAND";
        return Err(Fault::new(Code::Run001, "run", "there are no runs yet", remedy).into());
    }
    let store = Store::open(&env.store)?;
    // Ids are written in lower case; Crockford's base 32 is read in either.
    let run = store.find(&name.to_ascii_lowercase())?;
    Ok((store, run))
}

/// Whose signatures this person takes.
fn trust(env: &Environment) -> Result<VerifyOptions, Fault> {
    Ok(VerifyOptions {
        keys: Vec::new(),
        keyring: KeyStore::open(&env.keys).keyring()?,
    })
}

fn caller(env: &Environment) -> Caller {
    Caller {
        cwd: env.cwd.clone(),
        path_var: env.path.clone(),
        pyenv_version: env.pyenv_version.clone(),
        home: env.home.clone(),
        keys: env.keys.clone(),
        runtime: env.runtime.clone(),
        id_base: env.id_base,
        // This very file, also where another has its name by now.
        broker: vec!["/proc/self/exe".into(), "broker".into()],
        helper: Vec::new(),
        programs: env.programs.clone(),
    }
}

/// A command line as documents hold it: UTF-8.
fn command_line(argv: Vec<OsString>) -> Result<Option<sr_policy::CommandLine>, Fault> {
    let mut words = Vec::with_capacity(argv.len());
    for (i, word) in argv.into_iter().enumerate() {
        words.push(word.into_string().map_err(|word| {
            let path = if i == 0 {
                "runtime.command".to_owned()
            } else {
                format!("runtime.args[{}]", i - 1)
            };
            let found = format!("{} is not UTF-8", word.display());
            Fault::new(
                Code::Pol002,
                path,
                found,
                "pass it in a file, or rename the file that it names",
            )
        })?);
    }
    let mut words = words.into_iter();
    Ok(words.next().map(|command| sr_policy::CommandLine {
        command,
        args: words.collect(),
    }))
}
