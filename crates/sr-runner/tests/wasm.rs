//! WebAssembly behind its two walls, with the real worker: how modules end, what they see, what holds them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use support::guest::{failed, target};
use support::{LIMIT, Place, Ran, Test, end, skip};

fn main() {
    support::main(&[
        ("wasm_hello", hello),
        ("wasm_status_and_streams", status_and_streams),
        ("wasm_compiled_once", compiled_once),
        ("wasm_code_that_was_tampered_with", code_that_was_tampered_with),
        ("wasm_files_by_mounts", files_by_mounts),
        ("wasm_no_way_out_of_a_mount", no_way_out_of_a_mount),
        ("wasm_traps_have_their_cause", traps_have_their_cause),
        ("wasm_levels_and_metering", levels_and_metering),
        ("wasm_the_deadline_holds", the_deadline_holds),
        ("wasm_bombs", bombs),
        ("wasm_denied_host_calls_are_told", denied_host_calls_are_told),
        ("wasm_denials_of_what_never_ends", denials_of_what_never_ends),
        ("wasm_looking_compiles_nothing", looking_compiles_nothing),
        ("wasm_a_component", a_component),
        ("wasm_bad_modules", bad_modules),
        ("wasm_a_compiler_that_takes_too_long", a_compiler_that_takes_too_long),
        ("wasm_posture_is_reported", posture_is_reported),
        ("wasm_the_worker_is_held", the_worker_is_held),
        ("wasm_a_worker_that_is_killed", a_worker_that_is_killed),
        ("wasm_no_worker", no_worker),
        ("wasm_a_program_in_c", a_program_in_c),
        ("wasm_other_walls_refuse_it", other_walls_refuse_it),
    ]);
}

/// The worker, built if this can build it.
fn worker() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        if let Some(given) = std::env::var_os("SAFE_RUN_WASM") {
            return given.into();
        }
        if let Some(cargo) = std::env::var_os("CARGO") {
            let built = Command::new(cargo)
                .args(["xtask", "wasm"])
                .stdout(Stdio::null())
                .status();
            assert!(built.is_ok_and(|status| status.success()), "the worker does not build");
        }
        let built = target().join("wasm/x86_64-unknown-linux-gnu/wasm/safe-run-wasm");
        assert!(built.is_file(), "{} is not there: cargo xtask wasm", built.display());
        built
    })
}

fn command(place: &Place, words: &[&str]) -> Command {
    let mut command = place.safe_run(&[&["run"], words].concat());
    command.env("SAFE_RUN_WASM", worker());
    command
}

fn run(place: &Place, words: &[&str]) -> Ran {
    end(command(place, words), b"", LIMIT)
}

/// `run`, under a policy of one's own over `standard` without mounts.
fn under(place: &Place, policy: &str, words: &[&str]) -> Ran {
    let text = format!(
        "apiVersion: safe-run/v1\nmetadata: {{name: t}}\nextends: standard\nruntime: {{args: []}}\nmounts: []\n{policy}\n"
    );
    place.write("policy.yaml", &text);
    run(place, &[&["--policy", "./policy.yaml"], words].concat())
}

/// A module of text, in the project.
fn module(place: &Place, name: &str, text: &str) -> PathBuf {
    let path = place.project.join(name);
    fs::write(&path, wat::parse_str(text).expect("a module")).expect("a file");
    path
}

/// Functions of WASI, a memory of a page, and `$say`, which writes a text of the memory to a descriptor.
fn with_wasi(body: &str) -> String {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink" (func $path_symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func $say (param $fd i32) (param $at i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $length))
    (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
  {body})"#
    )
}

const HELLO: &str = r#"(data (i32.const 100) "hello\n")
  (func (export "_start") (call $say (i32.const 1) (i32.const 100) (i32.const 6)))"#;

fn message(place: &Place) -> String {
    let report = place.report();
    report["result"]["message"].as_str().unwrap_or_default().to_owned()
}

fn cause(place: &Place) -> Value {
    place.report()["result"]["cause"].clone()
}

