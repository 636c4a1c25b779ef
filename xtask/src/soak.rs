//! `cargo xtask soak`: many runs in a row, many at once, and many runs of which the supervisor, the sandbox's init or both
//! are killed at random moments. Nothing may be left, and the evidence must say what was.
//!
//! All of it happens in a pid and a mount namespace of its own: every process and mount that is seen there is the runs'.

mod house;
mod kill;
mod left;
mod load;
mod random;
mod row;

use crate::{Outcome, plain, tree};
use house::{House, User};
use random::Random;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Said by the command to itself.
const WITHIN: &str = "--within";

pub fn soak(options: &[&str]) -> Outcome {
    if !options.contains(&WITHIN) {
        return within(options);
    }
    let sample = options.contains(&"--sample");
    let counts = row::Counts {
        runs: plain::number(options, "--runs", if sample { 100 } else { 2000 })?,
        rounds: plain::number(options, "--rounds", if sample { 1 } else { 5 })?,
    };
    let kills = plain::number(options, "--kills", if sample { 50 } else { 500 })?;
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |t| t.subsec_nanos());
    let seed = plain::number(options, "--seed", clock)?;

    let users = match tree::is_root() {
        true => vec![User::Root, User::Nobody],
        false => vec![User::Caller],
    };
    let program = tree::safe_run()?;
    for user in users {
        let house = House::new(user, &program)?;
        println!("   {user}:");
        row::many(&house, counts)?;
        let mut random = Random::new(seed);
        kill::many(&house, kills, &mut random).map_err(|what| format!("   {user}, --seed {seed}: {what}"))?;
    }
    Ok(())
}

/// Starts the same command in namespaces of its own. The shell there is the first process: it waits for whom nobody else
/// waits for, as a system's does.
fn within(options: &[&str]) -> Outcome {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = Command::new("unshare");
    if !tree::is_root() {
        command.args(["--user", "--map-current-user"]);
    }
    command
        .args([
            "--pid",
            "--fork",
            "--kill-child",
            "--mount",
            "--mount-proc",
            "--propagation",
            "private",
        ])
        .args(["sh", "-c", "\"$@\"; exit $?", "sh"])
        .arg(own)
        .args(["soak", WITHIN])
        .args(options);
    let status = command.status().map_err(|e| format!("unshare: {e}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("   soak: {status}")),
    }
}
