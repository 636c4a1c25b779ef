//! `apply`: takes a run's changes over to the real files, as far as a person says so.

use super::diff::line;
use crate::arguments::ApplyArguments;
use crate::environment::Environment;
use crate::failure::{Done, Failure};
use crate::json;
use crate::terminal::{self, clean, count};
use serde_json::json;
use sr_common::{Code, Fault, path};
use sr_compiler::bundle::SYSTEM_DIRECTORIES;
use sr_runner::CapturedLayer;
use sr_runner::changes::{Applied, ApplyOptions, Change, escape};
use sr_runner::takeover::{self, Order};
use std::io::{BufRead as _, IsTerminal, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// A captured directory and what of it is to be taken over.
struct Work {
    captured: CapturedLayer,
    changes: Vec<Change>,
    /// As the changes write their paths. Empty: everything.
    named: Vec<String>,
}

pub fn apply(arguments: &ApplyArguments, env: &Environment) -> Done {
    let (store, run) = super::find_run(env, &arguments.run)?;
    let trust = super::trust(env)?;
    let seen = takeover::look(&store, &run, &trust)?;
    let signed = seen.sound()?.signed;
    let looks = seen.looks.into_iter();
    let mut works: Vec<Work> = looks
        .map(|look| Work {
            captured: look.captured,
            changes: look.changes,
            named: Vec::new(),
        })
        .collect();
    name(&mut works, &arguments.paths, &env.cwd)?;
    works.retain(|w| !w.changes.is_empty() && (arguments.paths.is_empty() || !w.named.is_empty()));
    let mut faults = Vec::new();
    works.retain(|work| match the_hosts_own(&work.captured.source) {
        false => true,
        true => {
            let place = clean(&work.captured.source.to_string_lossy());
            if work.named.is_empty() {
                terminal::err(&format!(
                    "never applied: {} in {place}, the operating system's own",
                    count(work.changes.len() as u64, "change")
                ));
            } else {
                let found = format!("{place} is the operating system's own: changes there stay with the run");
                faults.push(Fault::new(
                    Code::Run001,
                    "apply",
                    found,
                    "copy what you want from `safe-run diff`",
                ));
            }
            false
        }
    });
    if !faults.is_empty() {
        return Err(Failure(faults));
    }
    if works.is_empty() {
        terminal::err("nothing was changed");
        return Ok(0);
    }
    if !signed {
        terminal::err("not signed: the changes are those of the run's own manifest, which anyone could have written");
    }
    if arguments.dry_run || asks(arguments) {
        for work in &works {
            for change in work.changes.iter().filter(|c| work.concerns(c)) {
                terminal::err(&line(change, env.err_style));
            }
        }
    }
    if arguments.dry_run {
        return Ok(0);
    }
    if asks(arguments) && !agreed(&works) {
        terminal::err("nothing was applied");
        return Ok(1);
    }
    let key = takeover::key(&env.keys, arguments.key.as_deref(), signed)?;
    let order = Order {
        by: takeover::approver(),
        key: key.as_ref(),
        layers: works
            .iter()
            .map(|work| (work.captured.number, work.options()))
            .collect(),
    };
    let taken = takeover::apply(&store, &run, &trust, &order)?;
    let mut done = Vec::new();
    for (number, applied) in taken.done {
        if let Some(work) = works.iter().find(|work| work.captured.number == number) {
            done.push((work, applied));
        }
    }
    tell(&done, arguments, run.id.short())?;
    if taken.faults.is_empty() {
        Ok(0)
    } else {
        Err(Failure(taken.faults))
    }
}

/// What `rootfs: {source: host, writable: overlay}` captured is for the run only: root would install it.
pub(super) fn the_hosts_own(source: &Path) -> bool {
    SYSTEM_DIRECTORIES.iter().any(|dir| source == Path::new(dir))
}

impl Work {
    fn options(&self) -> ApplyOptions {
        ApplyOptions {
            only: self.named.clone(),
            force: self.named.clone(),
            ..ApplyOptions::default()
        }
    }

    fn concerns(&self, change: &Change) -> bool {
        self.named.is_empty() || self.named.iter().any(|name| path::within(&change.path, name))
    }
}

/// Gives each path that a person named to the captured directory that has a change there: as `diff` writes it, or
/// as a path from the current directory.
fn name(works: &mut [Work], paths: &[PathBuf], cwd: &Path) -> Result<(), Failure> {
    let mut faults = Vec::new();
    for path in paths {
        let mut matched = false;
        for work in works.iter_mut() {
            let found = spellings(path, cwd, &work.captured.source)
                .into_iter()
                .find(|name| work.changes.iter().any(|c| path::within(&c.path, name)));
            if let Some(found) = found {
                matched = true;
                work.named.push(found);
            }
        }
        if !matched {
            let found = format!("{} was not changed by this run", path.display());
            faults.push(Fault::new(
                Code::Run001,
                "apply",
                found,
                "`safe-run diff` shows the paths",
            ));
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Failure(faults))
    }
}

fn spellings(path: &Path, cwd: &Path, source: &Path) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(text) = path.to_str().filter(|_| path.is_relative()) {
        // As shown, with the escapes of odd names.
        out.push(text.trim_end_matches('/').to_owned());
    }
    let mut absolute = PathBuf::new();
    for part in cwd.join(path).components() {
        match part {
            Component::ParentDir => {
                absolute.pop();
            }
            Component::CurDir => {}
            part => absolute.push(part),
        }
    }
    if let Ok(rest) = absolute.strip_prefix(source) {
        out.push(escape(rest.as_os_str().as_bytes()));
    }
    out.retain(|name| !name.is_empty());
    out
}

