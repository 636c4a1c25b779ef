//! Programs and places that all cases share, made once: compiled cases, copies that an ordinary user reaches.

use super::kernels::Kernels;
use super::parallel::{add, at_once};
use super::wall::{self, Column, Wall};
use super::{USER, rig};
use crate::alone::GUEST;
use crate::scratch::Scratch;
use crate::{Outcome, guest, needs, tree};
use sr_escape::case::{Case, Language};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Programs and places that all cases share.
pub struct Tools {
    pub scratch: Scratch,
    pub ground: PathBuf,
    /// Programs that an ordinary user reaches.
    bin: PathBuf,
    /// What other kernels answer.
    pub kernels: Kernels,
    /// Compiled cases, below their groups.
    built: PathBuf,
    pub keep: bool,
    /// This machine may be harmed.
    pub harm: bool,
}

impl Tools {
    pub fn new(keep: bool, safe_run: Option<&Path>) -> Outcome<Tools> {
        let harm = rig::may_harm()?;
        let scratch = Scratch::new("escape")?;
        open_to_all(scratch.path())?;
        let built = tree::target().join("escape");
        let ground = compile(&tree::root().join("tests/escape/ground.c"), &built.join("ground"))?;
        // Copies that an ordinary user reaches, wherever the workspace is.
        let bin = scratch.dir("bin")?;
        let copy = |from: &Path, name: &str| copy(&[from], &bin.join(name));
        copy(&ground, "ground")?;
        if let Some(safe_run) = safe_run {
            copy(safe_run, "safe-run")?;
        }
        for root in [true, false] {
            for (name, mode) in [("home", 0o755), ("keys", 0o700), ("runtime", 0o700)] {
                let dir = scratch.dir(&format!("{}/{name}", who(root)))?;
                fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).map_err(|e| e.to_string())?;
                if let Some(uid) = uid(root) {
                    chown(&dir, Some(uid), Some(uid)).map_err(|e| format!("{}: {e}", dir.display()))?;
                }
            }
        }
        Ok(Tools {
            ground: bin.join("ground"),
            bin,
            kernels: Kernels::kept()?,
            scratch,
            built,
            keep,
            harm,
        })
    }

    /// Safe-Run, which runs what it is given behind `wall`.
    pub fn safe_run(&self, wall: Wall) -> PathBuf {
        match wall {
            wall if wall.has_kernel() => self.folder(wall).join("safe-run"),
            _ => self.bin.join("safe-run"),
        }
    }

    /// What is made for a wall with a kernel of its own. A colon would end a path in some words.
    fn folder(&self, wall: Wall) -> PathBuf {
        self.bin.join(wall.word().replace(':', "-"))
    }

    /// The policy that a preset is in that virtual machine.
    pub fn policy(&self, wall: Wall, preset: &str) -> PathBuf {
        self.folder(wall).join(format!("{preset}.yaml"))
    }

    /// What `wall` needs: its monitor, the agent and the kernel; and Safe-Run as a program that runs behind it what it is given.
    pub fn kernel_of_its_own(&self, wall: Wall) -> Outcome {
        // In the rig it is built already.
        let agent = match std::env::var_os("SAFE_RUN_GUEST") {
            Some(given) => tree::root().join(given),
            None => GUEST.build()?,
        };
        copy(&[&agent], &self.bin.join("sr-guest"))?;
        let folder = self.folder(wall);
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let (more, words) = match wall {
            Wall::Gvisor => {
                copy(&[&needs::runsc()?], &self.bin.join("runsc"))?;
                (String::new(), "--backend gvisor".to_owned())
            }
            _ => {
                let (backend, more) = match wall.needs_kvm() {
                    Some((program, _)) => {
                        copy(&[&wall::with_kvm(wall)?], &self.bin.join(program))?;
                        // The rig, where they are nested, has no second one; and a tenth of one boots for minutes.
                        (wall.word(), "resources: {cpu: 1}\nmicrovm: {bootTimeout: 10min}\n")
                    }
                    None => ("microvm:qemu", "microvm: {accel: tcg}\n"),
                };
                for (preset, mounts) in PRESETS {
                    let text = format!(
                        "apiVersion: safe-run/v1\nmetadata: {{name: {preset}}}\nextends: {preset}\n\
                         runtime: {{backend: \"{backend}\", command: /bin/true, args: []}}\n\
                         mounts: {mounts}\n{more}"
                    );
                    let path = self.policy(wall, preset);
                    fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
                }
                self.kernel()?;
                // With a policy of the case's own it would be another wall, or another processor.
                let ours = self.policy(wall, "standard");
                let dir = folder.join("").display().to_string();
                let more = format!(
                    "case \" $* \" in *' --policy {dir}'*) exec $safe_run run \"$@\";; *' --policy '*) exit 125;; esac\n"
                );
                (more, format!("--policy {}", ours.display()))
            }
        };
        let (path, own) = (self.safe_run(wall), self.bin.join("safe-run"));
        let text = format!(
            "#!/bin/sh\nsafe_run={}\n[ \"$1\" = run ] || exec $safe_run \"$@\"\nshift\n{more}exec $safe_run run {words} \"$@\"\n",
            own.display()
        );
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(|e| e.to_string())
    }

    /// A store for each user that holds the kernel, which the stores of the cases have copies of.
    fn kernel(&self) -> Outcome {
        let made = self.scratch.dir("made")?;
        if made.join("artifacts").exists() {
            return Ok(());
        }
        guest::kernel(&made)?;
        for root in [true, false] {
            let store = self.scratch.dir(&format!("{}/kernel", who(root)))?;
            copy(&[&made.join("artifacts")], &store)?;
            if let Some(uid) = uid(root) {
                needs::run(Command::new("chown").arg("-R").arg(format!("{uid}:{uid}")).arg(&store))?;
            }
        }
        Ok(())
    }

    /// Has the store of a case the kernel, where a column needs one.
    pub fn link_kernel(&self, column: Column, store: &Path) -> Outcome {
        if !column.wall.is_machine() {
            return Ok(());
        }
        let kept = self.scratch.path().join(who(column.root)).join("kernel/artifacts");
        // No links: a file that gets one more is another to whoever hashed it.
        needs::run(Command::new("cp").args(["-a", "--"]).arg(kept).arg(store))
    }

    pub fn built(&self, case: &Case) -> PathBuf {
        self.built.join(&case.group).join(&case.name)
    }

    /// Compiles what is in C and not yet, all that is wrong at once.
    pub fn build(&self, cases: &[&Case]) -> Outcome {
        let wrong = Mutex::new(Vec::new());
        let in_c: Vec<&&Case> = cases.iter().filter(|c| c.language == Language::C).collect();
        at_once(in_c.len(), |i| {
            if let Err(why) = compile(&in_c[i].path, &self.built(in_c[i])) {
                add(&wrong, why);
            }
        });
        let wrong = wrong.into_inner().unwrap_or_default();
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n"))
        }
    }
}

