//! Many runs in a row, and many at once: all succeed, each has evidence of its own, and nothing grows with their number.

use super::house::House;
use super::left::{self, Seen};
use super::load::Load;
use crate::{Outcome, plain};
use std::io::Read;
use std::process::Stdio;
use std::time::Instant;

/// How many start together.
const TOGETHER: u32 = 64;

#[derive(Clone, Copy)]
pub struct Counts {
    pub runs: u32,
    /// Of [`TOGETHER`] runs.
    pub rounds: u32,
}

pub fn many(house: &House, counts: Counts) -> Outcome {
    // What is made once (keys, cached digests, kept trees) is made before the counting begins.
    for _ in 0..5 {
        house.plain_run()?;
    }
    watched(house, counts.runs, "runs in a row", || {
        for n in 0..counts.runs {
            house.plain_run().map_err(|why| format!("run {n}: {why}"))?;
        }
        Ok(())
    })?;
    watched(house, counts.rounds * TOGETHER, "runs, 64 at once", || {
        (0..counts.rounds).try_for_each(|_| together(house))
    })
}

fn together(house: &House) -> Outcome {
    let mut children = Vec::new();
    for _ in 0..TOGETHER {
        let mut command = house.safe_run(&[
            "run",
            "--quiet",
            "--timeout",
            "60s",
            "--",
            "/bin/sh",
            "-c",
            "echo $$ > file",
        ]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        children.push(child.map_err(|e| e.to_string())?);
    }
    let mut problems = Vec::new();
    for mut child in children {
        let mut said = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut said).map_err(|e| e.to_string())?;
        }
        let status = child.wait().map_err(|e| e.to_string())?;
        if !status.success() {
            problems.push(format!("{status}: {}", said.trim()));
        }
    }
    match problems.first() {
        None => Ok(()),
        Some(first) => Err(format!(
            "{} of {TOGETHER} at once failed; the first: {first}",
            problems.len()
        )),
    }
}

/// How often the same is done before what it leaves the kernel to hold counts as growth.
const TIMES: u32 = 3;

/// Does `work`, which makes `runs` runs, and compares what is there before and after.
fn watched(house: &House, runs: u32, what: &str, work: impl Fn() -> Outcome) -> Outcome {
    let problem = |why: String| format!("   {runs} {what}: {why}");
    for time in 1.. {
        let (known, seen, load) = (house.runs(), Seen::now(), Load::now(house));
        let start = Instant::now();
        work().map_err(problem)?;
        let took = plain::seconds(start.elapsed());
        seen.nothing_since()
            .and_then(|()| left::files(house))
            .map_err(problem)?;
        let grown = load.grown_by(house, runs);
        let new: Vec<String> = house.runs().into_iter().filter(|run| !known.contains(run)).collect();
        if new.len() != runs as usize {
            return Err(problem(format!("{} entries in the run store", new.len())));
        }
        house.all_verify(&new).map_err(problem)?;
        match grown {
            Ok(grown) => {
                println!("   {runs} {what} in {took}, each verified, nothing left behind; {grown}");
                break;
            }
            // The whole machine's numbers: what other programs take they take once, what runs leave comes with each of them.
            Err(why) if time < TIMES => println!("   {runs} {what} in {took}; once more, for {why}"),
            Err(why) => return Err(problem(format!("{TIMES} times: {why}"))),
        }
    }
    Ok(())
}
