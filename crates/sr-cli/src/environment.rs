//! The only reader of the process's environment: where things are kept, who asks, whether colour is wanted.

use crate::terminal::Style;
use rustix::fs::{Access, AtFlags, CWD};
use sr_common::{Code, Fault};
use sr_policy::HostRules;
use sr_runner::walls::Programs;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Host ids from here on belong to no user, no container manager and no systemd range.
const ID_BASE: u32 = 0x7000_0000;
/// Where a proxy of one's own listens as a rule.
const LOCAL_PROXY: &str = "http://127.0.0.1:7890";
/// The operator's rules.
const OPERATOR_RULES: &str = "/etc/safe-run/host.yaml";

/// What the caller's surroundings say.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Absolute, canonical.
    pub cwd: PathBuf,
    pub home: Option<PathBuf>,
    /// `PATH`, for finding the command.
    pub path: OsString,
    pub pyenv_version: Option<OsString>,
    /// `SHELL`, for `safe-run shell`.
    pub shell: Option<String>,
    /// The run store, absolute.
    pub store: PathBuf,
    /// The key directory, absolute.
    pub keys: PathBuf,
    /// For what is made and removed again.
    pub temporary: PathBuf,
    /// For what only makes starts faster; gone with the machine's next start. `None`: there is no private place for it.
    pub runtime: Option<PathBuf>,
    pub operator_rules: PathBuf,
    /// The person's own, narrowing rules; they need not exist.
    pub user_rules: Option<PathBuf>,
    pub id_base: u32,
    /// `SAFE_RUN_HELPER`: a command that is safe-run-helper as root, its words parted by white space.
    pub helper: Option<Vec<OsString>>,
    /// `SAFE_RUN_QEMU`, `SAFE_RUN_GUEST`, `SAFE_RUN_RUNSC`, `SAFE_RUN_FIRECRACKER`,
    /// `SAFE_RUN_JAILER`, `SAFE_RUN_CLOUD_HYPERVISOR`.
    pub programs: Programs,
    /// What is fetched goes through it: `SAFE_RUN_PROXY_URL`, or the usual local one where `SAFE_RUN_USE_LOCAL_PROXY` says so.
    pub proxy: Option<String>,
    /// For standard error and standard output.
    pub err_style: Style,
    pub out_style: Style,
}

impl Environment {
    pub fn read() -> Result<Environment, Fault> {
        let cwd = std::env::current_dir().map_err(|e| {
            let found = format!("the current directory cannot be used: {e}");
            Fault::new(Code::Run001, "cwd", found, "change to a directory that exists")
        })?;
        let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
        Ok(Environment {
            err_style: err_style(),
            out_style: Style {
                color: color_wanted() && std::io::stdout().is_terminal(),
            },
            ..Environment::new(cwd, rustix::process::geteuid().as_raw(), &var)?
        })
    }

    /// The helper that is used where it is needed: the person's choice, else the operator's. It is never looked for.
    pub fn helper(&self, rules: &HostRules) -> Vec<OsString> {
        let named = || rules.helper.iter().flatten().map(OsString::from).collect();
        self.helper.clone().unwrap_or_else(named)
    }

    /// What besides the store no view may show.
    pub fn private(&self) -> Vec<PathBuf> {
        std::iter::once(&self.keys).chain(&self.runtime).cloned().collect()
    }

