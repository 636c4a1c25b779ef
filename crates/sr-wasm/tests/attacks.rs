//! Hostile guests: each ends for the right cause, and the process that runs them goes on.

#![allow(clippy::unwrap_used)]

use sr_wasm::{
    Cause, Clock, ExecutionResult, FuelConfig, HostCalls, Invocation, ResourceViolation, Rule, SandboxError,
    SecureSandbox, SecureSandboxConfig,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

fn config() -> SecureSandboxConfig {
    SecureSandboxConfig {
        max_memory: 4 << 20,
        max_execution_time_ms: 300,
        enable_fuel: false,
        ..SecureSandboxConfig::default()
    }
}

fn run(config: SecureSandboxConfig, wat: &str) -> Result<ExecutionResult, SandboxError> {
    run_with(config, wat, Invocation::of("_start"))
}

fn run_with(config: SecureSandboxConfig, wat: &str, invocation: Invocation) -> Result<ExecutionResult, SandboxError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let sandbox = SecureSandbox::new(config)?;
    let code = sandbox.compile(wat.as_bytes())?;
    runtime.block_on(sandbox.execute(&code, invocation))
}

fn ended(config: SecureSandboxConfig, wat: &str) -> ExecutionResult {
    run(config, wat).unwrap()
}

/// A function `_start` with the imports and the memory that the tests want.
fn guest(body: &str) -> String {
    guest_with("", body)
}

fn guest_with(parts: &str, body: &str) -> String {
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        {parts}
        (func (export "_start") {body}))"#
    )
}

/// Opens `path` below the first directory, and leaves with the error number.
fn opens(path: &str) -> String {
    guest_with(
        &format!("(data (i32.const 1024) {path:?})"),
        &format!(
            "(call $exit (call $open (i32.const 3) (i32.const 1) (i32.const 1024) (i32.const {}) (i32.const 0)
                (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8)))",
            path.len()
        ),
    )
}

const LOOP: &str = "(loop (br 0))";

#[test]
fn an_endless_loop_ends_when_its_time_is_up() {
    let start = Instant::now();
    let result = ended(config(), &guest(LOOP));
    assert_eq!(result.cause, Cause::Deadline);
    assert!(
        !result.success && result.execution_time >= Duration::from_millis(300),
        "{result:?}"
    );
    assert!(start.elapsed() < Duration::from_secs(20));
    assert!(matches!(
        result.violations[..],
        [ResourceViolation::ExecutionTimeout { .. }]
    ));
}

#[test]
fn an_endless_loop_ends_when_its_fuel_is_used_up() {
    let fuel = SecureSandboxConfig {
        enable_fuel: true,
        enable_epochs: false,
        max_fuel: 100_000,
        max_execution_time_ms: 60_000,
        ..config()
    };
    let first = ended(fuel.clone(), &guest(LOOP));
    assert_eq!((first.cause, first.fuel_consumed), (Cause::Fuel, Some(100_000)));
    assert_eq!(
        first.violations,
        [ResourceViolation::FuelExhausted { consumed: 100_000 }]
    );
}

#[test]
fn fuel_that_is_refilled_lets_a_guest_go_on() {
    let refill = |amount| SecureSandboxConfig {
        enable_fuel: true,
        max_fuel: 1_000_000_000_000,
        refill: Some(FuelConfig::new(1).with_refill(1, amount)),
        ..config()
    };
    let result = ended(refill(1_000_000), &guest(LOOP));
    assert_eq!(result.cause, Cause::Deadline);
}

#[test]
fn a_loop_of_host_calls_ends_by_time_or_by_their_number() {
    let calls = guest("(loop (drop (call $time (i32.const 1) (i64.const 0) (i32.const 0))) (br 0))");
    let result = ended(config(), &calls);
    assert_eq!(result.cause, Cause::Deadline);
    assert!(result.resource_stats.host_calls["clock_time_get"] > 1000, "{result:?}");
    let few = SecureSandboxConfig {
        max_host_calls: 1000,
        ..config()
    };
    let result = ended(few, &calls);
    assert!(matches!(result.cause, Cause::Trap { .. }), "{result:?}");
    assert!(matches!(
        result.violations[..],
        [ResourceViolation::TooManySyscalls { limit: 1000, .. }]
    ));
    let slow = SecureSandboxConfig {
        max_host_calls_per_second: 10,
        ..config()
    };
    let result = ended(slow, &calls);
    assert!(matches!(
        result.violations[..],
        [ResourceViolation::SyscallRateExceeded { limit: 10, .. }]
    ));
}

