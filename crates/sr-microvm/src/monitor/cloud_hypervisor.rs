//! Cloud Hypervisor, which is told its machine by its API, over a connection that was made before it starts and whose socket
//! has no name any more. Its console is its standard output, and its events are documents of JSON in a pipe.

use super::Failure;
use super::http::{Answer, Client};
use super::kind::{Agent, Door, Monitor, Parting, Prepared, Seen, pipe, up};
use super::machine::at;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::Value;
use sr_common::monitor::GuestSockets;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// The numbers that its arguments name: of a socket that listens, for its API, and of a pipe for its events.
const API: i32 = 10;
const EVENTS: i32 = 11;

/// The longest document that its API takes.
const MOST_CONFIG: u64 = 51_200;
/// The longest event: some hundred times as long as one is.
const MOST_EVENT: usize = 64 << 10;
/// More than these are not told of.
const MOST_TOLD: usize = 32;
/// How long an answer may take. A machine is made while the second is waited for, its kernel and initrd read, which on a busy
/// host is not done in half a minute. It is less than the policy's own bound is by default, so that it is told what was waited for.
const PATIENCE: Duration = Duration::from_secs(100);
/// What it counts of each disk, by the names in its answer.
const COUNTED: [&str; 4] = ["read_bytes", "read_ops", "write_bytes", "write_ops"];

const OTHER: &str = "the program may be no Cloud Hypervisor, or one that does not know this machine: see what it says of itself here, \
                     and try another release of 52.0 or later";

/// What it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create,
    Boot,
    /// Nothing: its machine runs.
    Nothing,
    Counters,
    Shutdown,
}

impl Step {
    fn request(self) -> Option<(&'static str, &'static str)> {
        match self {
            Step::Create => Some(("PUT", "/api/v1/vm.create")),
            Step::Boot => Some(("PUT", "/api/v1/vm.boot")),
            Step::Nothing => None,
            Step::Counters => Some(("GET", "/api/v1/vm.counters")),
            Step::Shutdown => Some(("PUT", "/api/v1/vmm.shutdown")),
        }
    }

    fn name(self) -> &'static str {
        self.request()
            .and_then(|(_, path)| path.rsplit('/').next())
            .unwrap_or("nothing")
    }
}

/// Its API, and its events.
pub struct CloudHypervisor {
    api: Client,
    step: Step,
    fault: Option<Failure>,
    /// The program in the guest has ended.
    parting: bool,
    /// `None`: they have ended.
    events: Option<OwnedFd>,
    text: Vec<u8>,
    told: usize,
    counts: Option<[u64; COUNTED.len()]>,
}

impl CloudHypervisor {
    /// `sockets`: where the guest's connections arrive. `config`: where its machine is described.
    pub fn prepare(sockets: &GuestSockets, config: &str) -> Result<Prepared, Failure> {
        let (console, console_there) = pipe()?;
        let (events, events_there) = pipe()?;
        let (api, api_there) = connected(&Path::new(&sockets.agent).with_file_name("api"))?;
        Ok(Prepared {
            preflight: "launch.preflight.cloudHypervisor",
            monitor: Box::new(CloudHypervisor::new(api, events, &document(config)?, PATIENCE)),
            agent: Agent::awaited(sockets)?,
            console: Some(console),
            inherited: vec![at(&api_there, API)?, at(&events_there, EVENTS)?],
            output: Some(console_there),
        })
    }

    /// Both descriptors are non-blocking.
    fn new(api: OwnedFd, events: OwnedFd, document: &[u8], patience: Duration) -> CloudHypervisor {
        let mut monitor = CloudHypervisor {
            api: Client::new(api),
            step: Step::Create,
            fault: None,
            parting: false,
            events: Some(events),
            text: Vec::new(),
            told: 0,
            counts: None,
        };
        monitor.ask(Step::Create, document, patience);
        monitor
    }

    fn ask(&mut self, step: Step, document: &[u8], patience: Duration) {
        self.step = step;
        if let Some((method, path)) = step.request() {
            self.api.ask(method, path, document, patience);
        }
    }

    fn go_on(&mut self, step: Step) {
        self.ask(step, b"", PATIENCE);
    }

    /// What was asked has this answer.
    fn answered(&mut self, answer: &Answer) {
        if !answer.is_success() {
            let words = plain(&answer.body);
            return self.cannot(format!("answers {} with {}: {words}", self.step.name(), answer.status));
        }
        match self.step {
            Step::Create => self.go_on(Step::Boot),
            Step::Boot if !self.parting => self.step = Step::Nothing,
            Step::Boot => self.go_on(Step::Counters),
            Step::Counters => {
                self.counts = counts(&answer.body);
                self.go_on(Step::Shutdown);
            }
            Step::Shutdown | Step::Nothing => {}
        }
    }

