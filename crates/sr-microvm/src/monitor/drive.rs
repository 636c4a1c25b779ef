//! The monitor's loop: one thread, which waits for all descriptors at once and for none of them alone.

use super::console::Tail;
use super::kind::{self, Agent, Door, Monitor, Parting, Prepared, Seen};
use super::machine::{self, How, Running};
use super::output::{Output, Written};
use super::sentry::Account;
use super::supervisor::Supervisor;
use super::{Ending, Failure};
use crate::protocol::frame::Decoder;
use crate::protocol::host::{Host, Said};
use crate::protocol::{GuestEnd, GuestEvent, Stream, Violation};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::termios::{OptionalActions, tcgetattr, tcgetwinsize, tcsetattr};
use sr_common::guest::{GuestPlan, GuestRoot};
use sr_common::monitor::{Clause, EventName, OLDEST_QEMU, Order, Said as Told};
use sr_common::{Millis, Usage};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Signals that are passed on; `SIGWINCH` is told as the window's size.
const SIGNALS: [i32; 12] = [1, 2, 3, 10, 12, 14, 15, 18, 20, 21, 22, WINDOW];
const WINDOW: i32 = 28;
const KILL: u8 = 9;
/// How long the machine has to end once it is told to.
const PATIENCE: Duration = Duration::from_secs(2);
/// How far what is to be said to the guest may grow before no more input is read.
const ENOUGH: usize = 512 << 10;
/// More lines than these of a machine that failed help nobody.
const SHOWN: usize = 12;
/// How often samples are passed on at most.
const SAMPLES: Duration = Duration::from_millis(20);

/// What `runsc` says that is too old for what it is told.
const UNKNOWN_FLAG: &str = "flag provided but not defined";
const NEWER_RUNSC: &str = "install a newer runsc, of 2024-07-29 or later, or name it in SAFE_RUN_RUNSC";
/// What QEMU says that is too old for what it is told.
const UNKNOWN_OPTION: [&str; 2] = ["' not found", "invalid option"];
const NEWER_QEMU: &str = "install QEMU 7.0 or later, or name it in SAFE_RUN_QEMU";
/// What it says at each of its starts, since the filter around lets it not, and needs for nothing here.
const EXPECTED: &str = "membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) failed";

const LOOK: &str = "the run's events and the console's last lines say how far it came";
const UNBOOTED: &str = "where KVM is used, it may be unable to run a guest here (within another machine, say): try microvm:qemu with \
                        microvm: {accel: tcg}; the console's last lines say how far it came";
const SLOW: &str = "raise microvm.bootTimeout if this host is slow; where KVM is used, it may be unable to run a guest here (try microvm:qemu \
                    with microvm: {accel: tcg}); else the kernel or the agent is not what it should be: build them \
                    anew (`safe-run artifact build kernel`, `cargo xtask guest`)";
const STRANGE: &str = "the agent is of another build, or the kernel artifact is not what it should be: build them anew (`cargo xtask \
                       guest`, `safe-run artifact build kernel`)";
const HOSTILE: &str = "the program may have taken over the guest's kernel: nothing of its output is to be trusted";

pub fn drive(supervisor: &mut Supervisor) -> Result<Ending, Failure> {
    let signals = sr_kernel::process::signal_descriptor(&SIGNALS)
        .and_then(super::machine::high)
        .map_err(|e| Failure::own("signals", e))?;
    let Order::Start {
        speech,
        argv,
        plan,
        boot_timeout,
    } = supervisor.wait()?
    else {
        return Err(Failure::own("the supervisor's order", "nothing is started yet"));
    };
    let boot = Boot {
        until: Instant::now() + boot_timeout.duration(),
        timeout: boot_timeout,
    };
    let (complaints, complaints_there) = kind::pipe()?;
    let mut prepared = kind::prepare(&speech, &complaints_there)?;
    let output = match prepared.output.take() {
        Some(output) => output,
        None => complaints_there.try_clone().map_err(|e| Failure::own("a pipe", e))?,
    };
    let inherited = std::mem::take(&mut prepared.inherited);
    let command = machine::Command {
        argv: &argv,
        inherited,
        output,
        complaints: complaints_there,
        preflight: prepared.preflight,
    };
    let running = Running::start(command, How::of(&speech))?;
    supervisor.tell(Told::Event {
        name: EventName::MonitorStarted,
        detail: argv.first().cloned().unwrap_or_default(),
    })?;
    let mut drive = Drive::new(&plan, supervisor, signals, running, prepared, complaints)?;
    drive.boot = Some(boot);
    loop {
        if let Some(ending) = drive.turn()? {
            return Ok(ending);
        }
    }
}

