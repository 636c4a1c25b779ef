//! The supervisor's loop while the program runs: it moves input and output, forwards signals, keeps the clock, samples
//! usage, and ends the sandbox when a limit that only it can hold is used up.

use crate::asking::{Answered, Asking};
use crate::broker::Broker;
use crate::confinement::Confinement;
use crate::guests::Guests;
use crate::helper::Helper;
use crate::monitor::{self, Heard, Monitor};
use crate::paths::View;
use crate::stdio::{InputPump, OutputPump, Progress};
use crate::told::{self, Denied, Pace, Told};
use crate::usage;
use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::json;
use sr_common::canonical::MAX_INTEGER;
use sr_common::monitor::{EventName, Said, Trap};
use sr_common::{Cause, Code, Fault, Observed, Usage};
use sr_compiler::bundle::{FilesystemPlan, Limit, LimitMechanism, MountEvidence, ResourcesPlan, SyscallsPlan};
use sr_evidence::log::EventLog;
use sr_evidence::report::{DeniedOperation, FileDigest};
use sr_kernel::cgroup::RunGroup;
use sr_observe::learn::Observation;
use sr_process::{Ended, Running};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Signals that a person or a service manager sends to end or steer the program; passed on once.
pub const FORWARDED: [i32; 7] = [1, 2, 3, 10, 12, 15, SIGWINCH];
/// Blocked, so that a background job is not stopped by its terminal.
pub const BLOCKED: [i32; 2] = [21, 22];
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGWINCH: i32 = 28;

/// The driver keeps the time of its guest's boot, and knows what the guest said last. One that does not is ended so much later.
const GRACE: Duration = Duration::from_secs(5);
/// With less than this left a project counts as full.
const QUOTA_SPARE: u64 = 64 << 10;
/// How long a limit on processes or disk must stay used up before a sandbox that does not stop by itself is ended.
const PERSISTENT: Duration = Duration::from_secs(1);

/// What the loop needs.
pub struct Supervision<'a> {
    pub running: &'a Running,
    pub plan: &'a ResourcesPlan,
    pub calls: &'a SyscallsPlan,
    /// By what denied paths are told.
    pub view: &'a FilesystemPlan,
    pub mounts: &'a [MountEvidence],
    /// Where the program has a kernel of its own.
    pub monitor: Option<Monitor>,
    /// What was hashed for it to execute.
    pub executed: Vec<FileDigest>,
    pub group: Option<&'a RunGroup>,
    /// Who is to remove the group.
    pub helper: Option<&'a Helper>,
    /// The writable tmpfs.
    pub writable: BorrowedFd<'a>,
    /// All that the program can write, where a project quota limits it.
    pub quota: Option<BorrowedFd<'a>>,
    /// The captured layers, where they are in the store.
    pub layers: Option<&'a Path>,
    pub input: Option<InputPump>,
    pub output: Vec<OutputPump>,
    pub signals: OwnedFd,
    /// The pty's master and the caller's terminal, whose size it follows.
    pub terminal: Option<(BorrowedFd<'a>, BorrowedFd<'a>)>,
    /// From the program's start.
    pub wall_time: Duration,
    /// The clause that says so.
    pub time_clause: &'static str,
    pub sample_interval: Duration,
    pub log: &'a mut EventLog,
    pub guests: Guests<'a>,
    /// Where denied calls are asked about.
    pub asking: Option<Asking>,
    /// Entered at the first sample, or at the end.
    pub confinement: Confinement<'a>,
}

/// What the loop saw.
pub struct Supervised {
    pub ended: Ended,
    /// The limit for which the supervisor ended the sandbox.
    pub killed_for: Option<Cause>,
    /// Clauses whose limit was met.
    pub limits_hit: BTreeSet<&'static str>,
    pub peaks: Usage,
    pub samples: u64,
    pub output: Vec<OutputPump>,
    /// Evidence could not be written any more; the sandbox was ended.
    pub evidence: Option<Fault>,
    /// Operations that a person allowed.
    pub allowed: Vec<String>,
    /// Where calls are observed.
    pub seen: Observation,
    /// Denied calls that the filter told of.
    pub denied: Vec<DeniedOperation>,
    /// Of the program in its guest.
    pub posture: Vec<Observed>,
    /// The guest's kernel had no memory left for what it ended.
    pub guest_out_of_memory: bool,
    /// What the engine ended a module for, and its words.
    pub trapped: Option<(Trap, String)>,
}