fn hello(place: &Place) -> Test {
    module(place, "hello.wasm", &with_wasi(HELLO));
    let ran = run(place, &["--", "./hello.wasm"]);
    ran.ok()?;
    ensure!(ran.out == "hello\n", "{ran}");
    let report = place.report();
    ensure!(report["backend"] == "wasm", "{report}");
    ensure!(
        report["digests"]["executable"]["path"]
            .as_str()
            .is_some_and(|path| path.ends_with("hello.wasm")),
        "{}",
        report["digests"]
    );
    // By its bare name too, as no program is found in the current directory.
    let ran = run(place, &["--quiet", "--", "hello.wasm"]);
    ran.ok()?;
    ensure!(ran.out == "hello\n" && ran.err.is_empty(), "{ran}");
    place.tell(&["report", "verify"]).ok()?;
    place.nothing_left()
}

fn status_and_streams(place: &Place) -> Test {
    for status in [0, 1, 7, 255] {
        let text = with_wasi(&format!(
            r#"(func (export "_start") (call $proc_exit (i32.const {status})))"#
        ));
        module(place, "exit.wasm", &text);
        run(place, &["--quiet", "--", "./exit.wasm"]).ended(status)?;
        let result = &place.report()["result"];
        ensure!(result["cause"] == "exit" && result["exitCode"] == status, "{result}");
    }
    let text = with_wasi(
        r#"(func (export "_start") (loop $more
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 4096))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
    (if (i32.load (i32.const 16)) (then
      (call $say (i32.const 1) (i32.const 1024) (i32.load (i32.const 16)))
      (br $more))))
    (i32.store8 (i32.const 1024) (i32.const 101))
    (call $say (i32.const 2) (i32.const 1024) (i32.const 1)))"#,
    );
    module(place, "cat.wasm", &text);
    let input: String = (0..50_000).map(|n| format!("{n}\n")).collect();
    let ran = end(
        command(place, &["--quiet", "--", "./cat.wasm"]),
        input.as_bytes(),
        LIMIT,
    );
    ran.ok()?;
    ensure!(
        ran.out == input && ran.err == "e",
        "{} of {} bytes",
        ran.out.len(),
        input.len()
    );
    Ok(())
}

/// The runs of this place that compiled something.
fn compilations(place: &Place) -> usize {
    let policies = place.runs().into_iter().map(|run| run.join("policy.json"));
    let compiles = |path: PathBuf| fs::read_to_string(path).is_ok_and(|text| text.contains("compile-module"));
    policies.filter(|path| compiles(path.clone())).count()
}

fn compiled_once(place: &Place) -> Test {
    module(place, "hello.wasm", &with_wasi(HELLO));
    for _ in 0..3 {
        run(place, &["--quiet", "--", "./hello.wasm"]).ok()?;
    }
    ensure!(compilations(place) == 1, "{} compilations", compilations(place));
    // Other settings are other code; and so is another module.
    under(place, "wasm: {metering: epochs}", &["--quiet", "--", "./hello.wasm"]).ok()?;
    ensure!(compilations(place) == 2, "{} compilations", compilations(place));
    module(place, "hello.wasm", &with_wasi(&HELLO.replace("hello", "HELLO")));
    let ran = run(place, &["--quiet", "--", "./hello.wasm"]);
    ensure!(ran.out == "HELLO\n" && compilations(place) == 3, "{ran}");
    // A copy is the same module.
    fs::copy(place.project.join("hello.wasm"), place.project.join("copy.wasm"))?;
    run(place, &["--quiet", "--", "./copy.wasm"]).ok()?;
    ensure!(compilations(place) == 3, "{} compilations", compilations(place));
    place.nothing_left()
}

