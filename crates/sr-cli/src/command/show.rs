//! `show`: what a run did, what it used, and what held it.

use crate::arguments::ShowArguments;
use crate::environment::Environment;
use crate::failure::Done;
use crate::terminal::{self, Style, clean, count, seconds, size};
use crate::{json, summary};
use sr_common::{Code, Control, Fault, Obligation, Strength};
use sr_evidence::approval::{self, Anchor, Approval, By, Settled};
use sr_evidence::report::RunReport;
use std::fmt::Write as _;
use std::path::Path;

pub fn show(arguments: &ShowArguments, env: &Environment) -> Done {
    let (store, run) = super::find_run(env, &arguments.run)?;
    let Some(report) = run.report() else {
        let (found, remedy) = if store.is_running(&run.id) {
            (
                "is under way",
                "wait for its end; its events so far are in its folder".to_owned(),
            )
        } else {
            let remedy = format!(
                "see what its evidence proves: safe-run report verify {}",
                run.id.short()
            );
            ("has no report: it did not come to its end", remedy)
        };
        return Err(Fault::new(Code::Evd002, "run", format!("run {} {found}", run.id.short()), remedy).into());
    };
    if arguments.json {
        terminal::out(&json::pretty(&report)?);
    } else {
        terminal::out(&text(&report, env.out_style));
        terminal::out(&approvals(&run.path, &report, env.out_style));
        terminal::out(&format!("folder      {}\n", clean(&run.path.to_string_lossy())));
    }
    Ok(0)
}

// Writing to a string cannot fail.
fn text(report: &RunReport, style: Style) -> String {
    let mut out = String::new();
    let command: Vec<String> = report.command.argv.iter().map(|w| clean(w)).collect();
    let ended = summary::ending(&report.result, report.duration_micros);
    let ended = if report.result.status == 0 {
        style.good(&ended)
    } else {
        style.warn(&ended)
    };
    let _ = writeln!(out, "run         {}", report.run_id);
    let _ = writeln!(out, "command     {}", style.bold(&command.join(" ")));
    let _ = writeln!(out, "result      {ended}, status {}", report.result.status);
    if let Some(message) = &report.result.message {
        let _ = writeln!(out, "            {}", clean(message));
    }
    let _ = writeln!(out, "started     {}", report.started_at);
    let _ = writeln!(out, "backend     {}", clean(&report.backend));
    let _ = writeln!(out, "used        {}", used(report));
    match &report.changes {
        Some(c) if c.files > 0 => {
            let _ = writeln!(
                out,
                "changes     {}: {} added, {} modified, {} deleted → safe-run diff",
                count(c.files, "file"),
                c.added,
                c.modified,
                c.deleted
            );
        }
        Some(_) => out.push_str("changes     none\n"),
        None => out.push_str("changes     nothing was captured\n"),
    }
    limits(report, style, &mut out);
    posture(report, style, &mut out);
    denied(report, &mut out);
    for hidden in &report.hidden {
        let _ = writeln!(out, "hidden      {} ({})", clean(&hidden.path), clean(&hidden.reason));
    }
    for prefix in &report.prefixes {
        let _ = writeln!(out, "shown       {} read-only, for the command's sake", clean(prefix));
    }
    hashed(report, &mut out);
    let signed = if report.evidence.signed { "signed" } else { "NOT signed" };
    let _ = writeln!(
        out,
        "evidence    {}, {signed} → safe-run report verify {}",
        count(report.evidence.count, "event"),
        report.run_id.short()
    );
    out
}

/// What went in by its digest, and what did without.
fn hashed(report: &RunReport, out: &mut String) {
    let digests = &report.digests;
    let files = digests.script.iter().chain(&digests.executable);
    let mut lines: Vec<(&str, String)> = files.map(|f| (f.path.as_str(), f.digest.to_string())).collect();
    lines.extend(digests.mounts.iter().map(|mount| {
        let digest = match &mount.digest {
            Some(digest) => digest.to_string(),
            None => "not hashed".into(),
        };
        (mount.target.as_str(), digest)
    }));
    for (i, (path, digest)) in lines.into_iter().enumerate() {
        let head = if i == 0 { "hashed" } else { "" };
        let _ = writeln!(out, "{head:10}  {} {digest}", clean(path));
    }
}

/// Who took over what; whether that holds is for `report verify` to say.
fn approvals(run: &Path, report: &RunReport, style: Style) -> String {
    let anchor = Anchor {
        count: report.evidence.count,
        head: report.evidence.chain_head,
    };
    let read = sr_evidence::files::open_dir(run)
        .map_err(|e| e.to_string())
        .and_then(|dir| approval::read(dir, anchor));
    let mut out = String::new();
    match read {
        Ok(None) => {}
        Ok(Some(read)) => {
            for (entry, next) in read.list.iter().zip(read.list.iter().skip(1).map(Some).chain([None])) {
                if let Some(line) = decision(entry, next, style) {
                    let _ = writeln!(out, "approval    {line}");
                }
            }
            if let Some((line, why)) = read.broken {
                let line = format!("line {line} of the record does not hold: {}", clean(&why));
                let _ = writeln!(out, "approval    {}", style.error(&line));
            }
        }
        Err(why) => {
            let _ = writeln!(out, "approval    {}", style.error(&clean(&why)));
        }
    }
    out
}