struct Watch {
    denied: Vec<DeniedOperation>,
    seen: Observation,
    pace: Pace,
    deaf: bool,
    killed_for: Option<Cause>,
    limits_hit: BTreeSet<&'static str>,
    peaks: Usage,
    recorded: Usage,
    samples: u64,
    pids_full_since: Option<Instant>,
    disk_full_since: Option<Instant>,
    last_hits: u64,
    next_walk: Instant,
    evidence: Option<Fault>,
    /// How often the caller asked for an end.
    asked: u32,
    broker: Option<Rc<Broker>>,
    deadline: Instant,
    /// Of the guest.
    posture: Vec<Observed>,
    /// What the guest's kernel counted, at most.
    inside: Usage,
    inside_recorded: Usage,
    guest_out_of_memory: bool,
    /// What the engine ended the module for, and its words.
    trapped: Option<(Trap, String)>,
}

/// A program that ignores this many requests to end is ended.
const PATIENCE: u32 = 3;

pub fn supervise(mut s: Supervision<'_>) -> Supervised {
    let start = Instant::now();
    let mut watch = Watch {
        denied: Vec::new(),
        seen: Observation::default(),
        pace: Pace::default(),
        deaf: s.running.listener().is_none(),
        killed_for: None,
        limits_hit: BTreeSet::new(),
        peaks: Usage::default(),
        recorded: Usage::default(),
        samples: 0,
        pids_full_since: None,
        disk_full_since: None,
        last_hits: 0,
        next_walk: start,
        evidence: None,
        asked: 0,
        broker: None,
        deadline: start
            + s.monitor
                .as_ref()
                .map_or(s.wall_time, |monitor| monitor.boot_timeout().duration() + GRACE),
        posture: Vec::new(),
        inside: Usage::default(),
        inside_recorded: Usage::default(),
        guest_out_of_memory: false,
        trapped: None,
    };
    let view = match s.calls.looks_at_paths() {
        true => seen_by(&mut s, &mut watch),
        false => None,
    };
    // The first look comes early: short runs shall have a sample too.
    let mut next_sample = start + s.sample_interval.min(Duration::from_millis(20));
    let mut ended = loop {
        let now = Instant::now();
        if watch.killed_for.is_none() && now >= watch.deadline {
            time_is_up(&s, &mut watch);
        }
        if now >= next_sample {
            // Not at the start: most runs end before anybody could join them.
            if !s.confinement.entered() {
                confine(&mut s, &mut watch);
            }
            sample(&mut s, &mut watch, now);
            if let Some(input) = &mut s.input {
                input.tick();
            }
            next_sample = now + s.sample_interval;
        }
        let pause = watch.pace.pause(now);
        let until = next_sample
            .min(watch.deadline.max(now + Duration::from_millis(1)))
            .min(pause.unwrap_or(next_sample));
        let ready = wait(&s, until.saturating_duration_since(now), watch.deaf, pause.is_some());
        watch.deaf = ready.deaf;
        if ready.told {
            let told = s
                .running
                .listener()
                .and_then(|listener| told::answer_next(listener, s.calls, view.as_ref()));
            record_told(&mut s, &mut watch, told);
        }
        if ready.answer
            && let Some(answered) = s.asking.as_mut().and_then(Asking::hear)
            && let Some(denied) = recorded(&mut s, &mut watch, answered)
        {
            record_told(&mut s, &mut watch, [Told::Denied(denied)]);
        }
        // Where init has something to say that comes first: it may be why commands that joined are gone.
        let guests = if ready.channel { &[] } else { ready.guests.as_slice() };
        match s.guests.turn(guests, s.log, view.as_ref()) {
            Ok(told) => record_told(&mut s, &mut watch, told),
            Err(fault) => unrecordable(&s, &mut watch, fault),
        }
        if ready.helper && watch.evidence.is_none() {
            // The kernel holds the limits all the same; but the user's next helper would take the group for a dead run's.
            let found = "safe-run-helper, which holds the run's control group, has ended";
            let fault = Fault::new(
                Code::Run002,
                "run.helper",
                found,
                "see who ended it; the next run cleans up",
            );
            unrecordable(&s, &mut watch, fault);
        }
        if ready.monitor {
            hear(&mut s, &mut watch);
        }
        if ready.signal {
            forward_signals(&s, &mut watch);
        }
        if ready.input
            && let Some(input) = &mut s.input
        {
            input.turn();
        }
        for index in ready.output {
            let allowance = s
                .plan
                .output
                .0
                .saturating_sub(s.output.iter().map(OutputPump::passed).sum());
            if let Some(pump) = s.output.get_mut(index)
                && pump.turn(allowance) == Progress::OverLimit
            {
                watch.limits_hit.insert("resources.output");
                if s.plan.output_kills && watch.killed_for.is_none() {
                    end(&s, &mut watch, Cause::Output, "resources.output");
                }
            }
        }
        if ready.channel {
            match s.running.ended() {
                Ok(Some(ended)) => break ended,
                Ok(None) => {}
                Err(_) => break Ended::with(9),
            }
        }
    };
    // What the driver said last may be why it has ended.
    while s.monitor.as_ref().is_some_and(|monitor| monitor.interest().is_some()) && hear(&mut s, &mut watch) {}
    if s.monitor.as_ref().is_some_and(|monitor| !monitor.has_run()) && watch.killed_for.is_none() {
        let found = format!(
            "the driver of the monitor ended before the program had started (wait status {:#x})",
            ended.status
        );
        let remedy = "its own words are above, and in the run's events";
        watch
            .evidence
            .get_or_insert(Fault::new(Code::Run002, "launch.boot", found, remedy));
    }
    last_sample(&mut s, &mut watch);
    if !s.guests.none() {
        // They are not its init's children.
        ended.alone = None;
    }
    let peaks = peaks(&s, &watch);
    let dismissed = s.guests.dismiss(s.log);
    // Before anything that the program left is looked at.
    let confined = s.confinement.enter();
    watch.evidence = watch.evidence.or(dismissed.err()).or(confined.err());
    Supervised {
        ended,
        killed_for: watch.killed_for,
        limits_hit: watch.limits_hit,
        peaks,
        samples: watch.samples,
        output: s.output,
        evidence: watch.evidence,
        allowed: s.asking.map(|asking| asking.allowed).unwrap_or_default(),
        seen: watch.seen,
        denied: watch.denied,
        posture: watch.posture,
        guest_out_of_memory: watch.guest_out_of_memory,
        trapped: watch.trapped,
    }
}