/// How long the guest has until it holds the program.
#[derive(Clone, Copy)]
struct Boot {
    until: Instant,
    timeout: Millis,
}

struct Drive<'a> {
    plan: &'a GuestPlan,
    supervisor: &'a mut Supervisor,
    signals: OwnedFd,
    /// Came before the guest could take them.
    early: Vec<u8>,
    running: Running,
    console: Tail,
    complaints: Tail,
    monitor: Box<dyn Monitor>,
    /// Where the agent is still to come from.
    door: Option<Door>,
    /// `None`: it has not come, or the other end is closed.
    agent: Option<OwnedFd>,
    decoder: Decoder,
    host: Host,
    /// For the guest.
    out: Vec<u8>,
    /// `None`: it is at its end.
    input: Option<OwnedFd>,
    outputs: [Output; 2],
    /// `None`: it holds the program.
    boot: Option<Boot>,
    booted: bool,
    /// The program was let go.
    went: bool,
    sampled: Option<Instant>,
    latest: Option<Usage>,
    end: Option<GuestEnd>,
    /// Of memory that the guest's kernel does not count, and the most that was in use.
    account: Option<Account>,
    most_memory: Option<u64>,
    over_memory: bool,
}

/// What a descriptor that is waited for belongs to.
#[derive(Clone, Copy)]
enum Of {
    Signals,
    Supervisor,
    Machine,
    Console,
    Complaints,
    Monitor,
    Door,
    Agent,
    Input,
    Output(usize),
}

