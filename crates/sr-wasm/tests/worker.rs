//! The worker, driven as a supervisor drives it: over one socket, with what it says looked at word for word.

#![allow(clippy::unwrap_used)]

use rustix::io::FdFlags;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};
use sr_common::control::Control;
use sr_common::module::{CodeSettings, Metering, ModuleKind, ModuleLimits, ModulePlan, Preopen};
use sr_common::monitor::{MESSAGE, Order, Said, Trap};
use sr_wasm::{HostCalls, Rule};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const WORKER: &str = env!("CARGO_BIN_EXE_safe-run-wasm");

/// Held while a descriptor is there that every process inherits.
static SPAWN: Mutex<()> = Mutex::new(());

/// Nothing else is started meanwhile, and nothing that this process was started with is handed on.
fn alone() -> MutexGuard<'static, ()> {
    static OWN: Once = Once::new();
    let alone = SPAWN.lock().unwrap_or_else(PoisonError::into_inner);
    OWN.call_once(|| {
        let inherited = (3..256).filter_map(|number| sr_kernel::process::inherited(number).ok());
        inherited.for_each(std::mem::forget);
    });
    alone
}

/// A module, its code and the plan for it.
struct Case {
    place: TempDir,
    plan: ModulePlan,
}

fn settings(metering: Metering) -> CodeSettings {
    CodeSettings {
        metering,
        stack: 512 << 10,
    }
}

fn compile(file: &Path, settings: &str) -> Output {
    let mut command = Command::new(WORKER);
    let command = command.args(["compile", "--settings", settings]).arg(file);
    let _alone = alone();
    command.output().unwrap()
}

impl Case {
    fn of(wat: &str) -> Case {
        Case::metered(wat, Metering::Deadline)
    }

    fn metered(wat: &str, metering: Metering) -> Case {
        let place = tempfile::tempdir().unwrap();
        let binary = wat::parse_str(wat).unwrap();
        let module = place.path().join("module");
        std::fs::write(&module, &binary).unwrap();
        let settings = settings(metering);
        let compiled = compile(&module, &serde_json::to_string(&settings).unwrap());
        assert!(compiled.status.success(), "{compiled:?}");
        let code = place.path().join("code");
        std::fs::write(&code, compiled.stdout).unwrap();
        let plan = ModulePlan {
            kind: ModuleKind::of(&binary).unwrap(),
            code: code.to_str().unwrap().to_owned(),
            settings,
            argv: vec!["guest".to_owned()],
            env: BTreeMap::new(),
            preopens: Vec::new(),
            limits: ModuleLimits {
                memory: 8 << 20,
                table_elements: 1000,
                open_files: 5,
                fuel: (metering == Metering::Fuel).then_some(100_000),
            },
            host_calls: HostCalls::default(),
        };
        Case { place, plan }
    }

    fn shows(mut self, name: &str, writable: bool) -> (Case, PathBuf) {
        let path = self.place.path().join(format!("shown{}", name.replace('/', "-")));
        std::fs::create_dir(&path).unwrap();
        self.plan.preopens.push(Preopen {
            name: name.to_owned(),
            path: path.to_str().unwrap().to_owned(),
            writable,
        });
        (self, path)
    }

    fn rule(mut self, name: &str, rule: Rule) -> Case {
        self.plan.host_calls.rules.insert(name.to_owned(), rule);
        self
    }

    fn start(&self) -> Worker {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let child = {
            let _alone = alone();
            rustix::io::fcntl_setfd(&theirs, FdFlags::empty()).unwrap();
            let child = Command::new(WORKER)
                .arg("run")
                .env_clear()
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn();
            drop(theirs);
            child.unwrap()
        };
        let worker = Worker { socket, child };
        worker.order(&Order::Module {
            plan: Box::new(self.plan.clone()),
        });
        worker
    }