fn decision(entry: &Approval, next: Option<&Approval>, style: Style) -> Option<String> {
    let told = |by: &By| {
        let name = by
            .user
            .as_deref()
            .map_or_else(String::new, |user| format!("{} ", clean(user)));
        let login = by.login_uid.filter(|login| *login != by.uid);
        let login = login.map_or_else(String::new, |login| format!(", logged in as uid {login}"));
        let time = entry.event.time.get(..19).unwrap_or_default().replace('T', " ");
        let signed = match entry.signatures.first() {
            Some(signature) => format!("key {}", clean(signature.keyid.get(..12).unwrap_or(&signature.keyid))),
            None => "NOT signed".to_owned(),
        };
        format!("{time} by {name}(uid {}{login}), {signed}: ", by.uid)
    };
    if let Some(intent) = entry.intent() {
        let named: usize = intent.directories.iter().map(|d| d.named.len()).sum();
        let named = if named == 0 {
            String::new()
        } else {
            format!(", {named} named")
        };
        let Some(outcome) = next.and_then(Approval::outcome) else {
            let planned: usize = intent.directories.iter().map(|d| d.paths.len()).sum();
            let what = format!(
                "{} begun{named}, its end is not recorded",
                count(planned as u64, "change")
            );
            return Some(told(&intent.by) + &style.warn(&what));
        };
        let of = |f: fn(&Settled) -> usize| outcome.directories.iter().map(f).sum::<usize>();
        let applied = count(of(|d| d.applied.len()) as u64, "change");
        let refused = match of(|d| d.refused.len()) {
            0 => String::new(),
            n => format!(", {n} refused"),
        };
        let stopped = if outcome.complete {
            ""
        } else {
            ", then stopped by a fault"
        };
        return Some(format!(
            "{}{applied} applied{refused}{named}{stopped}",
            told(&intent.by)
        ));
    }
    let refused = entry.refused()?;
    let what = count(refused.refused.len() as u64, "conflict");
    Some(format!("{}nothing applied, {what}", told(&refused.by)))
}

fn used(report: &RunReport) -> String {
    let p = &report.peaks;
    let mut parts = Vec::new();
    parts.extend(p.cpu_micros.map(|us| format!("{} of CPU", seconds(us))));
    parts.extend(p.memory_bytes.map(|n| format!("{} of memory", size(n))));
    parts.extend(p.pids.map(|n| {
        if n == 1 {
            "1 process".into()
        } else {
            format!("{n} processes")
        }
    }));
    parts.extend(p.disk_bytes.map(|n| format!("{} written", size(n))));
    let waited = p.waited.unwrap_or_default();
    for (what, micros) in [
        ("a CPU", waited.cpu_micros),
        ("memory", waited.memory_micros),
        ("a disk", waited.io_micros),
    ] {
        // Every start waits a little.
        if micros >= 100_000 {
            parts.push(format!("waited {} for {what}", seconds(micros)));
        }
    }
    let printed = report.outputs.stdout.bytes.saturating_add(report.outputs.stderr.bytes);
    parts.push(format!("{} printed", size(printed)));
    let dropped = report
        .outputs
        .stdout
        .dropped
        .saturating_add(report.outputs.stderr.dropped);
    if dropped > 0 {
        parts.push(format!("{} of output dropped", size(dropped)));
    }
    parts.join(", ")
}

fn limits(report: &RunReport, style: Style, out: &mut String) {
    for (i, o) in report.obligations.iter().filter(|o| is_limit(o)).enumerate() {
        let head = if i == 0 { "limits" } else { "" };
        let _ = writeln!(
            out,
            "{head:10}  {} {} ({})",
            clean(&o.clause),
            clean(&o.requested),
            how(o, style)
        );
    }
    for o in report.obligations.iter().filter(|o| !is_limit(o) && !o.enforced) {
        let _ = writeln!(
            out,
            "{}  {} {}",
            style.warn("WITHOUT   "),
            clean(&o.clause),
            how(o, style)
        );
    }
}

fn is_limit(o: &Obligation) -> bool {
    use Control::{Cpu, Disk, Memory, OpenFiles, Output, Pids, WallTime};
    matches!(o.control, Cpu | Disk | Memory | OpenFiles | Output | Pids | WallTime)
        && o.clause.starts_with("resources.")
}

fn how(o: &Obligation, style: Style) -> String {
    if !o.enforced {
        let reason = o
            .reason
            .as_deref()
            .map_or_else(String::new, |r| format!(": {}", clean(r)));
        return style.warn(&format!("not enforced{reason}"));
    }
    let strength = match o.strength {
        None | Some(Strength::Kernel) => "",
        Some(Strength::PerProcess) => ", for each process",
        Some(Strength::Sampled) => ", sampled",
    };
    format!("{}{strength}", clean(&o.mechanism))
}

fn posture(report: &RunReport, style: Style, out: &mut String) {
    let broken: Vec<_> = report.posture.iter().filter(|p| !p.holds).collect();
    let seen = report.posture.len() as u64;
    if seen == 0 {
        out.push_str("posture     not read: the program never came so far\n");
    } else if broken.is_empty() {
        let _ = writeln!(
            out,
            "posture     {} read back from the kernel, all hold",
            count(seen, "control")
        );
    }
    for p in broken {
        let line = format!(
            "{}: asked {}, found {}",
            p.control.name(),
            clean(&p.requested),
            clean(&p.observed)
        );
        let _ = writeln!(out, "posture     {}", style.error(&line));
    }
}

fn denied(report: &RunReport, out: &mut String) {
    for (i, d) in report.denied.iter().flatten().enumerate() {
        let head = if i == 0 { "denied" } else { "" };
        let _ = writeln!(
            out,
            "{head:10}  {} by {}, {}",
            clean(&d.operation),
            clean(&d.by),
            count(d.count, "time")
        );
    }
}
