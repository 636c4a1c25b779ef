//! What walls with a kernel of their own need of the tests' machine: the agent, and a kernel in a run store.

use super::{End, LIMIT, Place, Ran, Test, end, needs, skip};
use sr_artifact::modules::{self, Modules};
use sr_artifact::{Artifacts, Kind, Provenance};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// `target`, in which `debug/deps` has this very program.
pub fn target() -> PathBuf {
    let own = std::env::current_exe().expect("the own program");
    own.ancestors().nth(3).expect("target").to_owned()
}

/// The agent, built if this can build it.
pub fn agent() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        if let Some(given) = std::env::var_os("SAFE_RUN_GUEST") {
            return given.into();
        }
        if let Some(cargo) = std::env::var_os("CARGO") {
            let built = Command::new(cargo)
                .args(["xtask", "guest"])
                .stdout(Stdio::null())
                .status();
            assert!(built.is_ok_and(|status| status.success()), "the agent does not build");
        }
        let built = target().join("guest/x86_64-unknown-linux-gnu/guest/sr-guest");
        assert!(built.is_file(), "{} is not there: cargo xtask guest", built.display());
        built
    })
}

/// Where the rig has its parts.
fn rig() -> PathBuf {
    target().join("tools/rig-6.1-2")
}

/// Puts a root file system among the artifacts of `place`, as `box`: a shell and what it calls, and a script `/bin/told`.
pub fn root(place: &Place) -> Test {
    let tree = place.home.join("tree");
    for name in ["bin", "etc", "opt"] {
        fs::create_dir_all(tree.join(name))?;
    }
    fs::copy(rig().join("bin/busybox"), tree.join("bin/busybox"))?;
    for name in ["sh", "cat", "echo", "id", "ls", "rm", "sleep", "touch"] {
        std::os::unix::fs::symlink("busybox", tree.join("bin").join(name))?;
    }
    fs::write(tree.join("etc/own"), "the image's own\n")?;
    fs::write(tree.join("opt/own"), "the image's own\n")?;
    fs::write(tree.join("bin/told"), "#!/bin/sh -e\necho told: $*\n")?;
    for name in ["busybox", "told"] {
        fs::set_permissions(tree.join("bin").join(name), fs::Permissions::from_mode(0o755))?;
    }
    let path = tree.to_str().expect("UTF-8");
    place.tell(&["artifact", "import", path, "--name", "box"]).ok()
}

/// Puts the rig's kernel and modules among the artifacts of the run store at `store`.
pub fn kernel(store: &Path) -> Result<Artifacts, End> {
    let rig = rig();
    let Ok(release) = fs::read_to_string(rig.join("release")) else {
        return skip(format!("no kernel in {}: `cargo xtask rig` fetches it", rig.display()));
    };
    let release = release.trim();
    let plain = |fault: sr_common::Fault| End::from(fault.to_string());
    let artifacts = Artifacts::open(store).map_err(plain)?;
    let all = Modules::read(&rig.join("lib/modules").join(release)).map_err(plain)?;
    let modules = modules::archive(release, &all.closure(&modules::GUEST).map_err(plain)?);
    let how = || Provenance {
        how: "test".into(),
        release: Some(release.to_owned()),
        ..Provenance::default()
    };
    let modules = artifacts
        .add(modules.as_slice(), Kind::Modules, "default", how())
        .map_err(plain)?;
    let with = [(Kind::Modules.as_str().to_owned(), modules.digest)].into();
    let image = fs::File::open(rig.join("vmlinux"))?;
    artifacts
        .add(image, Kind::Kernel, "default", Provenance { with, ..how() })
        .map_err(plain)?;
    Ok(artifacts)
}