fn code_that_was_tampered_with(place: &Place) -> Test {
    module(place, "hello.wasm", &with_wasi(HELLO));
    run(place, &["--quiet", "--", "./hello.wasm"]).ok()?;
    let folder = place.store.join("artifacts/sha256");
    let code = fs::read_dir(&folder)?.flatten().next().expect("the code").path();
    fs::set_permissions(&code, fs::Permissions::from_mode(0o644))?;
    let mut bytes = fs::read(&code)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&code, bytes)?;
    let ran = run(place, &["--", "./hello.wasm"]);
    ran.ended(125)?;
    ensure!(ran.out.is_empty() && ran.err.contains("SR-RUN-002"), "{ran}");
    // One that is gone is made anew.
    fs::remove_file(&code)?;
    run(place, &["--quiet", "--", "./hello.wasm"]).ok()?;
    place.nothing_left()
}

/// Opens `path` below the directory `fd`, with `rights` and creation flags, and exits with the error number.
fn opener(fd: u32, path: &str, create: bool) -> String {
    let flags = if create { 1 } else { 0 };
    with_wasi(&format!(
        r#"(data (i32.const 100) "{path}")
  (func (export "_start") (call $proc_exit
    (call $path_open (i32.const {fd}) (i32.const 1) (i32.const 100) (i32.const {}) (i32.const {flags})
      (i64.const {}) (i64.const 0) (i32.const 0) (i32.const 16))))"#,
        path.len(),
        if create { 0x40 } else { 2 },
    ))
}

/// Numbers of WASI (`errno` in preview 1).
const ROFS: i32 = 69;
const PERM: i32 = 63;
const NOTCAPABLE: i32 = 76;
const NOENT: i32 = 44;

fn files_by_mounts(place: &Place) -> Test {
    place.write("data/list.txt", "a\nb\n");
    let here = place.project.to_str().expect("UTF-8");
    let data = format!("{here}/data");
    module(place, "read.wasm", &opener(4, "list.txt", false));
    let mount = format!("{data}:/data");
    let read_only = ["--quiet", "--policy", "strict", "--mount", &mount, "--", "./read.wasm"];
    run(place, &read_only).ended(0)?;
    // What is mounted to be read is not written.
    module(place, "make.wasm", &opener(4, "new.txt", true));
    let ran = run(
        place,
        &["--quiet", "--policy", "strict", "--mount", &mount, "--", "./make.wasm"],
    );
    ensure!([ROFS, PERM, NOTCAPABLE].contains(&ran.status), "{ran}");
    ensure!(!place.project.join("data/new.txt").exists(), "it was written");
    // The workspace is captured by `standard`: what is written there is in the diff, and not on the host.
    module(place, "make.wasm", &opener(3, "made.txt", true));
    run(place, &["--quiet", "--", "./make.wasm"]).ended(0)?;
    ensure!(!place.project.join("made.txt").exists(), "it was written through");
    let diff = place.tell(&["diff"]);
    ensure!(diff.out.contains("made.txt"), "{diff}");
    place.tell(&["apply", "--yes"]).ok()?;
    ensure!(place.project.join("made.txt").exists(), "it was not applied");
    place.nothing_left()
}

fn no_way_out_of_a_mount(place: &Place) -> Test {
    place.write("data/inside.txt", "");
    place.write("outside.txt", "");
    let data = place.project.join("data");
    std::os::unix::fs::symlink("../outside.txt", data.join("link"))?;
    std::os::unix::fs::symlink("/etc/passwd", data.join("absolute"))?;
    std::os::unix::fs::symlink("..", data.join("up"))?;
    let mount = format!("{}:/data", data.display());
    for path in [
        "../outside.txt",
        "/etc/passwd",
        "/proc/self/environ",
        "link",
        "absolute",
        "up/outside.txt",
        "./x/../../outside.txt",
        "../../../../../../etc/passwd",
    ] {
        module(place, "open.wasm", &opener(4, path, false));
        let ran = run(
            place,
            &["--quiet", "--policy", "strict", "--mount", &mount, "--", "./open.wasm"],
        );
        ensure!([PERM, NOTCAPABLE, NOENT].contains(&ran.status), "{path}: {ran}");
    }
    module(place, "open.wasm", &opener(4, "inside.txt", false));
    run(
        place,
        &["--quiet", "--policy", "strict", "--mount", &mount, "--", "./open.wasm"],
    )
    .ended(0)
}

