//! The little of HTTP/1.1 that asks a monitor's API: one question after the other, over one connection, each answered by a
//! document whose length is said before. Who answers has read a guest's bytes, and is bounded in all that it may say.

use httparse::{EMPTY_HEADER, Response, Status};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

const MOST_HEAD: usize = 8 << 10;
const MOST_HEADERS: usize = 32;
const MOST_BODY: usize = 256 << 10;

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    /// `None`: it is closed.
    socket: Option<OwnedFd>,
    out: Vec<u8>,
    answer: Vec<u8>,
    /// Until when an answer has to have come; `None`: nothing is asked.
    until: Option<Instant>,
}

impl Client {
    /// `socket` is non-blocking.
    pub fn new(socket: OwnedFd) -> Client {
        Client {
            socket: Some(socket),
            out: Vec::new(),
            answer: Vec::new(),
            until: None,
        }
    }

    pub fn source(&self) -> Option<&OwnedFd> {
        self.socket.as_ref()
    }

    pub fn has_to_write(&self) -> bool {
        !self.out.is_empty()
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.until
    }

    pub fn is_overdue(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    /// Asks, once what was asked before is answered. `document` is JSON, or empty.
    pub fn ask(&mut self, method: &str, path: &str, document: &[u8], patience: Duration) {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n");
        self.out.extend(head.as_bytes());
        if !document.is_empty() {
            let kind = format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\n",
                document.len()
            );
            self.out.extend(kind.as_bytes());
        }
        self.out.extend(b"\r\n");
        self.out.extend(document);
        self.until = Some(Instant::now() + patience);
        self.write();
    }

    pub fn write(&mut self) {
        let Some(socket) = &self.socket else { return };
        if self.out.is_empty() {
            return;
        }
        match rustix::net::send(socket, &self.out, rustix::net::SendFlags::NOSIGNAL) {
            Ok(n) => drop(self.out.drain(..n)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.close(),
        }
    }

    pub fn close(&mut self) {
        self.socket = None;
        self.out.clear();
    }

    /// Takes what is there: the answer, once it is whole. What is none closes the connection, and is told.
    pub fn read(&mut self) -> Result<Option<Answer>, String> {
        let Some(socket) = &self.socket else { return Ok(None) };
        let mut buffer = [0u8; 4096];
        match rustix::io::read(socket, &mut buffer) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Ok(0) | Err(_) => {
                self.close();
                return Ok(None);
            }
            Ok(n) => self.answer.extend(&buffer[..n]),
        }
        let answer = match self.until {
            None => Err("more than it was asked for".to_owned()),
            Some(_) => parse(&self.answer),
        };
        match &answer {
            Ok(None) => {}
            Ok(Some(_)) => {
                self.answer.clear();
                self.until = None;
            }
            Err(_) => self.close(),
        }
        answer
    }
}

/// An answer and nothing else; `None`: not all of it is there.
fn parse(bytes: &[u8]) -> Result<Option<Answer>, String> {
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut response = Response::new(&mut headers);
    let head = match response.parse(bytes) {
        Ok(Status::Complete(length)) if length <= MOST_HEAD => length,
        Ok(Status::Partial) if bytes.len() <= MOST_HEAD => return Ok(None),
        Ok(_) => return Err(format!("a head of more than {MOST_HEAD} bytes")),
        Err(e) => return Err(format!("no HTTP: {e}")),
    };
    let status = response.code.unwrap_or_default();
    if !(200..600).contains(&status) {
        return Err(format!("a status of {status}"));
    }
    let length = length(response.headers, status)?;
    let body = bytes.get(head..).unwrap_or_default();
    match body.len() {
        read if read < length => Ok(None),
        read if read > length => Err("more than it was asked for".to_owned()),
        _ => Ok(Some(Answer {
            status,
            body: body.to_owned(),
        })),
    }
}

