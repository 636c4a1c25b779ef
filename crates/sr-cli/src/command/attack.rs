//! `doctor --attack`: the harmless part of the escape corpus under a policy on this machine, and the run that attests what came
//! of it.

use crate::arguments::DoctorArguments;
use crate::environment::Environment;
use crate::failure::Done;
use crate::terminal::{self, Style, clean, count};
use crate::{json, policies, read};
use serde_json::{Value, json};
use sr_common::{Code, Digest, Fault, RunId, canonical};
use sr_escape::attack::{self, Attack, Stop, Told};
use sr_escape::case::GROUPS;
use sr_escape::document::{Counts, Document, Policy, Word};
use sr_evidence::files;
use sr_evidence::report::now;
use sr_evidence::verify::{Status, Verification, verify_dir};
use sr_policy::spec::{Durability, Mount, OnDenied};
use sr_policy::{PolicySpec, preset, render_yaml};
use sr_runner::{RunDir, Store};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::Path;

/// Where the cases are in the view.
const CASES: &str = "/escape";

pub fn attack(arguments: &DoctorArguments, env: &Environment) -> Done {
    let name = arguments
        .policy
        .as_deref()
        .unwrap_or_else(|| OsStr::new(policies::DEFAULT));
    let policy = policies::find(name)?.spec;
    let digest = canonical::digest(&policy).map_err(|e| failed(&format!("the policy cannot be written down: {e}")))?;
    let safe_run = std::env::current_exe().map_err(|e| failed(&format!("this program's own file: {e}")))?;
    // Made now, where it is not there yet.
    Store::open(&env.store)?;
    let shown = std::io::stderr().is_terminal();
    let attack = Attack {
        safe_run: &safe_run,
        environment: &[("SAFE_RUN_WORKDIR_BASE", &env.store), ("SAFE_RUN_KEY_DIR", &env.keys)],
        temporary: &env.temporary,
        store: &env.store,
        started_at: now(),
        uid: rustix::process::geteuid().as_raw(),
        policy: Policy {
            name: name.to_string_lossy().into_owned(),
            digest,
        },
        text: &|ground| render_yaml(&derived(&policy, ground, &env.cwd)),
        kills: policy.syscalls.on_denied == OnDenied::Kill,
        progress: &|n, all, id| {
            if shown {
                eprint!("\r\u{1b}[K{n}/{all} {id}");
            }
        },
    };
    let attacked = attack::run(&attack);
    if shown {
        eprint!("\r\u{1b}[K");
    }
    let attacked = match attacked {
        Ok(attacked) => attacked,
        // As a shell says it.
        Err(Stop::Interrupted(signal)) => return Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
        Err(Stop::Failed(why)) => return Err(failed(&why).into()),
    };
    let trust = super::trust(env)?;
    let verified = attacked.carrier.as_ref().and_then(|told| told.dir.as_deref());
    let verified = verified.map(|dir| verify_dir(dir, &trust));
    let document = &attacked.document;
    let attested = verified.as_ref().is_some_and(|v| v.status == Status::Verified);
    if arguments.json {
        let report = attacked
            .carrier
            .as_ref()
            .map(|told| json!({"id": told.id, "dir": told.dir, "verification": verified.as_ref().map(|v| v.status)}));
        terminal::out(&json::pretty(&json!({"results": document, "report": report}))?);
    } else {
        terminal::out(&text(
            document,
            attacked.carrier.as_ref().zip(verified.as_ref()),
            env.out_style,
        ));
    }
    Ok(u8::from(!(document.is_good() && attested)))
}

/// The victim of the cases.
pub fn victim() -> Done {
    let fault = |e: std::io::Error| {
        let remedy = "this command is started by `safe-run doctor --attack`, never by hand";
        Fault::new(
            Code::Run001,
            "victim",
            format!("it has nobody to wait for: {e}"),
            remedy,
        )
    };
    sr_escape::ground::victim().map_err(fault)?;
    Ok(0)
}

/// The results that a run is to attest.
pub fn results(path: &Path) -> Result<Value, Fault> {
    let document = read::document(path, "attack")?;
    let fault = |e: serde_json::Error| {
        let found = format!("{} holds no results of an attack: {e}", path.display());
        Fault::new(
            Code::Evd002,
            "attack",
            found,
            "they are given by `safe-run doctor --attack`",
        )
    };
    let document: Document = serde_json::from_slice(&document.bytes).map_err(fault)?;
    serde_json::to_value(document).map_err(fault)
}

/// The policy for a case: its project stands in the place of the current directory, the cases are shown, and evidence is kept
/// and signed whatever the policy says. Nothing that is kept from run to run is used.
fn derived(policy: &PolicySpec, ground: &Path, cwd: &Path) -> PolicySpec {
    let mut policy = policy.clone();
    let at = |name: &str| ground.join(name).to_string_lossy().into_owned();
    let absolute = |path: &str| cwd.join(path).to_string_lossy().into_owned();
    policy.mounts.retain(|mount| Path::new(&mount.source) != Path::new("."));
    for mount in &mut policy.mounts {
        // Where a target is left out it is the source's path.
        mount.source = absolute(&mount.source);
    }
    policy.rootfs.path = policy.rootfs.path.as_deref().map(absolute);
    policy.mounts.push(Mount {
        source: at("project"),
        target: None,
        read_only: false,
        captured: true,
    });
    policy.mounts.push(Mount {
        source: at("escape"),
        target: Some(CASES.into()),
        read_only: true,
        captured: false,
    });
    policy.runtime.workdir = Some(at("project"));
    policy.session = None;
    if let (true, Some(usual)) = (policy.evidence.sign == "none", preset(policies::DEFAULT)) {
        policy.evidence.sign = usual.evidence.sign;
    }
    if policy.evidence.durability == Durability::None {
        policy.evidence.durability = Durability::Process;
    }
    policy
}

