//! One command to its end: with the descriptors that a careless caller leaks, a time limit, and nothing that stays behind.

use crate::Outcome;
use crate::verdict::End;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How much of what a command prints is kept, of either kind.
const KEPT: u64 = 4 << 20;
/// For what was told to end, to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// For processes that end by themselves after what they belong to.
const GRACE: Duration = Duration::from_secs(1);

/// Makes the rest of the words a process that has the ground's secret open as 7, and the ground as 8.
const LEAKING: &str = r#"exec 7<"$1" 8<"$2"; shift 2; exec "$@""#;

/// A command, and where it runs.
pub struct Held<'a> {
    pub words: &'a [String],
    /// The ground: DIR.
    pub dir: &'a Path,
    pub stdin: &'a str,
    pub seconds: u64,
    /// In its environment besides what the caller has there: `ESCAPE_CANARY`.
    pub canary: &'a str,
    /// And this.
    pub environment: &'a [(&'a str, &'a Path)],
    /// The victim: it may stay.
    pub stays: Option<u32>,
}

/// What came of it.
#[derive(Debug)]
pub struct Ended {
    pub end: End,
    /// What it printed, and after that what it said on standard error, but for the last line.
    pub output: Vec<u8>,
    /// That line: of `safe-run run --json` it is Safe-Run's own.
    pub last_line: String,
    /// Processes that stayed after it.
    pub left: Vec<String>,
    /// Something came through the socket that was its standard input.
    pub arrived: bool,
    /// The signal for which it was ended.
    pub interrupted: Option<i32>,
}

/// Runs it to its end. `signals`: a descriptor that tells of those which end all of it.
pub fn run(held: &Held, files: &Path, signals: BorrowedFd) -> Outcome<Ended> {
    let fault = |e: std::io::Error| format!("{}: {e}", files.display());
    let [out, err] = ["out", "err"].map(|name| files.join(name));
    let (stdin, peer) = input(held).map_err(fault)?;
    let project = held.dir.join("project");
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", LEAKING, "sh"])
        .args([held.dir.join("secret"), held.dir.to_owned()])
        .args(held.words)
        .envs(held.environment.iter().copied())
        .env("ESCAPE_CANARY", held.canary)
        .current_dir(&project)
        // Ctrl-C is for who waits here, and passed on from here.
        .process_group(0)
        .stdin(stdin)
        .stdout(File::create(&out).map_err(fault)?)
        .stderr(File::create(&err).map_err(fault)?);
    let mut child = command.spawn().map_err(|e| format!("/bin/sh: {e}"))?;
    let ended = wait(&mut child, held.seconds, signals);
    let left = left(held.stays);
    let (end, interrupted) = ended?;
    let mut output = read(&out).map_err(fault)?;
    let said = read(&err).map_err(fault)?;
    let said = String::from_utf8_lossy(&said);
    let (before, last_line) = said.trim_end().rsplit_once('\n').unwrap_or(("", said.trim_end()));
    output.push(b'\n');
    output.extend_from_slice(before.as_bytes());
    let arrived = peer.is_some_and(|mut peer| matches!(peer.read(&mut [0; 16]), Ok(1..)));
    Ok(Ended {
        end,
        output,
        last_line: last_line.to_owned(),
        left,
        arrived,
        interrupted,
    })
}

/// What the command gets as descriptor 0, and the other end of it.
fn input(held: &Held) -> std::io::Result<(Stdio, Option<UnixStream>)> {
    Ok(match held.stdin {
        "dir" => (File::open(held.dir)?.into(), None),
        "file" => (File::open(held.dir.join("target"))?.into(), None),
        "socket" => {
            let (own, its) = UnixStream::pair()?;
            own.set_nonblocking(true)?;
            (OwnedFd::from(its).into(), Some(own))
        }
        _ => (Stdio::null(), None),
    })
}

/// How it ended, and the signal that ended it and all else.
fn wait(child: &mut Child, seconds: u64, signals: BorrowedFd) -> Outcome<(End, Option<i32>)> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let pid = pid(child.id())?;
    let watched = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| format!("pidfd_open: {e}"))?;
    let ended = |until: Instant| wait_for(watched.as_fd(), None, until);
    let (over, interrupted) = match wait_for(watched.as_fd(), Some(signals), deadline) {
        Waited::Ended => (false, None),
        Waited::Over => (true, None),
        Waited::Signal(signal) => (true, Some(signal)),
    };
    if over {
        // It is not reaped yet: its number is its own.
        let _ = kill_process(pid, Signal::TERM);
        if !matches!(ended(Instant::now() + PATIENCE), Waited::Ended) {
            let _ = child.kill();
        }
    }
    let status = child.wait().map_err(|e| format!("wait: {e}"))?;
    let end = match (over, status.code(), status.signal()) {
        (true, ..) => End::Over,
        (false, Some(code), _) => End::Exit(code),
        (false, None, signal) => End::Signal(signal.unwrap_or_default()),
    };
    Ok((end, interrupted))
}

enum Waited {
    Ended,
    Over,
    Signal(i32),
}

fn wait_for(process: BorrowedFd, signals: Option<BorrowedFd>, until: Instant) -> Waited {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).ok();
        let mut fds = vec![PollFd::from_borrowed_fd(process, PollFlags::IN)];
        fds.extend(signals.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        // Interrupted, or out of memory: looked at again, until the time is over.
        let _ = poll(&mut fds, left.as_ref());
        if !fds.first().is_none_or(|fd| fd.revents().is_empty()) {
            return Waited::Ended;
        }
        if let Some(signal) = signals.and_then(sr_kernel::process::next_signal) {
            return Waited::Signal(signal);
        }
        if Instant::now() >= until {
            return Waited::Over;
        }
    }
}

fn pid(id: u32) -> Outcome<Pid> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| format!("{id} is no process"))
}

/// The processes that became this one's children and do not end by themselves. They are killed.
fn left(stays: Option<u32>) -> Vec<String> {
    let until = Instant::now() + GRACE;
    let others = || -> Vec<(Pid, String)> {
        children()
            .into_iter()
            .filter(|(pid, _)| Some(*pid) != stays)
            .filter_map(named)
            .collect()
    };
    let mut left = others();
    while !left.is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
        left = reaped(others());
    }
    let names = left.iter().map(|(_, name)| name.clone()).collect();
    for (pid, _) in &left {
        // Children of this process that nobody else reaps.
        let _ = kill_process(*pid, Signal::KILL);
        let _ = waitpid(Some(*pid), WaitOptions::empty());
    }
    names
}

fn named((id, name): (u32, String)) -> Option<(Pid, String)> {
    Some((pid(id).ok()?, name))
}

/// Those that have not ended.
fn reaped(all: Vec<(Pid, String)>) -> Vec<(Pid, String)> {
    all.into_iter()
        .filter(|(pid, _)| matches!(waitpid(Some(*pid), WaitOptions::NOHANG), Ok(None)))
        .collect()
}

/// This process's children, by number and name.
fn children() -> Vec<(u32, String)> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let stat = fs::read(entry.path().join("stat")).unwrap_or_default();
        let stat = String::from_utf8_lossy(&stat);
        // NUMBER (NAME) STATE PARENT …, where NAME may hold anything.
        let Some((front, rest)) = stat.rsplit_once(") ") else {
            continue;
        };
        if rest.split(' ').nth(1) == Some(own.as_str()) {
            let name = front.split_once('(').map_or("", |(_, name)| name);
            found.push((id, name.to_owned()));
        }
    }
    found
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    File::open(path)?.take(KEPT).read_to_end(&mut kept)?;
    Ok(kept)
}