    /// To its end, with this input.
    fn run_with(&self, input: &[u8]) -> Ended {
        let mut worker = self.start();
        let mut said = worker.hold();
        if worker
            .child
            .stdin
            .as_mut()
            .is_some_and(|stdin| stdin.write_all(input).is_err())
        {
            panic!("no input is taken: {said:?}");
        }
        drop(worker.child.stdin.take());
        if !matches!(said.last(), Some(Said::Failed { .. })) {
            worker.order(&Order::Go);
        }
        while let Some(more) = worker.hear() {
            said.push(more);
        }
        let output = worker.child.wait_with_output().unwrap();
        Ended {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            said,
        }
    }

    fn run(&self) -> Ended {
        self.run_with(b"")
    }
}

struct Worker {
    socket: OwnedFd,
    child: Child,
}

impl Worker {
    fn order(&self, order: &Order) {
        let text = serde_json::to_vec(order).unwrap();
        rustix::net::send(&self.socket, &text, SendFlags::NOSIGNAL).unwrap();
    }

    fn hear(&self) -> Option<Said> {
        let mut message = vec![0; MESSAGE];
        let (read, _) = rustix::net::recv(&self.socket, &mut message, RecvFlags::empty()).unwrap_or((0, 0));
        (read > 0).then(|| serde_json::from_slice(&message[..read]).unwrap())
    }

    /// Until it holds the module, or has failed.
    fn hold(&self) -> Vec<Said> {
        let mut said = Vec::new();
        while let Some(more) = self.hear() {
            let last = matches!(more, Said::Held { .. } | Said::Failed { .. });
            said.push(more);
            if last {
                break;
            }
        }
        said
    }
}

#[derive(Debug)]
struct Ended {
    status: Option<i32>,
    stdout: String,
    stderr: String,
    said: Vec<Said>,
}

impl Ended {
    fn trapped(&self) -> Option<(Trap, &str)> {
        self.said.iter().find_map(|said| match said {
            Said::Trapped { by, detail } => Some((*by, detail.as_str())),
            _ => None,
        })
    }

    fn failed(&self) -> (&str, &str) {
        match &self.said[..] {
            [Said::Failed { path, found, .. }] => (path, found),
            other => panic!("{other:?}"),
        }
    }

    /// The first of each is told as it happens, the others at the end.
    fn denied(&self) -> Vec<(&str, &str, u64)> {
        let mut all: Vec<(&str, &str, u64)> = Vec::new();
        for said in &self.said {
            let Said::Denied {
                function,
                reason,
                count,
            } = said
            else {
                continue;
            };
            match all
                .iter_mut()
                .find(|(f, r, _)| (f, r) == (&function.as_str(), &reason.as_str()))
            {
                Some((.., known)) => *known += count,
                None => all.push((function, reason, *count)),
            }
        }
        all
    }

    fn memory(&self) -> u64 {
        let memory = |said: &Said| match said {
            Said::Sample { usage } => usage.memory_bytes,
            _ => None,
        };
        self.said.iter().find_map(memory).unwrap()
    }
}

/// A module with the imports that the tests want, and `_start`.
fn guest(parts: &str, body: &str) -> String {
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 2)
        (func $say (param $fd i32) (param $at i32) (param $length i32)
            (i32.store (i32.const 0) (local.get $at))
            (i32.store (i32.const 4) (local.get $length))
            (if (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (then (call $exit (i32.const 99)))))
        {parts}
        (func (export "_start") {body}))"#
    )
}

/// Opens `path` below descriptor 3, and leaves with the error number if there is one; the descriptor is then at 100.
fn opening(path: &str, oflags: i32, rights: i32) -> (String, String) {
    let length = path.len();
    (
        format!("(data (i32.const 1024) {path:?}) (global $errno (mut i32) (i32.const 0))"),
        format!(
            "(global.set $errno (call $open (i32.const 3) (i32.const 1) (i32.const 1024) (i32.const {length})
                (i32.const {oflags}) (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 100)))
            (if (global.get $errno) (then (call $exit (global.get $errno))))"
        ),
    )
}