/// Of the program: what only its own kernel can count is that one's count.
fn peaks(s: &Supervision<'_>, watch: &Watch) -> Usage {
    match s.monitor {
        None => watch.peaks,
        // Whose memory and processes are its worker's, which the host sees.
        Some(ref monitor) if monitor.is_engine() => watch.peaks,
        Some(_) => Usage {
            memory_bytes: watch.inside.memory_bytes,
            pids: watch.inside.pids,
            ..watch.peaks
        },
    }
}

/// Whether the memory that the host counts is the program's.
fn counts_memory(s: &Supervision<'_>) -> bool {
    s.monitor.as_ref().is_none_or(Monitor::shares_memory)
}

fn time_is_up(s: &Supervision<'_>, watch: &mut Watch) {
    match &s.monitor {
        Some(monitor) if !monitor.has_run() => {
            let found = format!(
                "the guest held no program within {}, and the monitor's driver does not say why",
                monitor.boot_timeout()
            );
            let remedy = match monitor.is_engine() {
                true => "see the run's events; build the worker anew (`cargo xtask wasm`)",
                false => "see the run's events; raise microvm.bootTimeout if this host is slow",
            };
            unrecordable(s, watch, Fault::new(Code::Run002, "launch.boot", found, remedy));
        }
        _ => end(s, watch, Cause::Timeout, s.time_clause),
    }
}

