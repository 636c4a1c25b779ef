//! The ground of one case: what is planted outside for it on anybody's machine, and what of it was tripped. All of it is below
//! one directory, but for listeners on loopback and a process of its own.

use crate::Outcome;
use crate::held::Ended;
use crate::tree::{self, Files, for_each_file, plant, snapshot};
use crate::trip::{self, Canary, Trip, Words, random, read_in};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{fs, io};

const WORDS: [&str; 6] = ["secret", "public", "memory", "arguments", "environment", "tool"];

pub struct Ground {
    dir: PathBuf,
    words: Words,
    /// `key=value` words that a case is told.
    pub told: Vec<String>,
    listeners: Listeners,
    victim: Child,
    before: Files,
}

struct Listeners {
    path: UnixListener,
    hidden: UnixListener,
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Ground {
    /// Plants everything in `dir`, which holds `escape/` already. `safe_run victim WORD` is the victim, see [`victim`].
    pub fn new(dir: PathBuf, safe_run: &Path) -> Outcome<Ground> {
        let words = trip::words(&WORDS)?;
        let of = |word: &str| words.get(word).cloned().unwrap_or_default();
        let fault = |e: io::Error| format!("{}: {e}", dir.display());
        plant(&dir, &of("secret"), &of("public")).map_err(fault)?;
        let name = format!("escape-{}", random()?);
        let listeners = Listeners::new(&dir.join("listen.sock"), &name)
            .map_err(|e| format!("listeners for the cases in {}: {e}", dir.display()))?;
        let port = |address: io::Result<std::net::SocketAddr>| address.map(|a| a.port()).map_err(fault);
        let (tcp, udp) = (port(listeners.tcp.local_addr())?, port(listeners.udp.local_addr())?);
        let victim = start_victim(safe_run, &dir, &of).map_err(|e| format!("the victim of the cases: {e}"))?;
        let told = vec![
            format!("dir={}", dir.display()),
            format!("pid={}", victim.id()),
            format!("tcp={tcp}"),
            format!("udp={udp}"),
            format!("abstract={name}"),
        ];
        let before = snapshot(&dir);
        Ok(Ground {
            dir,
            words,
            told,
            listeners,
            victim,
            before,
        })
    }

    /// The word in the environment of what starts the case.
    pub fn tool_word(&self) -> &str {
        self.words.get("tool").map_or("", String::as_str)
    }

    pub fn victim(&self) -> u32 {
        self.victim.id()
    }

    /// What was tripped, each once and in order. `run`: the folder of the case's run, which holds what it wrote.
    pub fn tripped(&mut self, ended: &Ended, run: Option<&Path>) -> Vec<Trip> {
        let mut trips = read_in(&ended.output, &self.words);
        // The project too: what is written there is captured, and reaches the host by nobody.
        trips.extend(tree::trips(
            &self.before,
            &snapshot(&self.dir),
            &self.words,
            |_, _, _| true,
        ));
        if let Some(run) = run {
            for_each_file(run, &mut |content| trips.extend(read_in(content, &self.words)));
        }
        let left = |name: &String| Trip::new(Canary::Host, format!("a process stays: {name}"));
        trips.extend(ended.left.iter().map(left));
        let connected = |what: &&str| Trip::new(Canary::Connect, *what);
        trips.extend(self.listeners.reached().iter().map(connected));
        if ended.arrived {
            trips.push(Trip::new(Canary::Connect, "the tool's standard input"));
        }
        trips.extend(self.harm().map(|what| Trip::new(Canary::Process, what)));
        trips.sort();
        trips.dedup();
        trips
    }

    /// What was done to the victim.
    fn harm(&mut self) -> Option<&'static str> {
        if !matches!(self.victim.try_wait(), Ok(None)) {
            return Some("the victim is gone");
        }
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.victim.id())).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        matches!(state, Some('T' | 't')).then_some("the victim is stopped")
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // Gone already, or a child of ours that is not reaped: its number is nobody else's.
        let _ = self.victim.kill();
        let _ = self.victim.wait();
    }
}

impl Listeners {
    fn new(path: &Path, hidden: &str) -> io::Result<Listeners> {
        let listeners = Listeners {
            path: UnixListener::bind(path)?,
            hidden: UnixListener::bind_addr(&SocketAddr::from_abstract_name(hidden)?)?,
            tcp: TcpListener::bind("127.0.0.1:0")?,
            udp: UdpSocket::bind("127.0.0.1:0")?,
        };
        listeners.path.set_nonblocking(true)?;
        listeners.hidden.set_nonblocking(true)?;
        listeners.tcp.set_nonblocking(true)?;
        listeners.udp.set_nonblocking(true)?;
        Ok(listeners)
    }

    /// Where something arrived.
    fn reached(&self) -> Vec<&'static str> {
        let all = [
            (self.path.accept().is_ok(), "DIR/listen.sock"),
            (self.hidden.accept().is_ok(), "the abstract socket"),
            (self.tcp.accept().is_ok(), "TCP on loopback"),
            (self.udp.recv(&mut [0; 16]).is_ok(), "UDP on loopback"),
        ];
        all.into_iter()
            .filter(|(reached, _)| *reached)
            .map(|(_, what)| what)
            .collect()
    }
}

fn start_victim(safe_run: &Path, dir: &Path, of: &dyn Fn(&str) -> String) -> io::Result<Child> {
    let mut victim = Command::new(safe_run)
        .args(["victim", &of("arguments")])
        .env_clear()
        .env("ESCAPE_VICTIM", of("environment"))
        .current_dir(dir)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut told = || -> io::Result<String> {
        if let Some(stdin) = &mut victim.stdin {
            stdin.write_all(format!("{}\n", of("memory")).as_bytes())?;
        }
        let mut answer = String::new();
        if let Some(stdout) = victim.stdout.take() {
            BufReader::new(stdout).read_line(&mut answer)?;
        }
        Ok(answer)
    };
    match told() {
        Ok(answer) if answer == READY => Ok(victim),
        other => {
            let _ = victim.kill();
            let _ = victim.wait();
            Err(other.err().unwrap_or_else(|| io::Error::other("it does not answer")))
        }
    }
}

const READY: &str = "ready\n";

/// The victim: a process with a word in its arguments and its environment, and one in its memory, which it is given. It is there
/// until the other end of its standard input is closed, by whatever end of who started it.
pub fn victim() -> io::Result<()> {
    let mut stdin = io::stdin().lock();
    let mut word = String::new();
    stdin.read_line(&mut word)?;
    let mut stdout = io::stdout();
    stdout.write_all(READY.as_bytes())?;
    stdout.flush()?;
    io::copy(&mut stdin, &mut io::sink())?;
    // Kept until here.
    std::hint::black_box(&word);
    Ok(())
}