#[test]
fn a_module_says_hello_with_its_arguments_and_variables() {
    let body = r#"(drop (call $args (i32.const 200) (i32.const 300)))
        (drop (call $environ (i32.const 240) (i32.const 400)))
        (call $say (i32.const 1) (i32.const 300) (i32.const 12))
        (call $say (i32.const 1) (i32.const 400) (i32.const 8))
        (call $say (i32.const 2) (i32.const 1024) (i32.const 5))"#;
    let mut case = Case::of(&guest(r#"(data (i32.const 1024) "error")"#, body));
    case.plan.argv.push("world".to_owned());
    case.plan.env.insert("A".to_owned(), "b".to_owned());
    case.plan.env.insert("C".to_owned(), "d".to_owned());
    let ended = case.run();
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(
        (ended.stdout.as_str(), ended.stderr.as_str()),
        ("guest\0world\0A=b\0C=d\0", "error")
    );
    let [
        Said::Booted { kernel },
        Said::Held { posture },
        Said::Sample { .. },
        Said::Ended { agent_bytes: 0 },
    ] = &ended.said[..]
    else {
        panic!("{ended:?}")
    };
    assert_eq!(kernel, "wasmtime 48.0.0");
    let controls: Vec<Control> = posture.iter().map(|line| line.control).collect();
    assert_eq!(
        controls,
        [
            Control::Memory,
            Control::Fuel,
            Control::OpenFiles,
            Control::HostCalls,
            Control::Filesystem
        ]
    );
    assert!(
        posture.iter().all(|line| line.holds && line.mechanism == *kernel),
        "{posture:?}"
    );
    assert_eq!(ended.memory(), 128 << 10);
}

#[test]
fn its_status_is_the_module_s() {
    let ended = Case::of(&guest("", "(call $exit (i32.const 7))")).run();
    assert_eq!((ended.status, ended.trapped()), (Some(7), None));
}

#[test]
fn a_trap_is_told_in_the_engine_s_words() {
    let ended = Case::of(&guest("", "unreachable")).run();
    assert_eq!(ended.status, Some(134));
    let Some((Trap::Other, detail)) = ended.trapped() else {
        panic!("{ended:?}")
    };
    assert!(detail.contains("`unreachable`") && !detail.contains('\n'), "{detail}");
    // What was out of the memory is a trap of another kind, by a signal.
    let ended = Case::of(&guest("", "(drop (i32.load (i32.const 0x7fffffff)))")).run();
    assert_eq!(ended.status, Some(134));
    assert!(
        ended
            .trapped()
            .is_some_and(|(_, detail)| detail.contains("out of bounds")),
        "{ended:?}"
    );
    let ended = Case::of(&guest("", "(drop (i32.div_u (i32.const 1) (i32.load (i32.const 0))))")).run();
    assert!(
        ended
            .trapped()
            .is_some_and(|(_, detail)| detail.contains("divide by zero")),
        "{ended:?}"
    );
}

#[test]
fn fuel_is_used_up_and_epochs_only_tick() {
    let endless = guest("", "(loop (br 0))");
    let ended = Case::metered(&endless, Metering::Fuel).run();
    assert_eq!(
        (ended.status, ended.trapped()),
        (Some(137), Some((Trap::Fuel, "all fuel is used up")))
    );
    let counts = guest(
        "(global $n (mut i32) (i32.const 200000000))",
        "(loop (global.set $n (i32.sub (global.get $n)
        (i32.const 1))) (br_if 0 (global.get $n)))",
    );
    let ended = Case::metered(&counts, Metering::Epochs).run();
    assert_eq!(ended.status, Some(0), "{ended:?}");
}

#[test]
fn memory_and_tables_end_at_their_limits() {
    let grows = guest(
        "",
        "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable",
    );
    let ended = Case::of(&grows).run();
    assert_eq!((ended.status, ended.memory()), (Some(137), 8 << 20));
    assert_eq!(ended.trapped(), Some((Trap::Memory, "more memory than its limit")));
    let grows = guest(
        "(table $t 1 funcref)",
        "(loop (br_if 0 (i32.ne (table.grow $t (ref.null func) (i32.const 100))
        (i32.const -1)))) unreachable",
    );
    assert!(matches!(Case::of(&grows).run().trapped(), Some((Trap::Table, _))));
    // More than it may have from the start.
    let large = r#"(module (memory 1000) (func (export "_start")))"#;
    assert!(matches!(Case::of(large).run().trapped(), Some((Trap::Memory, _))));
}