/// Takes one message of the driver's. Whether there was one.
fn hear(s: &mut Supervision<'_>, watch: &mut Watch) -> bool {
    let heard = s.monitor.as_mut().map(Monitor::hear);
    let said = match heard {
        Some(Ok(Some(Heard::Said(said)))) => said,
        Some(Err(fault)) => {
            unrecordable(s, watch, fault);
            return false;
        }
        _ => return false,
    };
    let recorded = match said {
        Said::Booted { kernel } => append(s, watch, "guest.booted", json!({ "kernel": kernel })),
        Said::Held { posture } => held(s, watch, posture),
        Said::Sample { usage } => {
            watch.inside = watch.inside.max(usage);
            match outgrown(&usage, &watch.inside_recorded) {
                true => {
                    watch.inside_recorded = watch.inside;
                    append(s, watch, "guest.sample", json!(usage))
                }
                false => Ok(()),
            }
        }
        Said::Ended { agent_bytes } => append(s, watch, "guest.ended", json!({ "agentBytes": agent_bytes })),
        Said::Limit { clause } => {
            watch.limits_hit.insert(clause.path());
            append(s, watch, "guest.limit", json!({"clause": clause.path()}))
        }
        Said::Event { name, detail } => {
            if name == EventName::GuestOutOfMemory {
                watch.guest_out_of_memory = true;
                watch.limits_hit.insert("resources.memory");
            }
            append(s, watch, "guest.event", json!({"event": name, "detail": detail}))
        }
        Said::Denied {
            function,
            reason,
            count,
        } => {
            refused_by_host(s, watch, function, reason, count);
            Ok(())
        }
        Said::Trapped { by, detail } => {
            let told = json!({"by": by, "detail": detail});
            watch.trapped.get_or_insert((by, detail));
            append(s, watch, "guest.trapped", told)
        }
        // Where the host's kernel had to end something, that is why.
        Said::Failed { .. } if out_of_memory(s) => {
            memory_used_up(s, watch);
            Ok(())
        }
        Said::Failed { path, found, remedy } => Err(Fault::new(Code::Run002, path, found, remedy)),
    };
    if let Err(fault) = recorded {
        unrecordable(s, watch, fault);
    }
    true
}

fn append(s: &mut Supervision<'_>, watch: &Watch, name: &str, data: serde_json::Value) -> Result<(), Fault> {
    match watch.evidence {
        None => s.log.append("monitor", name, data).map(drop),
        Some(_) => Ok(()),
    }
}

/// A module asked for what the rules of its host calls deny.
fn refused_by_host(s: &mut Supervision<'_>, watch: &mut Watch, function: String, reason: String, count: u64) {
    let entry = DeniedOperation {
        operation: function,
        by: "engine".into(),
        count,
        program: None,
        clause: Some("wasm.hostCalls".into()),
        reason: Some(reason),
        remedy: Some("allow it in wasm.hostCalls".into()),
    };
    let same = |other: &&mut DeniedOperation| other.operation == entry.operation && other.reason == entry.reason;
    if let Some(known) = watch.denied.iter_mut().find(same) {
        known.count = known.count.saturating_add(count).min(MAX_INTEGER);
        return;
    }
    if watch.denied.len() >= MOST_DENIED {
        return;
    }
    if watch.evidence.is_none()
        && let Err(fault) = s.log.append("monitor", "operation.denied", &entry)
    {
        unrecordable(s, watch, fault);
    }
    watch.denied.push(entry);
}

/// The guest holds the program: what its kernel shows is recorded, and if all of it holds the program goes.
fn held(s: &mut Supervision<'_>, watch: &mut Watch, posture: Vec<Observed>) -> Result<(), Fault> {
    append(s, watch, "guest.posture", json!({ "posture": posture }))?;
    let engine = s.monitor.as_ref().is_some_and(Monitor::is_engine);
    // A module's file is not what runs.
    let exchanged = || monitor::exchanged(&posture, &s.executed).filter(|_| !engine);
    let misfit = s.monitor.as_ref().and_then(|monitor| monitor.mismatch(&posture));
    if let Some(fault) = misfit.or_else(exchanged) {
        return Err(fault);
    }
    watch.posture = posture;
    if watch.killed_for.is_none()
        && let Some(monitor) = &s.monitor
    {
        monitor.go()?;
        watch.deadline = Instant::now() + s.wall_time;
    }
    Ok(())
}