#[test]
fn a_guest_that_sleeps_ends_when_its_time_is_up() {
    // A subscription to the monotonic clock, an hour from now.
    let hour = 3_600_000_000_000u64.to_le_bytes();
    let hour: String = hour.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let data = format!("(data (i32.const 16) \"\\01\") (data (i32.const 24) \"{hour}\")");
    let body = "(call $exit (call $poll (i32.const 0) (i32.const 256) (i32.const 1) (i32.const 512)))";
    let start = Instant::now();
    let result = ended(config(), &guest_with(&data, body));
    assert_eq!(result.cause, Cause::Deadline);
    assert!(start.elapsed() < Duration::from_secs(20));
    // Without anything in the guest that looks at the time, too.
    let bare = SecureSandboxConfig {
        enable_epochs: false,
        ..config()
    };
    assert_eq!(ended(bare, &guest_with(&data, body)).cause, Cause::Deadline);
}

#[test]
fn memory_grows_up_to_its_limit_and_no_further() {
    let grows = guest("(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (unreachable)");
    let result = ended(config(), &grows);
    assert_eq!(result.cause, Cause::Memory);
    assert_eq!(result.resource_stats.memory_peak, 4 << 20);
    // Who can live without goes on.
    let lives = guest("(drop (memory.grow (i32.const 1000)))");
    let result = ended(config(), &lives);
    assert!(result.success, "{result:?}");
    assert!(matches!(
        result.violations[..],
        [ResourceViolation::MemoryLimitExceeded { .. }]
    ));
    // The module's own maximum is no limit that was met.
    let own = r#"(module (memory 1 2) (func (export "_start") (drop (memory.grow (i32.const 5)))))"#;
    assert!(ended(config(), own).violations.is_empty());
    // More than there is at the start.
    let large = r#"(module (memory 1000) (func (export "_start")))"#;
    assert_eq!(ended(config(), large).cause, Cause::Memory);
}

#[test]
fn several_memories_share_one_limit() {
    let grows = r#"(module (memory $a 1) (memory $b 1) (func (export "_start")
        (if (i32.eq (memory.grow $a (i32.const 40)) (i32.const -1)) (then unreachable))
        (if (i32.eq (memory.grow $b (i32.const 40)) (i32.const -1)) (then unreachable))))"#;
    let result = ended(config(), grows);
    assert_eq!(result.cause, Cause::Memory);
}

#[test]
fn tables_grow_up_to_their_limit_and_no_further() {
    let grows = r#"(module (table $t 1 funcref) (func (export "_start")
        (loop (br_if 0 (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) (unreachable)))"#;
    let few = SecureSandboxConfig {
        max_table_elements: 10_000,
        ..config()
    };
    let result = ended(few, grows);
    assert_eq!(result.cause, Cause::Table);
    assert!(matches!(
        result.violations[..],
        [ResourceViolation::TableLimitExceeded { limit: 10_000, .. }]
    ));
    // Tables are memory as well.
    let result = ended(config(), grows);
    assert_eq!(result.cause, Cause::Memory);
}

#[test]
fn a_collected_heap_is_memory_too() {
    let fills = r#"(module (type $a (array (mut i64))) (table $t 100000 (ref null $a))
        (func (export "_start") (local $i i32)
            (loop
                (table.set $t (local.get $i) (array.new_default $a (i32.const 10000)))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if 0 (i32.lt_u (local.get $i) (i32.const 100000))))))"#;
    let result = ended(config(), fills);
    assert_eq!(result.cause, Cause::Memory, "{result:?}");
    assert!(result.resource_stats.memory_peak <= 4 << 20);
}