/// A person is asked only where there is one to answer.
fn asks(arguments: &ApplyArguments) -> bool {
    !arguments.yes && !arguments.json && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

fn agreed(works: &[Work]) -> bool {
    let n: usize = works
        .iter()
        .map(|w| w.changes.iter().filter(|c| w.concerns(c)).count())
        .sum();
    let places: Vec<String> = works
        .iter()
        .map(|w| clean(&w.captured.source.to_string_lossy()))
        .collect();
    let _ = write!(
        std::io::stderr(),
        "apply {} to {}? [y/N] ",
        count(n as u64, "change"),
        places.join(", ")
    );
    let mut answer = String::new();
    match std::io::stdin().lock().read_line(&mut answer) {
        Ok(_) => matches!(answer.trim(), "y" | "Y" | "yes"),
        Err(_) => false,
    }
}

fn tell(done: &[(&Work, Applied)], arguments: &ApplyArguments, id: &str) -> Result<(), Fault> {
    if arguments.json {
        let list: Vec<_> = done
            .iter()
            .map(|(w, a)| json!({"source": w.captured.source, "outcome": a}))
            .collect();
        terminal::out(&json::pretty(&list)?);
        return Ok(());
    }
    for (_, applied) in done {
        for note in &applied.skipped {
            terminal::err(&format!(
                "never applied: {} ({})",
                clean(&note.path),
                clean(&note.reason)
            ));
        }
        for note in &applied.pending {
            terminal::err(&format!("not applied: {} ({})", clean(&note.path), clean(&note.reason)));
        }
    }
    let total: usize = done.iter().map(|(_, a)| a.applied.len()).sum();
    let pending: Vec<&str> = done
        .iter()
        .flat_map(|(_, a)| a.pending.iter().map(|n| n.path.as_str()))
        .collect();
    let mut line = format!("{} applied", count(total as u64, "change"));
    if let Some(first) = pending.first() {
        line.push_str(&format!(
            ", {} left → name what you want: safe-run apply {id} {}",
            pending.len(),
            clean(first)
        ));
    }
    terminal::err(&line);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_a_person_writes_them() {
        let of = |path: &str, cwd: &str| spellings(Path::new(path), Path::new(cwd), Path::new("/w"));
        assert_eq!(of("src/a.py", "/w"), ["src/a.py", "src/a.py"]);
        assert_eq!(of("a.py", "/w/src"), ["a.py", "src/a.py"]);
        assert_eq!(of("../b/", "/w/src"), ["../b", "b"]);
        assert_eq!(of("/w/src/a.py", "/"), ["src/a.py"]);
        assert_eq!(of("/elsewhere", "/"), [""; 0]);
    }
}