/// Passes on what the program had written when it ended. Every writer is dead, so the pipes end.
pub fn drain(output: &mut [OutputPump], plan: &ResourcesPlan, limits_hit: &mut BTreeSet<&'static str>) {
    // A caller that does not read must not hold the run for ever.
    let deadline = Instant::now() + Duration::from_secs(10);
    while output.iter().any(OutputPump::is_open) && Instant::now() < deadline {
        let mut fds: Vec<PollFd<'_>> = output.iter().filter_map(OutputPump::interest).collect();
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        let _ = rustix::event::poll(&mut fds, Some(&timeout));
        drop(fds);
        for index in 0..output.len() {
            let allowance = plan
                .output
                .0
                .saturating_sub(output.iter().map(OutputPump::passed).sum());
            if output[index].turn(allowance) == Progress::OverLimit {
                limits_hit.insert("resources.output");
            }
        }
    }
    output.iter_mut().for_each(OutputPump::close);
}

struct Ready {
    told: bool,
    monitor: bool,
    /// The person has answered.
    answer: bool,
    /// Every process under the filter is gone: its listener would be ready for ever.
    deaf: bool,
    channel: bool,
    signal: bool,
    helper: bool,
    input: bool,
    output: Vec<usize>,
    guests: Vec<PollFlags>,
}