#[test]
fn recursion_ends_with_its_stack() {
    let deep = r#"(module (func $f (param i64) (result i64)
            (i64.add (call $f (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))
        (func (export "_start") (drop (call $f (i64.const 0)))))"#;
    let result = ended(config(), deep);
    assert_eq!(result.cause, Cause::Stack);
    assert!(matches!(
        result.violations[..],
        [ResourceViolation::StackLimitExceeded { .. }]
    ));
}

#[test]
fn paths_lead_nowhere_but_below_the_directory() {
    let place = tempfile::tempdir().unwrap();
    let outside = place.path().join("outside");
    let shown = place.path().join("shown");
    std::fs::create_dir(&shown).unwrap();
    std::fs::write(&outside, "secret").unwrap();
    std::fs::write(shown.join("file"), "text").unwrap();
    std::os::unix::fs::symlink(&outside, shown.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../outside", shown.join("relative")).unwrap();
    std::os::unix::fs::symlink("..", shown.join("up")).unwrap();
    std::os::unix::fs::symlink("file", shown.join("inside")).unwrap();
    let with = |path: &str| {
        let shows = SecureSandboxConfig {
            allowed_directories: vec![shown.clone()],
            ..config()
        };
        ended(shows, &opens(path)).cause
    };
    assert_eq!(with("file"), Cause::Exit { code: 0 });
    assert_eq!(with("inside"), Cause::Exit { code: 0 });
    for path in [
        "../outside",
        "absolute",
        "relative",
        "up/outside",
        "/etc/passwd",
        outside.to_str().unwrap(),
    ] {
        // EPERM, or ENOENT where an absolute path is taken for one below.
        assert!(
            matches!(with(path), Cause::Exit { code: 63 | 44 | 76 }),
            "{path}: {:?}",
            with(path)
        );
    }
    // Nothing is shown without being named.
    assert_eq!(ended(config(), &opens("file")).cause, Cause::Exit { code: 8 });
}

#[test]
fn what_is_shown_is_read_only() {
    let place = tempfile::tempdir().unwrap();
    let creates = |path: &str| {
        opens(path)
            .replacen("(i32.const 0)\n", "(i32.const 1)\n", 1)
            .replacen("(i64.const 2)", "(i64.const 64)", 1)
    };
    let with = |writable: bool| {
        let directory = vec![place.path().to_owned()];
        let (allowed_directories, writable_directories) = match writable {
            true => (Vec::new(), directory),
            false => (directory, Vec::new()),
        };
        let shows = SecureSandboxConfig {
            allowed_directories,
            writable_directories,
            ..config()
        };
        ended(shows, &creates("made")).cause
    };
    assert!(
        matches!(with(false), Cause::Exit { code } if code != 0),
        "{:?}",
        with(false)
    );
    assert!(!place.path().join("made").exists());
    assert_eq!(with(true), Cause::Exit { code: 0 });
    assert!(place.path().join("made").exists());
}

#[test]
fn open_files_are_counted_and_bounded() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("file"), "").unwrap();
    let shows = || SecureSandboxConfig {
        allowed_directories: vec![place.path().to_owned()],
        max_open_files: 3,
        ..config()
    };
    let open = "(call $open (i32.const 3) (i32.const 1) (i32.const 1024) (i32.const 4) (i32.const 0)
                (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8))";
    let data = "(data (i32.const 1024) \"file\") (global $n (mut i32) (i32.const 0))";
    // As many as can be; their number is the status.
    let exhausts = guest_with(
        data,
        &format!(
            "(loop (if (i32.eqz {open}) (then (global.set $n (i32.add (global.get $n) (i32.const 1))) (br 1))))
            (call $exit (global.get $n))"
        ),
    );
    let result = ended(shows(), &exhausts);
    assert_eq!(result.cause, Cause::Exit { code: 3 });
    assert!(matches!(
        result.violations[..],
        [ResourceViolation::TooManyOpenFiles { limit: 3, .. }]
    ));
    assert_eq!(result.resource_stats.files_opened, 3);
    // Who closes them can open more.
    let closes = guest_with(
        data,
        &format!(
            "(loop
            (if {open} (then (call $exit (i32.const 99))))
            (if (call $close (i32.load (i32.const 8))) (then (call $exit (i32.const 98))))
            (global.set $n (i32.add (global.get $n) (i32.const 1)))
            (br_if 0 (i32.lt_u (global.get $n) (i32.const 100))))"
        ),
    );
    let result = ended(shows(), &closes);
    assert!(result.success, "{result:?}");
    assert_eq!(
        (result.resource_stats.files_opened, result.resource_stats.open_files),
        (100, 0)
    );
}

