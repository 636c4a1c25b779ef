//! Steps with a name, a clock, a time limit and a log; on failure what the log says of it is shown.

use crate::{Outcome, plain, tree};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How much of a failed step is shown.
const SHOWN: usize = 400;

/// Prints the step's beginning and its end with the time it took. An error ends only this step.
pub fn step<T>(name: &str, work: impl FnOnce() -> Outcome<T>) -> Option<T> {
    println!("── {name}");
    let start = Instant::now();
    let result = work();
    let time = plain::seconds(start.elapsed());
    match result {
        Ok(value) => {
            println!("   ok in {time}");
            Some(value)
        }
        Err(why) => {
            println!("{why}");
            println!("   FAILED after {time}: {name}");
            None
        }
    }
}

/// Runs `command` to its end, both its streams in `target/xtask/LOG.log`. Every line is given to `seen`, which returns
/// what of it is progress worth showing. Past `limit` the whole tree of processes is killed.
pub fn run(command: &mut Command, log: &str, limit: Duration, mut seen: impl FnMut(&str) -> Option<String>) -> Outcome {
    let dir = tree::target().join("xtask");
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let path = dir.join(format!("{log}.log"));
    let mut file = File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (reader, writer) = std::io::pipe().map_err(|e| e.to_string())?;
    let again = writer.try_clone().map_err(|e| e.to_string())?;
    command.stdin(Stdio::null()).stdout(writer).stderr(again);
    let mut child = command
        .spawn()
        .map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    // The command holds the pipe's ends, and would keep them open.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + limit;
    let mut shown = Shown::default();
    let mut over = false;
    loop {
        match lines.recv_timeout(Duration::from_millis(200)) {
            Ok(line) => {
                // A log that cannot be written loses nothing that decides.
                let _ = writeln!(file, "{line}");
                if let Some(progress) = seen(&line) {
                    println!("   {progress}");
                }
                shown.line(line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                // A daemon that a test left behind may hold the pipe: it does not hold us.
                if child.try_wait().is_ok_and(|s| s.is_some()) {
                    break;
                }
            }
        }
        if Instant::now() > deadline {
            over = true;
            kill_tree(&mut child);
            break;
        }
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    if over {
        return Err(format!(
            "{}   not done within {}: killed",
            shown.text(),
            plain::seconds(limit)
        ));
    }
    match status.success() {
        true => Ok(()),
        false => Err(format!("{}   {status}; all of it in {}", shown.text(), path.display())),
    }
}

/// What of a step's output is shown if it fails: every part in which a test program speaks of its failures, however
/// much comes after it, and the last lines.
#[derive(Default)]
pub struct Shown {
    failures: Vec<String>,
    within: bool,
    last: VecDeque<String>,
}

impl Shown {
    pub fn line(&mut self, line: String) {
        self.within |= line == "failures:";
        if self.within {
            self.within = !line.starts_with("test result: ");
            if self.failures.len() < SHOWN {
                self.failures.push(line);
            }
            return;
        }
        self.last.push_back(line);
        if self.last.len() > SHOWN {
            self.last.pop_front();
        }
    }

    /// The last lines begin with the first one that speaks of an error.
    pub fn text(&self) -> String {
        let bad = |line: &String| line.starts_with("error") || line.starts_with("Diff in ");
        let from = self.last.iter().position(bad);
        let from = from.unwrap_or(self.last.len().saturating_sub(40));
        let lines = self.failures.iter().chain(self.last.iter().skip(from));
        lines.map(|line| format!("   | {line}\n")).collect()
    }
}

fn kill_tree(child: &mut Child) {
    let mut tree = vec![child.id()];
    let mut at = 0;
    while let Some(parent) = tree.get(at).copied() {
        tree.extend(children(parent));
        at += 1;
    }
    // Parents first, so that none of them starts another child.
    for pid in tree {
        // It may have ended by itself.
        let _ = Command::new("kill")
            .args(["-KILL", &pid.to_string()])
            .stderr(Stdio::null())
            .status();
    }
}

/// The processes whose parent is `parent`.
pub fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let of = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let pids = entries
        .flatten()
        .filter_map(|e| e.file_name().to_str().and_then(|n| n.parse().ok()));
    pids.filter(|pid| of(*pid) == Some(parent)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_shown_however_much_follows() {
        let mut shown = Shown::default();
        let failed = [
            "running 1 test",
            "failures:",
            "---- d ----",
            "left != right",
            "failures:",
            "    d",
        ];
        let ended = ["test result: FAILED. 0 passed; 1 failed", "after"];
        let output = failed.into_iter().chain(ended).map(str::to_owned);
        let more = (0..2 * SHOWN).map(|n| format!("line {n}"));
        output
            .chain(more)
            .chain(["error: 1 target failed:".into()])
            .for_each(|line| shown.line(line));
        let text = shown.text();
        assert!(
            text.starts_with("   | failures:\n   | ---- d ----\n   | left != right\n"),
            "{text}"
        );
        assert!(text.ends_with("1 failed\n   | error: 1 target failed:\n"), "{text}");
    }
}