impl<'a> Drive<'a> {
    fn new(
        plan: &'a GuestPlan,
        supervisor: &'a mut Supervisor,
        signals: OwnedFd,
        running: Running,
        prepared: Prepared,
        complaints: OwnedFd,
    ) -> Result<Drive<'a>, Failure> {
        let own = |fd| sr_kernel::process::inherited(fd).map_err(|e| Failure::own("a standard stream", e));
        let (input, output, error) = (own(0)?, own(1)?, own(2)?);
        for fd in [&output, &error] {
            let flags = rustix::fs::fcntl_getfl(fd).map_err(|e| Failure::own("a standard stream", e))?;
            rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK).map_err(|e| Failure::own("a standard stream", e))?;
        }
        if plan.terminal {
            // The guest's own terminal makes of the keys what its program wants.
            let raw = tcgetattr(&input).and_then(|mut modes| {
                modes.make_raw();
                tcsetattr(&input, OptionalActions::Now, &modes)
            });
            raw.map_err(|e| Failure::own("the terminal", e))?;
        }
        let terminal = plan.terminal;
        let account = (plan.root == GuestRoot::Own).then(|| Account::of(running.pid()));
        let (agent, door) = match prepared.agent {
            Agent::Connected(agent) => (Some(agent), None),
            Agent::Awaited(door) => (None, Some(door)),
        };
        Ok(Drive {
            plan,
            supervisor,
            signals,
            early: Vec::new(),
            running,
            console: Tail::new(prepared.console),
            complaints: Tail::new(Some(complaints)),
            monitor: prepared.monitor,
            door,
            agent,
            decoder: Decoder::default(),
            host: Host::new(plan),
            out: Vec::new(),
            input: Some(input),
            outputs: [Output::new(Some(output)), Output::new((!terminal).then_some(error))],
            boot: None,
            booted: false,
            went: false,
            sampled: None,
            latest: None,
            end: None,
            account,
            most_memory: None,
            over_memory: false,
        })
    }

    /// Waits for something, and does what there is to do.
    fn turn(&mut self) -> Result<Option<Ending>, Failure> {
        if let Some(end) = self.end
            && self.outputs.iter().all(|output| output.waits().is_none())
        {
            return self.finish(end).map(Some);
        }
        if self.agent.is_none() && self.running.ended().is_some() && self.end.is_none() {
            return Err(self.ended_early());
        }
        if let Some(boot) = self.boot.filter(|boot| Instant::now() >= boot.until) {
            return Err(self.not_booted(boot.timeout));
        }
        for (of, came) in self.wait()? {
            match of {
                Of::Signals => self.signal()?,
                Of::Supervisor => self.supervisor(came)?,
                // Looked at when all that it said has been read.
                Of::Machine => drop(self.running.ended()),
                Of::Console => self.console.read(),
                Of::Complaints => self.complaints.read(),
                Of::Monitor => self.monitor(came)?,
                Of::Door => self.welcome()?,
                Of::Agent => self.agent(came)?,
                Of::Input => self.input()?,
                Of::Output(place) => self.output(place)?,
            }
        }
        match self.monitor.fault() {
            Some(failure) => Err(self.with_complaints(failure)),
            None => Ok(None),
        }
    }

    fn wait(&mut self) -> Result<Vec<(Of, PollFlags)>, Failure> {
        let mut list: Vec<(Of, BorrowedFd<'_>, PollFlags)> = vec![(Of::Signals, self.signals.as_fd(), PollFlags::IN)];
        let also = |more: bool| match more {
            true => PollFlags::IN | PollFlags::OUT,
            false => PollFlags::IN,
        };
        list.push((
            Of::Supervisor,
            self.supervisor.fd(),
            also(self.supervisor.has_to_tell()),
        ));
        if self.running.ended().is_none() {
            list.push((Of::Machine, self.running.pidfd.as_fd(), PollFlags::IN));
        }
        let sources = [
            (Of::Console, self.console.source()),
            (Of::Complaints, self.complaints.source()),
        ];
        list.extend(
            sources
                .into_iter()
                .filter_map(|(of, fd)| Some((of, fd?.as_fd(), PollFlags::IN))),
        );
        if let Some(source) = self.monitor.source() {
            list.push((Of::Monitor, source.as_fd(), also(self.monitor.has_to_write())));
        }
        list.extend(
            self.monitor
                .events()
                .map(|events| (Of::Monitor, events.as_fd(), PollFlags::IN)),
        );
        if let Some(door) = &self.door {
            list.push((Of::Door, door.socket.as_fd(), PollFlags::IN));
        }
        if let Some(agent) = &self.agent
            && self.end.is_none()
        {
            list.push((Of::Agent, agent.as_fd(), also(!self.out.is_empty())));
        }
        if let Some(input) = &self.input
            && self.host.room() > 0
            && self.out.len() < ENOUGH
        {
            list.push((Of::Input, input.as_fd(), PollFlags::IN));
        }
        for (place, output) in self.outputs.iter().enumerate() {
            list.extend(output.waits().map(|to| (Of::Output(place), to.as_fd(), PollFlags::OUT)));
        }
        let mut wait: Vec<PollFd<'_>> = list
            .iter()
            .map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags))
            .collect();
        let next = self
            .boot
            .map(|boot| boot.until)
            .into_iter()
            .chain(self.monitor.deadline());
        let left = next.min().map(until);
        match poll(&mut wait, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(Failure::own("poll", e)),
        }
        let came = wait.iter().zip(&list).filter(|(wait, _)| !wait.revents().is_empty());
        Ok(came.map(|(wait, (of, ..))| (*of, wait.revents())).collect())
    }

    fn signal(&mut self) -> Result<(), Failure> {
        while let Some(signal) = sr_kernel::process::next_signal(self.signals.as_fd()) {
            if signal == WINDOW {
                self.window()?;
            } else if let Ok(signal) = u8::try_from(signal) {
                match self.host.listens() {
                    true => self.host.signal(&mut self.out, signal).map_err(ours)?,
                    false if !self.early.contains(&signal) => self.early.push(signal),
                    false => {}
                }
            }
        }
        Ok(())
    }

    fn window(&mut self) -> Result<(), Failure> {
        if let Some(terminal) = self
            .input
            .as_ref()
            .filter(|_| self.plan.terminal && self.host.listens())
            && let Ok(size) = tcgetwinsize(terminal)
        {
            self.host
                .window(&mut self.out, size.ws_row, size.ws_col)
                .map_err(ours)?;
        }
        Ok(())
    }

    fn supervisor(&mut self, came: PollFlags) -> Result<(), Failure> {
        if came.contains(PollFlags::OUT) {
            self.supervisor.tell_waiting()?;
        }
        if !came.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return Ok(());
        }
        match self.supervisor.order()? {
            Some(Order::Go) => {
                self.went = true;
                self.host.go(&mut self.out).map_err(ours)
            }
            Some(Order::Start { .. } | Order::Module { .. }) => {
                Err(Failure::own("the supervisor's order", "something is started already"))
            }
            None => Ok(()),
        }
    }

    /// The agent, if it has come: the one that is heard. Nobody comes after it.
    fn welcome(&mut self) -> Result<(), Failure> {
        if let Some(door) = &self.door
            && let Some(agent) = door.accept()?
        {
            self.agent = Some(agent);
            self.door = None;
        }
        Ok(())
    }

    fn monitor(&mut self, came: PollFlags) -> Result<(), Failure> {
        if came.contains(PollFlags::OUT) {
            self.monitor.write();
        }
        for seen in self.monitor.read() {
            let name = match seen {
                Seen::Panicked => EventName::GuestPanicked,
                Seen::Reset => EventName::GuestReset,
                Seen::Restarts => {
                    self.running.end(Duration::ZERO);
                    EventName::GuestReset
                }
                Seen::Shutdown => EventName::GuestShutdown,
                Seen::Version(version) if version < OLDEST_QEMU => {
                    let shown = |[major, minor, micro]: [u32; 3]| format!("{major}.{minor}.{micro}");
                    let found = format!("QEMU {} is older than {}", shown(version), shown(OLDEST_QEMU));
                    return Err(Failure::new("launch.preflight.qemu", found, NEWER_QEMU));
                }
                Seen::Version(_) => continue,
            };
            self.event(name, "as the monitor says".to_owned())?;
        }
        Ok(())
    }

    fn event(&mut self, name: EventName, detail: String) -> Result<(), Failure> {
        self.supervisor.tell(Told::Event { name, detail })
    }

    fn agent(&mut self, came: PollFlags) -> Result<(), Failure> {
        let Some(agent) = &self.agent else { return Ok(()) };
        if came.contains(PollFlags::OUT) && !self.out.is_empty() {
            match rustix::net::send(agent, &self.out, rustix::net::SendFlags::NOSIGNAL) {
                Ok(n) => drop(self.out.drain(..n)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                // What it has said before is still to be read.
                Err(_) => self.out.clear(),
            }
        }
        if !came.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return Ok(());
        }
        let mut buffer = [0u8; Decoder::PIECE];
        match rustix::io::read(agent, &mut buffer) {
            Ok(0) => self.agent = None,
            Ok(n) => self.heard(&buffer[..n])?,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.agent = None,
        }
        Ok(())
    }

    /// A piece of what the guest says.
    fn heard(&mut self, piece: &[u8]) -> Result<(), Failure> {
        // Taken out while frames of it are looked at.
        let mut decoder = std::mem::take(&mut self.decoder);
        decoder.push(piece).map_err(|v| self.hostile(&v))?;
        while let Some(frame) = decoder.frame().map_err(|v| self.hostile(&v))? {
            let said = self.host.take(frame).map_err(|v| self.hostile(&v))?;
            self.said(said)?;
        }
        self.decoder = decoder;
        Ok(())
    }

    fn said(&mut self, said: Said<'_>) -> Result<(), Failure> {
        match said {
            Said::Hello(kernel) => {
                self.booted = true;
                let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
                let now = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
                self.host.plan(&mut self.out, self.plan, now).map_err(ours)?;
                self.supervisor.tell(Told::Booted { kernel })
            }
            Said::Posture(posture) => {
                self.boot = None;
                self.window()?;
                for signal in std::mem::take(&mut self.early) {
                    self.host.signal(&mut self.out, signal).map_err(ours)?;
                }
                self.supervisor.tell(Told::Held { posture })
            }
            Said::Bytes(stream, bytes) => {
                let lost = self.outputs[place(stream)].push(bytes);
                self.handed_on(stream, lost)
            }
            Said::End(stream) => {
                self.outputs[place(stream)].end();
                Ok(())
            }
            Said::Sample(mut usage) => {
                self.count_memory(&mut usage)?;
                if self.sampled.is_some_and(|at| at.elapsed() < SAMPLES) || self.supervisor.has_to_tell() {
                    self.latest = Some(usage);
                    return Ok(());
                }
                self.sampled = Some(Instant::now());
                self.latest = None;
                self.supervisor.tell(Told::Sample { usage })
            }
            Said::Event(event) => self.guest_event(event),
            Said::Exited(end) => {
                self.end = Some(end);
                if self.monitor.quit() == Parting::Closed {
                    self.agent = None;
                }
                Ok(())
            }
            Said::Failed(failure) => {
                let plain = |text: &str| text.chars().filter(|c| !c.is_control()).take(500).collect::<String>();
                Err(Failure::new(
                    if self.went { "run.guest" } else { "launch.guest" },
                    format!("the guest cannot {}: {}", plain(&failure.step), plain(&failure.found)),
                    LOOK,
                ))
            }
            Said::Room => Ok(()),
        }
    }

    /// Adds what the guest's kernel does not count, and ends the program at its limit.
    fn count_memory(&mut self, usage: &mut Usage) -> Result<(), Failure> {
        let Some(account) = &mut self.account else {
            return Ok(());
        };
        usage.memory_bytes = account.memory();
        self.most_memory = self.most_memory.max(usage.memory_bytes);
        let most = self.plan.limits.memory;
        let over = usage.memory_bytes.zip(most).is_some_and(|(used, most)| used > most);
        if !over || self.over_memory {
            return Ok(());
        }
        self.over_memory = true;
        self.supervisor.tell(Told::Limit { clause: Clause::Memory })?;
        self.host.signal(&mut self.out, KILL).map_err(ours)
    }

    fn guest_event(&mut self, event: GuestEvent) -> Result<(), Failure> {
        match event {
            GuestEvent::LimitOfMemory { .. } => self.supervisor.tell(Told::Limit { clause: Clause::Memory }),
            GuestEvent::LimitOfProcesses { .. } => self.supervisor.tell(Told::Limit { clause: Clause::Pids }),
            GuestEvent::OutOfMemory { processes } => self.event(
                EventName::GuestOutOfMemory,
                format!("{processes} processes were killed"),
            ),
        }
    }

    fn handed_on(&mut self, stream: Stream, bytes: usize) -> Result<(), Failure> {
        self.host.handed_on(&mut self.out, stream, bytes).map_err(ours)
    }

    fn input(&mut self) -> Result<(), Failure> {
        let Some(input) = &self.input else { return Ok(()) };
        let mut buffer = [0u8; 16 << 10];
        let most = self.host.room().min(buffer.len());
        match rustix::io::read(input, &mut buffer[..most]) {
            Ok(0) if most > 0 => self.end_input(),
            Ok(n) => self.host.input(&mut self.out, &buffer[..n]).map_err(ours),
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            // A terminal whose other side is gone.
            Err(_) => self.end_input(),
        }
    }

    fn end_input(&mut self) -> Result<(), Failure> {
        self.input = None;
        self.host.end_input(&mut self.out).map_err(ours)
    }

    fn output(&mut self, place: usize) -> Result<(), Failure> {
        let stream = [Stream::Out, Stream::Err][place];
        match self.outputs[place].write() {
            Written::Bytes(n) => self.handed_on(stream, n),
            Written::Unread(lost) => {
                if self.host.listens() {
                    self.host.unread(&mut self.out, stream).map_err(ours)?;
                }
                self.handed_on(stream, lost)
            }
        }
    }

    /// The program has ended, and all that it wrote is written.
    fn finish(&mut self, end: GuestEnd) -> Result<Ending, Failure> {
        self.part()?;
        let usage = self.latest.unwrap_or_default().max(end.peaks);
        let usage = Usage {
            memory_bytes: usage.memory_bytes.max(self.most_memory),
            ..usage
        };
        self.supervisor.tell(Told::Sample { usage })?;
        self.supervisor.tell(Told::Ended {
            agent_bytes: end.agent_bytes,
        })?;
        self.monitor_ended()?;
        self.supervisor.finish()?;
        Ok(Ending::of(end.status))
    }

    /// Hears the monitor until its machine is gone. One that does not go is killed.
    fn part(&mut self) -> Result<(), Failure> {
        let end = Instant::now() + PATIENCE;
        while self.running.ended().is_none() && Instant::now() < end {
            let mut wait = vec![PollFd::new(&self.running.pidfd, PollFlags::IN)];
            let out = if self.monitor.has_to_write() {
                PollFlags::OUT
            } else {
                PollFlags::empty()
            };
            wait.extend(
                self.monitor
                    .source()
                    .map(|source| PollFd::new(source, PollFlags::IN | out)),
            );
            wait.extend(self.monitor.events().map(|events| PollFd::new(events, PollFlags::IN)));
            match poll(&mut wait, Some(&until(end))) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(Failure::own("poll", e)),
            }
            self.monitor(out)?;
        }
        self.running.end(Duration::ZERO);
        Ok(())
    }

    /// And what it says itself.
    fn with_complaints(&mut self, mut failure: Failure) -> Failure {
        self.complaints.finish();
        let said = self.complaints.lines(SHOWN);
        if !said.is_empty() {
            failure.found = format!("{}: {}", failure.found, said.join(" | "));
        }
        failure
    }

    fn monitor_ended(&mut self) -> Result<(), Failure> {
        let how = match self.running.ended() {
            Some(status) => status.to_string(),
            None => "it closed its socket".to_owned(),
        };
        if let Some(counts) = self.monitor.counted() {
            self.event(EventName::MonitorCounted, counts)?;
        }
        self.event(EventName::MonitorEnded, how)
    }

    /// The machine is gone, and its guest did not say how the program ended.
    fn ended_early(&mut self) -> Failure {
        self.console.finish();
        self.complaints.finish();
        // What was said before is still the program's.
        for output in &mut self.outputs {
            while output.waits().is_some() && !matches!(output.write(), Written::Bytes(0) | Written::Unread(_)) {}
        }
        let panic = self.console.panic();
        let told = self.monitor(PollFlags::empty()).and_then(|()| match &panic {
            Some(console) => self.event(EventName::GuestPanicked, console.join(" | ")),
            None => Ok(()),
        });
        if let Err(failure) = told.and_then(|()| self.monitor_ended()) {
            return failure;
        }
        let (guest, monitor, when) = match self.booted {
            true => ("run.guest", "run.monitor", "while the program ran, or was about to"),
            false => ("launch.boot", self.monitor.stage(), "before its agent spoke"),
        };
        match panic {
            Some(console) => Failure::new(
                guest,
                format!("the guest's kernel panicked {when}: {}", console.join(" | ")),
                LOOK,
            ),
            None => {
                let mut last = self.complaints.lines(SHOWN);
                last.retain(|line| !line.contains(EXPECTED));
                last.extend(self.console.lines(SHOWN));
                let how = self
                    .running
                    .ended()
                    .map(|status| status.to_string())
                    .unwrap_or_default();
                let what = match self.account {
                    None => "virtual machine",
                    Some(_) => "container",
                };
                let words = format!("the {what} ended {when} ({how}): {}", last.join(" | "));
                let complaints = self.complaints.lines(SHOWN).join(" | ");
                let old = !self.booted && UNKNOWN_OPTION.iter().any(|text| complaints.contains(text));
                match self.account {
                    Some(_) if words.contains(UNKNOWN_FLAG) => {
                        Failure::new("launch.preflight.runsc", words, NEWER_RUNSC)
                    }
                    None if old => Failure::new("launch.preflight.qemu", words, NEWER_QEMU),
                    None if !self.booted => Failure::new(monitor, words, UNBOOTED),
                    _ => Failure::new(monitor, words, LOOK),
                }
            }
        }
    }

    /// The machine runs, and its guest does not hold the program.
    fn not_booted(&mut self, timeout: Millis) -> Failure {
        self.console.finish();
        self.complaints.finish();
        let mut last = self.complaints.lines(SHOWN);
        last.extend(self.console.lines(SHOWN));
        let came = match self.booted {
            true => "the agent speaks, but holds no program",
            false => "its agent has not spoken",
        };
        let found = format!("the guest did not boot within {timeout}: {came}: {}", last.join(" | "));
        Failure::new("launch.boot", found, SLOW)
    }

    fn hostile(&self, violation: &Violation) -> Failure {
        // Before the program runs nobody but the agent can be at fault.
        let (path, remedy) = match self.went {
            true => ("run.guest", HOSTILE),
            false => ("launch.guest", STRANGE),
        };
        let found = format!("the guest does not keep to the protocol: {violation}");
        Failure::new(path, found, remedy)
    }
}

/// How long it is until then.
fn until(then: Instant) -> Timespec {
    // Not a moment less, which would be waited for in vain again and again.
    let left = then.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    }
}

fn place(stream: Stream) -> usize {
    usize::from(stream == Stream::Err)
}

/// Something that this side may not say: a mistake of its own.
fn ours(violation: Violation) -> Failure {
    Failure::own("a frame for the guest", violation)
}