/// Presets that cases are run under, and what they mount.
const PRESETS: [(&str, &str); 2] = [("standard", "[{source: ., captured: true}]"), ("strict", "[]")];

pub fn who(root: bool) -> &'static str {
    if root { "root" } else { "user" }
}

/// The user to become, where that is another one.
pub fn uid(root: bool) -> Option<u32> {
    (tree::is_root() && !root).then_some(USER)
}

pub fn open_to_all(dir: &Path) -> Outcome {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).map_err(|e| format!("{}: {e}", dir.display()))
}

/// By a process of its own: a program that a thread of this one has open for writing cannot be executed.
pub fn copy(from: &[&Path], to: &Path) -> Outcome {
    let output = Command::new("cp").args(["-r", "--"]).args(from).arg(to).output();
    let output = output.map_err(|e| format!("cp: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("cp: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// A program of the checks' own, in C.
pub fn compiled(source: &Path, name: &str) -> Outcome<PathBuf> {
    compile(source, &tree::target().join("escape").join(name))
}

/// Compiles `source`, unless what is there carries the time of the newest file that it is made of.
fn compile(source: &Path, to: &Path) -> Outcome<PathBuf> {
    let corpus = tree::corpus();
    let time = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let beside = source.parent().unwrap_or(&corpus);
    let headers = [corpus.as_path(), beside]
        .into_iter()
        .flat_map(|dir| fs::read_dir(dir).into_iter().flatten());
    let headers = headers
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "h"));
    let newest = headers.chain([source.to_owned()]).filter_map(|p| time(&p)).max();
    if newest.is_some() && time(to) == newest {
        return Ok(to.to_owned());
    }
    let fault = |e: std::io::Error| format!("{}: {e}", to.display());
    fs::create_dir_all(to.parent().unwrap_or(to)).map_err(fault)?;
    // In its place at once: another run may be copying it, and a thread of this one compiling it too.
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let n = MADE.fetch_add(1, Ordering::Relaxed);
    let new = to.with_extension(format!("new-{}-{n}", std::process::id()));
    let output = Command::new("cc")
        .args(["-O1", "-static", "-pthread", "-I"])
        .arg(&corpus)
        .arg("-o")
        .arg(&new)
        .arg(source)
        .output()
        .map_err(|e| format!("cc: {e}"))?;
    if !output.status.success() {
        return Err(format!(
            "{} does not compile:\n{}",
            source.display(),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    if let Some(newest) = newest {
        let file = fs::File::options().append(true).open(&new);
        file.and_then(|file| file.set_modified(newest)).map_err(fault)?;
    }
    fs::rename(&new, to).map_err(fault)?;
    Ok(to.to_owned())
}