    /// It cannot be used: which matters as long as a machine is to be made. One that is to end is killed then.
    fn cannot(&mut self, found: String) {
        self.api.close();
        if matches!(self.step, Step::Create | Step::Boot) && self.fault.is_none() {
            self.fault = Some(Failure::new(
                "launch.api",
                format!("Cloud Hypervisor's API {found}"),
                OTHER,
            ));
        }
    }

    fn read_events(&mut self) -> Vec<Seen> {
        let Some(events) = &self.events else {
            return Vec::new();
        };
        let mut buffer = [0u8; 4096];
        match rustix::io::read(events, &mut buffer) {
            Ok(n) if n > 0 => self.text.extend(&buffer[..n]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(_) | Err(_) => self.events = None,
        }
        let mut seen = Vec::new();
        // Each has an empty line behind it.
        while let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
            let one: Vec<u8> = self.text.drain(..end + 2).collect();
            seen.extend(event(&one));
        }
        if self.text.len() > MOST_EVENT {
            self.events = None;
        }
        seen.retain(|seen| match seen {
            // Which ends it.
            Seen::Restarts => true,
            // Because it is told to.
            Seen::Shutdown if self.parting => false,
            _ => {
                self.told += 1;
                self.told <= MOST_TOLD
            }
        });
        seen
    }
}

impl Monitor for CloudHypervisor {
    fn source(&self) -> Option<&OwnedFd> {
        self.api.source()
    }

    fn events(&self) -> Option<&OwnedFd> {
        self.events.as_ref()
    }

    fn has_to_write(&self) -> bool {
        self.api.has_to_write()
    }

    fn write(&mut self) {
        self.api.write();
    }

    fn read(&mut self) -> Vec<Seen> {
        match self.api.read() {
            Ok(None) => {}
            Ok(Some(answer)) => self.answered(&answer),
            Err(what) => self.cannot(format!("answers {} with {what}", self.step.name())),
        }
        self.read_events()
    }

    fn deadline(&self) -> Option<Instant> {
        self.api.deadline()
    }

    fn fault(&mut self) -> Option<Failure> {
        if self.api.is_overdue() {
            self.cannot(format!("has not answered {} within {PATIENCE:?}", self.step.name()));
        }
        self.fault.take()
    }

    fn stage(&self) -> &'static str {
        match self.step {
            Step::Create | Step::Boot => "launch.api",
            _ => "launch.boot",
        }
    }

    fn quit(&mut self) -> Parting {
        self.parting = true;
        if self.step == Step::Nothing {
            self.go_on(Step::Counters);
        }
        Parting::Stays
    }

    fn counted(&mut self) -> Option<String> {
        let counts = COUNTED.iter().zip(self.counts?);
        let words: Vec<String> = counts.map(|(name, count)| format!("{name} {count}")).collect();
        Some(format!("disks: {}", words.join(", ")))
    }
}

/// A connection, and the socket that it comes to, which has no name by now and to which nobody else comes.
fn connected(path: &Path) -> Result<(OwnedFd, OwnedFd), Failure> {
    let own = |e| Failure::own("the socket for Cloud Hypervisor's API", e);
    let path = path
        .to_str()
        .ok_or_else(|| Failure::own("the socket for Cloud Hypervisor's API", "its path is no text"))?;
    let door = Door::open(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let ours = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(own)?;
    rustix::net::connect(&ours, &SocketAddrUnix::new(path).map_err(own)?).map_err(own)?;
    let theirs = rustix::io::fcntl_dupfd_cloexec(&door.socket, 0).map_err(own)?;
    Ok((up(ours)?, up(theirs)?))
}

fn document(path: &str) -> Result<Vec<u8>, Failure> {
    let own = |e: String| Failure::own("the document of the machine", format!("{path}: {e}"));
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| own(e.to_string()))?;
    file.take(MOST_CONFIG + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| own(e.to_string()))?;
    match bytes.len() {
        0 => Err(own("it is empty".to_owned())),
        n if n as u64 > MOST_CONFIG => Err(own(format!("more than the {MOST_CONFIG} bytes that its API takes"))),
        _ => Ok(bytes),
    }
}