#[test]
fn host_calls_are_denied_by_name_and_by_argument() {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("in")).unwrap();
    std::fs::write(place.path().join("in/file"), "").unwrap();
    std::fs::write(place.path().join("file"), "").unwrap();
    let with = |name: &str, rule: Rule, wat: &str| {
        let calls = HostCalls {
            rules: BTreeMap::from([(name.to_owned(), rule)]),
        };
        let shows = SecureSandboxConfig {
            allowed_directories: vec![place.path().to_owned()],
            ..config()
        };
        run_with(shows, wat, Invocation::of("_start").host_calls(calls)).unwrap()
    };
    let denied = |result: &ExecutionResult, name: &str| {
        assert_eq!(result.cause, Cause::Exit { code: 76 }, "{result:?}");
        let [ResourceViolation::HostCallDenied { function, .. }] = &result.violations[..] else {
            panic!("{result:?}")
        };
        assert_eq!(function, name);
    };
    denied(&with("path_open", Rule::Deny, &opens("file")), "path_open");
    let within = || Rule::Within {
        paths: vec![format!("{}/in", place.path().display())],
    };
    assert!(with("path_open", within(), &opens("in/file")).success);
    denied(&with("path_open", within(), &opens("file")), "path_open");
    denied(&with("path_open", within(), &opens("in/../file")), "path_open");
    let clock = |id: i32| {
        guest(&format!(
            "(call $exit (call $time (i32.const {id}) (i64.const 0) (i32.const 0)))"
        ))
    };
    let monotonic = || Rule::Clocks {
        clocks: vec![Clock::Monotonic],
    };
    assert!(with("clock_time_get", monotonic(), &clock(1)).success);
    denied(&with("clock_time_get", monotonic(), &clock(0)), "clock_time_get");
    let random = |bytes: i32| {
        guest(&format!(
            "(call $exit (call $random (i32.const 0) (i32.const {bytes})))"
        ))
    };
    assert!(with("random_get", Rule::AtMost { bytes: 8 }, &random(8)).success);
    denied(&with("random_get", Rule::AtMost { bytes: 8 }, &random(9)), "random_get");
    let result = with("proc_exit", Rule::Deny, &guest("(call $exit (i32.const 0))"));
    assert_eq!(
        result.cause,
        Cause::HostDenied {
            function: "proc_exit".into()
        }
    );
}