#[test]
fn recursion_ends_with_the_stack() {
    let deep = guest(
        "(func $f (param i64) (result i64) (i64.add (call $f (local.get 0)) (i64.const 1)))",
        "(drop (call $f
        (i64.const 0)))",
    );
    let ended = Case::of(&deep).run();
    assert_eq!(
        (ended.status, ended.trapped().map(|(by, _)| by)),
        (Some(137), Some(Trap::Stack))
    );
}

#[test]
fn directories_are_as_the_plan_has_them() {
    let (parts, opens) = opening("file", 0, 2);
    let reads = guest(&parts, &format!(
        "{opens} (i32.store (i32.const 0) (i32.const 2048)) (i32.store (i32.const 4) (i32.const 100))
        (if (call $read (i32.load (i32.const 100)) (i32.const 0) (i32.const 1) (i32.const 8)) (then (call $exit (i32.const
        98)))) (call $say (i32.const 1) (i32.const 2048) (i32.load (i32.const 8)))"));
    let (parts, opens) = opening("made", 1, 64);
    let writes = guest(
        &parts,
        &format!("{opens} (call $say (i32.load (i32.const 100)) (i32.const 1024) (i32.const 4))"),
    );
    for writable in [false, true] {
        let (case, path) = Case::of(&reads).shows("/data", writable);
        std::fs::write(path.join("file"), "content").unwrap();
        let ended = case.run();
        assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), "content"), "{ended:?}");
        let (case, path) = Case::of(&writes).shows(".", writable).0.shows("/other", true).0.pair();
        let ended = case.run();
        let made = std::fs::read_to_string(path.join("made")).ok();
        match writable {
            true => assert_eq!((ended.status, made.as_deref()), (Some(0), Some("made")), "{ended:?}"),
            false => assert_eq!((ended.status, made), (Some(63), None), "{ended:?}"),
        }
        let Some(Said::Held { posture }) = ended.said.get(1) else {
            panic!("{ended:?}")
        };
        let line = posture.iter().find(|line| line.control == Control::Filesystem).unwrap();
        let words = if writable { ". rw, /other rw" } else { ". ro, /other rw" };
        assert_eq!((line.requested.as_str(), line.observed.as_str()), (words, words));
    }
}

impl Case {
    /// And the first directory that it shows.
    fn pair(self) -> (Case, PathBuf) {
        let path = PathBuf::from(&self.plan.preopens[0].path);
        (self, path)
    }
}

#[test]
fn host_calls_that_are_denied_are_told() {
    let (parts, opens) = opening("file", 0, 2);
    let ended = Case::of(&guest(&parts, &opens))
        .shows("/data", false)
        .0
        .rule("path_open", Rule::Deny)
        .run();
    assert_eq!(ended.status, Some(76));
    assert_eq!(ended.denied(), [("path_open", "its rule is deny", 1)]);
    // By another name the working directory is where it is.
    for (allowed, status) in [("/data", 0), ("/", 0), ("/file", 76), ("/other", 76)] {
        let within = Rule::Within {
            paths: vec![allowed.to_owned()],
        };
        let (mut case, path) = Case::of(&guest(&parts, &opens)).shows("/data", false);
        std::fs::write(path.join("file"), "").unwrap();
        let shown = case.plan.preopens[0].clone();
        case.plan.preopens.insert(
            0,
            Preopen {
                name: ".".to_owned(),
                ..shown
            },
        );
        let ended = case.rule("path_open", within).run();
        assert_eq!(ended.status, Some(status), "{allowed}: {ended:?}");
    }
    // A hundred reasons.
    let many = guest(
        "(global $n (mut i32) (i32.const 100))",
        "(loop
        (drop (call $random (i32.const 0) (i32.add (global.get $n) (i32.const 8))))
        (drop (call $random (i32.const 0) (i32.add (global.get $n) (i32.const 8))))
        (global.set $n (i32.sub (global.get $n) (i32.const 1))) (br_if 0 (global.get $n)))",
    );
    let ended = Case::of(&many).rule("random_get", Rule::AtMost { bytes: 8 }).run();
    let denied = ended.denied();
    assert_eq!((ended.status, denied.len()), (Some(0), 65));
    assert!(denied.contains(&("random_get", "others", 72)), "{denied:?}");
    assert!(
        denied.contains(&("random_get", "108 bytes, and 8 are the most", 2)),
        "{denied:?}"
    );
    // Where there is nobody to be told.
    let ended = Case::of(&guest("", "(call $exit (i32.const 0))"))
        .rule("proc_exit", Rule::Deny)
        .run();
    assert_eq!(
        (ended.status, ended.trapped()),
        (Some(126), Some((Trap::HostCall, "host call proc_exit is denied")))
    );
}