/// `paused`: no denied call is taken now.
fn wait(s: &Supervision<'_>, timeout: Duration, deaf: bool, paused: bool) -> Ready {
    let told = if paused { PollFlags::empty() } else { PollFlags::IN };
    let mut fds = vec![
        PollFd::from_borrowed_fd(s.running.channel(), PollFlags::IN),
        PollFd::from_borrowed_fd(s.signals.as_fd(), PollFlags::IN),
    ];
    // While a question stands what is typed is its answer, and nothing that the program writes covers it.
    let answer = s.asking.as_ref().and_then(Asking::interest);
    let asks = answer.is_some();
    let mut outputs = Vec::new();
    for (index, pump) in s.output.iter().enumerate().filter(|_| !asks) {
        if let Some(interest) = pump.interest() {
            fds.push(interest);
            outputs.push(index);
        }
    }
    let input = s.input.as_ref().filter(|_| !asks).and_then(InputPump::interest);
    let input_at = input.is_some().then_some(fds.len());
    fds.extend(input);
    let listener = s.running.listener().filter(|_| !deaf);
    let listener_at = listener.is_some().then_some(fds.len());
    fds.extend(listener.map(|l| PollFd::from_borrowed_fd(l, told)));
    let helper = s.helper.and_then(|helper| helper.socket().ok());
    let helper_at = helper.is_some().then_some(fds.len());
    fds.extend(helper.map(|h| PollFd::from_borrowed_fd(h, PollFlags::IN)));
    let monitor = s.monitor.as_ref().and_then(Monitor::interest);
    let monitor_at = monitor.is_some().then_some(fds.len());
    fds.extend(monitor);
    let answer_at = asks.then_some(fds.len());
    fds.extend(answer);
    let guests_at = fds.len();
    s.guests.interest(&mut fds, told);
    let timeout = Timespec {
        tv_sec: timeout.as_secs() as i64,
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    if rustix::event::poll(&mut fds, Some(&timeout)).is_err() {
        return Ready {
            told: false,
            monitor: false,
            answer: false,
            deaf,
            channel: false,
            signal: false,
            helper: false,
            input: false,
            output: Vec::new(),
            guests: Vec::new(),
        };
    }
    let fired = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
    let told = listener_at
        .and_then(|at| fds.get(at))
        .map_or(PollFlags::empty(), PollFd::revents);
    Ready {
        told: told.contains(PollFlags::IN),
        monitor: monitor_at.is_some_and(fired),
        answer: answer_at.is_some_and(fired),
        deaf: deaf || (!told.is_empty() && !told.contains(PollFlags::IN)),
        channel: fired(0),
        signal: fired(1),
        helper: helper_at.is_some_and(fired),
        input: input_at.is_some_and(fired),
        output: outputs
            .iter()
            .enumerate()
            .filter(|(i, _)| fired(i + 2))
            .map(|(_, pump)| *pump)
            .collect(),
        guests: fds.iter().skip(guests_at).map(PollFd::revents).collect(),
    }
}

/// How many different denied operations are told apart; a program could make up any number. Beyond, they are counted by call.
const MOST_DENIED: usize = 64;

fn record_told(s: &mut Supervision<'_>, watch: &mut Watch, told: impl IntoIterator<Item = Told>) {
    let now = Instant::now();
    for told in told {
        let told = match told {
            Told::Asked(question) => match s.asking.as_mut().map(|asking| asking.ask(question)) {
                Some(Some(answered)) => match recorded(s, watch, answered) {
                    Some(denied) => Told::Denied(denied),
                    None => continue,
                },
                _ => continue,
            },
            told => told,
        };
        let Denied {
            denial,
            by,
            allowed,
            program,
            ends,
        } = match told {
            Told::Denied(denied) => denied,
            // Answered above.
            Told::Asked(_) => continue,
            Told::Seen {
                name,
                selector,
                files,
                lost,
            } => {
                watch.seen.call(name, selector);
                files.into_iter().for_each(|(path, used)| watch.seen.file(path, used));
                watch.seen.lost += lost;
                continue;
            }
        };
        // It was made, and would be another denial where it is not allowed.
        if let Some(name) = allowed.filter(|_| s.calls.observed) {
            watch.seen.call(name, None);
        }
        watch.pace.count(now);
        let mut entry = DeniedOperation {
            operation: denial.operation,
            by: by.into(),
            count: 1,
            program,
            clause: Some(denial.clause.into()),
            reason: Some(denial.reason),
            remedy: denial.remedy,
        };
        let known = |all: &[DeniedOperation], entry: &DeniedOperation| {
            let same = |other: &DeniedOperation| other.operation == entry.operation && other.program == entry.program;
            all.iter().position(same)
        };
        let mut at = known(&watch.denied, &entry);
        if at.is_none() && watch.denied.len() >= MOST_DENIED {
            // A flood of one call's kinds does not hide another call.
            let call = entry.operation.split(' ').next().unwrap_or_default();
            entry.operation = format!("{call} (others)");
            (entry.program, entry.remedy) = (None, None);
            at = known(&watch.denied, &entry);
        }
        match at.and_then(|at| watch.denied.get_mut(at)) {
            Some(known) => known.count += 1,
            None => {
                if watch.evidence.is_none()
                    && let Err(fault) = s.log.append("kernel", "operation.denied", &entry)
                {
                    unrecordable(s, watch, fault);
                }
                watch.denied.push(entry);
            }
        }
        if ends && watch.killed_for.is_none() {
            end(s, watch, Cause::Policy, "");
        }
    }
}

/// Records what a person allowed; gives what they denied, which is recorded like any denial.
fn recorded(s: &mut Supervision<'_>, watch: &mut Watch, answered: Answered) -> Option<Denied> {
    match answered {
        Answered::Denied(denied) => Some(denied),
        Answered::Allowed(record) => {
            if watch.evidence.is_none()
                && let Err(fault) = s.log.append("person", "operation.allowed", record)
            {
                unrecordable(s, watch, fault);
            }
            None
        }
    }
}

/// From here on this process only looks on: see [`Confinement`].
fn confine(s: &mut Supervision<'_>, watch: &mut Watch) {
    watch.broker = s.confinement.broker().map(Rc::new);
    if let Some(broker) = &watch.broker {
        s.guests.open(broker.clone());
    }
    if let Err(fault) = s.confinement.enter() {
        unrecordable(s, watch, fault);
    }
}

/// What the program sees, which is asked of the broker: it is started first.
fn seen_by<'a>(s: &mut Supervision<'a>, watch: &mut Watch) -> Option<View<'a>> {
    confine(s, watch);
    let view = match watch.broker.clone() {
        Some(broker) => View::new(s.view, s.mounts, broker, s.running.program),
        None => Err(std::io::Error::other("this run has no broker")),
    };
    let told = view.map_err(|e| {
        let found = format!("denied paths cannot be told: {e}");
        Fault::new(Code::Run001, "evidence.denied", found, "write denied: calls")
    });
    told.map_err(|fault| unrecordable(s, watch, fault)).ok()
}

/// What cannot be recorded does not go on.
fn unrecordable(s: &Supervision<'_>, watch: &mut Watch, fault: Fault) {
    watch.evidence.get_or_insert(fault);
    end(s, watch, Cause::Supervisor, "");
}