fn traps_have_their_cause(place: &Place) -> Test {
    for (name, body, status, expected) in [
        ("unreachable", r#"(func (export "_start") unreachable)"#, 134, "trap"),
        (
            "division",
            r#"(func (export "_start") (drop (i32.div_u (i32.const 1) (i32.const 0))))"#,
            134,
            "trap",
        ),
        (
            "memory",
            r#"(func (export "_start") (drop (i32.load (i32.const -4))))"#,
            134,
            "trap",
        ),
        ("stack", r#"(func $f (export "_start") (call $f))"#, 137, "stack"),
    ] {
        module(place, "trap.wasm", &with_wasi(body));
        let ran = run(place, &["--", "./trap.wasm"]);
        ran.ended(status)?;
        let result = &place.report()["result"];
        ensure!(result["cause"] == expected, "{name}: {result}");
        ensure!(result["message"].as_str().is_some(), "{name}: {result}");
        ensure!(!place.events("guest.trapped").is_empty(), "{name}");
    }
    place.nothing_left()
}

const LOOP: &str = r#"(func (export "_start") (loop $l (br $l)))"#;

fn levels_and_metering(place: &Place) -> Test {
    module(place, "loop.wasm", &with_wasi(LOOP));
    let ran = under(place, "wasm: {fuel: 100000}", &["--", "./loop.wasm"]);
    ran.ended(137)?;
    ensure!(cause(place) == "fuel", "{}", place.report()["result"]);
    ensure!(message(place).contains("wasm.fuel"), "{}", message(place));
    let why = place.tell(&["why"]);
    ensure!(why.out.contains("wasm: {fuel: 200000}"), "{why}");
    // The same fuel, the same place: nothing is left to the clock.
    let text = with_wasi(
        r#"(func (export "_start") (local $i i32) (loop $l
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br_if $l (i32.lt_u (local.get $i) (i32.const 10000)))))"#,
    );
    module(place, "count.wasm", &text);
    under(place, "wasm: {fuel: 10000000}", &["--quiet", "--", "./count.wasm"]).ended(0)?;
    under(place, "wasm: {fuel: 10000}", &["--quiet", "--", "./count.wasm"]).ended(137)?;
    under(place, "wasm: {level: strict}", &["--quiet", "--", "./count.wasm"]).ended(0)?;
    let limits = &place.report()["obligations"];
    ensure!(limits.to_string().contains("5000000000"), "{limits}");
    place.nothing_left()
}

/// Whatever the guest does: computes, or waits in a host call.
fn the_deadline_holds(place: &Place) -> Test {
    // A subscription to a clock, an hour from now.
    let sleep = r#"(func (export "_start")
    (i64.store (i32.const 200) (i64.const 0))
    (i32.store8 (i32.const 208) (i32.const 0))
    (i32.store (i32.const 216) (i32.const 1))
    (i64.store (i32.const 224) (i64.const 3600000000000))
    (drop (call $poll (i32.const 200) (i32.const 300) (i32.const 1) (i32.const 400))))"#;
    for (body, metering) in [
        (LOOP, "deadline"),
        (LOOP, "epochs"),
        (LOOP, "fuel, fuel: 1000000000000000"),
        (sleep, "deadline"),
    ] {
        module(place, "late.wasm", &with_wasi(body));
        let policy = format!("wasm: {{time: 300ms, metering: {metering}}}");
        let ran = under(place, &policy, &["--", "./late.wasm"]);
        ran.ended(124)?;
        // The host's own figures: a module has a page, and the worker tells of no processes.
        let peaks = &place.report()["peaks"];
        let more = |name: &str, than: u64| peaks[name].as_u64().is_some_and(|found| found > than);
        ensure!(more("memoryBytes", 64 << 10) && more("pids", 0), "{peaks}");
        ensure!(
            cause(place) == "timeout" && message(place).contains("wasm.time"),
            "{metering}: {ran}"
        );
    }
    module(place, "late.wasm", &with_wasi(LOOP));
    run(place, &["--timeout", "300ms", "--", "./late.wasm"]).ended(124)?;
    place.nothing_left()
}