#[test]
fn files_that_are_open_are_bounded() {
    let (parts, _) = opening("file", 0, 2);
    let all = guest(
        &format!("{parts} (global $n (mut i32) (i32.const 0))"),
        "(loop
        (if (i32.eqz (call $open (i32.const 3) (i32.const 1) (i32.const 1024) (i32.const 4) (i32.const 0) (i64.const 2)
            (i64.const 0) (i32.const 0) (i32.const 100)))
        (then (global.set $n (i32.add (global.get $n) (i32.const 1))) (br 1))))
        (call $exit (global.get $n))",
    );
    let (case, path) = Case::of(&all).shows("/data", false);
    std::fs::write(path.join("file"), "").unwrap();
    assert_eq!(case.run().status, Some(5));
}

#[test]
fn input_is_read_and_waited_for() {
    let echoes = guest("", "(loop
        (i32.store (i32.const 0) (i32.const 2048)) (i32.store (i32.const 4) (i32.const 3))
        (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then (call $exit (i32.const 98))))
        (if (i32.load (i32.const 8)) (then (call $say (i32.const 1) (i32.const 2048) (i32.load (i32.const 8))) (br 1))))");
    let ended = Case::of(&echoes).run_with(b"one two three");
    assert_eq!(
        (ended.status, ended.stdout.as_str()),
        (Some(0), "one two three"),
        "{ended:?}"
    );
    // A subscription to it (type 1, descriptor 0) and one to the monotonic clock, 100 ms from now: how many came, and which.
    let both = guest(
        r#"(data (i32.const 1008) "\07") (data (i32.const 1016) "\01") (data (i32.const 1056) "\08")
        (data (i32.const 1064) "\00") (data (i32.const 1072) "\01") (data (i32.const 1080) "\00\e1\f5\05")"#,
        "(if (call $poll (i32.const 1008) (i32.const 2048) (i32.const 2) (i32.const 8)) (then (call $exit (i32.const 98))))
        (call $exit (i32.add (i32.mul (i32.load (i32.const 8)) (i32.const 10)) (i32.load (i32.const 2048))))",
    );
    let case = Case::of(&both);
    assert_eq!(case.run_with(b"x").status, Some(17));
    let start = Instant::now();
    let worker = case.start();
    worker.hold();
    worker.order(&Order::Go);
    while worker.hear().is_some() {}
    let Worker { mut child, .. } = worker;
    // Its input stayed open, and the clock came.
    let input = child.stdin.take();
    assert_eq!(child.wait().unwrap().code(), Some(18));
    assert!(input.is_some() && start.elapsed() >= Duration::from_millis(100));
}

