//! From the command as written to the file that is run: `PATH`, symbolic links, `#!` lines, and what must be shown
//! besides for it to work.

use super::fault::{COMMAND, run, text};
use super::shims::{self, Shim};
use super::view::{View, Walk};
use super::{Surroundings, install, shebang};
use sr_common::Fault;
use sr_common::facts::{Command, Interpreter, ResolvedMount};
use sr_policy::PolicySpec;
use sr_policy::spec::Installation;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// Where programs of a root directory of its own are, besides the caller's `PATH`.
const STANDARD_PATH: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];
/// As deep as the kernel follows interpreters that are scripts.
const MOST_INTERPRETERS: usize = 4;

pub(super) fn resolve(
    policy: &PolicySpec,
    cwd: &Path,
    path_var: &OsStr,
    view: &View<'_>,
    surroundings: &Surroundings<'_>,
) -> Result<Command, Fault> {
    let written = written(policy)?;
    let home = surroundings.facts.home.as_deref().map(Path::new);
    let mut search = Search {
        cwd,
        path: std::env::split_paths(path_var)
            .filter(|dir| dir.is_absolute())
            .collect(),
        view,
        surroundings,
        home,
        refuse: policy.rootfs.installation == Installation::Refuse,
        preset: format!("{:?}", policy.preset).to_lowercase(),
        prefixes: Vec::new(),
        path_dirs: Vec::new(),
    };
    if !view.is_host() {
        search.path.extend(STANDARD_PATH.map(PathBuf::from));
    }
    let bare = !written.contains('/') && written != "." && written != "..";
    let path = if bare {
        search
            .look_up(OsStr::new(written), None)
            .ok_or_else(|| not_found(written, "in PATH"))?
    } else {
        search.written_path(written)?
    };
    let walk = search.admit(&path, written)?;
    search.path_dir(&path, bare);
    let interpreters = search.interpreters(&walk)?;
    Ok(Command {
        written: written.to_owned(),
        path: text(&path, COMMAND)?,
        interpreters,
        prefixes: search.texts(&search.prefixes)?,
        path_dirs: search.texts(&search.path_dirs)?,
        module: None,
    })
}

/// Where the guest's root is an image: nobody looks into that here. A relative path is looked for in what is mounted.
pub(super) fn of_guest(policy: &PolicySpec, cwd: &Path, mounts: &[ResolvedMount]) -> Result<Command, Fault> {
    let written = written(policy)?;
    let path = match Path::new(written) {
        path if path.is_absolute() || !written.contains('/') => path.to_owned(),
        path => {
            let host = cwd.join(path);
            let real = host.canonicalize().map_err(|_| not_found(written, "no such file"))?;
            let shown = mounts.iter().filter(|mount| real.starts_with(&mount.source));
            let mount = shown.max_by_key(|mount| mount.source.len());
            let place =
                mount.and_then(|mount| Some(Path::new(&mount.target).join(real.strip_prefix(&mount.source).ok()?)));
            place.ok_or_else(|| {
                let remedy = "mount its directory, or name a program of the guest's root by its absolute path";
                run(COMMAND, format!("{} is not in the sandbox", host.display()), remedy)
            })?
        }
    };
    Ok(Command {
        written: written.to_owned(),
        path: text(&path, COMMAND)?,
        interpreters: Vec::new(),
        prefixes: Vec::new(),
        path_dirs: Vec::new(),
        module: None,
    })
}

pub(super) fn written(policy: &PolicySpec) -> Result<&str, Fault> {
    match policy.runtime.command.as_deref().filter(|c| !c.is_empty()) {
        None => Err(run(
            COMMAND,
            "no command",
            "write runtime.command, or give it after `--`",
        )),
        Some(written) if written.contains('\0') => {
            Err(run(COMMAND, "the command holds a NUL byte", "write the program's path"))
        }
        Some(written) => Ok(written),
    }
}

fn not_found(written: &str, place: &str) -> Fault {
    let remedy = "check the name; a program that only the sandbox's mounts hold is named by its path there";
    run(COMMAND, format!("command not found: {written} ({place})"), remedy)
}

