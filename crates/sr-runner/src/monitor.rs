//! The supervisor's end of what the driver of a guest's monitor says. Its process has read what a hostile guest wrote: it is
//! believed in nothing that the host can see by itself, and every message has its bounds and its turn.

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendFlags, SocketFlags,
    SocketType, recvmsg, sendmsg,
};
use sr_common::canonical::MAX_INTEGER;
use sr_common::module::ModulePlan;
use sr_common::monitor::{GuestSockets, MESSAGE, Order, Said, Share, Speech};
use sr_common::{Code, Control, Fault, Millis, Observed};
use sr_compiler::bundle::{MonitorPlan, WallPlan};
use sr_compiler::{CompileBundle, guest_plan, module_plan};
use sr_evidence::report::FileDigest;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;

/// Events, limits and ends that are recorded: who has taken the driver over must not fill the disk with them.
const MOST_TOLD: usize = 4096;
/// What a worker calls its engine.
const ENGINE: &str = "wasmtime ";
/// What the kernel lets a message have, as a rule (`net.core.wmem_default`).
const ORDER: usize = 200 << 10;

/// The controls that a guest's kernel must be seen to hold, each in a line of its posture.
const BY_KERNEL: [Control; 5] = [
    Control::Seccomp,
    Control::NoNewPrivileges,
    Control::Capabilities,
    Control::UserNamespace,
    Control::Filesystem,
];
/// And those of an engine, whose process is looked at by itself.
const BY_ENGINE: [Control; 5] = [
    Control::HostCalls,
    Control::Filesystem,
    Control::Memory,
    Control::Fuel,
    Control::OpenFiles,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting,
    Booted,
    Held,
    /// It has failed, or gone.
    Over,
}

/// The driver, as far as it has come.
#[derive(Debug)]
pub struct Monitor {
    socket: OwnedFd,
    stage: Stage,
    held: bool,
    guest_counts_memory: bool,
    /// What an engine is told.
    engine: Option<ModulePlan>,
    boot_timeout: Millis,
    /// Of what is recorded each time.
    told: usize,
}

/// What the driver said that its turn allows.
pub enum Heard {
    Said(Said),
    /// Its end of the socket is closed.
    Gone,
}

impl Monitor {
    /// And the driver's end.
    pub fn new(bundle: &CompileBundle, wall: &WallPlan) -> Result<(Monitor, OwnedFd), Fault> {
        let (mut monitor, theirs) = Monitor::of(wall.monitor.guest_counts_memory(), wall.boot_timeout)?;
        monitor.engine = module_plan(bundle);
        Ok((monitor, theirs))
    }

    fn of(guest_counts_memory: bool, boot_timeout: Millis) -> Result<(Monitor, OwnedFd), Fault> {
        let (socket, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|e| fault("launch.prepare.socket", std::io::Error::from(e).to_string()))?;
        let monitor = Monitor {
            socket,
            stage: Stage::Starting,
            held: false,
            guest_counts_memory,
            engine: None,
            boot_timeout,
            told: 0,
        };
        Ok((monitor, theirs))
    }

    /// Says what is to be started.
    pub fn start(&self, bundle: &CompileBundle, terminal: bool) -> Result<(), Fault> {
        let Some(wall) = &bundle.wall_plan else {
            return Ok(());
        };
        let speech = match &wall.monitor {
            MonitorPlan::Wasm { .. } => {
                let plan = self.engine.clone().map(Box::new);
                return plan.map_or(Ok(()), |plan| self.order(&Order::Module { plan }));
            }
            MonitorPlan::Qemu { .. } => Speech::Qemu,
            MonitorPlan::Gvisor { .. } => Speech::Gvisor,
            MonitorPlan::Firecracker { agent, files, .. } => Speech::Firecracker {
                sockets: sockets(agent, files, &wall.root),
            },
            MonitorPlan::CloudHypervisor {
                config, agent, files, ..
            } => Speech::CloudHypervisor {
                sockets: sockets(agent, files, &wall.root),
                config: config.clone(),
            },
        };
        let argv = wall.monitor.argv().to_vec();
        let plan = Box::new(guest_plan(bundle, terminal));
        self.order(&Order::Start {
            speech,
            argv,
            plan,
            boot_timeout: wall.boot_timeout,
        })
    }