#[test]
fn nothing_of_the_module_runs_before_it_is_let_go() {
    let starts = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 0) "\08\00\00\00\01\00\00\00!")
        (func $f (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16))))
        (start $f) (func (export "_start")))"#;
    let case = Case::of(starts);
    let mut worker = case.start();
    assert!(matches!(worker.hold().last(), Some(Said::Held { .. })));
    let stdout = worker.child.stdout.take().unwrap();
    let mut wait = [rustix::event::PollFd::new(&stdout, rustix::event::PollFlags::IN)];
    let moment = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 300_000_000,
    };
    assert_eq!(rustix::event::poll(&mut wait, Some(&moment)), Ok(0));
    worker.order(&Order::Go);
    assert_eq!(rustix::event::poll(&mut wait, None), Ok(1));
    assert!(worker.child.wait().unwrap().success());
    // A supervisor that goes lets nothing go.
    let worker = case.start();
    worker.hold();
    let Worker { socket, child } = worker;
    drop(socket);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
}

/// A component with `wasi:cli/run`, whose core module has the function `run` and what `parts` give it.
fn component(imports: &str, with: &str, parts: &str, body: &str) -> String {
    format!(
        r#"(component
        {imports}
        (core module $m {parts} (func (export "run") (result i32) {body}))
        (core instance $i (instantiate $m {with}))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (component $c (import "f" (func $f (result (result)))) (export "run" (func $f)))
        (instance $r (instantiate $c (with "f" (func $run))))
        (export "wasi:cli/run@0.2.0" (instance $r)))"#
    )
}

#[test]
fn a_component_runs_as_a_command() {
    for (body, status) in [("(i32.const 0)", 0), ("(i32.const 1)", 1)] {
        let (case, _) = Case::of(&component("", "", "", body)).shows("/data", true);
        let ended = case.run();
        assert_eq!((ended.status, ended.trapped()), (Some(status), None), "{ended:?}");
        let Some(Said::Held { posture }) = ended.said.get(1) else {
            panic!("{ended:?}")
        };
        assert!(posture.iter().all(|line| line.holds), "{posture:?}");
    }
    let ended = Case::of(&component("", "", "", "unreachable")).run();
    assert_eq!(
        (ended.status, ended.trapped().map(|(by, _)| by)),
        (Some(134), Some(Trap::Other))
    );
}