/// How long the document is.
fn length(headers: &[httparse::Header<'_>], status: u16) -> Result<usize, String> {
    let is = |header: &httparse::Header<'_>, name| header.name.eq_ignore_ascii_case(name);
    if headers.iter().any(|header| is(header, "Transfer-Encoding")) {
        return Err("a document of no length".to_owned());
    }
    let mut lengths = headers
        .iter()
        .filter(|header| is(header, "Content-Length"))
        .map(|header| header.value);
    let digits = match (lengths.next(), lengths.next(), status) {
        (Some(digits), None, _) => digits,
        (None, None, 204) => b"0",
        (None, None, _) => return Err("a document of no length".to_owned()),
        _ => return Err("a document of several lengths".to_owned()),
    };
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let length = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    match length {
        Some(length) if plain && length <= MOST_BODY => Ok(length),
        Some(length) if plain => Err(format!("a document of {length} bytes")),
        _ => Err(format!("a document of {:?} bytes", String::from_utf8_lossy(digits))),
    }
}

/// The peers in these tests are fakes, sockets that say one thing each: they show what is made of answers, and nothing of a
/// monitor.
#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    const LONG: Duration = Duration::from_secs(1000);

    fn pair() -> (Client, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Client::new(ours.into()), theirs)
    }

    fn asked() -> (Client, UnixStream) {
        let (mut client, peer) = pair();
        client.ask("GET", "/api", b"", LONG);
        (client, peer)
    }

    fn answer(status: u16, body: &[u8]) -> Option<Answer> {
        Some(Answer {
            status,
            body: body.to_owned(),
        })
    }

    #[test]
    fn a_question_has_its_document_and_its_length() {
        let (mut client, mut peer) = pair();
        client.ask("PUT", "/api/v1/vm.create", b"{}", LONG);
        assert!(!client.has_to_write());
        let mut said = [0; 500];
        let read = peer.read(&mut said).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&said[..read]),
            "PUT /api/v1/vm.create HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        );
    }

    #[test]
    fn answers_come_in_pieces_and_one_after_the_other() {
        let (mut client, mut peer) = asked();
        assert_eq!(client.read(), Ok(None));
        let whole = b"HTTP/1.1 200 \r\nServer: x\r\nConnection: keep-alive\r\ncontent-length: 7\r\n\r\n{\"a\":1}";
        for byte in &whole[..whole.len() - 1] {
            peer.write_all(&[*byte]).unwrap();
            assert_eq!(client.read(), Ok(None));
        }
        peer.write_all(b"}").unwrap();
        assert_eq!(client.read(), Ok(answer(200, b"{\"a\":1}")));
        assert!(client.deadline().is_none());
        client.ask("PUT", "/api", b"", LONG);
        peer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        assert_eq!(client.read(), Ok(answer(204, b"")));
        client.ask("PUT", "/api", b"", LONG);
        peer.write_all(b"HTTP/1.1 500 \r\nContent-Length: 2\r\n\r\n[]").unwrap();
        let failed = client.read().unwrap().unwrap();
        assert!(!failed.is_success() && failed.body == b"[]");
    }

    #[test]
    fn what_does_not_answer_is_overdue() {
        let (mut client, peer) = pair();
        assert!(!client.is_overdue());
        client.ask("GET", "/api", b"", LONG);
        assert!(!client.is_overdue() && client.deadline().is_some());
        client.ask("GET", "/api", b"", Duration::ZERO);
        assert_eq!(client.read(), Ok(None));
        assert!(client.is_overdue());
        // Nor what is gone.
        drop(peer);
        super::super::await_end(client.source().unwrap());
        assert_eq!(client.read(), Ok(None));
        assert!(client.source().is_none() && client.is_overdue());
    }

    #[test]
    fn a_peer_that_does_not_read_is_waited_for() {
        let (mut client, mut peer) = pair();
        let document = vec![b' '; 4 << 20];
        client.ask("PUT", "/api", &document, LONG);
        assert!(client.has_to_write());
        let (mut read, mut buffer) = (0, vec![0; 64 << 10]);
        while client.has_to_write() {
            read += peer.read(&mut buffer).unwrap();
            client.write();
        }
        peer.set_nonblocking(true).unwrap();
        while let Ok(more) = peer.read(&mut buffer) {
            read += more;
        }
        assert!(read > document.len());
    }

    #[test]
    fn what_is_no_answer_ends_the_connection() {
        for (said, why) in [
            (&b"+OK hello\r\n\r\n"[..], "no HTTP"),
            (b"HTTP/1.1 2000 \r\n\r\n", "no HTTP"),
            (b"HTTP/2 200 \r\n\r\n", "no HTTP"),
            (b"\x7fELF\0\0", "no HTTP"),
            (b"HTTP/1.1 100 \r\n\r\n", "a status of 100"),
            (b"HTTP/1.1 999 \r\nContent-Length: 0\r\n\r\n", "a status of 999"),
            (b"HTTP/1.1 200 \r\n\r\n", "no length"),
            (b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n", "no length"),
            (
                b"HTTP/1.1 200 \r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                "several lengths",
            ),
            (b"HTTP/1.1 200 \r\nContent-Length: +1\r\n\r\n", "\"+1\" bytes"),
            (b"HTTP/1.1 200 \r\nContent-Length:\r\n\r\n", "\"\" bytes"),
            (
                b"HTTP/1.1 200 \r\nContent-Length: 99999999999999999999\r\n\r\n",
                "9999\" bytes",
            ),
            (b"HTTP/1.1 200 \r\nContent-Length: 300000\r\n\r\n", "300000 bytes"),
            (
                b"HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\nab",
                "more than it was asked for",
            ),
        ] {
            let (mut client, mut peer) = asked();
            peer.write_all(said).unwrap();
            let found = client.read().unwrap_err();
            assert!(found.contains(why), "{:?}: {found}", String::from_utf8_lossy(said));
            assert!(client.source().is_none());
        }
        let (mut client, mut peer) = pair();
        peer.write_all(b"HTTP/1.1 204 \r\n\r\n").unwrap();
        assert_eq!(client.read(), Err("more than it was asked for".to_owned()));
    }

    #[test]
    fn a_head_without_end_is_read_no_further() {
        for (first, more) in [("HTTP/1.1 200 ", "x"), ("HTTP/1.1 200 \r\n", "X: y\r\n")] {
            let (mut client, mut peer) = asked();
            peer.write_all(first.as_bytes()).unwrap();
            let mut sent = 0;
            while client.read().is_ok() {
                peer.write_all(more.repeat(500 / more.len()).as_bytes()).unwrap();
                sent += 500;
                assert!(sent <= MOST_HEAD + 1000);
            }
            assert!(client.source().is_none());
        }
    }
}
