//! Runs one command to its end under the holder of `ground.c`, which sees every process that comes of it and leaves none.

use super::tools::Tools;
use crate::Outcome;
use sr_escape::verdict::End;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

/// How much of what a case prints is kept, for people and for the search for canaries.
const KEPT: u64 = 4 << 20;

/// What came of a command.
#[derive(Debug)]
pub struct Ended {
    pub end: End,
    pub output: Vec<u8>,
    /// Processes that stayed after it.
    pub left: Vec<String>,
    /// Something came through the socket that was its standard input.
    pub arrived: bool,
    /// Something was pushed into the terminal that was its standard input.
    pub pushed: bool,
}

/// A command, and where and as whom it runs.
pub struct Held<'a> {
    /// None: this user.
    pub uid: Option<u32>,
    pub stdin: &'a str,
    pub seconds: u64,
    /// The host's files are read-only to it.
    pub guarded: bool,
    /// The ground.
    pub dir: &'a Path,
    pub words: &'a [String],
    pub environment: &'a [(String, String)],
}

pub fn run(tools: &Tools, held: &Held) -> Outcome<Ended> {
    let mut command = Command::new(&tools.ground);
    command
        .args(["hold", &number(held.uid), &held.seconds.to_string(), held.stdin])
        .arg(if held.guarded {
            tools.scratch.path()
        } else {
            Path::new("-")
        })
        .arg(held.dir)
        .args(held.words)
        .current_dir("/")
        .env_clear()
        .envs(held.environment.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|e| format!("{}: {e}", tools.ground.display()))?;
    // Held open: its end tells the holder that nobody waits for it any more.
    let _alive = child.stdin.take();
    let (said, output) = std::thread::scope(|scope| {
        let err = child.stderr.take();
        let output = scope.spawn(move || {
            let mut kept = Vec::new();
            if let Some(mut err) = err {
                // What cannot be read any more was not printed.
                let _ = (&mut err).take(KEPT).read_to_end(&mut kept);
                let _ = std::io::copy(&mut err, &mut std::io::sink());
            }
            kept
        });
        let mut said = String::new();
        if let Some(mut out) = child.stdout.take() {
            let _ = out.read_to_string(&mut said);
        }
        (said, output.join().unwrap_or_default())
    });
    child.wait().map_err(|e| e.to_string())?;
    parse(&said, output)
}

/// A user as `ground` takes it.
pub fn number(uid: Option<u32>) -> String {
    uid.map_or_else(|| "-1".to_owned(), |uid| uid.to_string())
}

fn parse(said: &str, output: Vec<u8>) -> Outcome<Ended> {
    let mut ended = Ended {
        end: End::Over,
        output,
        left: Vec::new(),
        arrived: false,
        pushed: false,
    };
    let mut whole = false;
    for line in said.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "exit" => ended.end = End::Exit(rest.parse().unwrap_or(-1)),
            "signal" => ended.end = End::Signal(rest.parse().unwrap_or(-1)),
            "over" => ended.end = End::Over,
            "left" => ended.left.push(rest.to_owned()),
            "stuck" => return Err(format!("a process cannot be killed: {rest}")),
            "arrived" => ended.arrived = true,
            "pushed" => ended.pushed = true,
            "end" => whole = true,
            _ => return Err(format!("the holder said {line:?}")),
        }
    }
    match whole {
        true => Ok(ended),
        false => Err(format!(
            "the holder ended too early: {said:?} {}",
            String::from_utf8_lossy(&ended.output)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_holder_says() {
        let ended = parse("signal 31\nleft sleep\narrived\nend\n", b"x".to_vec()).unwrap();
        assert_eq!((ended.end, ended.left), (End::Signal(31), vec!["sleep".to_owned()]));
        assert!(ended.arrived && !ended.pushed);
        assert!(
            parse("exit 0\n", Vec::new())
                .unwrap_err()
                .starts_with("the holder ended too early")
        );
        assert!(parse("stuck sh\nend\n", Vec::new()).is_err());
    }
}