    /// Lets the program go that the guest holds.
    pub fn go(&self) -> Result<(), Fault> {
        self.order(&Order::Go)
    }

    fn order(&self, order: &Order) -> Result<(), Fault> {
        let text = serde_json::to_vec(order).map_err(|e| fault("launch.prepare.guest", e.to_string()))?;
        if text.len() > ORDER {
            let found = format!(
                "what the guest is to be told has {} bytes; {ORDER} can be told",
                text.len()
            );
            let remedy = "give the program fewer or shorter arguments and variables";
            return Err(Fault::new(Code::Run001, "launch.prepare.guest", found, remedy));
        }
        // The calls of these names are what a confined supervisor has.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(
            &self.socket,
            &[IoSlice::new(&text)],
            &mut SendAncillaryBuffer::default(),
            flags,
        )
        .map(drop)
        .map_err(|e| {
            fault(
                "run.monitor",
                format!("the driver takes no order: {}", std::io::Error::from(e)),
            )
        })
    }

    pub fn interest(&self) -> Option<PollFd<'_>> {
        (self.stage != Stage::Over).then(|| PollFd::new(&self.socket, PollFlags::IN))
    }

    /// Whether the host's account of memory is the program's too, with the monitor's.
    pub fn shares_memory(&self) -> bool {
        !self.guest_counts_memory
    }

    /// From its start until the guest holds the program.
    pub fn boot_timeout(&self) -> Millis {
        self.boot_timeout
    }

    /// Whether what runs the program is an engine, and its program a module.
    pub fn is_engine(&self) -> bool {
        self.engine.is_some()
    }

    /// What of the posture that was told is not as it was asked for.
    pub fn mismatch(&self, posture: &[Observed]) -> Option<Fault> {
        match &self.engine {
            Some(plan) => other_posture(posture, plan).or_else(|| mismatch(posture, true)),
            None => mismatch(posture, false),
        }
    }

    /// Whether the guest has held the program.
    pub fn has_run(&self) -> bool {
        self.held
    }

    /// One message, if there is one.
    pub fn hear(&mut self) -> Result<Option<Heard>, Fault> {
        let mut message = vec![0; MESSAGE];
        let mut parts = [IoSliceMut::new(&mut message)];
        let mut control = RecvAncillaryBuffer::default();
        let read = match recvmsg(&self.socket, &mut parts, &mut control, RecvFlags::DONTWAIT) {
            Ok(received) if received.flags.contains(ReturnFlags::TRUNC) => {
                return Err(self.out_of_turn(&format!("a message of more than {MESSAGE} bytes")));
            }
            Ok(received) => received.bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(Errno::CONNRESET) => 0,
            Err(e) => return Err(fault("run.monitor", format!("its driver: {e}"))),
        };
        if read == 0 {
            self.stage = Stage::Over;
            return Ok(Some(Heard::Gone));
        }
        let said: Said = serde_json::from_slice(message.get(..read).unwrap_or_default())
            .map_err(|e| self.out_of_turn(&format!("what nobody can read ({e})")))?;
        let writable = match &said {
            Said::Sample { usage } => usage.can_be_written(),
            Said::Ended { agent_bytes } => *agent_bytes <= MAX_INTEGER,
            Said::Denied { count, .. } => *count <= MAX_INTEGER,
            _ => true,
        };
        if !writable {
            return Err(self.out_of_turn("a figure that no document can hold"));
        }
        self.stage = match (self.stage, &said) {
            (Stage::Starting, Said::Booted { .. }) => Stage::Booted,
            (Stage::Booted, Said::Held { .. }) => Stage::Held,
            // A worker has no monitor and no kernel to tell of.
            (Stage::Held, Said::Denied { .. } | Said::Trapped { .. }) if self.engine.is_some() => Stage::Held,
            (stage, Said::Event { .. }) if self.engine.is_none() => stage,
            (Stage::Held, Said::Limit { .. }) if self.engine.is_none() => Stage::Held,
            (Stage::Held, Said::Sample { .. } | Said::Ended { .. }) => Stage::Held,
            (_, Said::Failed { .. }) => Stage::Over,
            (_, said) => return Err(self.out_of_turn(&format!("{said:?}").chars().take(60).collect::<String>())),
        };
        self.told += usize::from(matches!(
            said,
            Said::Event { .. } | Said::Limit { .. } | Said::Ended { .. } | Said::Denied { .. } | Said::Trapped { .. }
        ));
        if self.told > MOST_TOLD {
            return Err(self.out_of_turn(&format!("more than {MOST_TOLD} events")));
        }
        self.held |= self.stage == Stage::Held;
        Ok(Some(Heard::Said(said)))
    }

    fn out_of_turn(&mut self, what: &str) -> Fault {
        self.stage = Stage::Over;
        fault(
            "run.monitor",
            format!("the driver of the monitor said out of turn: {what}"),
        )
    }
}

