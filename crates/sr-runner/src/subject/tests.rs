//! Whole subjects, on directories made for each test.

use super::install::tests::facts;
use super::*;
use sr_common::facts::Command;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

struct World {
    dir: tempfile::TempDir,
}

impl World {
    /// A home with a project in it, in a directory that no preset shows.
    fn new() -> World {
        let dir = tempfile::Builder::new()
            .prefix("sr-subject")
            .tempdir_in("/var/tmp")
            .unwrap();
        let world = World { dir };
        world.make_dir("home/project/.git");
        world.make_dir("home/project/sub");
        world
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(path)
    }

    fn text(&self, path: &str) -> String {
        self.at(path).display().to_string()
    }

    fn make_dir(&self, path: &str) {
        fs::create_dir_all(self.at(path)).unwrap();
    }

    fn program(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn policy(&self, command: &str, change: impl Fn(&mut serde_json::Value)) -> PolicySpec {
        let mut policy = serde_json::json!({
            "apiVersion": "safe-run/v1", "metadata": {"name": "t"}, "preset": "standard",
            "runtime": {"backend": "auto", "command": command, "args": [], "env": {}, "workdir": null, "user": 1000},
            "rootfs": {"source": "host", "path": null, "writable": "overlay", "installation": "readOnly"},
            "mounts": [{"source": ".", "target": null, "readOnly": false, "captured": true}],
            "hide": [".env*"],
            "resources": {"cpu": 2.0, "memory": "1GiB", "pids": 9, "disk": "1GiB", "wallTime": "9s", "openFiles": 9,
                          "output": "1MiB", "onOutput": "kill", "strength": "any"},
            "syscalls": {"profile": "standard", "allow": [], "deny": [], "onDenied": "errno"},
            "network": {"mode": "none"},
            "evidence": {"sign": "none", "sampleInterval": "1s", "hash": "files", "durability": "process"},
            "session": null, "degrade": []
        });
        change(&mut policy);
        serde_json::from_value(policy).unwrap()
    }

    fn find(&self, policy: &PolicySpec, path: &[&str]) -> Result<Subject, Fault> {
        self.find_in("home/project/sub", policy, path)
    }

    fn find_in(&self, cwd: &str, policy: &PolicySpec, path: &[&str]) -> Result<Subject, Fault> {
        let path: Vec<PathBuf> = path
            .iter()
            .map(|p| self.dir.path().canonicalize().unwrap().join(p))
            .collect();
        let facts = facts(&self.at("home"));
        let surroundings = Surroundings {
            facts: &facts,
            pyenv_version: None,
            cache: None,
        };
        subject(
            policy,
            &self.at(cwd),
            &std::env::join_paths(path).unwrap(),
            &surroundings,
        )
    }

    fn command(&self, command: &str, path: &[&str]) -> Result<Command, Fault> {
        self.find(&self.policy(command, |_| {}), path).map(|s| s.command)
    }
}

fn refuse(policy: &mut serde_json::Value) {
    policy["rootfs"]["installation"] = "refuse".into();
    policy["preset"] = "strict".into();
}

#[test]
fn the_view_starts_at_the_top_of_the_work_tree() {
    let w = World::new();
    fs::write(w.at("home/project/.env"), "x").unwrap();
    let s = w.find(&w.policy("sh", |_| {}), &["/bin"]).unwrap();
    assert_eq!(s.cwd, w.text("home/project/sub"));
    assert_eq!(s.workspace, w.text("home/project"));
    assert_eq!(s.mounts[0].source, s.workspace);
    assert_eq!(s.mounts[0].target, s.workspace);
    assert!(s.mounts[0].directory);
    assert_eq!(
        s.hidden.iter().map(|h| h.path.as_str()).collect::<Vec<_>>(),
        [w.text("home/project/.env")]
    );
    assert_eq!(s.command.path, "/bin/sh");
    assert_eq!(s.command.written, "sh");
    assert!(s.command.prefixes.is_empty() && s.command.path_dirs.is_empty() && s.command.interpreters.is_empty());
}

#[test]
fn the_home_directory_is_no_work_tree() {
    let w = World::new();
    w.make_dir("home/.git");
    w.make_dir("home/plain/deep");
    let s = w.find_in("home/plain/deep", &w.policy("/bin/sh", |_| {}), &[]).unwrap();
    assert_eq!(s.workspace, w.text("home/plain/deep"));
    for cwd in ["home", ".", "/", "/usr/lib", "/etc"] {
        let fault = w.find_in(cwd, &w.policy("/bin/sh", |_| {}), &[]).unwrap_err();
        assert_eq!(fault.path, "mounts[0].source", "{cwd}");
        assert!(fault.remedy.contains("project directory"));
    }
    w.make_dir("home/.local/share/safe-run/runs");
    let fault = w
        .find_in("home/.local/share/safe-run/runs", &w.policy("/bin/sh", |_| {}), &[])
        .unwrap_err();
    assert!(fault.found.contains("Safe-Run's own"), "{fault}");
}

#[test]
fn a_missing_mount_is_named() {
    let w = World::new();
    let policy = w.policy("sh", |p| {
        p["mounts"]
            .as_array_mut()
            .unwrap()
            .push(serde_json::json!({"source": "./nothing", "target": "/work", "readOnly": true, "captured": false}));
    });
    let fault = w.find(&policy, &["/bin"]).unwrap_err();
    assert_eq!(
        (fault.code.as_str(), fault.path.as_str()),
        ("SR-RUN-001", "mounts[1].source")
    );
    assert!(fault.found.contains("nothing"));
}

#[test]
fn commands_that_cannot_run_say_why() {
    let w = World::new();
    fs::write(w.at("home/project/sub/plain"), "x").unwrap();
    w.program("home/project/sub/windows", "#!/bin/sh\r\n");
    w.program("home/project/sub/lost", "#!/no/such/interpreter\n");
    w.program("home/project/sub/relative", "#!sh\n");
    w.program("home/project/sub/noenv", "#!/usr/bin/env no-such-program\n");
    for i in 0..6 {
        w.program(
            &format!("home/project/sub/s{i}"),
            &format!("#!{}\n", w.text(&format!("home/project/sub/s{}", i + 1))),
        );
    }
    for (command, part) in [
        ("no-such-command", "command not found: no-such-command"),
        ("./nothing", "no such file"),
        ("./plain", "not executable"),
        ("..", "is a directory"),
        ("/usr/bin", "is a directory"),
        ("./windows", "/bin/sh\\r, does not exist"),
        ("./lost", "/no/such/interpreter, does not exist"),
        ("./relative", "not an absolute path"),
        ("./noenv", "`no-such-program`"),
        ("./s0", "more than 4 interpreters"),
        ("", "no command"),
    ] {
        let fault = w.command(command, &["/usr/bin", "/bin"]).unwrap_err();
        assert_eq!(
            (fault.code.as_str(), fault.path.as_str()),
            ("SR-RUN-001", "runtime.command"),
            "{command}"
        );
        assert!(fault.found.contains(part), "{command}: {fault}");
    }
}

#[test]
fn a_script_in_the_workspace_goes_through_its_interpreters() {
    let w = World::new();
    w.program("home/project/run", "#!/usr/bin/env -S sh -e\n");
    w.program(
        "home/project/sub/outer",
        &format!("#!{} x y \n", w.text("home/project/run")),
    );
    let c = w.command("./outer", &["/usr/bin", "/bin"]).unwrap();
    assert_eq!(c.path, w.text("home/project/sub/outer"));
    let chain: Vec<_> = c
        .interpreters
        .iter()
        .map(|i| (i.path.clone(), i.argument.clone()))
        .collect();
    assert_eq!(
        chain,
        [
            (w.text("home/project/run"), Some("x y".to_owned())),
            ("/usr/bin/env".to_owned(), Some("-S sh -e".to_owned())),
        ]
    );
    assert_eq!(w.command("../run", &["/bin"]).unwrap().path, w.text("home/project/run"));
}

#[test]
fn a_mount_elsewhere_moves_the_command() {
    let w = World::new();
    w.program("home/project/sub/tool", "#!/bin/sh\n");
    let policy = |command: &str| w.policy(command, |p| p["mounts"][0]["target"] = "/work".into());
    for command in ["./tool", "/work/sub/tool", &w.text("home/project/sub/tool")] {
        let c = w.find(&policy(command), &[]).unwrap().command;
        assert_eq!((c.path.as_str(), c.prefixes.len()), ("/work/sub/tool", 0), "{command}");
    }
    // Found by name: programs beside it are found too.
    let c = w.find(&policy("tool"), &["home/project/sub"]).unwrap().command;
    assert_eq!(
        (c.path.as_str(), c.path_dirs),
        ("/work/sub/tool", vec!["/work/sub".to_owned()])
    );
}

#[test]
fn an_installation_is_shown_or_refused() {
    let w = World::new();
    w.program("home/.nvm/versions/node/v20/bin/node", "\x7fELF");
    w.program("home/.nvm/versions/node/v20/lib/npm/cli.js", "#!/usr/bin/env node\n");
    symlink("../lib/npm/cli.js", w.at("home/.nvm/versions/node/v20/bin/npm")).unwrap();
    let prefix = w.text("home/.nvm/versions/node/v20");
    let c = w
        .command("npm", &["home/.nvm/versions/node/v20/bin", "/usr/bin"])
        .unwrap();
    assert_eq!(c.path, format!("{prefix}/bin/npm"));
    assert_eq!(c.prefixes, [prefix.as_str()]);
    assert_eq!(c.path_dirs, [format!("{prefix}/bin")]);
    assert_eq!(c.interpreters[0].path, "/usr/bin/env");

    let fault = w
        .find(&w.policy("npm", refuse), &["home/.nvm/versions/node/v20/bin"])
        .unwrap_err();
    assert!(
        fault.found.contains("strict") && fault.remedy.contains("--mount"),
        "{fault}"
    );
    // A script of the workspace whose env program is only in such an installation.
    w.program("home/project/sub/app", "#!/usr/bin/env node\n");
    let c = w.command("./app", &["home/.nvm/versions/node/v20/bin"]).unwrap();
    assert_eq!(
        (c.prefixes, c.path_dirs),
        (vec![prefix.clone()], vec![format!("{prefix}/bin")])
    );
    let fault = w
        .find(&w.policy("./app", refuse), &["home/.nvm/versions/node/v20/bin"])
        .unwrap_err();
    assert!(fault.found.contains("`node`"), "{fault}");
}

#[test]
fn an_installation_with_safe_run_s_store_or_loose_in_home_is_refused() {
    let w = World::new();
    w.program("home/.config/safe-run/tool", "\x7fELF");
    w.program("home/tool", "\x7fELF");
    for (path, part) in [("home/.config/safe-run", "Safe-Run's own"), ("home", "home directory")] {
        let fault = w.command("tool", &[path]).unwrap_err();
        assert!(fault.found.contains(part), "{fault}");
    }
    // `~/.local` holds the store: only its parts that hold programs are shown.
    w.make_dir("home/.local/share/safe-run");
    w.make_dir("home/.local/lib");
    w.program("home/.local/share/uv/tools/x/bin/x", "\x7fELF");
    w.make_dir("home/.local/bin");
    symlink(w.at("home/.local/share/uv/tools/x/bin/x"), w.at("home/.local/bin/x")).unwrap();
    let c = w.command("x", &["home/.local/bin"]).unwrap();
    let expected = ["home/.local/bin", "home/.local/lib", "home/.local/share/uv/tools/x"].map(|p| w.text(p));
    assert_eq!(c.prefixes, expected);
}

#[test]
fn a_virtual_environment_brings_the_python_that_it_was_made_from() {
    let w = World::new();
    w.program("home/py/3.12.1/bin/python3.12", "\x7fELF");
    symlink("3.12.1", w.at("home/py/3.12")).unwrap();
    w.make_dir("home/project/.venv/bin");
    symlink(
        w.at("home/py/3.12/bin/python3.12"),
        w.at("home/project/.venv/bin/python"),
    )
    .unwrap();
    w.program(
        "home/project/.venv/bin/pytest",
        &format!("#!{}\n", w.text("home/project/.venv/bin/python")),
    );
    fs::write(
        w.at("home/project/.venv/pyvenv.cfg"),
        format!("home = {}\n", w.text("home/py/3.12/bin")),
    )
    .unwrap();
    let c = w.command("pytest", &["home/project/.venv/bin", "/bin"]).unwrap();
    assert_eq!(c.path, w.text("home/project/.venv/bin/pytest"));
    assert_eq!(c.interpreters[0].path, w.text("home/project/.venv/bin/python"));
    assert_eq!(c.path_dirs, [w.text("home/project/.venv/bin")]);
    // The link `3.12` must resolve inside: what holds it is shown, and with it the installation.
    assert_eq!(c.prefixes, [w.text("home/py")]);
    // A copied python has no link to follow, only `home`.
    fs::remove_file(w.at("home/project/.venv/bin/python")).unwrap();
    w.program("home/project/.venv/bin/python", "\x7fELF");
    let c = w.command("../.venv/bin/python", &[]).unwrap();
    assert_eq!(c.prefixes, [w.text("home/py/3.12.1")]);
}

#[test]
fn a_pyenv_shim_is_replaced_by_the_version_s_own_program() {
    let w = World::new();
    w.program("home/.pyenv/versions/3.11.7/bin/python3", "\x7fELF");
    w.program("home/.pyenv/shims/python3", "#!/usr/bin/env bash\n");
    w.program("system/python3", "\x7fELF");
    fs::write(w.at("home/.pyenv/version"), "3.11.7\n").unwrap();
    let c = w.command("python3", &["home/.pyenv/shims", "/usr/bin"]).unwrap();
    assert_eq!(c.path, w.text("home/.pyenv/versions/3.11.7/bin/python3"));
    assert_eq!(c.prefixes, [w.text("home/.pyenv/versions/3.11.7")]);
    fs::write(w.at("home/project/.python-version"), "system\n").unwrap();
    assert_eq!(w.command("sh", &["home/.pyenv/shims", "/bin"]).unwrap().path, "/bin/sh");
}

#[test]
fn in_a_root_directory_links_never_lead_out() {
    let w = World::new();
    w.program("root/usr/bin/real", "#!/bin/interp\n");
    w.program("root/usr/bin/interp", "\x7fELF");
    symlink("usr/bin", w.at("root/bin")).unwrap();
    symlink("/usr/bin/real", w.at("root/usr/bin/absolute")).unwrap();
    symlink("../../../../../../usr/bin/real", w.at("root/usr/bin/climbing")).unwrap();
    symlink("/bin/sh", w.at("root/usr/bin/sh")).unwrap();
    w.program("home/project/sub/mine", "#!/usr/bin/interp\n");
    let root = w.text("root");
    let find = |command: &str| {
        let policy = w.policy(command, |p| {
            p["rootfs"]["source"] = "dir".into();
            p["rootfs"]["path"] = root.clone().into();
        });
        w.find(&policy, &["/nowhere"]).map(|s| s.command)
    };
    for command in ["absolute", "climbing", "real", "/bin/real", "/usr/bin/climbing"] {
        let c = find(command).unwrap();
        assert_eq!(c.interpreters[0].path, "/bin/interp", "{command}");
        assert!(c.path.starts_with("/usr/bin/") || c.path == "/bin/real", "{}", c.path);
    }
    assert!(
        find("sh").unwrap_err().found.contains("not found"),
        "the host's /bin/sh is not the sandbox's"
    );
    assert!(find("/bin/cat").is_err());
    assert_eq!(find("./mine").unwrap().path, w.text("home/project/sub/mine"));
}