fn bombs(place: &Place) -> Test {
    let grow = r#"(func (export "_start") (loop $l
    (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable)) (br $l)))"#;
    let table = r#"(table $t 1 funcref)
  (func (export "_start") (loop $l
    (if (i32.eq (table.grow $t (ref.null func) (i32.const 65536)) (i32.const -1)) (then unreachable)) (br $l)))"#;
    for (body, words) in [(grow, "memory"), (table, "table")] {
        module(place, "bomb.wasm", &with_wasi(body));
        let ran = under(
            place,
            "wasm: {memory: 16MiB, tableElements: 1000000}",
            &["--", "./bomb.wasm"],
        );
        ran.ended(137)?;
        ensure!(
            cause(place) == "memory" && message(place).contains(words),
            "{words}: {ran}"
        );
    }
    place.nothing_left()
}

fn denied_host_calls_are_told(place: &Place) -> Test {
    let text = with_wasi(
        r#"(func (export "_start") (local $i i32) (local $e i32)
    (loop $l
      (local.set $e (call $random (i32.const 500) (i32.const 32)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $l (i32.lt_u (local.get $i) (i32.const 5))))
    (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 600)))
    (call $proc_exit (local.get $e)))"#,
    );
    module(place, "asks.wasm", &text);
    let policy = "wasm: {hostCalls: {random_get: {atMost: 16}, clock_time_get: {clocks: [monotonic]}}}";
    under(place, policy, &["--quiet", "--", "./asks.wasm"]).ended(NOTCAPABLE)?;
    let denied = &place.report()["denied"];
    let of = |name: &str| {
        denied
            .as_array()
            .and_then(|all| all.iter().find(|one| one["operation"] == name))
            .map(|one| (one["count"].as_u64(), one["clause"].as_str().map(str::to_owned)))
    };
    ensure!(
        of("random_get") == Some((Some(5), Some("wasm.hostCalls".into()))) && of("clock_time_get").is_some(),
        "{denied}"
    );
    ensure!(!place.events("operation.denied").is_empty(), "no event");
    // Where a call cannot fail, the guest ends.
    let exits = with_wasi(r#"(func (export "_start") (call $proc_exit (i32.const 0)))"#);
    module(place, "exits.wasm", &exits);
    under(place, "wasm: {hostCalls: {proc_exit: deny}}", &["--", "./exits.wasm"]).ended(126)?;
    ensure!(cause(place) == "policy", "{}", place.report()["result"]);
    place.nothing_left()
}

/// They are told as they happen.
fn denials_of_what_never_ends(place: &Place) -> Test {
    let text =
        with_wasi(r#"(func (export "_start") (drop (call $random (i32.const 500) (i32.const 32))) (loop $l (br $l)))"#);
    module(place, "late.wasm", &text);
    under(
        place,
        "wasm: {time: 300ms, hostCalls: {random_get: deny}}",
        &["--quiet", "--", "./late.wasm"],
    )
    .ended(124)?;
    let report = place.report();
    ensure!(report["denied"][0]["operation"] == "random_get", "{}", report["denied"]);
    place.nothing_left()
}

fn looking_compiles_nothing(place: &Place) -> Test {
    module(place, "hello.wasm", &with_wasi(HELLO));
    let look = || {
        let mut command = place.safe_run(&["compile", "--dry-run", "--policy", "standard", "--", "./hello.wasm"]);
        command.env("SAFE_RUN_WASM", worker());
        end(command, b"", LIMIT)
    };
    let ran = look();
    ensure!(ran.status != 0 && ran.err.contains("not compiled here yet"), "{ran}");
    ensure!(compilations(place) == 0, "{} compilations", compilations(place));
    run(place, &["--quiet", "--", "./hello.wasm"]).ok()?;
    look().ok()?;
    // A module has no terminal, and whoever asks for one is told.
    let ran = run(place, &["--tty", "--", "./hello.wasm"]);
    ensure!(
        ran.status == 125 && ran.err.contains("a module has no terminal"),
        "{ran}"
    );
    place.nothing_left()
}

fn a_component(place: &Place) -> Test {
    // `wasi:cli/run`, which does nothing and says that all is well.
    let text = r#"(component
  (core module $m (func (export "run") (result i32) (i32.const 0)))
  (core instance $i (instantiate $m))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $own (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $own)))"#;
    module(place, "component.wasm", text);
    run(place, &["--quiet", "--", "./component.wasm"]).ok()?;
    // What nobody gives it, it cannot ask for.
    let asks = r#"(component (import "other:thing/here@1.0.0" (instance (export "f" (func))))
  (core module $m (func (export "run") (result i32) (i32.const 0)))
  (core instance $i (instantiate $m))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $own (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $own)))"#;
    module(place, "asks.wasm", asks);
    failed(
        &run(place, &["--", "./asks.wasm"]),
        "launch.preflight.module",
        "other:thing",
    )?;
    place.nothing_left()
}

