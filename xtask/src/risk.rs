//! `cargo xtask risk`: what a program can reach on the bare host and behind each wall, counted by a program that runs there
//! → docs/risk-surface.md, and a chart beside it.

mod chart;
mod page;

use crate::escape::{self, Column, Wall, Walls};
use crate::{Outcome, tree};
use page::{Measure, Page};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const PAGE: &str = "docs/risk-surface.md";
const CHART: &str = "docs/risk-surface.svg";

/// From the weakest on, each as an ordinary user starts it where it can be.
pub const COLUMNS: [(&str, Column); 6] = [
    ("bare host", user(Wall::Control)),
    ("bubblewrap", user(Wall::Bubblewrap)),
    (
        "runc",
        Column {
            wall: Wall::Runc,
            root: true,
        },
    ),
    ("process", user(Wall::Process)),
    ("gvisor", user(Wall::Gvisor)),
    ("microvm", user(Wall::Microvm)),
];

const fn user(wall: Wall) -> Column {
    Column { wall, root: false }
}

/// How long the probe may take, where the processor is computed.
const SECONDS: u64 = 300;

pub fn risk(options: &[&str]) -> Outcome {
    let write = match options {
        [] => false,
        ["--write"] => true,
        other => return Err(format!("xtask risk does not know {other:?}")),
    };
    if !tree::is_root() {
        return Err("runc is started by root here: so must this be".into());
    }
    let safe_run = match std::env::var_os("SAFE_RUN_BIN") {
        Some(given) => tree::root().join(given),
        None => tree::safe_run()?,
    };
    let probe = escape::compiled(&tree::root().join("xtask/src/risk/reach.c"), "reach")?;
    let walls = Walls::new(&safe_run)?;
    let mut measures = Vec::new();
    for (name, column) in COLUMNS {
        println!("{name} …");
        measures.push(measured(&walls, column, &probe)?);
    }
    let page = Page::of(&measures, &host());
    let text = page.text();
    print!("{text}");
    if write {
        for (name, content) in [(PAGE, text), (CHART, chart::svg(&page)?)] {
            let path = tree::root().join(name);
            fs::write(&path, content).map_err(|e| format!("{}: {e}", path.display()))?;
            println!("written: {name}");
        }
    }
    Ok(())
}

fn measured(walls: &Walls, column: Column, probe: &Path) -> Outcome<Measure> {
    // A walk through all of it takes minutes where the processor is computed; the view is that of the process wall.
    let walks = column.wall != Wall::Microvm;
    let words: &[&str] = if walks { &[] } else { &["no-system"] };
    let said = walls.output(column, probe, words, SECONDS)?;
    if said.lines().last() != Some("end") {
        return Err(format!("{}: the probe did not come to its end", column.name()));
    }
    let count = |word: &str| said.lines().filter(|l| l.split(' ').next() == Some(word)).count();
    let system = said.lines().find_map(|line| line.strip_prefix("system ")?.parse().ok());
    let of_host = |file: &&str| is_of_host(file);
    let other = said
        .lines()
        .filter_map(|line| line.strip_prefix("file "))
        .filter(of_host);
    let calls = count("call");
    let (host_calls, own_calls) = match column.wall.has_kernel() {
        true => (allowed(&walls.bundle(column)?)?, Some(calls)),
        false => (calls, None),
    };
    Ok(Measure {
        corpus: escape::totals(column)?,
        host_calls,
        own_calls,
        devices: count("device"),
        setuid: walks.then(|| count("setuid")),
        system,
        other: other.count(),
    })
}

/// Whether `SIZE TIME PATH` is the host's own file, not one that a wall made up under the same name.
fn is_of_host(file: &str) -> bool {
    let mut parts = file.splitn(3, ' ');
    let mut number = || parts.next()?.parse::<i64>().ok();
    let told = (number(), number());
    let meta = parts.next().and_then(|path| fs::symlink_metadata(path).ok());
    meta.is_some_and(|meta| told == (i64::try_from(meta.size()).ok(), Some(meta.mtime())))
}

/// How many system calls of the host's kernel the sandbox around a monitor allows.
fn allowed(bundle: &str) -> Outcome<usize> {
    let bundle: Value = serde_json::from_str(bundle).map_err(|e| format!("safe-run compile: {e}"))?;
    let calls = &bundle["wallPlan"]["around"]["syscallsPlan"];
    let list = |name: &str| calls[name].as_array().into_iter().flatten();
    // With none of its arguments allowed it is refused, whatever the list is called.
    let refused =
        |call: &Value| !call["otherwiseErrno"].is_null() && call["allow"].as_array().is_none_or(Vec::is_empty);
    let some = list("conditional")
        .filter(|call| !refused(call))
        .map(|call| &call["syscall"]);
    let all: BTreeSet<&str> = list("allowed").chain(some).filter_map(Value::as_str).collect();
    match all.is_empty() {
        true => Err("the bundle has no sandbox around its monitor".into()),
        false => Ok(all.len()),
    }
}

/// `Linux 6.1.0 x86_64`.
fn host() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {} {}", release.trim(), std::env::consts::ARCH)
}
