//! The standard streams of this process, given to the guest as they are: no thread reads ahead, and nothing is kept back.
//! What waits holds up the thread, where nothing else is waited for.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::BorrowedFd;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi_io::bytes::Bytes;

/// The most bytes that a guest reads or writes at once.
const MOST: usize = 64 << 10;

#[derive(Debug, Clone, Copy)]
pub(super) struct Input;

#[derive(Debug, Clone, Copy)]
pub(super) enum Output {
    Out,
    Err,
}

impl Output {
    fn fd(self) -> BorrowedFd<'static> {
        match self {
            Output::Out => rustix::stdio::stdout(),
            Output::Err => rustix::stdio::stderr(),
        }
    }
}

/// Whether something can be read, or an end or error be seen; `timeout`: `None` waits for it.
fn comes(fd: BorrowedFd<'_>, flags: PollFlags, timeout: Option<&Timespec>) -> bool {
    let mut wait = [PollFd::new(&fd, flags)];
    loop {
        match poll(&mut wait, timeout) {
            Ok(0) => return false,
            Err(Errno::INTR) => {}
            // What is wrong, the call itself says.
            Ok(_) | Err(_) => return true,
        }
    }
}

fn failed(error: Errno) -> StreamError {
    match error {
        Errno::PIPE => StreamError::Closed,
        error => StreamError::LastOperationFailed(io::Error::from(error).into()),
    }
}

/// Reads, and waits where there is nothing yet.
fn read(size: usize) -> StreamResult<Bytes> {
    let mut bytes = vec![0; size.clamp(1, MOST)];
    loop {
        match rustix::io::read(rustix::stdio::stdin(), &mut bytes) {
            Ok(0) => return Err(StreamError::Closed),
            Ok(n) => {
                bytes.truncate(n);
                return Ok(bytes.into());
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => drop(comes(rustix::stdio::stdin(), PollFlags::IN, None)),
            Err(e) => return Err(failed(e)),
        }
    }
}

#[async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match size > 0 && comes(rustix::stdio::stdin(), PollFlags::IN, Some(&Timespec::default())) {
            true => read(size),
            false => Ok(Bytes::new()),
        }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        match size {
            0 => Ok(Bytes::new()),
            size => read(size),
        }
    }
}

#[async_trait]
impl Pollable for Input {
    /// Beside which a clock may be waited for.
    async fn ready(&mut self) {
        let input = rustix::stdio::stdin();
        let here = || comes(input, PollFlags::IN, Some(&Timespec::default()));
        if here() {
            return;
        }
        #[expect(
            deprecated,
            reason = "what it may be wrong about, standard input is not: it stays open"
        )]
        let Ok(waiting) = AsyncFd::with_interest(input, Interest::READABLE) else {
            comes(input, PollFlags::IN, None);
            return;
        };
        while let Ok(mut ready) = waiting.readable().await {
            ready.clear_ready();
            if here() {
                return;
            }
        }
    }
}

#[async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut left = &bytes[..];
        while !left.is_empty() {
            match rustix::io::write(self.fd(), left) {
                Ok(n) => left = left.get(n..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => drop(comes(self.fd(), PollFlags::OUT, None)),
                Err(e) => return Err(failed(e)),
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MOST)
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        rustix::termios::isatty(rustix::stdio::stdin())
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        rustix::termios::isatty(self.fd())
    }
}

impl StdinStream for Input {
    /// Of preview 3, which no guest has here.
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(*self)
    }
}

impl StdoutStream for Output {
    /// As above.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(*self)
    }
}