fn sockets(agent: &str, files: &str, root: &str) -> GuestSockets {
    GuestSockets {
        agent: agent.to_owned(),
        share: Some(Share {
            socket: files.to_owned(),
            directory: root.to_owned(),
        }),
    }
}

fn fault(path: &str, found: impl Into<String>) -> Fault {
    Fault::new(
        Code::Run002,
        path,
        found,
        "the guest may have taken its monitor over: the run's events say what came before",
    )
}

/// An engine's posture has one line for each of its controls, in words that are known, and no other: it is recorded beside what the
/// host's kernel shows.
fn other_posture(posture: &[Observed], plan: &ModulePlan) -> Option<Fault> {
    let plain = |text: &str| text.chars().all(|c| !c.is_control());
    let own = |line: &&Observed| {
        plan.requested(line.control).as_deref() == Some(line.requested.as_str())
            && line.mechanism.starts_with(ENGINE)
            && plain(&line.mechanism)
            && plain(&line.observed)
    };
    let odd = posture.iter().find(|line| !own(line));
    if odd.is_none() && posture.len() <= BY_ENGINE.len() {
        return None;
    }
    let control = odd.map_or_else(String::new, |line| line.control.name());
    let found = format!(
        "the worker shows what nobody asked it for ({} lines) {control}",
        posture.len()
    );
    let remedy = "the module was not started; build its worker anew (`cargo xtask wasm`)";
    Some(Fault::new(Code::Run002, "launch.posture.guest", found, remedy))
}

/// The first thing that the guest's kernel, or its engine, does not hold, by its own posture.
fn mismatch(posture: &[Observed], engine: bool) -> Option<Fault> {
    let expected = if engine { BY_ENGINE } else { BY_KERNEL };
    let missing = expected
        .iter()
        .find(|control| !posture.iter().any(|line| line.control == **control));
    let failed = posture.iter().find(|line| !line.holds);
    let (control, found) = match (missing, failed) {
        (Some(control), _) => (*control, "the guest's agent shows nothing of it".to_owned()),
        (None, Some(line)) => (
            line.control,
            format!(
                "asked for {}, but the guest's kernel shows {}",
                line.requested, line.observed
            ),
        ),
        (None, None) => return None,
    };
    let remedy = match engine {
        true => "the module was not started; build its worker anew (`cargo xtask wasm`)",
        false => "the program was killed before its first instruction; build the guest's kernel artifact anew",
    };
    Some(Fault::new(
        Code::Run002,
        format!("launch.posture.guest.{}", control.name()),
        found,
        remedy,
    ))
}

