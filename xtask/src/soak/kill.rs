//! Runs that are killed on their way, and what must be so afterwards.

use super::house::House;
use super::left::{self, Seen};
use super::random::Random;
use crate::{Outcome, plain};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Supervisor,
    Init,
    /// The supervisor, then the init, at once.
    Both,
    /// The other way round.
    BothInitFirst,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Up to the program's first output.
    Start,
    Run,
    /// From the program's last output on.
    End,
}

/// How long the phases are that are not the program's own.
struct Lengths {
    start: Duration,
    end: Duration,
}

pub fn many(house: &House, kills: u32, random: &mut Random) -> Outcome {
    let begin = Instant::now();
    let lengths = measure(house)?;
    let seen = Seen::now();
    let mut verdicts = BTreeMap::new();
    for n in 0..kills {
        let verdict = one(house, n, &lengths, random).map_err(|what| format!("kill {n}: {what}"))?;
        seen.nothing_since().map_err(|what| format!("kill {n}: {what}"))?;
        *verdicts.entry(verdict).or_insert(0u32) += 1;
    }
    let told: Vec<String> = verdicts.iter().map(|(verdict, n)| format!("{n} {verdict}")).collect();
    println!(
        "   {kills} runs killed in {}, nothing left behind: {}",
        plain::seconds(begin.elapsed()),
        told.join("; ")
    );
    Ok(())
}

/// A run that says when its program begins and when it is about to end.
struct Started {
    child: Child,
    output: ChildStdout,
    said: Vec<u8>,
}

impl Started {
    fn new(house: &House, millis: u64) -> Outcome<Started> {
        let script = format!("echo r; echo one > file; sleep 0.{millis:03}; echo e");
        let mut command: Command =
            house.safe_run(&["run", "--quiet", "--timeout", "60s", "--", "/bin/sh", "-c", &script]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| e.to_string())?;
        let output = child.stdout.take().ok_or("no output")?;
        Ok(Started {
            child,
            output,
            said: Vec::new(),
        })
    }

    /// Waits until the program has said `letter`, or can say nothing any more.
    fn until(&mut self, letter: u8) {
        let mut byte = [0];
        while !self.said.contains(&letter) && self.output.read(&mut byte).is_ok_and(|n| n == 1) {
            self.said.extend(byte);
        }
    }