fn forward_signals(s: &Supervision<'_>, watch: &mut Watch) {
    while let Some(signal) = sr_kernel::process::next_signal(s.signals.as_fd()) {
        if signal == SIGWINCH {
            if let Some((master, caller)) = s.terminal
                && let Ok(size) = rustix::termios::tcgetwinsize(caller)
            {
                // A size that cannot be passed on is only ugly.
                let _ = rustix::termios::tcsetwinsize(master, size);
            }
        } else if FORWARDED.contains(&signal) {
            s.running.signal(signal);
            if [SIGINT, SIGTERM].contains(&signal) {
                watch.asked += 1;
                if watch.asked >= PATIENCE && watch.killed_for.is_none() {
                    end(s, watch, Cause::Cancelled, "");
                }
            }
        }
    }
}

fn end(s: &Supervision<'_>, watch: &mut Watch, cause: Cause, clause: &'static str) {
    watch.killed_for = Some(cause);
    if !clause.is_empty() {
        watch.limits_hit.insert(clause);
    }
    let cpu = usage::cpu_of_tree(&roots(s));
    watch.peaks.cpu_micros = watch.peaks.cpu_micros.max(Some(cpu));
    s.running.kill();
}

fn sample(s: &mut Supervision<'_>, watch: &mut Watch, now: Instant) {
    let usage = s.group.map(RunGroup::usage).unwrap_or_default();
    look(s, watch, usage, now);
}

/// What the group held at most says more now than what it holds.
fn last_sample(s: &mut Supervision<'_>, watch: &mut Watch) {
    let peaks = s.group.map(RunGroup::peaks).unwrap_or_default();
    let killed = watch.killed_for.is_some();
    look(s, watch, peaks, Instant::now());
    // A limit that was met besides the one for which it was ended.
    if killed && counts_memory(s) && out_of_memory(s) {
        watch.limits_hit.insert("resources.memory");
    }
    let own = s.group.filter(|_| killed && s.monitor.is_none());
    if own.and_then(RunGroup::pids_limit_hits).is_some_and(|n| n > 0) {
        watch.limits_hit.insert("resources.pids");
    }
}

fn look(s: &mut Supervision<'_>, watch: &mut Watch, mut usage: Usage, now: Instant) {
    let counted = |limit: &Option<Limit>| {
        let mechanism = limit.as_ref().map(|limit| &limit.mechanism);
        matches!(mechanism, Some(LimitMechanism::Cgroup { .. }))
    };
    if !counted(&s.plan.memory) || !counted(&s.plan.pids) {
        let tree = usage::of_tree(&roots(s));
        usage.memory_bytes = usage.memory_bytes.or(tree.memory_bytes);
        usage.pids = usage.pids.or(tree.pids);
    }
    disk(s, watch, &mut usage, now);
    watch.samples += 1;
    watch.peaks = watch.peaks.max(usage);
    if watch.killed_for.is_none() {
        enforce(s, watch, &usage, now);
    }
    let worth = watch.samples == 1 || outgrown(&usage, &watch.recorded) || watch.samples.is_multiple_of(100);
    if worth && watch.evidence.is_none() {
        watch.recorded = watch.recorded.max(usage);
        if let Err(fault) = s.log.append("supervisor", "resource.sample", json!(usage)) {
            unrecordable(s, watch, fault);
        }
    }
}

/// Whether the host's kernel has ended something for want of memory.
fn out_of_memory(s: &Supervision<'_>) -> bool {
    s.group.and_then(RunGroup::oom_kills).is_some_and(|n| n > 0)
}

/// Whether something of `usage` is more than what was recorded by more than a quarter: however often one looks, that is told
/// a few times.
fn outgrown(usage: &Usage, recorded: &Usage) -> bool {
    let grown = |new: Option<u64>, old: Option<u64>| new.unwrap_or(0) > old.unwrap_or(0).saturating_mul(5) / 4;
    grown(usage.memory_bytes, recorded.memory_bytes)
        || grown(usage.pids, recorded.pids)
        || grown(usage.disk_bytes, recorded.disk_bytes)
}

fn exact_memory(s: &Supervision<'_>, watch: &Watch) -> Option<u64> {
    usage::exact_memory(&roots(s), watch.broker.as_deref()?)
}