/// What the guest is about to execute and that was not what the host hashed, if there is anything.
pub fn exchanged(posture: &[Observed], executed: &[FileDigest]) -> Option<Fault> {
    let shown = |file: &FileDigest| {
        let digest = file.digest.to_string();
        let is = |line: &&Observed| line.control == Control::ExecutableDigest && line.requested == file.path;
        posture.iter().filter(is).any(|line| line.observed == digest)
    };
    let file = executed.iter().find(|file| !shown(file))?;
    let found = format!("{} changed between its hashing and its start in the guest", file.path);
    let remedy = "run it again when nothing else writes there; or mount a copy";
    Some(Fault::new(
        Code::Run002,
        "launch.posture.guest.executableDigest",
        found,
        remedy,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;

    fn told(messages: &[&[u8]]) -> Vec<Result<Option<Heard>, Fault>> {
        let (mut monitor, theirs) = Monitor::of(true, Millis(1000)).unwrap();
        let mut all = Vec::new();
        for message in messages {
            rustix::net::send(theirs.as_fd(), message, SendFlags::NOSIGNAL).unwrap();
            all.push(monitor.hear());
        }
        all
    }

    const BOOTED: &[u8] = br#"{"booted":{"kernel":"6.1"}}"#;
    const HELD_NOTHING: &[u8] = br#"{"held":{"posture":[]}}"#;
    const SAMPLE: &[u8] =
        br#"{"sample":{"usage":{"cpuMicros":1,"memoryBytes":2,"pids":3,"diskBytes":null,"waited":null}}}"#;

    #[test]
    fn everything_has_its_turn() {
        assert!(told(&[BOOTED, HELD_NOTHING, SAMPLE]).iter().all(Result::is_ok));
        for out_of_turn in [
            &[HELD_NOTHING][..],
            &[SAMPLE],
            &[BOOTED, BOOTED],
            &[BOOTED, SAMPLE],
            &[BOOTED, HELD_NOTHING, HELD_NOTHING],
            &[
                BOOTED,
                HELD_NOTHING,
                br#"{"sample":{"usage":{"cpuMicros":9007199254740992,"memoryBytes":2,"pids":3,"diskBytes":null,"waited":null}}}"#,
            ],
            &[BOOTED, HELD_NOTHING, br#"{"ended":{"agentBytes":18446744073709551615}}"#],
            &[b"{}"],
            &[b"\xff"],
            &[br#"{"booted":{"kernel":"6.1","more":1}}"#],
        ] {
            let heard = told(out_of_turn);
            assert!(heard.last().is_some_and(Result::is_err), "{out_of_turn:?}");
        }
    }

    fn engine() -> ModulePlan {
        serde_json::from_value(serde_json::json!({
            "kind": "core", "code": "/wall/code", "settings": {"metering": "deadline", "stack": 1 << 20},
            "argv": [], "env": {}, "preopens": [{"name": ".", "path": "/guest", "writable": false}],
            "limits": {"memory": 65536, "tableElements": 1, "openFiles": 3, "fuel": null}, "hostCalls": {},
        }))
        .unwrap()
    }

    fn engines_posture(plan: &ModulePlan) -> Vec<Observed> {
        let line = |control: Control| Observed {
            control,
            requested: plan.requested(control).unwrap(),
            mechanism: "wasmtime 48.0.0".into(),
            observed: "as asked".into(),
            holds: true,
        };
        BY_ENGINE.map(line).into()
    }

    /// It stands in the report beside what the host's kernel shows.
    #[test]
    fn an_engine_shows_its_own_controls_as_they_were_asked_for_and_no_others() {
        let (mut monitor, _theirs) = Monitor::of(false, Millis(1000)).unwrap();
        let plan = engine();
        let all = engines_posture(&plan);
        monitor.engine = Some(plan);
        assert_eq!(monitor.mismatch(&all), None);
        let mut changes: Vec<Vec<Observed>> = Vec::new();
        let mut change = |change: &dyn Fn(&mut Vec<Observed>)| {
            let mut posture = all.clone();
            change(&mut posture);
            changes.push(posture);
        };
        change(&|posture| posture.clear());
        change(&|posture| drop(posture.pop()));
        change(&|posture| posture.push(posture[0].clone()));
        change(&|posture| posture[4] = posture[0].clone());
        change(&|posture| posture[0].requested = "less".into());
        change(&|posture| posture[0].control = Control::Seccomp);
        change(&|posture| posture[1].mechanism = "wasmtime \u{1b}[2J".into());
        change(&|posture| posture[1].mechanism = "seccomp".into());
        change(&|posture| posture[2].observed = "a\nb".into());
        change(&|posture| posture[2].holds = false);
        for posture in changes {
            assert!(monitor.mismatch(&posture).is_some(), "{posture:?}");
        }
    }

    #[test]
    fn a_worker_tells_nothing_that_only_a_guests_kernel_knows() {
        for message in [
            &br#"{"limit":{"clause":"pids"}}"#[..],
            br#"{"event":{"name":"guestOutOfMemory","detail":""}}"#,
        ] {
            let (mut monitor, theirs) = Monitor::of(false, Millis(1000)).unwrap();
            monitor.engine = Some(engine());
            for message in [BOOTED, HELD_NOTHING] {
                rustix::net::send(theirs.as_fd(), message, SendFlags::NOSIGNAL).unwrap();
                assert!(monitor.hear().is_ok());
            }
            rustix::net::send(theirs.as_fd(), message, SendFlags::NOSIGNAL).unwrap();
            assert!(monitor.hear().is_err());
        }
        // And a guest's kernel nothing that only an engine knows.
        let denied = br#"{"denied":{"function":"f","reason":"r","count":1}}"#;
        assert!(told(&[BOOTED, HELD_NOTHING, denied]).last().is_some_and(Result::is_err));
    }

    #[test]
    fn a_flood_of_events_ends_the_run() {
        let (mut monitor, theirs) = Monitor::of(true, Millis(1000)).unwrap();
        let event = br#"{"event":{"name":"guestReset","detail":""}}"#;
        let mut hear = || {
            rustix::net::send(theirs.as_fd(), event, SendFlags::NOSIGNAL).unwrap();
            monitor.hear()
        };
        assert!((0..MOST_TOLD).all(|_| matches!(hear(), Ok(Some(Heard::Said(_))))));
        assert!(hear().is_err());
    }

    #[test]
    fn a_message_beyond_its_bound_and_an_end() {
        let (mut monitor, theirs) = Monitor::of(true, Millis(1000)).unwrap();
        assert!(matches!(monitor.hear(), Ok(None)));
        rustix::net::send(theirs.as_fd(), &vec![b' '; MESSAGE + 1], SendFlags::NOSIGNAL).unwrap();
        let fault = monitor.hear().err().unwrap();
        assert!(fault.found.contains("more than 65536 bytes"), "{}", fault.found);
        drop(theirs);
        crate::stdio::await_end(&monitor.socket);
        assert!(matches!(monitor.hear(), Ok(Some(Heard::Gone))) && monitor.interest().is_none());
    }

    #[test]
    fn what_was_exchanged_on_the_way_is_not_let_go() {
        let file = |path: &str, content: &[u8]| FileDigest {
            path: path.into(),
            digest: sr_common::Digest::of(content),
        };
        let line = |path: &str, content: &[u8]| Observed {
            control: Control::ExecutableDigest,
            requested: path.into(),
            mechanism: "m".into(),
            observed: sr_common::Digest::of(content).to_string(),
            holds: true,
        };
        let executed = [file("/bin/sh", b"sh"), file("/work/job", b"job")];
        let posture = [line("/bin/sh", b"sh"), line("/work/job", b"job")];
        assert_eq!(exchanged(&posture, &executed), None);
        for other in [
            &posture[..1],
            &[line("/bin/sh", b"sh"), line("/work/job", b"other")],
            &[line("/bin/sh", b"job"), line("/work/job", b"sh")],
        ] {
            assert!(exchanged(other, &executed).is_some(), "{other:?}");
        }
    }

    #[test]
    fn what_the_guest_does_not_show_does_not_hold() {
        let line = |control, holds| Observed {
            control,
            requested: "r".into(),
            mechanism: "m".into(),
            observed: "o".into(),
            holds,
        };
        let all: Vec<_> = BY_KERNEL.map(|control| line(control, true)).into();
        assert!(mismatch(&all, false).is_none());
        assert!(mismatch(&all[1..], false).unwrap().path.ends_with("guest.seccomp"));
        let mut other = all.clone();
        other.push(line(Control::Pids, false));
        assert!(mismatch(&other, false).unwrap().path.ends_with("guest.pids"));
    }
}