#[test]
fn no_symbolic_link_leads_out_of_the_paths_of_a_rule() {
    use std::os::unix::fs::symlink;
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    std::fs::create_dir_all(root.join("in/deep")).unwrap();
    std::fs::create_dir(root.join("out")).unwrap();
    std::fs::write(root.join("in/deep/file"), "").unwrap();
    std::fs::write(root.join("out/file"), "secret").unwrap();
    symlink("../out/file", root.join("in/link")).unwrap();
    symlink("../out", root.join("in/directory")).unwrap();
    symlink("deep", root.join("in/inside")).unwrap();
    let with = |rule: &str, wat: &str| {
        let within = Rule::Within {
            paths: vec![format!("{}/in", root.display())],
        };
        let calls = HostCalls {
            rules: BTreeMap::from([(rule.to_owned(), within)]),
        };
        let shows = SecureSandboxConfig {
            allowed_directories: vec![root.to_owned()],
            ..config()
        };
        run_with(shows, wat, Invocation::of("_start").host_calls(calls)).unwrap()
    };
    assert!(with("path_open", &opens("in/deep/file")).success);
    assert!(with("path_open", &opens("in/./deep/../deep/file")).success);
    assert_eq!(
        with("path_open", &opens("in/none/file")).cause,
        Cause::Exit { code: 44 }
    );
    for path in [
        "in/link",
        "in/directory/file",
        "in/inside/file",
        "in/directory/",
        "in/directory/.",
        "in/deep/../link",
    ] {
        let result = with("path_open", &opens(path));
        assert_eq!(result.cause, Cause::Exit { code: 76 }, "{path}: {result:?}");
        let [ResourceViolation::HostCallDenied { reason, .. }] = &result.violations[..] else {
            panic!("{path}: {result:?}")
        };
        assert!(reason.ends_with("is a symbolic link"), "{reason}");
    }
    // A link that is not followed is none that leads anywhere: ELOOP.
    let stays = opens("in/link").replacen("(i32.const 3) (i32.const 1)", "(i32.const 3) (i32.const 0)", 1);
    assert_eq!(with("path_open", &stays).cause, Cause::Exit { code: 32 });
    // Nor is there a way around by a directory that was opened through one, where opening has no rule.
    let stat = |directory: &str| {
        let parts = format!("(data (i32.const 1024) {directory:?}) (data (i32.const 2048) \"file\")");
        let body = format!(
            "(if (call $open (i32.const 3) (i32.const 1) (i32.const 1024) (i32.const {}) (i32.const 2)
                (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 8)) (then (call $exit (i32.const 99))))
            (call $exit (call $stat (i32.load (i32.const 8)) (i32.const 0) (i32.const 2048) (i32.const 4) (i32.const 64)))",
            directory.len()
        );
        guest_with(&parts, &body).replacen(
            "(module",
            r#"(module (import "wasi_snapshot_preview1" "path_filestat_get"
                (func $stat (param i32 i32 i32 i32 i32) (result i32)))"#,
            1,
        )
    };
    assert!(with("path_filestat_get", &stat("in/deep")).success);
    assert_eq!(
        with("path_filestat_get", &stat("in/directory")).cause,
        Cause::Exit { code: 76 }
    );
    assert_eq!(with("path_filestat_get", &stat("out")).cause, Cause::Exit { code: 76 });
}

#[test]
fn what_a_guest_wants_and_nobody_gives_is_named() {
    let wants = r#"(module (import "env" "system" (func)) (func (export "_start")))"#;
    let Err(SandboxError::Import { module, name, .. }) = run(config(), wants) else {
        panic!()
    };
    assert_eq!((module.as_str(), name.as_str()), ("env", "system"));
    let component = r#"(component (import "example:host/door" (instance (export "open" (func)))))"#;
    let refused = run(config(), component).unwrap_err().to_string();
    assert!(refused.contains("example:host/door"), "{refused}");
    let no_entry = run(config(), r#"(module (func (export "other")))"#)
        .unwrap_err()
        .to_string();
    assert!(
        no_entry.contains("\"_start\"") && no_entry.contains("other"),
        "{no_entry}"
    );
}

#[test]
fn what_is_no_module_is_refused() {
    for bytes in [&b""[..], b"\0asm", b"\0asm\x01\0\0\0\xff", b"(module", &[0xff; 100]] {
        let sandbox = SecureSandbox::new(config()).unwrap();
        assert!(
            matches!(sandbox.compile(bytes), Err(SandboxError::Module { .. })),
            "{bytes:?}"
        );
    }
    let small = SecureSandboxConfig {
        max_module_size: 10,
        ..config()
    };
    let refused = run(small, &guest("")).unwrap_err().to_string();
    assert!(refused.contains("max_module_size is 10"), "{refused}");
}

/// Of a size that a compiler can be slow over.
#[test]
fn large_modules_compile() {
    let functions: String = (0..100_000)
        .map(|n| format!("(func (result i32) (i32.const {n}))\n"))
        .collect();
    let many = format!("(module {functions} (func (export \"_start\")))");
    assert!(ended(config(), &many).success);
    let labels = "0 ".repeat(60_000);
    let table = format!("(module (func (export \"_start\") (block (br_table {labels} 0 (i32.const 7)))))");
    assert!(ended(config(), &table).success);
}

#[test]
fn the_process_goes_on_after_all_of_them() {
    assert!(ended(config(), &guest("")).success);
    assert!(Path::new("/proc/self").exists());
}