/// What became of the guest, of what an event tells.
fn event(text: &[u8]) -> Option<Seen> {
    let said: Value = serde_json::from_slice(text).ok()?;
    match (said.get("source")?.as_str()?, said.get("event")?.as_str()?) {
        ("guest", "panic") => Some(Seen::Panicked),
        ("vm", "rebooting") => Some(Seen::Restarts),
        ("vm", "shutdown") => Some(Seen::Shutdown),
        _ => None,
    }
}

/// Over all devices.
fn counts(body: &[u8]) -> Option<[u64; COUNTED.len()]> {
    let said: Value = serde_json::from_slice(body).ok()?;
    let mut counts = [0u64; COUNTED.len()];
    for device in said.as_object()?.values() {
        for (count, name) in counts.iter_mut().zip(COUNTED) {
            let more = device.get(name).and_then(Value::as_u64).unwrap_or_default();
            *count = count.saturating_add(more);
        }
    }
    Some(counts)
}

fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|c| !c.is_control()).take(1000).collect()
}

/// The peers in these tests are fakes, which answer what a test wants: they show what the driver makes of answers and events,
/// and nothing of Cloud Hypervisor.
#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::{UnixListener, UnixStream};

    const DONE: &[u8] = b"HTTP/1.1 204 \r\n\r\n";

    struct Fake {
        monitor: CloudHypervisor,
        api: UnixStream,
        events: File,
    }

    fn fake(patience: Duration) -> Fake {
        let (ours, api) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (from, to) = pipe().unwrap();
        Fake {
            monitor: CloudHypervisor::new(ours.into(), from, b"{}", patience),
            api,
            events: to.into(),
        }
    }

    impl Fake {
        /// The first line of what it is asked.
        fn asked(&mut self) -> String {
            let mut said = [0; 1000];
            let read = self.api.read(&mut said).unwrap();
            let said = String::from_utf8_lossy(&said[..read]).into_owned();
            said.lines().next().unwrap_or_default().to_owned()
        }

        fn answers(&mut self, answer: &[u8]) -> Vec<Seen> {
            self.api.write_all(answer).unwrap();
            self.monitor.read()
        }

        fn tells(&mut self, text: &str) -> Vec<Seen> {
            self.events.write_all(text.as_bytes()).unwrap();
            self.monitor.read()
        }
    }

    #[test]
    fn it_is_asked_one_thing_after_the_other() {
        let mut fake = fake(PATIENCE);
        assert_eq!(fake.asked(), "PUT /api/v1/vm.create HTTP/1.1");
        assert_eq!(fake.monitor.stage(), "launch.api");
        fake.answers(DONE);
        assert_eq!(fake.asked(), "PUT /api/v1/vm.boot HTTP/1.1");
        fake.answers(DONE);
        assert_eq!(fake.monitor.stage(), "launch.boot");
        assert!(fake.monitor.fault().is_none() && fake.monitor.deadline().is_none());
        assert_eq!(fake.monitor.counted(), None);
        assert_eq!(fake.monitor.quit(), Parting::Stays);
        assert_eq!(fake.asked(), "GET /api/v1/vm.counters HTTP/1.1");
        let body =
            "{\"_disk0\":{\"read_bytes\":10,\"read_ops\":2},\"_disk1\":{\"read_bytes\":5,\"write_ops\":-1},\"_net\":7}";
        fake.answers(format!("HTTP/1.1 200 \r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        assert_eq!(fake.asked(), "PUT /api/v1/vmm.shutdown HTTP/1.1");
        let counted = "disks: read_bytes 15, read_ops 2, write_bytes 0, write_ops 0";
        assert_eq!(fake.monitor.counted().as_deref(), Some(counted));
        fake.answers(DONE);
        assert!(fake.monitor.fault().is_none());
    }

    #[test]
    fn a_guest_that_ends_before_its_start_is_answered_is_counted_too() {
        let mut fake = fake(PATIENCE);
        fake.asked();
        fake.answers(DONE);
        fake.asked();
        fake.monitor.quit();
        fake.answers(DONE);
        assert_eq!(fake.asked(), "GET /api/v1/vm.counters HTTP/1.1");
    }

    #[test]
    fn a_machine_that_is_not_made_is_a_failure() {
        let error = b"HTTP/1.1 500 \r\nContent-Length: 16\r\n\r\n[\"no\nmachine\\\\\"]";
        let endless = b"HTTP/1.1 200 \r\nContent-Length: 999999999\r\n\r\n";
        for (answers, found) in [
            (&[&error[..]][..], "API answers vm.create with 500: [\"nomachine\\\\\"]"),
            (&[DONE, error], "API answers vm.boot with 500: [\"nomachine\\\\\"]"),
            (
                &[b"220 mail.example.com ESMTP\r\n"],
                "API answers vm.create with no HTTP",
            ),
            (
                &[DONE, endless],
                "API answers vm.boot with a document of 999999999 bytes",
            ),
        ] {
            let mut fake = fake(PATIENCE);
            for answer in answers {
                assert_eq!(fake.monitor.fault(), None);
                fake.answers(answer);
            }
            let failure = fake.monitor.fault().unwrap();
            assert_eq!((failure.path, failure.remedy), ("launch.api", OTHER));
            assert!(failure.found.contains(found), "{}", failure.found);
            assert!(fake.monitor.source().is_none());
        }
    }

    #[test]
    fn an_api_that_stalls_or_is_gone_is_a_failure() {
        let mut stalls = fake(Duration::ZERO);
        assert_eq!(stalls.monitor.read(), []);
        let mut gone = fake(Duration::ZERO);
        gone.api.shutdown(std::net::Shutdown::Both).unwrap();
        assert_eq!(gone.monitor.read(), []);
        for fake in [&mut stalls, &mut gone] {
            let failure = fake.monitor.fault().unwrap();
            assert_eq!(failure.path, "launch.api");
            assert!(
                failure.found.contains("has not answered vm.create within"),
                "{}",
                failure.found
            );
        }
    }

    #[test]
    fn an_api_that_fails_at_the_end_fails_nothing() {
        let mut fake = fake(PATIENCE);
        fake.answers(DONE);
        fake.answers(DONE);
        fake.monitor.quit();
        fake.answers(b"HTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n");
        assert_eq!(fake.monitor.fault(), None);
        assert_eq!(fake.monitor.counted(), None);
        assert!(fake.monitor.source().is_none());
    }

    fn told(source: &str, event: &str) -> String {
        format!(
            "{{\n  \"timestamp\": {{\n    \"secs\": 1\n  }},\n  \"source\": \"{source}\",\n  \"event\": \"{event}\"\n}}\n\n"
        )
    }

    #[test]
    fn events_that_matter_are_told() {
        let mut fake = fake(PATIENCE);
        assert_eq!(fake.tells(&told("vm", "booted")), []);
        assert_eq!(fake.tells("nonsense\n\n\n\n{}\n\n"), []);
        let panic = told("guest", "panic");
        assert_eq!(fake.tells(&panic[..20]), []);
        let more = format!("{}{}", &panic[20..], told("vm", "rebooting"));
        assert_eq!(fake.tells(&more), [Seen::Panicked, Seen::Restarts]);
        assert_eq!(fake.tells(&told("vm", "shutdown")), [Seen::Shutdown]);
        fake.monitor.quit();
        assert_eq!(fake.tells(&told("vm", "shutdown")), []);
    }

    #[test]
    fn events_are_bounded() {
        let mut fake = fake(PATIENCE);
        let mut seen = 0;
        for _ in 0..2 * MOST_TOLD {
            seen += fake.tells(&told("vm", "shutdown")).len();
        }
        assert_eq!(seen, MOST_TOLD);
        assert_eq!(fake.tells(&told("vm", "rebooting")), [Seen::Restarts]);
        let mut sent = 0;
        while fake.monitor.events().is_some() {
            fake.tells(&"x".repeat(4096));
            sent += 4096;
            assert!(sent <= MOST_EVENT + 4096);
        }
    }

    #[test]
    fn the_socket_of_the_api_has_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api");
        let (ours, theirs) = connected(&path).unwrap();
        assert!(!path.exists());
        let (mut there, _) = UnixListener::from(theirs).accept().unwrap();
        there.write_all(b"hello").unwrap();
        let mut here = UnixStream::from(ours);
        here.set_nonblocking(false).unwrap();
        let mut heard = [0; 5];
        here.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
    }

    #[test]
    fn a_document_is_there_and_no_longer_than_it_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("machine.json");
        let document = || document(path.to_str().unwrap());
        assert!(document().unwrap_err().found.contains("No such file"));
        for (length, found) in [(0, "empty"), (51_201, "more than the 51200 bytes")] {
            std::fs::write(&path, vec![b' '; length]).unwrap();
            assert!(document().unwrap_err().found.contains(found));
        }
        std::fs::write(&path, vec![b' '; 51_200]).unwrap();
        assert_eq!(document().unwrap().len(), 51_200);
    }
}