fn bad_modules(place: &Place) -> Test {
    for (name, bytes, path, what) in [
        (
            "cut.wasm",
            &b"\0asm\x01\0\0\0\x01\xff"[..],
            "launch.preflight.module",
            "cut.wasm",
        ),
        ("import.wasm", b"", "launch.preflight.module", "env"),
        ("start.wasm", b"", "launch.module", "_start"),
    ] {
        match name {
            "import.wasm" => drop(module(
                place,
                name,
                r#"(module (import "env" "f" (func)) (func (export "_start")))"#,
            )),
            "start.wasm" => drop(module(place, name, r#"(module (func (export "other")))"#)),
            _ => fs::write(place.project.join(name), bytes)?,
        }
        let ran = run(place, &["--", &format!("./{name}")]);
        failed(&ran, path, what)?;
    }
    // With that wall asked for, what is none is an error of the caller's.
    place.write("none.wasm", "(module)");
    let ran = run(place, &["--backend", "wasm", "--", "./none.wasm"]);
    ran.ended(125)?;
    ensure!(ran.err.contains("is no WebAssembly"), "{ran}");
    let ran = run(place, &["--backend", "wasm", "--", "/bin/true"]);
    ensure!(ran.status == 125 && ran.err.contains("is no WebAssembly"), "{ran}");
    let ran = run(place, &["--backend", "wasm", "--", "./nowhere.wasm"]);
    ensure!(ran.status == 125 && ran.err.contains("nowhere.wasm"), "{ran}");
    place.nothing_left()
}

/// A function as large as one may be, and a second for it.
fn a_compiler_that_takes_too_long(place: &Place) -> Test {
    fs::write(place.project.join("huge.wasm"), huge())?;
    let ran = under(place, "wasm: {compileTime: 1s}", &["--", "./huge.wasm"]);
    failed(&ran, "launch.preflight.module", "huge.wasm")?;
    place.nothing_left()
}

/// `_start`, and a function of the text `local.get 0 i32.const 7 i32.add local.get 0 i32.mul local.set 0` again and again, of a
/// parameter, so that nothing of it is known.
fn huge() -> Vec<u8> {
    fn leb(mut value: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }
    let section = |id: u8, body: &[u8]| [&[id][..], &leb(body.len()), body].concat();
    let step = [0x20, 0, 0x41, 7, 0x6a, 0x20, 0, 0x6c, 0x21, 0];
    // The most that the field takes for a function's body is 7,654,321 bytes.
    let body = [&[0][..], &step.repeat(700_000), &[0x0b]].concat();
    let code = [&leb(2)[..], &leb(body.len()), &body, &[2, 0, 0x0b]].concat();
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[2, 0x60, 1, 0x7f, 0, 0x60, 0, 0]),
        section(3, &[2, 0, 1]),
        section(7, b"\x01\x06_start\0\x01"),
        section(10, &code),
    ]
    .concat()
}

