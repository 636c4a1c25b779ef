//! Where the time of a start goes: what a run says with `-v` of each of its steps, as medians.

use super::Place;
use super::contender::Contender;
use crate::{Outcome, plain};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Instant;

const RUNS: u32 = 30;

/// The steps in their order: their name, and the milliseconds that each took. What comes before the run begins and after its
/// last step is the program's own start and end, and is given as one.
pub fn timeline(place: &Place) -> Outcome<Value> {
    let ours = Contender::ours(place, "timeline", &["-v"], &["/bin/true"]);
    let mut steps: Vec<(String, Vec<f64>)> = Vec::new();
    let mut around = Vec::new();
    for _ in 0..RUNS {
        let (mut command, _files) = ours.command(place)?;
        let start = Instant::now();
        let output = command.stderr(Stdio::piped()).output().map_err(|e| e.to_string())?;
        let whole = start.elapsed().as_secs_f64() * 1e3;
        let said = String::from_utf8_lossy(&output.stderr);
        let mut before = 0.0;
        for (name, at) in said.lines().filter_map(step) {
            match steps.iter_mut().find(|(known, _)| known == name) {
                Some((_, times)) => times.push(at - before),
                None => steps.push((name.to_owned(), vec![at - before])),
            }
            before = at;
        }
        around.push(whole - before);
    }
    if steps.is_empty() || steps.iter().any(|(_, times)| times.len() != RUNS as usize) {
        return Err("safe-run run -v no longer tells of its steps".into());
    }
    let steps = steps.iter().map(|(name, times)| (name.as_str(), plain::median(times)));
    let around = [("the process's own start and end", plain::median(&around))];
    Ok(steps
        .chain(around)
        .map(|(name, millis)| json!({"step": name, "millis": millis}))
        .collect())
}

/// Its name and when it was done, in milliseconds since the run began, of a line such as `DEBUG sandbox built micros=2232`.
fn step(line: &str) -> Option<(&str, f64)> {
    let (name, rest) = line.strip_prefix("DEBUG ")?.split_once(" micros=")?;
    let micros: f64 = rest.split(' ').next()?.parse().ok()?;
    Some((name, micros / 1e3))
}

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn a_step_is_told_by_its_name_and_its_end() {
        assert_eq!(
            step("DEBUG sandbox begun micros=1571 unkept=no place"),
            Some(("sandbox begun", 1.571))
        );
        assert_eq!(step("DEBUG end id=01m8 dir=/x"), None);
        assert_eq!(step("safe-run: exit 0 in 0.005 s"), None);
    }
}
