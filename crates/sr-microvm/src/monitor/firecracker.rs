//! Firecracker, started with its whole configuration and without an API: its console is its standard output, its log goes
//! where its complaints go, and its metrics are lines of JSON in a pipe.

use super::Failure;
use super::kind::{Agent, Monitor, Parting, Prepared, Seen, pipe};
use super::machine::at;
use rustix::io::Errno;
use serde_json::Value;
use sr_common::monitor::GuestSockets;
use std::os::fd::OwnedFd;

/// The numbers under which its configuration names the two pipes.
const LOG: i32 = 10;
const METRICS: i32 = 11;

/// The longest line of metrics: ten times as long as one is.
const MOST_LINE: usize = 256 << 10;
/// Exits of its virtual processors, by what it names them in its metrics, and what it could not do for them.
const COUNTED: [&str; 5] = [
    "exit_io_in",
    "exit_io_out",
    "exit_mmio_read",
    "exit_mmio_write",
    "failures",
];

/// Its metrics: counts, each since the line before.
pub struct Firecracker {
    /// `None`: it has ended.
    metrics: Option<OwnedFd>,
    line: Vec<u8>,
    counts: [u64; COUNTED.len()],
    told: bool,
}

impl Firecracker {
    pub fn prepare(sockets: &GuestSockets, complaints: &OwnedFd) -> Result<Prepared, Failure> {
        let (console, console_there) = pipe()?;
        let (metrics, metrics_there) = pipe()?;
        Ok(Prepared {
            preflight: "launch.preflight.firecracker",
            monitor: Box::new(Firecracker::new(metrics)),
            agent: Agent::awaited(sockets)?,
            console: Some(console),
            inherited: vec![at(complaints, LOG)?, at(&metrics_there, METRICS)?],
            output: Some(console_there),
        })
    }

    /// `metrics` is non-blocking.
    fn new(metrics: OwnedFd) -> Firecracker {
        Firecracker {
            metrics: Some(metrics),
            line: Vec::new(),
            counts: [0; COUNTED.len()],
            told: false,
        }
    }

    /// Adds what a line counts; one that is none counts nothing.
    fn count(&mut self, line: &[u8]) {
        let Ok(said) = serde_json::from_slice::<Value>(line) else {
            return;
        };
        for (count, name) in self.counts.iter_mut().zip(COUNTED) {
            let more = said.get("vcpu").and_then(|vcpu| vcpu.get(name)).and_then(Value::as_u64);
            if let Some(more) = more {
                *count = count.saturating_add(more);
                self.told = true;
            }
        }
    }
}

impl Monitor for Firecracker {
    fn source(&self) -> Option<&OwnedFd> {
        self.metrics.as_ref()
    }

    fn read(&mut self) -> Vec<Seen> {
        let mut buffer = [0u8; 4096];
        let read = match &self.metrics {
            Some(metrics) => rustix::io::read(metrics, &mut buffer),
            None => return Vec::new(),
        };
        match read {
            Ok(0) => self.metrics = None,
            Ok(n) => self.line.extend(&buffer[..n]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.metrics = None,
        }
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            self.count(&line);
        }
        if self.line.len() > MOST_LINE {
            self.metrics = None;
        }
        Vec::new()
    }

    fn quit(&mut self) -> Parting {
        Parting::Closed
    }

    fn counted(&mut self) -> Option<String> {
        // As much as a pipe holds.
        for _ in 0..64 {
            self.read();
        }
        let counts = COUNTED.iter().zip(self.counts);
        let words: Vec<String> = counts.map(|(name, count)| format!("{name} {count}")).collect();
        self.told.then(|| format!("virtual processors: {}", words.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn exits_are_added_over_all_lines() {
        let (ours, theirs) = pipe().unwrap();
        let mut there = std::fs::File::from(theirs);
        let mut monitor = Firecracker::new(ours);
        assert_eq!(monitor.counted(), None);
        let one = "{\"utc_timestamp_ms\":1,\"vcpu\":{\"exit_io_in\":3,\"exit_mmio_read\":4,\"failures\":0}}\n";
        there.write_all(one.as_bytes()).unwrap();
        there
            .write_all(b"nonsense\n{\"vcpu\":7}\n{\"vcpu\":{\"exit_io_in\":-1}}\n")
            .unwrap();
        there.write_all(&one.as_bytes()[..20]).unwrap();
        let all = |io, mmio| {
            format!(
                "virtual processors: exit_io_in {io}, exit_io_out 0, exit_mmio_read {mmio}, exit_mmio_write 0, failures 0"
            )
        };
        assert_eq!(monitor.counted(), Some(all(3, 4)));
        there.write_all(&one.as_bytes()[20..]).unwrap();
        assert_eq!(monitor.counted(), Some(all(6, 8)));
        drop(there);
        super::super::await_end(monitor.source().unwrap());
        monitor.read();
        assert!(monitor.source().is_none());
        assert_eq!(monitor.quit(), Parting::Closed);
    }

    #[test]
    fn a_line_without_end_is_read_no_further() {
        let (ours, theirs) = pipe().unwrap();
        let mut there = std::fs::File::from(theirs);
        let mut monitor = Firecracker::new(ours);
        let mut sent = 0;
        while monitor.source().is_some() {
            there.write_all(&[b'x'; 4096]).unwrap();
            sent += 4096;
            monitor.read();
            assert!(sent <= MOST_LINE + 4096);
        }
    }
}