    /// The first process of the sandbox, once there is one; `None` if the supervisor ends without.
    fn init(&self) -> Option<Pid> {
        let supervisor = self.child.id();
        let alive = || {
            let stat = fs::read_to_string(format!("/proc/{supervisor}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
        };
        while alive() {
            let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children"));
            let children = children.unwrap_or_default();
            if let Some(init) = children.split_whitespace().find(|pid| is_first(pid)) {
                return init.parse().ok().and_then(Pid::from_raw);
            }
        }
        None
    }

    /// To its end; all that the program said is in `said` then.
    fn end(&mut self) -> Outcome<ExitStatus> {
        self.output.read_to_end(&mut self.said).map_err(|e| e.to_string())?;
        self.child.wait().map_err(|e| e.to_string())
    }
}

/// Whether the process is number 1 in a pid namespace below this one.
fn is_first(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_some_and(|numbers| {
        let numbers: Vec<&str> = numbers.split_whitespace().collect();
        numbers.len() > 1 && numbers.last() == Some(&"1")
    })
}

fn measure(house: &House) -> Outcome<Lengths> {
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        let begin = Instant::now();
        let mut run = Started::new(house, 5)?;
        run.until(b'r');
        starts.push(begin.elapsed().as_secs_f64());
        run.until(b'e');
        let last = Instant::now();
        let status = run.end()?;
        if !status.success() {
            return Err(format!("a run that nobody killed: {status}"));
        }
        ends.push(last.elapsed().as_secs_f64());
    }
    // A little beyond: a kill that comes too late is one that finds nothing to kill.
    let length = |times: &[f64]| Duration::from_secs_f64(plain::median(times) * 1.1);
    Ok(Lengths {
        start: length(&starts),
        end: length(&ends),
    })
}

/// Starts a run, kills of it what the dice say when they say, has the next command clean up, and judges what is left.
fn one(house: &House, n: u32, lengths: &Lengths, random: &mut Random) -> Outcome<String> {
    let before = house.runs();
    let victim = match random.below(6) {
        0 | 1 => Victim::Supervisor,
        2 | 3 => Victim::Init,
        4 => Victim::Both,
        _ => Victim::BothInitFirst,
    };
    let phase = [Phase::Start, Phase::Run, Phase::End][random.below(3) as usize];
    if random.below(3) == 0 {
        // This run then makes what is kept from run to run.
        forget_trees(house)?;
    }
    let millis = 1 + random.below(80);
    let begin = Instant::now();
    let mut run = Started::new(house, millis)?;
    let (from, length) = match phase {
        Phase::Start => (begin, lengths.start),
        Phase::Run => {
            run.until(b'r');
            (Instant::now(), Duration::from_millis(millis))
        }
        Phase::End => {
            run.until(b'e');
            (Instant::now(), lengths.end)
        }
    };
    pause_until(from + random.moment(length));
    let init = match victim {
        Victim::Supervisor => None,
        _ => run.init(),
    };
    // What has ended meanwhile is not there to be killed.
    let kill_init = || init.map(|init| kill_process(init, Signal::KILL));
    match victim {
        Victim::Supervisor => drop(run.child.kill()),
        Victim::Init => drop(kill_init()),
        Victim::Both => drop((run.child.kill(), kill_init())),
        Victim::BothInitFirst => drop((kill_init(), run.child.kill())),
    }
    let status = run.end()?;

    match n % 2 {
        0 => house.must(&["gc"])?,
        _ => house.plain_run().map_err(|why| format!("the next run: {why}"))?,
    }
    left::files(house)?;
    let new: Vec<String> = house.runs().into_iter().filter(|run| !before.contains(run)).collect();
    let killed = match (n % 2, new.as_slice()) {
        (0, []) => None,
        (0, [killed]) => Some(killed),
        (1, [next]) => house.all_verify(std::slice::from_ref(next)).map(|()| None)?,
        (1, [killed, next]) => house.all_verify(std::slice::from_ref(next)).map(|()| Some(killed))?,
        _ => return Err(format!("{} folders were made", new.len())),
    };
    judge(house, &run, (victim, phase), status, killed)
}

fn pause_until(moment: Instant) {
    while let Some(left) = moment.checked_duration_since(Instant::now()) {
        match left > Duration::from_micros(200) {
            true => std::thread::sleep(left - Duration::from_micros(150)),
            false => std::hint::spin_loop(),
        }
    }
}

/// Removes the kept trees, but not the memory that they were asked for: the next run makes one.
fn forget_trees(house: &House) -> Outcome {
    let dir = house.path("runtime/safe-run");
    for name in left::names(&dir).iter().filter(|name| name.starts_with("view-")) {
        let path = dir.join(name);
        fs::remove_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

/// What the evidence must say: a killed supervisor leaves it verified or incomplete; one that lives, verified, and with a
/// verdict that is not the program's success where it was killed before its end.
fn judge(
    house: &House,
    run: &Started,
    (victim, phase): (Victim, Phase),
    status: ExitStatus,
    folder: Option<&String>,
) -> Outcome<String> {
    use std::os::unix::process::ExitStatusExt;
    let lives = status.signal().is_none();
    let who = match (victim, lives) {
        (Victim::Init, _) => "init",
        // The kill came after its end.
        (_, true) => "ended",
        (Victim::Supervisor, _) => "supervisor",
        (Victim::Both | Victim::BothInitFirst, _) => "both",
    };
    let Some(folder) = folder else {
        return match lives {
            false => Ok(format!("{who}: before the run had a folder")),
            true => Err(format!("{victim:?} killed in {phase:?}: {status}, and no folder")),
        };
    };
    let verified = house.verify(folder)?;
    match (lives, verified) {
        (false, 0) => Ok(format!("{who}: verified")),
        (false, 3) => Ok(format!("{who}: incomplete")),
        (true, 0) => {
            let report = fs::read(house.store().join("runs").join(folder).join("run_report.json"));
            let report: Value =
                serde_json::from_slice(&report.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
            let result = &report["result"];
            let cause = result["cause"].as_str().unwrap_or("none");
            if report["complete"] != true || result["status"].as_i64() != status.code().map(i64::from) {
                return Err(format!(
                    "{victim:?} killed in {phase:?}: {status}, the report says {result}"
                ));
            }
            if victim == Victim::Init && !run.said.contains(&b'e') && (cause == "exit" || status.success()) {
                return Err(format!(
                    "init killed before the program's end, the report says {result}"
                ));
            }
            Ok(format!("{who}: verified, {cause}"))
        }
        (_, code) => Err(format!(
            "{victim:?} killed in {phase:?}: report verify of {folder} says {code}"
        )),
    }
}