fn posture_is_reported(place: &Place) -> Test {
    module(place, "hello.wasm", &with_wasi(HELLO));
    run(place, &["--quiet", "--", "./hello.wasm"]).ok()?;
    let report = place.report();
    let posture = report["posture"].as_array().expect("a posture");
    for control in ["hostCalls", "fuel", "memory", "openFiles", "filesystem"] {
        let own = posture.iter().any(|line| {
            line["control"] == control
                && line["holds"] == true
                && line["mechanism"]
                    .as_str()
                    .is_some_and(|how| how.starts_with("wasmtime"))
        });
        ensure!(own, "{control}: {posture:?}");
    }
    // The worker's own wall besides.
    for control in [
        "seccomp",
        "landlock",
        "userNamespace",
        "capabilities",
        "networkNamespace",
    ] {
        ensure!(
            posture
                .iter()
                .any(|line| line["control"] == control && line["holds"] == true),
            "{control}"
        );
    }
    let roles: Vec<&str> = report["digests"]["wall"]
        .as_array()
        .expect("the wall's digests")
        .iter()
        .filter_map(|file| file["path"].as_str())
        .collect();
    ensure!(roles.iter().any(|path| path.ends_with("safe-run-wasm")), "{roles:?}");
    Ok(())
}

/// While a module runs: what its worker has open, may call and sees.
fn the_worker_is_held(place: &Place) -> Test {
    let text = with_wasi(&format!(
        "{} (func (export \"_start\") (call $say (i32.const 1) (i32.const 100) (i32.const 2)) (loop $l (br $l)))",
        r#"(data (i32.const 100) "x\n")"#
    ));
    let module = module(place, "loop.wasm", &text);
    let going = support::Going::start(command(place, &["--quiet", "--", module.to_str().expect("UTF-8")]))?;
    let worker = worker_of(going.pid()).ok_or("no worker is found")?;
    let status = fs::read_to_string(format!("/proc/{worker}/status"))?;
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap_or_default().trim().to_owned()
    };
    ensure!(field("Seccomp:") == "2" && field("NoNewPrivs:") == "1", "{status}");
    ensure!(field("CapEff:").trim_matches('0').is_empty(), "{status}");
    let open: Vec<String> = fs::read_dir(format!("/proc/{worker}/fd"))?
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .map(|to| to.to_string_lossy().into_owned())
        .collect();
    for path in &open {
        let expected = ["pipe:", "socket:", "anon_inode:", "/guest/", "/wall/code"];
        ensure!(
            expected.iter().any(|prefix| path.starts_with(prefix)),
            "{path} of {open:?}"
        );
    }
    going.cancel()?;
    place.nothing_left()
}

/// The process below `pid` that executes the worker.
fn worker_of(pid: u32) -> Option<u32> {
    let all = fs::read_dir("/proc").ok()?.flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let stat = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let parent = |pid: u32| {
        stat(pid)?
            .rsplit_once(')')?
            .1
            .split_whitespace()
            .nth(1)?
            .parse::<u32>()
            .ok()
    };
    let descends = |child: u32| {
        std::iter::successors(Some(child), |at| parent(*at))
            .take(8)
            .any(|at| at == pid)
    };
    numbers
        .filter(|at| fs::read(format!("/proc/{at}/cmdline")).is_ok_and(|line| line.starts_with(b"safe-run-wasm\0")))
        .find(|at| descends(*at))
}

fn a_worker_that_is_killed(place: &Place) -> Test {
    let text = with_wasi(&format!(
        "{} (func (export \"_start\") (call $say (i32.const 1) (i32.const 100) (i32.const 2)) (loop $l (br $l)))",
        r#"(data (i32.const 100) "x\n")"#
    ));
    let module = module(place, "loop.wasm", &text);
    let mut going = support::Going::start(command(place, &["--quiet", "--", module.to_str().expect("UTF-8")]))?;
    let worker = worker_of(going.pid()).ok_or("no worker is found")?;
    let pid = rustix::process::Pid::from_raw(worker as i32).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    let status = going.wait()?;
    ensure!(status == 137, "ended with {status}");
    ensure!(cause(place) == "signal", "{}", place.report()["result"]);
    place.nothing_left()
}