/// The processes from which every other of the sandbox descends.
fn roots(s: &Supervision<'_>) -> Vec<i32> {
    std::iter::once(s.running.init_pid()).chain(s.guests.pids()).collect()
}

fn disk(s: &Supervision<'_>, watch: &mut Watch, usage: &mut Usage, now: Instant) {
    let mut full = false;
    let mut bytes = 0;
    // Of a directory that has a project the kernel says what that holds.
    if let Ok(stat) = rustix::fs::fstatfs(s.quota.unwrap_or(s.writable)) {
        let block = stat.f_bsize as u64;
        bytes = (stat.f_blocks - stat.f_bfree) * block;
        // A file system on a disk takes blocks for more than what is written: it says no before the last one is taken.
        let spare = s.quota.map_or(0, |_| QUOTA_SPARE / block);
        full = stat.f_bfree <= spare || stat.f_ffree == 0;
    }
    if let (Some(layers), None) = (s.layers, s.quota)
        && now >= watch.next_walk
    {
        let inodes = s.plan.disk.value / 4096;
        let (stored, entries) = usage::of_folder(layers, s.plan.disk.value, inodes.max(4096));
        // Walking may take long: it is never more than a tenth of the supervisor's time.
        watch.next_walk = Instant::now() + (now.elapsed() * 10).max(s.sample_interval);
        bytes += stored;
        if bytes > s.plan.disk.value || entries > inodes.max(4096) {
            end(s, watch, Cause::Disk, "resources.disk");
        }
    }
    usage.disk_bytes = Some(bytes);
    if full {
        watch.limits_hit.insert("resources.disk");
        let since = *watch.disk_full_since.get_or_insert(now);
        if now.duration_since(since) >= PERSISTENT && watch.killed_for.is_none() {
            end(s, watch, Cause::Disk, "resources.disk");
        }
    } else {
        watch.disk_full_since = None;
    }
}

/// The memory that the host counts is used up.
fn memory_used_up(s: &mut Supervision<'_>, watch: &mut Watch) {
    if counts_memory(s) {
        return end(s, watch, Cause::Memory, "resources.memory");
    }
    // The guest has its own account: this is the monitor's.
    let found =
        "the monitor of the guest used up the memory that is the guest's and its own, or the host had none left";
    let recorded = append(s, watch, "monitor.outOfMemory", json!({"found": found}));
    let remedy = "free memory on the host, or raise resources.memory";
    let fault = Fault::new(Code::Run002, "run.monitor", found, remedy);
    unrecordable(s, watch, recorded.err().unwrap_or(fault));
}

fn enforce(s: &mut Supervision<'_>, watch: &mut Watch, usage: &Usage, now: Instant) {
    if let Some(group) = s.group {
        if out_of_memory(s) {
            return memory_used_up(s, watch);
        }
        if let Some(hits) = group.pids_limit_hits().filter(|_| s.monitor.is_none()) {
            if hits > watch.last_hits {
                watch.limits_hit.insert("resources.pids");
            }
            pids_full(s, watch, hits > watch.last_hits, now);
            watch.last_hits = hits;
        }
    }
    if let Some(memory) = &s.plan.memory
        && memory.mechanism == LimitMechanism::Watchdog
        && usage.memory_bytes.is_some_and(|used| used > memory.value)
        && exact_memory(s, watch).is_none_or(|used| used > memory.value)
    {
        return memory_used_up(s, watch);
    }
    if let Some(pids) = &s.plan.pids
        && pids.mechanism == LimitMechanism::Rlimit
    {
        let full = usage.pids.is_some_and(|n| n >= pids.value);
        if full {
            watch.limits_hit.insert("resources.pids");
        }
        pids_full(s, watch, full, now);
    }
}

/// A program that keeps running into its limit on processes is a fork bomb; one that meets it once is not.
fn pids_full(s: &Supervision<'_>, watch: &mut Watch, full: bool, now: Instant) {
    if !full {
        watch.pids_full_since = None;
        return;
    }
    let since = *watch.pids_full_since.get_or_insert(now);
    if now.duration_since(since) >= PERSISTENT {
        end(s, watch, Cause::Pids, "resources.pids");
    }
}
