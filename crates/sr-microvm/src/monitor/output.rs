//! One of the monitor's own outputs, on which it hands on what the program in the guest writes.

use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;

/// What waits to be written. The protocol's credit bounds it.
#[derive(Debug)]
pub struct Output {
    /// `None`: it was ended, or nobody reads it.
    to: Option<OwnedFd>,
    waiting: VecDeque<u8>,
    /// Nothing more comes.
    ended: bool,
}

/// What became of a try to write.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    Bytes(usize),
    /// Nobody reads any more: all that waited is gone, and so is what comes.
    Unread(usize),
}

impl Output {
    pub fn new(to: Option<OwnedFd>) -> Output {
        Output {
            to,
            waiting: VecDeque::new(),
            ended: false,
        }
    }

    /// Whether it is worth waiting for room in it, and where.
    pub fn waits(&self) -> Option<&OwnedFd> {
        self.to.as_ref().filter(|_| !self.waiting.is_empty())
    }

    /// More to write. Where nobody reads, so many bytes are gone.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        if self.to.is_none() {
            return bytes.len();
        }
        self.waiting.extend(bytes);
        0
    }

    /// Nothing more comes: it is closed once all is written, as the program's own would be.
    pub fn end(&mut self) {
        self.ended = true;
        self.close_if_done();
    }

    pub fn write(&mut self) -> Written {
        let Some(to) = &self.to else { return Written::Bytes(0) };
        let (first, _) = self.waiting.as_slices();
        match rustix::io::write(to, first) {
            Ok(n) => {
                self.waiting.drain(..n);
                self.close_if_done();
                Written::Bytes(n)
            }
            Err(Errno::AGAIN | Errno::INTR) => Written::Bytes(0),
            Err(_) => {
                let lost = self.waiting.len();
                self.waiting.clear();
                self.to = None;
                Written::Unread(lost)
            }
        }
    }

    fn close_if_done(&mut self) {
        if self.ended && self.waiting.is_empty() {
            self.to = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_waits_is_written_in_order_and_then_it_is_closed() {
        let (reader, writer) = std::io::pipe().unwrap();
        let writer: OwnedFd = writer.into();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let mut output = Output::new(Some(writer));
        assert!(output.waits().is_none());
        let all: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        assert_eq!(output.push(&all), 0);
        output.end();
        let reading = std::thread::spawn(move || {
            let mut read = Vec::new();
            (&reader).read_to_end(&mut read).unwrap();
            read
        });
        let mut written = 0;
        while let Some(to) = output.waits() {
            let mut wait = [rustix::event::PollFd::new(to, rustix::event::PollFlags::OUT)];
            rustix::event::poll(&mut wait, None).unwrap();
            match output.write() {
                Written::Bytes(n) => written += n,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(written, all.len());
        assert_eq!(reading.join().unwrap(), all);
    }

    #[test]
    fn without_a_reader_everything_is_gone_and_counted() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut output = Output::new(Some(writer.into()));
        output.push(b"12345");
        drop(reader);
        super::super::await_end(output.waits().unwrap());
        assert_eq!(output.write(), Written::Unread(5));
        assert_eq!(output.push(b"123"), 3);
        assert!(output.waits().is_none());
    }
}