fn no_worker(place: &Place) -> Test {
    module(place, "hello.wasm", &with_wasi(HELLO));
    let with = |worker: &Path| {
        let mut command = place.safe_run(&["run", "--", "./hello.wasm"]);
        command.env("SAFE_RUN_WASM", worker);
        end(command, b"", LIMIT)
    };
    let none = place.root().join("none");
    let plain = place.write("plain", "");
    let dynamic = place.project.join("dynamic");
    fs::copy("/bin/true", &dynamic)?;
    for (worker, what) in [(&none, "none"), (&plain, "may execute"), (&dynamic, "needs")] {
        let ran = with(worker);
        ran.ended(125)?;
        ensure!(
            ran.err.contains("SR-RUN-001") && ran.err.contains("launch.preflight.wasm") && ran.err.contains(what),
            "{ran}"
        );
        ensure!(ran.err.contains("cargo xtask wasm"), "{ran}");
    }
    // A program that is none of ours.
    let other = place.project.join("other");
    fs::copy(support::guest::agent(), &other)?;
    let ran = with(&other);
    failed(&ran, "launch.preflight.module", "hello.wasm")?;
    place.nothing_left()
}

/// Of `clang` and wasi-libc, as people have it.
fn a_program_in_c(place: &Place) -> Test {
    if !Path::new("/usr/include/wasm32-wasi").is_dir() {
        return skip("no wasi-libc is installed: apt-get install clang lld wasi-libc libclang-rt-dev-wasm32");
    }
    place.write(
        "tool.c",
        r#"#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv) {
  if (argc > 2 && !strcmp(argv[1], "cat")) {
    FILE *f = fopen(argv[2], "r");
    if (!f) { perror(argv[2]); return 1; }
    int c;
    while ((c = getc(f)) != EOF) putchar(c);
    return 0;
  }
  if (argc > 3 && !strcmp(argv[1], "write")) {
    FILE *f = fopen(argv[2], "w");
    if (!f) { perror(argv[2]); return 1; }
    fputs(argv[3], f);
    return fclose(f);
  }
  printf("%d %s %s\n", argc, argc > 1 ? argv[1] : "-", getenv("NAME") ? getenv("NAME") : "none");
  return 3;
}
"#,
    );
    let mut clang = place.command("clang");
    clang.args(["--target=wasm32-wasi", "-O1", "tool.c", "-o", "tool.wasm"]);
    end(clang, b"", LIMIT).ok()?;
    let ran = run(
        place,
        &["--quiet", "--env", "NAME=value", "--", "./tool.wasm", "one two"],
    );
    ran.ended(3)?;
    ensure!(ran.out == "2 one two value\n", "{ran}");
    place.write("list.txt", "a\nb\n");
    for path in [
        "list.txt",
        "./list.txt",
        place.project.join("list.txt").to_str().expect("UTF-8"),
    ] {
        let ran = run(place, &["--quiet", "--", "./tool.wasm", "cat", path]);
        ran.ok()?;
        ensure!(ran.out == "a\nb\n", "{path}: {ran}");
    }
    for path in ["/etc/passwd", "../../etc/passwd", "/proc/self/environ"] {
        run(place, &["--quiet", "--", "./tool.wasm", "cat", path]).ended(1)?;
    }
    run(place, &["--quiet", "--", "./tool.wasm", "write", "made.txt", "text"]).ok()?;
    run(
        place,
        &["--quiet", "--", "./tool.wasm", "write", "/tmp/made.txt", "text"],
    )
    .ok()?;
    place.nothing_left()
}

fn other_walls_refuse_it(place: &Place) -> Test {
    module(place, "hello.wasm", &with_wasi(HELLO));
    for backend in ["process", "gvisor", "microvm:qemu"] {
        let ran = run(place, &["--backend", backend, "--", "./hello.wasm"]);
        ran.ended(125)?;
        ensure!(ran.err.contains("which no kernel executes"), "{backend}: {ran}");
    }
    Ok(())
}