/// An agent that is none, of `guest.c` and of that kind; in front of the real one, where it becomes that.
pub fn hostile_agent(place: &Place, what: &str) -> Result<PathBuf, End> {
    needs(place, "gcc")?;
    let (program, agent_too) = (place.home.join(what), place.home.join(format!("{what}-agent")));
    let mut gcc = place.command("gcc");
    gcc.args(["-static", "-O1", "-o"])
        .arg(&program)
        .arg(format!("-DWHAT={what}"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest.c"));
    end(gcc, b"", LIMIT).ok()?;
    let mut bytes = fs::read(&program)?;
    let agent = fs::read(agent())?;
    bytes.extend(&agent);
    bytes.extend((agent.len() as u64).to_le_bytes());
    fs::write(&agent_too, bytes)?;
    fs::set_permissions(&agent_too, fs::Permissions::from_mode(0o755))?;
    Ok(agent_too)
}

/// As the kernel names their processes, with at most fifteen letters.
const MONITORS: [&str; 3] = ["qemu-system", "firecracker", "cloud-hyperviso"];

/// The monitor below the supervisor: it descends from it.
pub fn monitor_below(supervisor: u32) -> Result<rustix::process::Pid, End> {
    let mut all: Vec<(u32, u32, String)> = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // PID (NAME) STATE PARENT …; it may have ended meanwhile.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((before, after)) = stat.rsplit_once(") ") else {
            continue;
        };
        let parent = after.split(' ').nth(1).and_then(|text| text.parse().ok());
        let name = before.split_once('(').map_or("", |(_, name)| name).to_owned();
        all.extend(parent.map(|parent| (pid, parent, name)));
    }
    let below = |pid: u32| {
        let parent = |of: u32| all.iter().find(|(pid, ..)| *pid == of).map(|(_, parent, _)| *parent);
        std::iter::successors(Some(pid), |pid| parent(*pid)).any(|pid| pid == supervisor)
    };
    let is_monitor = |name: &str| MONITORS.iter().any(|monitor| name.starts_with(monitor));
    let found = all.iter().find(|(pid, _, name)| is_monitor(name) && below(*pid));
    let found = found.and_then(|(pid, ..)| rustix::process::Pid::from_raw(*pid as i32));
    found.ok_or_else(|| End::from(format!("no monitor below {supervisor}: {all:?}")))
}

/// The last run was lost there, for that, and what to do is said: in its evidence, which is whole.
pub fn lost(place: &Place, path: &str, what: &str) -> Test {
    let failed = place.events("run.failed");
    let [failed] = failed.as_slice() else {
        return super::fail(format!("{} failures: {failed:?}", failed.len()));
    };
    let data = &failed["data"];
    let text = |field: &str| data[field].as_str().unwrap_or_default();
    crate::ensure!(
        text("code") == "SR-RUN-002" && text("path") == path && text("found").contains(what),
        "wanted {path}: {what}; {data}"
    );
    crate::ensure!(!text("remedy").is_empty(), "{data}");
    let result = &place.report()["result"];
    crate::ensure!(
        result["cause"] == "supervisor" && result["status"] == 125,
        "its result: {result}"
    );
    place.tell(&["report", "verify"]).ok()
}

/// The last run's evidence has all that a guest's has: what it was made of, its posture, how far it came. `disks`: how many
/// of its own it has.
pub fn whole(place: &Place, disks: usize) -> Test {
    let report = place.report();
    let wall = report["digests"]["wall"].as_array().expect("digests");
    crate::ensure!(
        wall.len() == 4 + disks,
        "kernel, initrd, monitor, driver, disks: {wall:?}"
    );
    let posture = report["posture"].as_array().expect("a posture");
    let inside = |line: &&serde_json::Value| line["mechanism"].as_str().is_some_and(|m| m.ends_with("in the guest"));
    crate::ensure!(
        posture.iter().filter(inside).count() > 8 && posture.iter().all(|line| line["holds"] == true),
        "{posture:?}"
    );
    for kind in ["guest.booted", "guest.posture", "guest.ended"] {
        crate::ensure!(place.events(kind).len() == 1, "{kind}: {:?}", place.events(kind));
    }
    Ok(())
}

/// What a run of a virtual machine could leave besides: mounts, sockets, artifacts half made, files that are no evidence.
pub fn nothing_left_of_guests(place: &Place) -> Test {
    const EVIDENCE: [&str; 10] = [
        "approvals.jsonl",
        "attestation.sigstore.json",
        "bundle.json",
        "changes.json",
        "events.jsonl",
        "head.launch.json",
        "layers",
        "policy.json",
        "run_report.json",
        "signer.pub",
    ];
    place.nothing_left()?;
    let here = place.root().display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    crate::ensure!(!mounts.contains(&here), "mounts are left: {mounts}");
    let sockets = fs::read_to_string("/proc/net/unix")?;
    crate::ensure!(!sockets.contains(&here), "sockets are left: {sockets}");
    let making = fs::read_dir(place.store.join("artifacts/making"))?.count();
    crate::ensure!(making == 0, "{making} artifacts are half made");
    for run in place.runs() {
        for entry in fs::read_dir(&run)? {
            let name = entry?.file_name();
            let known = name.to_str().is_some_and(|name| EVIDENCE.contains(&name));
            crate::ensure!(known, "{} has {}", run.display(), name.display());
        }
    }
    Ok(())
}

/// The launch failed there, for that, and what to do is said.
pub fn failed(ran: &Ran, path: &str, what: &str) -> Test {
    ran.ended(125)?;
    let said = [path, what, "SR-RUN-002", "fix:"]
        .iter()
        .all(|word| ran.err.contains(word));
    crate::ensure!(said, "wanted {path}: {what}; {ran}");
    Ok(())
}