fn failed(why: &str) -> Fault {
    let remedy = "TMPDIR must be a directory of yours with room, its path short; see `safe-run doctor`";
    Fault::new(Code::Run001, "attack", why, remedy)
}

// Writing to a string cannot fail.
fn text(document: &Document, report: Option<(&Told, &Verification)>, style: Style) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} of the escape corpus under {}, as {}\n",
        count(document.cases.len() as u64, "case"),
        clean(&document.policy.name),
        if document.uid == 0 {
            "root".to_owned()
        } else {
            format!("uid {}", document.uid)
        },
    );
    let _ = writeln!(
        out,
        "{:12}{:>8}{:>8}{:>9}{:>9}{:>9}",
        "group", "held", "limit", "ESCAPED", "unclear", "skipped"
    );
    let mut row = |name: &str, counts: Counts| {
        let Counts {
            held,
            limit,
            escaped,
            unclear,
            skipped,
        } = counts;
        let _ = writeln!(out, "{name:12}{held:>8}{limit:>8}{escaped:>9}{unclear:>9}{skipped:>9}");
    };
    for group in GROUPS {
        let of_it = document
            .cases
            .iter()
            .filter(|case| case.id.split('/').next() == Some(group));
        let counts = Counts::of(of_it);
        if counts != Counts::default() {
            row(group, counts);
        }
    }
    row("all", document.counts);
    out.push('\n');
    for case in &document.cases {
        let head = match case.outcome {
            Word::Escaped => style.error("ESCAPED"),
            Word::Unclear => style.warn("unclear"),
            Word::Limit => style.warn("limit"),
            Word::Held | Word::Skipped => continue,
        };
        let _ = writeln!(out, "{head} {}: {}", case.id, clean(&case.title));
        let _ = writeln!(out, "  {}", clean(case.detail.as_deref().unwrap_or_default()));
        for run in &case.runs {
            let _ = writeln!(out, "  safe-run show {}", run.id);
        }
    }
    let mut skipped: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for case in document.cases.iter().filter(|case| case.outcome == Word::Skipped) {
        skipped
            .entry(case.detail.as_deref().unwrap_or_default())
            .or_default()
            .push(&case.id);
    }
    for (why, ids) in skipped {
        let _ = writeln!(out, "skipped {}: {}\n  {}", ids.len(), clean(why), ids.join(" "));
    }
    let verdict = match (document.is_good(), document.counts) {
        (true, counts) if counts.skipped > 0 => style.good("Nothing that ran got out."),
        (true, _) => style.good("Nothing got out."),
        (false, counts) if counts.escaped > 0 => {
            style.error(&format!("{} got out.", count(counts.escaped as u64, "case")))
        }
        (false, counts) if counts.unclear > 0 => style.warn("Not all that ran was tried as it is meant."),
        (false, _) => style.error("Nothing could be run: this shows nothing."),
    };
    let _ = writeln!(out, "{verdict}");
    if let Some((told, verification)) = report {
        let short = RunId::parse(&told.id).map_or_else(|| told.id.clone(), |id| id.short().to_string());
        let said = match verification.status {
            Status::Verified => style.good("verified"),
            _ => style.error(verification.sentence()),
        };
        let _ = writeln!(out, "Attested by run {short}: {said} → safe-run report verify {short}");
    }
    out
}

/// The runs that the results in a run's folder name, where they are still those of which they tell.
pub fn runs_of(store: &Store, run: &Path) -> Vec<RunDir> {
    let bytes = files::open_dir(run)
        .ok()
        .and_then(|dir| files::read_document(&dir, files::ATTACK).ok().flatten());
    let Some(document) = bytes.and_then(|bytes| serde_json::from_slice::<Document>(&bytes).ok()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for told in document.cases.iter().flat_map(|case| &case.runs) {
        let Ok(run) = store.find(&told.id) else {
            continue;
        };
        let report = std::fs::read(run.path.join(files::REPORT)).unwrap_or_default();
        if run.id.as_str() == told.id && Digest::of(&report) == told.report {
            found.push(run);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_for_a_case_shows_its_project_and_what_the_policy_shows() {
        let mut policy = preset("agent").unwrap();
        policy.evidence.sign = "none".into();
        policy.evidence.durability = Durability::None;
        policy.mounts.push(Mount {
            source: "data".into(),
            target: Some("/data".into()),
            read_only: true,
            captured: false,
        });
        let derived = derived(&policy, Path::new("/t/ground"), Path::new("/home/me"));
        let sources: Vec<&str> = derived.mounts.iter().map(|m| m.source.as_str()).collect();
        assert_eq!(sources, ["/home/me/data", "/t/ground/project", "/t/ground/escape"]);
        assert_eq!(derived.runtime.workdir.as_deref(), Some("/t/ground/project"));
        assert_eq!((derived.session, derived.evidence.sign.as_str()), (None, "default"));
        assert_eq!(derived.evidence.durability, Durability::Process);
        // All else is as it was.
        assert_eq!(
            (derived.syscalls, derived.resources),
            (policy.syscalls, policy.resources)
        );
    }
}
