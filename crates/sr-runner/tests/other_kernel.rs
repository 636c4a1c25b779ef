//! What differs between kernels: an older Landlock, switches that forbid user namespaces, AppArmor. Each test skips where the kernel has something else; what changes a machine as a whole runs on the rig alone
//! (`cargo xtask rig`, which sets `SAFE_RUN_TEST_RIG` to the release of its kernel).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use support::apparmor::Profile;
use support::{LIMIT, Place, Ran, Test, end, needs, on_the_rig};

fn main() {
    support::main(&[
        (
            "the_kernel_is_the_one_that_is_named",
            the_kernel_is_the_one_that_is_named,
        ),
        ("landlock_of_an_older_kernel", landlock_of_an_older_kernel),
        (
            "files_are_held_as_far_as_an_older_landlock_can",
            files_of_an_older_landlock,
        ),
        ("user_namespaces_switched_off", user_namespaces_switched_off),
        ("a_profile_that_allows_all", a_profile_that_allows_all),
        ("a_profile_that_denies_mounts", a_profile_that_denies_mounts),
        (
            "a_profile_that_denies_the_change_of_root",
            a_profile_that_denies_the_change_of_root,
        ),
        ("a_profile_that_denies_ptrace", a_profile_that_denies_ptrace),
        ("a_profile_without_detached_mounts", a_profile_without_detached_mounts),
    ]);
}

fn the_kernel_is_the_one_that_is_named(place: &Place) -> Test {
    let rig = on_the_rig()?;
    place.run(&["--quiet", "--", "true"]).ok()?;
    let host = &place.report()["host"];
    ensure!(
        host["kernel"] == rig.as_str() && rig.starts_with("6.1."),
        "{host}, not {rig}"
    );
    ensure!(host["landlockAbi"] == 2, "{host}");
    for name in ["memory", "cpu", "pids"] {
        ensure!(host["cgroup"][name]["version"] == 2, "{host}");
    }
    let ran = place.tell(&["doctor"]);
    ran.ok()?;
    for words in [
        &format!("Linux {rig}"),
        "landlock ABI 2",
        "cgroup v2 memory.max",
        "cgroup v2 cpu.max",
    ] {
        ensure!(ran.out.contains(words), "{words:?} is not said: {ran}");
    }
    Ok(())
}

/// ABI 2 knows no right to truncate: what is read-only stays so by its mount, and the rest of the domain holds.
fn landlock_of_an_older_kernel(place: &Place) -> Test {
    needs(place, "python3")?;
    let ask = "import ctypes; print(ctypes.CDLL(None).syscall(444, None, 0, 1))";
    let mut command = place.command("python3");
    command.args(["-c", ask]);
    let abi = end(command, b"", LIMIT).out;
    if abi.trim() != "2" {
        return support::skip(format!("Landlock ABI {} here, not 2", abi.trim()));
    }
    let kept = place.root().join("kept");
    fs::create_dir(&kept)?;
    fs::write(kept.join("file"), "as it was")?;
    fs::set_permissions(kept.join("file"), fs::Permissions::from_mode(0o666))?;
    let policy = place.root().join("policy.yaml");
    fs::write(
        &policy,
        format!(
            "apiVersion: safe-run/v1\nmetadata: {{name: l}}\nextends: standard\nruntime: {{command: /usr/bin/python3, args: []}}\n\
             mounts: [{{source: {}, target: /kept, readOnly: true}}]\n",
            kept.display()
        ),
    )?;
    let script = "import errno, os\n\
        def of(call, *words):\n    try: call(*words); return 'done'\n    except OSError as e: return errno.errorcode[e.errno]\n\
        print(of(os.truncate, '/kept/file', 0), of(open, '/kept/file', 'r+'), of(open, '/kept/new', 'w'), of(os.link, '/kept/file', '/tmp/x'))\n\
        open('/tmp/y', 'w').write('abc'); os.truncate('/tmp/y', 1); print(open('/tmp/y').read())";
    let words = [
        "--policy",
        policy.to_str().expect("UTF-8"),
        "--",
        "python3",
        "-c",
        script,
    ];
    let ran = place.run(&words);
    ran.ok()?;
    ensure!(ran.out == "EROFS EROFS EROFS EXDEV\na\n", "{ran}");
    ensure!(fs::read_to_string(kept.join("file"))? == "as it was", "it was written");
    let report = place.report();
    ensure!(report["host"]["landlockAbi"] == 2, "{}", report["host"]);
    let posture = report["posture"].as_array().expect("a posture");
    let line = posture.iter().find(|line| line["control"] == "landlock");
    ensure!(line.is_some_and(|l| l["holds"] == true), "{line:?}");
    place.nothing_left()
}