#[test]
fn a_component_is_linked_with_its_rules() {
    let number = component(
        r#"(import "wasi:random/random@0.2.0" (instance $random (export "get-random-u64" (func (result u64)))))
        (core func $number (canon lower (func $random "get-random-u64")))"#,
        r#"(with "random" (instance (export "number" (func $number))))"#,
        r#"(import "random" "number" (func $number (result i64)))"#,
        "(drop (call $number)) (i32.const 0)",
    );
    assert_eq!(Case::of(&number).run().status, Some(0));
    for (name, status) in [
        ("wasi:random/random", 126),
        ("wasi:random/random#get-random-u64", 126),
        ("wasi:random/random#get-random-bytes", 0),
        ("random_get", 0),
    ] {
        let ended = Case::of(&number).rule(name, Rule::Deny).run();
        assert_eq!(ended.status, Some(status), "{name} {ended:?}");
        match status {
            0 => assert_eq!(ended.denied(), []),
            _ => assert_eq!(
                ended.denied(),
                [("wasi:random/random#get-random-u64", "its rule is deny", 1)]
            ),
        }
    }
    let bytes = |count: u32| {
        component(
            r#"(import "wasi:random/random@0.2.0" (instance $random
                (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
            (core module $library (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
            (core instance $library (instantiate $library))
            (core func $bytes (canon lower (func $random "get-random-bytes")
                (memory (core memory $library "memory")) (realloc (core func $library "realloc"))))"#,
            r#"(with "random" (instance (export "bytes" (func $bytes))))"#,
            r#"(import "random" "bytes" (func $bytes (param i64 i32)))"#,
            &format!("(call $bytes (i64.const {count}) (i32.const 0)) (i32.const 0)"),
        )
    };
    let most = || Rule::AtMost { bytes: 8 };
    let case = |count| Case::of(&bytes(count)).rule("wasi:random/random#get-random-bytes", most());
    assert_eq!(case(8).run().status, Some(0));
    let ended = case(9).run();
    assert_eq!(
        (ended.status, ended.trapped().map(|(by, _)| by)),
        (Some(126), Some(Trap::HostCall))
    );
    assert_eq!(
        ended.denied(),
        [("wasi:random/random#get-random-bytes", "9 bytes, and 8 are the most", 1)]
    );
}

#[test]
fn what_cannot_be_loaded_fails_before_it_is_held() {
    let case = Case::of(&guest("", ""));
    std::fs::write(&case.plan.code, "garbage").unwrap();
    assert_eq!(case.run().failed().0, "launch.module");
    let mut case = Case::of(&guest("", ""));
    case.plan.settings = settings(Metering::Epochs);
    let ended = case.run();
    assert_eq!((ended.status, ended.failed().0), (Some(1), "launch.module"));
    assert!(ended.failed().1.contains("epoch"), "{ended:?}");
    let mut case = Case::of(&guest("", ""));
    case.plan.kind = ModuleKind::Component;
    assert_eq!(case.run().failed().0, "launch.module");
    let mut case = Case::of(&guest("", ""));
    case.plan.code.push_str("-none");
    let ended = case.run();
    assert!(ended.failed().1.contains("code-none"), "{ended:?}");
    // A library.
    let ended = Case::of(r#"(module (func (export "other")))"#).run();
    assert_eq!(ended.failed().0, "launch.module");
    assert!(
        ended.failed().1.contains("\"_start\"; it exports: other") || ended.failed().1.contains("other"),
        "{ended:?}"
    );
    let ended = Case::of("(component)").run();
    assert_eq!(ended.failed().0, "launch.module");
    // What the plan cannot mean.
    let mut case = Case::of(&guest("", ""));
    case.plan.limits.fuel = Some(5);
    assert!(case.run().failed().1.contains("fuel is given where it is metered"));
    let (case, path) = Case::of(&guest("", "")).shows("/data", false);
    std::fs::remove_dir(path).unwrap();
    assert!(case.run().failed().1.contains("data"));
}

#[test]
fn a_module_that_is_none_is_refused_in_a_line() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("module");
    let settings = serde_json::to_string(&settings(Metering::Deadline)).unwrap();
    let refused = |content: &[u8], settings: &str| {
        std::fs::write(&file, content).unwrap();
        let output = compile(&file, settings);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), output.stdout.len(), said.lines().count()),
            (Some(1), 0, 1),
            "{said}"
        );
        said
    };
    assert!(refused(b"(module)", &settings).contains("does not begin with \\0asm"));
    assert!(!refused(b"\0asm\x01\0\0\0\xff\xff", &settings).is_empty());
    let wants = wat::parse_str(r#"(module (import "env" "system" (func)))"#).unwrap();
    assert!(refused(&wants, &settings).contains("env.system"));
    let wants = wat::parse_str(r#"(component (import "a:b/c" (instance (export "f" (func)))))"#).unwrap();
    assert!(refused(&wants, &settings).contains("a:b/c"));
    let module = wat::parse_str("(module)").unwrap();
    assert!(refused(&module, "{}").contains("--settings: missing field"));
    assert!(refused(&module, r#"{"metering":"fuel","stack":1}"#).contains("max_stack"));
    std::fs::remove_file(&file).unwrap();
    let none = compile(&file, &settings);
    assert!(String::from_utf8(none.stderr).unwrap().contains("No such file"));
    // As large as can be, and one more.
    std::fs::File::create(&file).unwrap().set_len((64 << 20) + 1).unwrap();
    let large = compile(&file, &settings);
    assert!(
        String::from_utf8(large.stderr)
            .unwrap()
            .contains("more than 67108864 bytes")
    );
}

#[test]
fn it_says_what_it_is() {
    let _alone = alone();
    let said = |arguments: &[&str]| {
        Command::new(WORKER)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let version = String::from_utf8(said(&["--version"]).stdout).unwrap();
    assert_eq!(
        version,
        format!("safe-run-wasm {} (wasmtime 48.0.0)\n", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(said(&["--help"]).status.code(), Some(2));
    let alone = said(&["run"]);
    assert_eq!(alone.status.code(), Some(1));
    assert!(String::from_utf8(alone.stderr).unwrap().contains("started by safe-run"));
}
