//! What the supervisor asks of the kernel to start `/bin/true`: counts, which do not depend on the host's speed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use support::{LIMIT, Place, Test, end, needs};

/// As root, with three v1 controllers and a debug build (which looks at descriptors once more), 698 and 77 were measured;
/// some more.
const CALLS: u64 = 740;
const OPENS: u64 = 84;
/// The loader's, where the program could not be linked statically: under cargo, whose library path is searched first, 151
/// and 57.
const LOADER: (u64, u64) = (160, 65);
/// Journal, events, policy, bundle, head, signer, report, attestation. A new inode can cost a third of a millisecond.
const FILES: usize = 8;

fn main() {
    support::main(&[("calls_of_the_start", calls_of_the_start)]);
}

fn calls_of_the_start(place: &Place) -> Test {
    needs(place, "strace")?;
    // The key is made and the digests are cached by the first run, the view's skeleton by the second.
    for _ in 0..2 {
        place.run(&["--quiet", "--", "/bin/true"]).ok()?;
    }
    let log = place.root().join("strace");
    let mut command = place.command("strace");
    command
        .arg("-o")
        .arg(&log)
        .arg(support::safe_run())
        .args(["run", "--quiet", "--", "/bin/true"]);
    let ran = end(command, b"", LIMIT);
    let text = fs::read_to_string(&log).unwrap_or_default();
    if ran.err.contains("ptrace") && ran.err.contains("not permitted") {
        return support::skip("tracing is not permitted");
    }
    ran.ok()?;
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, _)) = line.split_once('(') {
            *counts.entry(name).or_default() += 1;
        }
    }
    let of = |names: &[&str]| names.iter().filter_map(|n| counts.get(n)).sum::<u64>();
    let total: u64 = counts.values().sum();
    let opens = of(&["open", "openat", "openat2", "open_tree"]);
    let made = |line: &&str| line.contains("O_CREAT") && !line.contains("/proc/");
    let files = text.lines().filter(made).count();
    println!("{total} calls, {opens} opens: {counts:?}");
    ensure!(
        of(&["fsync", "fdatasync", "sync", "syncfs", "sync_file_range"]) == 0,
        "synced: {counts:?}"
    );
    let (calls, most) = match text.contains("/libc.so.6\"") {
        true => (CALLS + LOADER.0, OPENS + LOADER.1),
        false => (CALLS, OPENS),
    };
    ensure!(total <= calls, "{total} calls, at most {calls}: {counts:?}");
    ensure!(files <= FILES, "{files} files made, at most {FILES}");
    ensure!(opens <= most, "{opens} opens, at most {most}");
    Ok(())
}