    /// As [`Environment::read`], of any variables and user.
    fn new(cwd: PathBuf, uid: u32, var: &dyn Fn(&str) -> Option<OsString>) -> Result<Environment, Fault> {
        // A relative HOME or XDG directory is ignored, as the XDG specification says.
        let absolute = |name: &str| var(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let home = absolute("HOME");
        let config = absolute("XDG_CONFIG_HOME")
            .or_else(|| home.as_ref().map(|h| h.join(".config")))
            .map(|d| d.join("safe-run"));
        let store = match var("SAFE_RUN_WORKDIR_BASE") {
            Some(base) => cwd.join(base),
            None if uid == 0 => PathBuf::from("/var/lib/safe-run"),
            None => absolute("XDG_STATE_HOME")
                .or_else(|| home.as_ref().map(|h| h.join(".local/state")))
                .ok_or_else(|| {
                    let remedy = "set SAFE_RUN_WORKDIR_BASE to a directory of yours";
                    Fault::new(
                        Code::Run001,
                        "launch.preflight.store",
                        "HOME is not set: there is no place for runs",
                        remedy,
                    )
                })?
                .join("safe-run"),
        };
        let store = plain(&store);
        let keys = match var("SAFE_RUN_KEY_DIR") {
            Some(dir) => plain(&cwd.join(dir)),
            None => config
                .as_ref()
                .map(|c| c.join("keys"))
                .filter(|k| is_usable(k, uid))
                .unwrap_or_else(|| store.join("keys")),
        };
        let helper = var("SAFE_RUN_HELPER").map(|text| {
            let text = text.to_string_lossy().into_owned();
            text.split_ascii_whitespace().map(OsString::from).collect::<Vec<_>>()
        });
        if let Some(first) = helper.as_ref().and_then(|words| words.first())
            && !Path::new(first).is_absolute()
        {
            let found = format!("{} is no absolute path", first.display());
            let remedy = "write a command such as: /usr/bin/sudo -n /usr/libexec/safe-run/safe-run-helper";
            return Err(Fault::new(Code::Run001, "SAFE_RUN_HELPER", found, remedy));
        }
        let named = |name: &str| var(name).map(|path| cwd.join(path));
        let programs = Programs {
            guest: named("SAFE_RUN_GUEST"),
            wasm: named("SAFE_RUN_WASM"),
            qemu: named("SAFE_RUN_QEMU"),
            runsc: named("SAFE_RUN_RUNSC"),
            firecracker: named("SAFE_RUN_FIRECRACKER"),
            jailer: named("SAFE_RUN_JAILER"),
            cloud_hypervisor: named("SAFE_RUN_CLOUD_HYPERVISOR"),
        };
        Ok(Environment {
            cwd,
            path: var("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()),
            pyenv_version: var("PYENV_VERSION"),
            shell: var("SHELL")
                .and_then(|s| s.into_string().ok())
                .filter(|s| s.starts_with('/')),
            temporary: absolute("TMPDIR").unwrap_or_else(|| "/tmp".into()),
            runtime: runtime(absolute("XDG_RUNTIME_DIR"), uid),
            store,
            keys,
            operator_rules: OPERATOR_RULES.into(),
            proxy: proxy(var),
            user_rules: config.map(|c| c.join("host.yaml")),
            home,
            id_base: ID_BASE,
            helper,
            programs,
            err_style: Style::default(),
            out_style: Style::default(),
        })
    }
}

fn proxy(var: &dyn Fn(&str) -> Option<OsString>) -> Option<String> {
    let text = |name: &str| var(name).map(|value| value.to_string_lossy().into_owned());
    let named = text("SAFE_RUN_PROXY_URL");
    match text("SAFE_RUN_USE_LOCAL_PROXY").as_deref() {
        Some("1" | "true" | "yes" | "on") => Some(named.unwrap_or_else(|| LOCAL_PROXY.to_owned())),
        Some("0" | "false" | "no" | "off") => None,
        _ => named,
    }
}

/// How standard error is written to.
pub fn err_style() -> Style {
    Style {
        color: std::io::stderr().is_terminal() && color_wanted(),
    }
}

fn color_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// Without `.` and `..`, symbolic links followed as far as the path exists.
fn plain(path: &Path) -> PathBuf {
    for known in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (known.canonicalize(), path.strip_prefix(known)) {
            // What does not exist yet holds no symbolic link.
            let clear = rest.components().all(|c| matches!(c, std::path::Component::Normal(_)));
            if clear {
                return if rest.as_os_str().is_empty() {
                    real
                } else {
                    real.join(rest)
                };
            }
        }
    }
    path.to_owned()
}

/// A folder in the user's runtime directory `named`, if that is as the XDG specification wants it: the user's alone.
fn runtime(named: Option<PathBuf>, uid: u32) -> Option<PathBuf> {
    let own = |dir: &PathBuf| rustix::fs::stat(dir).is_ok_and(|s| s.st_uid == uid && s.st_mode & 0o077 == 0);
    let base = named.filter(own).or_else(|| (uid == 0).then(|| "/run".into()));
    base.map(|dir| dir.join("safe-run"))
}

/// Whether a private directory at `path` exists, or can be made in a directory of the same user.
fn is_usable(path: &Path, uid: u32) -> bool {
    for dir in path.ancestors() {
        match rustix::fs::stat(dir) {
            Ok(stat) => {
                let writable =
                    || rustix::fs::accessat(CWD, dir, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok();
                return stat.st_uid == uid && writable();
            }
            Err(rustix::io::Errno::NOENT) => {}
            Err(_) => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(uid: u32, vars: &[(&str, &str)]) -> Result<Environment, Fault> {
        Environment::new("/work".into(), uid, &|name| {
            vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).into())
        })
    }

    #[test]
    fn where_things_are_kept() {
        assert_eq!(env(0, &[]).unwrap().store, Path::new("/var/lib/safe-run"));
        assert_eq!(
            env(1000, &[("HOME", "/home/nobody-here")]).unwrap().store,
            Path::new("/home/nobody-here/.local/state/safe-run")
        );
        assert_eq!(
            env(1000, &[("XDG_STATE_HOME", "/s")]).unwrap().store,
            Path::new("/s/safe-run")
        );
        assert_eq!(
            env(1000, &[("SAFE_RUN_WORKDIR_BASE", "runs")]).unwrap().store,
            Path::new("/work/runs")
        );
        assert!(env(1000, &[("HOME", "relative")]).is_err());
    }

    #[test]
    fn the_runtime_directory_is_the_users_alone() {
        let uid = rustix::process::geteuid().as_raw();
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().to_str().unwrap();
        let opened = |mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(dir.path(), mode).unwrap();
        };
        opened(0o700);
        let of = |uid, dir: &str| {
            let vars = [("HOME", "/h"), ("XDG_RUNTIME_DIR", dir)];
            env(uid, &vars).unwrap().runtime
        };
        assert_eq!(of(uid, text).unwrap(), dir.path().join("safe-run"));
        assert_eq!(of(uid + 1, text), None, "another's");
        assert_eq!(of(1000, "relative"), None);
        assert_eq!(of(1000, "/no/such"), None);
        assert_eq!(of(0, "/no/such").unwrap(), Path::new("/run/safe-run"));
        opened(0o750);
        assert_ne!(of(uid, text), Some(dir.path().join("safe-run")), "open to a group");
    }

    #[test]
    fn a_helper_is_named_and_never_looked_for() {
        let of = |value| env(1000, &[("HOME", "/h"), ("SAFE_RUN_HELPER", value)]);
        let rules = HostRules {
            helper: Some(vec!["/bin/true".into()]),
            ..HostRules::default()
        };
        let words = |env: Environment| env.helper(&rules);
        assert_eq!(words(env(1000, &[("HOME", "/h")]).unwrap()), ["/bin/true"]);
        assert_eq!(words(of(" ").unwrap()), [""; 0]);
        assert_eq!(
            words(of("/usr/bin/sudo  -n /h").unwrap()),
            ["/usr/bin/sudo", "-n", "/h"]
        );
        assert_eq!(of("sudo -n /h").unwrap_err().path, "SAFE_RUN_HELPER");
        assert_eq!(
            env(1000, &[("HOME", "/h")]).unwrap().helper(&HostRules::default()),
            [""; 0]
        );
    }

    #[test]
    fn a_proxy_is_taken_where_it_is_named_or_the_local_one_is_wanted() {
        let (wanted, url) = ("SAFE_RUN_USE_LOCAL_PROXY", "SAFE_RUN_PROXY_URL");
        let named = (url, "http://proxy.example.com:1");
        for (vars, taken) in [
            (&[][..], None),
            (&[(wanted, "1")], Some(LOCAL_PROXY)),
            (&[(wanted, "true"), named], Some(named.1)),
            (&[named], Some(named.1)),
            (&[(wanted, "0"), named], None),
            (&[(wanted, "0")], None),
        ] {
            let vars = [&[("HOME", "/h")], vars].concat();
            assert_eq!(env(1000, &vars).unwrap().proxy.as_deref(), taken, "{vars:?}");
        }
    }

    #[test]
    fn keys_stand_apart_from_runs_where_they_can() {
        let uid = rustix::process::geteuid().as_raw();
        let home = tempfile::tempdir().unwrap();
        let own = home.path().canonicalize().unwrap();
        let text = own.to_str().unwrap();
        let base = ("SAFE_RUN_WORKDIR_BASE", "/no/such/store");
        assert_eq!(
            env(uid, &[("HOME", text), base]).unwrap().keys,
            own.join(".config/safe-run/keys")
        );
        // Another user's home, or none: beside the runs.
        assert_eq!(
            env(uid + 1, &[("HOME", text), base]).unwrap().keys,
            Path::new("/no/such/store/keys")
        );
        assert_eq!(env(uid, &[base]).unwrap().keys, Path::new("/no/such/store/keys"));
        assert_eq!(
            env(uid, &[("SAFE_RUN_KEY_DIR", "/k/../k2"), base]).unwrap().keys,
            Path::new("/k/../k2")
        );
    }
}