/// The path without `.` and doubled slashes; `None` if it holds `..`, which only the file system can resolve.
fn plain(path: &Path) -> Option<PathBuf> {
    let plain = path
        .components()
        .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    plain.then(|| path.components().collect())
}

fn executable(walk: &Walk) -> bool {
    walk.meta.is_file() && walk.meta.permissions().mode() & 0o111 != 0
}

struct Search<'a> {
    cwd: &'a Path,
    path: Vec<PathBuf>,
    view: &'a View<'a>,
    surroundings: &'a Surroundings<'a>,
    home: Option<&'a Path>,
    refuse: bool,
    preset: String,
    prefixes: Vec<PathBuf>,
    path_dirs: Vec<PathBuf>,
}

impl Search<'_> {
    fn texts(&self, paths: &[PathBuf]) -> Result<Vec<String>, Fault> {
        paths.iter().map(|p| text(p, COMMAND)).collect()
    }

    /// The first executable file of that name in `PATH`, as a path of the view. `only` restricts the directories.
    fn look_up(&self, name: &OsStr, only: Option<fn(&View<'_>, &Path) -> bool>) -> Option<PathBuf> {
        let mut shims_pass = false;
        for dir in &self.path {
            let mut candidate = dir.join(name);
            if self.view.is_host() {
                match shims::pyenv(dir, name, self.cwd, self.surroundings.pyenv_version) {
                    _ if shims_pass && dir.ends_with("shims") => continue,
                    Some(Shim::Pass) => {
                        shims_pass = true;
                        continue;
                    }
                    Some(Shim::To(program)) => candidate = program,
                    None => {}
                }
                if let Some(program) = shims::rustup(&candidate, self.cwd, self.home) {
                    candidate = program;
                }
            }
            let path = if self.view.is_host() {
                self.place_of(&candidate)
            } else {
                candidate
            };
            if self.view.walk(&path).is_ok_and(|walk| executable(&walk)) && only.is_none_or(|f| f(self.view, &path)) {
                return Some(path);
            }
        }
        None
    }

    /// Where a host path stands in the view; for what the view does not show, the path with its parent canonical.
    fn place_of(&self, host: &Path) -> PathBuf {
        if let Some(plain) = plain(host)
            && self.view.shows(&plain)
        {
            return plain;
        }
        let (Some(dir), Some(name)) = (host.parent(), host.file_name()) else {
            return host.to_owned();
        };
        let Ok(dir) = dir.canonicalize() else {
            return host.to_owned();
        };
        let real = dir.join(name);
        self.view.seen(&real).unwrap_or(real)
    }

    fn written_path(&self, written: &str) -> Result<PathBuf, Fault> {
        let path = Path::new(written);
        if path.is_absolute() {
            if let Some(plain) = plain(path)
                && self.view.shows(&plain)
                && self.view.walk(&plain).is_ok()
            {
                return Ok(plain);
            }
            if !self.view.is_host() {
                return match self.view.walk(path) {
                    Ok(walk) => Ok(walk.end),
                    Err(_) => Ok(self.view.seen(path).unwrap_or_else(|| path.to_owned())),
                };
            }
        }
        let host = self.cwd.join(path);
        let file_name_is_plain = matches!(host.components().next_back(), Some(Component::Normal(_)));
        if !file_name_is_plain || written.ends_with('/') {
            return Err(run(COMMAND, format!("{written} is a directory"), "name a program"));
        }
        if !host.exists() {
            return Err(not_found(written, &format!("no such file: {}", host.display())));
        }
        if self.view.is_host() {
            if let Some(program) = shims::rustup(&host, self.cwd, self.home) {
                return Ok(self.place_of(&program));
            }
            return Ok(self.place_of(&host));
        }
        let real = host
            .parent()
            .and_then(|dir| dir.canonicalize().ok())
            .zip(host.file_name());
        real.and_then(|(dir, name)| self.view.seen(&dir.join(name)))
            .ok_or_else(|| {
                let remedy = "mount its directory, or name a program inside the root directory";
                run(COMMAND, format!("{} is not in the sandbox", host.display()), remedy)
            })
    }

    /// Walks to the file, sees to it that every link on the way is visible, and checks that it can be executed.
    fn admit(&mut self, path: &Path, written: &str) -> Result<Walk, Fault> {
        let walk = self.view.walk(path).map_err(|e| {
            if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
                return not_found(written, &format!("no such file: {}", path.display()));
            }
            run(
                COMMAND,
                format!("cannot look at {}: {e}", path.display()),
                "name a program that can be read",
            )
        })?;
        if !walk.meta.is_file() {
            let kind = if walk.meta.is_dir() {
                "a directory"
            } else {
                "not a regular file"
            };
            return Err(run(COMMAND, format!("{} is {kind}", path.display()), "name a program"));
        }
        if !executable(&walk) {
            let remedy = "make it executable (chmod +x), or name its interpreter first (python3 FILE)";
            return Err(run(COMMAND, format!("{} is not executable", path.display()), remedy));
        }
        for step in &walk.steps {
            if self.shown(&step.path) {
                self.virtual_environment(&step.path)?;
                continue;
            }
            self.installation(&step.path, step.last)?;
            self.virtual_environment(&step.path)?;
        }
        Ok(walk)
    }

    fn shown(&self, path: &Path) -> bool {
        self.view.shows(path) || self.prefixes.iter().any(|prefix| path.starts_with(prefix))
    }

    /// Adds the installation that `path` belongs to, or refuses.
    fn installation(&mut self, path: &Path, last: bool) -> Result<(), Fault> {
        if !self.view.is_host() {
            let remedy = "mount what it needs, or name a program inside the root directory";
            return Err(run(
                COMMAND,
                format!("{} is not in the sandbox", path.display()),
                remedy,
            ));
        }
        if self.refuse {
            let found = format!(
                "{} is outside the system directories, and `{}` shows no other installation",
                path.display(),
                self.preset
            );
            let remedy = "use --policy standard, mount the installation with --mount, or name a system program";
            return Err(run(COMMAND, found, remedy));
        }
        let mut add = if last {
            install::prefixes(path, self.surroundings.facts)?
        } else {
            vec![install::holder(path, self.surroundings.facts)?]
        };
        if path.parent().is_some_and(|dir| dir.ends_with(".cargo/bin")) {
            add.extend(shims::rustup_needs(path, self.home));
        }
        for prefix in add {
            let prefix = prefix.canonicalize().unwrap_or(prefix);
            if !self.shown(&prefix) {
                self.prefixes.retain(|smaller| !smaller.starts_with(&prefix));
                self.prefixes.push(prefix);
            }
        }
        Ok(())
    }

    /// The Python that a virtual environment was made from: `home` of its `pyvenv.cfg`.
    fn virtual_environment(&mut self, program: &Path) -> Result<(), Fault> {
        let Some(top) = program.parent().and_then(Path::parent) else {
            return Ok(());
        };
        let Ok(config) = std::fs::read_to_string(self.view.host(&top.join("pyvenv.cfg"))) else {
            return Ok(());
        };
        let home = config
            .lines()
            .filter_map(|line| line.split_once('='))
            .find(|(key, _)| key.trim() == "home");
        let Some(home) = home.map(|(_, value)| PathBuf::from(value.trim())) else {
            return Ok(());
        };
        let base = home.join("python3");
        if !home.is_absolute() || self.shown(&base) || !home.is_dir() {
            return Ok(());
        }
        let real = home.canonicalize().unwrap_or(home).join("python3");
        if self.shown(&real) {
            Ok(())
        } else {
            self.installation(&real, true)
        }
    }

    /// Programs beside the command are found by name too, if the command itself was, or is in an installation.
    fn path_dir(&mut self, path: &Path, by_name: bool) {
        let Some(dir) = path.parent() else { return };
        let installed = self.prefixes.iter().any(|prefix| path.starts_with(prefix));
        if (by_name || installed) && !self.view.is_system(path) && !self.path_dirs.iter().any(|d| d == dir) {
            self.path_dirs.push(dir.to_owned());
        }
    }

    /// The chain of `#!` lines from `script` on.
    fn interpreters(&mut self, script: &Walk) -> Result<Vec<Interpreter>, Fault> {
        let mut chain = Vec::new();
        let mut at = (script.end.clone(), script.host.clone());
        loop {
            let line = match shebang::read(&at.1) {
                Ok(None) => return Ok(chain),
                Ok(Some(Ok(line))) => line,
                Ok(Some(Err(malformed))) => {
                    let found = format!("the #! line of {} is malformed: {malformed:?}", at.0.display());
                    return Err(run(
                        COMMAND,
                        found,
                        "write `#!` and an interpreter's absolute path of at most 250 bytes",
                    ));
                }
                Err(e) if e.kind() == ErrorKind::PermissionDenied => return Ok(chain),
                Err(e) => {
                    return Err(run(
                        COMMAND,
                        format!("cannot read {}: {e}", at.0.display()),
                        "make it readable",
                    ));
                }
            };
            if chain.len() == MOST_INTERPRETERS {
                let found = format!(
                    "more than {MOST_INTERPRETERS} interpreters, each a script, for {}",
                    script.end.display()
                );
                return Err(run(COMMAND, found, "name the last interpreter in the #! line"));
            }
            let walk = self.interpreter(&at.0, &line.interpreter)?;
            let argument = match line.argument {
                None => None,
                Some(bytes) => Some(String::from_utf8(bytes).map_err(|_| {
                    let found = format!("the #! line of {} is not UTF-8", at.0.display());
                    run(COMMAND, found, "write it in UTF-8")
                })?),
            };
            if line.interpreter.file_name() == Some(OsStr::new("env"))
                && let Some(program) = argument.as_deref().and_then(|a| shebang::program_of_env(a.as_bytes()))
            {
                self.by_env(&at.0, program)?;
            }
            chain.push(Interpreter {
                path: text(&line.interpreter, COMMAND)?,
                argument,
            });
            at = (walk.end, walk.host);
        }
    }

    fn interpreter(&mut self, script: &Path, interpreter: &Path) -> Result<Walk, Fault> {
        let shown = interpreter.display().to_string().replace('\r', "\\r");
        let fail = |why: &str, remedy: &str| {
            run(
                COMMAND,
                format!("the interpreter of {}, {shown}, {why}", script.display()),
                remedy,
            )
        };
        if !interpreter.is_absolute() {
            return Err(fail("is not an absolute path", "write an absolute path after `#!`"));
        }
        if self.view.walk(interpreter).is_err() {
            let windows = interpreter.as_os_str().as_encoded_bytes().ends_with(b"\r");
            let remedy = if windows {
                "the script has Windows line ends: convert it (sed -i 's/\\r$//' FILE)"
            } else {
                "install it, correct the #! line, or name the interpreter first (python3 FILE)"
            };
            return Err(fail("does not exist in the sandbox", remedy));
        }
        let walk = self.admit(interpreter, &shown)?;
        self.path_dir(interpreter, false);
        Ok(walk)
    }

    /// `env` looks its program up inside: what lies outside the system directories must be shown there.
    fn by_env(&mut self, script: &Path, program: &OsStr) -> Result<(), Fault> {
        let name = program.to_string_lossy().into_owned();
        let beside = self.path_dirs.iter().map(|dir| dir.join(program));
        if self.view.is_host()
            && beside
                .into_iter()
                .any(|path| self.view.walk(&path).is_ok_and(|walk| executable(&walk)))
        {
            return Ok(());
        }
        let found = if program.as_encoded_bytes().contains(&b'/') {
            // Relative to wherever the script runs: nothing can be said of it here.
            match plain(Path::new(program)).filter(|p| p.is_absolute()) {
                Some(path) => Some(path),
                None => return Ok(()),
            }
        } else if self.refuse {
            // Only what the view shows anyway; the person's own installation is not looked at.
            self.look_up(program, Some(|view, path| view.shows(path)))
        } else {
            self.look_up(program, None)
        };
        let Some(path) = found else {
            let found = format!("{} wants `{name}` (#! env), which is not in PATH", script.display());
            return Err(run(
                COMMAND,
                found,
                "install it, or name the interpreter first (python3 FILE)",
            ));
        };
        self.admit(&path, &name)?;
        self.path_dir(&path, true);
        Ok(())
    }
}