/// What it cannot hold is refused, what it can is held, and what is learned there runs there.
fn files_of_an_older_landlock(place: &Place) -> Test {
    on_the_rig()?;
    let policy = place.home.join("policy.yaml");
    let run = |files: &str, script: &str| -> Result<Ran, support::End> {
        let text = format!(
            "apiVersion: safe-run/v1\nmetadata: {{name: f}}\nextends: standard\nruntime: {{args: []}}\n\
             mounts: [{{source: ., target: /work, captured: true}}]\nfiles: {files}\n"
        );
        fs::write(&policy, text)?;
        let words = [
            "--quiet",
            "--policy",
            policy.to_str().expect("UTF-8"),
            "--",
            "/bin/sh",
            "-c",
            script,
        ];
        Ok(place.run(&words))
    };
    place.write("a.txt", "text");
    let ran = run("{read: [/usr], write: [/tmp]}", "true")?;
    ran.ended(125)?;
    ensure!(
        ran.err.contains("cannot keep files in /work from being emptied") && ran.err.contains("Linux 6.2"),
        "{ran}"
    );
    let ran = run(
        "{read: [/usr], write: [/work]}",
        "read x < /etc/passwd || read y < /work/a.txt; echo $y > /work/b; cat /work/b",
    )?;
    ran.ok()?;
    ensure!(ran.out == "text\n" && ran.err.contains("/etc/passwd"), "{ran}");
    let learned = place.home.join("learned.yaml");
    let command = [
        "learn",
        "--verify",
        "2",
        "--out",
        learned.to_str().expect("UTF-8"),
        "--",
        "/bin/cat",
        "a.txt",
    ];
    let ran = place.tell(&command);
    ran.ok()?;
    ensure!(ran.err.contains("verified 2 of 2 times"), "{ran}");
    place.nothing_left()
}

/// Debian's own switch.
fn user_namespaces_switched_off(place: &Place) -> Test {
    on_the_rig()?;
    let switch = "/proc/sys/kernel/unprivileged_userns_clone";
    let run = |words: &[&str]| -> Result<Ran, support::End> {
        let mut command = place.as_nobody()?;
        command.args(words);
        Ok(end(command, b"", LIMIT))
    };
    let words = ["run", "--quiet", "--", "sh", "-c", "echo started"];
    fs::write(switch, "0")?;
    let (ran, doctor) = (run(&words), run(&["doctor"]));
    // Root is not concerned.
    let root = Place::new().run(&["--quiet", "--", "true"]);
    fs::write(switch, "1")?;
    let (ran, doctor) = (ran?, doctor?);
    ran.ended(125)?;
    ensure!(
        ran.out.is_empty() && ran.err.contains("SR-RUN-001") && ran.err.contains(&format!("{switch} is 0")),
        "{ran}"
    );
    ensure!(
        doctor.status != 0
            && doctor.out.contains(&format!("user namespaces blocked: {switch} is 0"))
            && doctor.out.contains("sysctl -w kernel.unprivileged_userns_clone=1"),
        "{doctor}"
    );
    root.ok()?;
    let ran = run(&words)?;
    ran.ok()?;
    ensure!(ran.out == "started\n", "{ran}");
    Ok(())
}

const ATTACHED: &str = "flags=(attach_disconnected)";

/// All but what `rules` take away. What is built in mounts that are nowhere yet has no path: without
/// `attach_disconnected` AppArmor denies it.
fn load(place: &Place, flags: &str, rules: &str) -> Result<Profile, support::End> {
    let body =
        format!("file,\n capability,\n network,\n mount,\n umount,\n pivot_root,\n ptrace,\n signal,\n unix,\n{rules}");
    Profile::load(place, "all-but", flags, &body)
}

fn a_profile_that_allows_all(place: &Place) -> Test {
    let profile = load(place, ATTACHED, "")?;
    let own = Path::new("/proc/self/attr/apparmor/current");
    let words = ["run", "--quiet", "--", "cat", own.to_str().expect("UTF-8")];
    let ran = profile.holding(place, &words);
    ran.ok()?;
    // Through the launch, the exec and no_new_privs.
    ensure!(ran.out == format!("{} (enforce)\n", profile.name), "{ran}");
    let posture = &place.report()["posture"];
    ensure!(
        posture
            .as_array()
            .is_some_and(|p| p.len() > 10 && p.iter().all(|line| line["holds"] == true)),
        "{posture}"
    );
    let ran = place.tell(&words);
    ensure!(ran.out == "unconfined\n", "{ran}");
    profile.remove(place)?;
    place.nothing_left()
}

/// Nothing of the program runs; the refusal says at what the launch failed, and who may have denied it.
fn refused(place: &Place, flags: &str, rules: &str, said: &str) -> Test {
    let profile = load(place, flags, rules)?;
    let ran = profile.holding(place, &["run", "--quiet", "--", "sh", "-c", "echo started"]);
    ran.ended(125)?;
    ensure!(ran.out.is_empty(), "{ran}");
    let held = format!("AppArmor holds safe-run by the profile {}:", profile.name);
    for words in ["SR-RUN-001", said, "Permission denied", &held] {
        ensure!(ran.err.contains(words), "{words:?} is not said: {ran}");
    }
    ensure!(place.report()["result"]["cause"] == "supervisor", "{}", place.report());
    // Whether it will deny something cannot be asked.
    let doctor = profile.holding(place, &["doctor"]);
    ensure!(doctor.status == 0 && doctor.out.contains(&held), "{doctor}");
    ensure!(
        !place.tell(&["doctor"]).out.contains("AppArmor holds"),
        "nothing holds it"
    );
    place.tell(&["report", "verify"]).ok()?;
    profile.remove(place)?;
    place.nothing_left()
}

fn a_profile_that_denies_mounts(place: &Place) -> Test {
    refused(place, ATTACHED, " deny mount,\n", "make all mounts private")
}

fn a_profile_that_denies_the_change_of_root(place: &Place) -> Test {
    refused(place, ATTACHED, " deny pivot_root,\n", "pivot_root")
}

/// Nothing of another process can be looked at, its namespaces to begin with.
fn a_profile_that_denies_ptrace(place: &Place) -> Test {
    refused(place, ATTACHED, " deny ptrace,\n", "cannot map the owner of")
}

fn a_profile_without_detached_mounts(place: &Place) -> Test {
    refused(place, "", "", "cannot make")
}
