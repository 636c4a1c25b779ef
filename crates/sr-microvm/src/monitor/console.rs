//! The last of what a machine's console, or the monitor program itself, wrote: hostile text, of which a bounded part is kept.

use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;

const KEPT: usize = 16 << 10;
/// The kernel's last words.
const PANIC: &str = "Kernel panic - not syncing";

/// One source of text.
#[derive(Debug)]
pub struct Tail {
    /// `None`: it has ended.
    source: Option<OwnedFd>,
    last: VecDeque<u8>,
}

impl Tail {
    /// `source` is non-blocking, if there is one.
    pub fn new(source: Option<OwnedFd>) -> Tail {
        Tail {
            source,
            last: VecDeque::new(),
        }
    }

    pub fn source(&self) -> Option<&OwnedFd> {
        self.source.as_ref()
    }

    /// Takes what is there, as much as one look brings.
    pub fn read(&mut self) {
        let Some(source) = &self.source else { return };
        let mut buffer = [0u8; 4096];
        match rustix::io::read(source, &mut buffer) {
            Ok(0) => self.source = None,
            Ok(n) => {
                self.last.extend(&buffer[..n]);
                let surplus = self.last.len().saturating_sub(KEPT);
                self.last.drain(..surplus);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.source = None,
        }
    }

    /// All that is there still, until nothing is or it has gone on for long.
    pub fn finish(&mut self) {
        for _ in 0..64 {
            let before = (self.last.len(), self.last.back().copied());
            self.read();
            if self.source.is_none() || before == (self.last.len(), self.last.back().copied()) && self.last.len() < KEPT
            {
                return;
            }
        }
    }

    /// The last lines, without control characters.
    pub fn lines(&self, most: usize) -> Vec<String> {
        let bytes: Vec<u8> = self.last.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let from = lines.len().saturating_sub(most);
        let plain = |line: &&str| line.chars().filter(|c| !c.is_control()).take(300).collect();
        lines.get(from..).unwrap_or_default().iter().map(plain).collect()
    }

    /// Whether the kernel gave up, and from where on it says so.
    pub fn panic(&self) -> Option<Vec<String>> {
        let lines = self.lines(usize::MAX);
        let at = lines.iter().position(|line| line.contains(PANIC))?;
        Some(lines.into_iter().skip(at).take(20).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(text: &[u8]) -> Tail {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut tail = Tail::new(Some(ours.into()));
        for piece in text.chunks(4096) {
            std::io::Write::write_all(&mut &theirs, piece).unwrap();
            tail.read();
        }
        drop(theirs);
        super::super::await_end(tail.source().unwrap());
        tail.finish();
        assert!(tail.source().is_none());
        tail
    }

    #[test]
    fn the_last_lines_without_control_characters() {
        let tail = tail(b"one\r\n\x1b[31mtwo\x07\n\n\xff three");
        assert_eq!(tail.lines(2), ["[31mtwo", "\u{fffd} three"]);
        assert_eq!(tail.panic(), None);
    }

    #[test]
    fn a_panic_is_found_and_only_the_end_is_kept() {
        let mut text = b"x\n".repeat(20_000);
        text.extend(b"[    1.0] Kernel panic - not syncing: Attempted to kill init!\nCall Trace:\n");
        let tail = tail(&text);
        assert!(tail.last.len() <= KEPT);
        let panic = tail.panic().unwrap();
        assert_eq!(panic.len(), 2);
        assert!(panic[0].ends_with("kill init!"));
    }
}
