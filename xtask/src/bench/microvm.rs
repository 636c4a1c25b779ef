//! `cargo xtask bench microvm`: what a wall with a kernel of its own costs beside the bare monitor, started by hand with the
//! same kernel and the same files: from the command to the first byte that the program writes, in turn in the same loop.

use super::{Place, host};
use crate::alone::GUEST;
use crate::{Outcome, guest, needs, plain, tree};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use sr_artifact::cpio::Archive;
use sr_artifact::{Artifacts, Kind, Wanted};
use std::fmt::Write;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The first instruction of the program is seen by what it writes.
const WORD: &str = "the-first-instruction";
const PROGRAM: [&str; 2] = ["/bin/echo", WORD];
/// What ours may take of the bare monitor's.
const MOST: f64 = 1.1;
const IMAGE: u64 = 32 << 20;
const AGENT: u64 = 4 << 20;
const WARM_UP: u32 = 1;
const PARTS: [&str; 3] = ["gvisor", "qemu", "disk"];
/// The artifact that is a root.
const ROOT: &str = "bench";
const PATIENCE: Duration = Duration::from_secs(120);

/// One monitor: ours around it, and it alone.
struct Pair {
    name: &'static str,
    ours: Vec<String>,
    bare: Vec<String>,
}

pub fn microvm(options: &[&str]) -> Outcome {
    let rounds = plain::number(options, "--rounds", 10)?.max(1);
    let parts = super::parts_named(options, &PARTS)?;
    let place = Place::new("microvm")?;
    let agent = GUEST.build()?;
    let artifacts = guest::kernel(&place.store())?;
    let setting = Setting {
        runsc: needs::runsc()?,
        agent,
    };
    let mut pairs = Vec::new();
    for part in &parts {
        pairs.push(match *part {
            "gvisor" => gvisor(&place, &setting)?,
            "qemu" => shared(&place, &setting, &artifacts)?,
            _ => disk(&place, &setting, &artifacts)?,
        });
    }
    let (mut rows, mut missed) = (Vec::new(), Vec::new());
    for pair in &pairs {
        println!("{}: {rounds} rounds …", pair.name);
        let (ours, bare) = measure(&place, &setting, pair, rounds)?;
        let ratio = plain::median_ratio(&ours, &bare);
        if ratio > MOST {
            missed.push(format!("{}: {ratio:.2}×, the bar is {MOST}×", pair.name));
        }
        rows.push(json!({
            "monitor": pair.name, "rounds": rounds,
            "oursMillis": plain::median(&ours), "bareMillis": plain::median(&bare), "ratio": ratio, "bar": MOST,
        }));
    }
    // The virtual machine's: in a container nothing is given, and that kernel does not count an agent's memory.
    let sizes = match parts.iter().any(|part| *part != "gvisor") {
        true => sizes(&place, &setting, &artifacts)?,
        false => Value::Null,
    };
    for (what, found, most) in [
        ("guestImage", &sizes["imageBytes"], IMAGE),
        ("agent", &sizes["agentBytes"], AGENT),
    ] {
        match found.as_u64() {
            Some(found) if found <= most => {}
            _ if sizes.is_null() => {}
            found => missed.push(format!("{what}: {found:?} bytes, the bar is {most}")),
        }
    }
    let result = json!({"benchmark": "microvm", "host": host(), "rows": rows, "sizes": sizes, "missed": missed});
    let page = page(&result);
    print!("{page}");
    // What is kept is of all parts.
    if parts.len() == PARTS.len() {
        keep(&result, &page)?;
    }
    match missed.is_empty() {
        true => Ok(()),
        false => Err(missed.join("\n")),
    }
}

fn keep(result: &Value, page: &str) -> Outcome {
    let dir = tree::root().join("bench/results");
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let text = serde_json::to_string_pretty(result).map_err(|e| e.to_string())?;
    for (name, text) in [("microvm.json", format!("{text}\n")), ("microvm.md", page.to_owned())] {
        fs::write(dir.join(name), text).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}

struct Setting {
    runsc: PathBuf,
    agent: PathBuf,
}

impl Setting {
    fn command(&self, place: &Place, words: &[String]) -> Outcome<Command> {
        let mut command = place.command(words).ok_or("no command")?;
        command
            .env("SAFE_RUN_GUEST", &self.agent)
            .env("SAFE_RUN_RUNSC", &self.runsc);
        Ok(command)
    }
}

fn utf8(path: &Path) -> Outcome<String> {
    let text = path
        .to_str()
        .ok_or_else(|| format!("{} is not UTF-8", path.display()))?;
    Ok(text.to_owned())
}

/// `guest`: what the policy says of it.
fn ours(place: &Place, part: &str, backend: &str, guest: &str) -> Outcome<Vec<String>> {
    let file = place.path().join(format!("{part}.yaml"));
    let text = format!(
        "apiVersion: safe-run/v1\nmetadata: {{name: bench}}\nextends: standard\n\
         runtime: {{backend: \"{backend}\", args: []}}\nmounts: [{{source: ., target: /work, captured: true}}]\n{guest}"
    );
    fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
    let words = ["run", "--quiet", "--policy"];
    let words = std::iter::once(utf8(&place.safe_run)?).chain(words.map(str::to_owned));
    let rest = [utf8(&file)?, "--".to_owned()];
    Ok(words.chain(rest).chain(PROGRAM.map(str::to_owned)).collect())
}

/// `runsc` alone, started by root: the same platform and flags, but for the one that an ordinary user needs, and the same
/// container, as the bundle tells it, but for its first process, which is the program with the variables that it gets behind
/// ours, and its root, which is the host's own, read-only. No limits and no evidence.
fn gvisor(place: &Place, setting: &Setting) -> Outcome<Pair> {
    let ours = ours(place, "gvisor", "gvisor", "")?;
    let compiled = compiled(place, setting, &ours)?;
    let entries = compiled["wallPlan"]["around"]["filesystemPlan"]["entries"].as_array();
    let config = entries.into_iter().flatten().find_map(|entry| {
        let is = entry["target"] == "/wall/bundle/config.json";
        entry["what"]["file"]["content"].as_str().filter(|_| is)
    });
    let mut config: Value = serde_json::from_str(config.ok_or("the bundle tells runsc nothing")?)
        .map_err(|e| format!("the bundle's config.json: {e}"))?;
    let env = compiled["processPlan"]["env"].as_object();
    let env: Vec<String> = env
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some(format!("{name}={}", value.as_str()?)))
        .collect();
    config["process"]["args"] = json!(PROGRAM);
    config["process"]["env"] = json!(env);
    config["root"] = json!({"path": "/", "readonly": true});
    if let Some(mounts) = config["mounts"].as_array_mut() {
        // The agent.
        mounts.retain(|mount| mount["type"] != "bind");
    }
    let bundle = place.path().join("bundle");
    fs::create_dir_all(&bundle).map_err(|e| format!("{}: {e}", bundle.display()))?;
    fs::write(bundle.join("config.json"), config.to_string()).map_err(|e| format!("config.json: {e}"))?;
    let argv: Vec<String> = serde_json::from_value(compiled["wallPlan"]["monitor"]["gvisor"]["argv"].clone())
        .map_err(|e| format!("argv: {e}"))?;
    let state = place.path().join("state");
    let mut words = vec![utf8(&setting.runsc)?];
    for word in argv.iter().skip(1) {
        words.push(match word.split('=').next().unwrap_or_default() {
            "--rootless" | "--pass-fd" => continue,
            "--root" => format!("--root={}", utf8(&state)?),
            "--bundle" => format!("--bundle={}", utf8(&bundle)?),
            _ => word.clone(),
        });
    }
    Ok(Pair {
        name: "gvisor",
        ours,
        bare: words,
    })
}

/// The bundle of what `ours` runs.
fn compiled(place: &Place, setting: &Setting, ours: &[String]) -> Outcome<Value> {
    let mut compile = vec![ours[0].clone(), "compile".into(), "--dry-run".into()];
    compile.extend(ours.iter().skip(3).cloned());
    let output = setting
        .command(place, &compile)?
        .stdout(Stdio::piped())
        .output()
        .map_err(|e| e.to_string())?;
    serde_json::from_slice(&output.stdout)
        .map_err(|e| format!("compile: {e}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// What the first process of the bare machine does; the modules that lead to its root, and how that is mounted, are put in.
const BARE_INIT: &str = "\
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in $(/bin/busybox cut -d: -f1 /modules/list); do
  case \" $MODULES \" in *\" ${module%.ko} \"*) /bin/busybox insmod /modules/$module;; esac
done
/bin/busybox mount $ROOT /root
/bin/busybox chroot /root /bin/echo the-first-instruction
/bin/busybox poweroff -f
";

/// The host's directories, shared: the view, and the root itself.
fn shared(place: &Place, setting: &Setting, artifacts: &Artifacts) -> Outcome<Pair> {
    let ours = ours(place, "qemu", "microvm:qemu", "microvm: {accel: tcg}\n")?;
    let mount = "-t 9p -o trans=virtio,version=9p2000.L,msize=500000,cache=loose root";
    let initrd = bare_initrd(artifacts, &["virtio_pci", "9pnet_virtio", "9p"], mount)?;
    let bare = bare_qemu(place, setting, artifacts, &ours, &initrd)?;
    Ok(Pair {
        name: "microvm:qemu, instructions translated (TCG)",
        ours,
        bare,
    })
}

/// The same image for a disk.
fn disk(place: &Place, setting: &Setting, artifacts: &Artifacts) -> Outcome<Pair> {
    let tree = place.path().join("tree");
    let failed = |e: std::io::Error| format!("{}: {e}", tree.display());
    fs::create_dir_all(tree.join("bin")).map_err(failed)?;
    fs::copy(busybox()?, tree.join("bin/echo")).map_err(failed)?;
    let import = [utf8(&place.safe_run)?, "artifact".into(), "import".into(), utf8(&tree)?];
    let import = [&import[..], &["--name".into(), ROOT.into()]].concat();
    needs::run(setting.command(place, &import)?.stdout(Stdio::null()))?;
    let guest = format!("microvm: {{accel: tcg, rootfs: {ROOT}}}\n");
    let ours = ours(place, "disk", "microvm:qemu", &guest)?;
    let modules = ["virtio_pci", "virtio_blk", "crc32c_generic", "erofs"];
    let initrd = bare_initrd(artifacts, &modules, "-t erofs -o ro /dev/vda")?;
    let bare = bare_qemu(place, setting, artifacts, &ours, &initrd)?;
    Ok(Pair {
        name: "microvm:qemu with an image for its root (TCG)",
        ours,
        bare,
    })
}

/// QEMU alone, with the arguments of the bundle but for what leads to the driver: the same kernel, modules and machine, an
/// init of a few lines of shell.
fn bare_qemu(
    place: &Place,
    setting: &Setting,
    artifacts: &Artifacts,
    ours: &[String],
    initrd: &[u8],
) -> Outcome<Vec<String>> {
    let bundle = compiled(place, setting, ours)?;
    let list = &bundle["wallPlan"]["monitor"]["qemu"]["argv"];
    let mut argv: Vec<String> = serde_json::from_value(list.clone()).map_err(|e| format!("argv: {e}"))?;
    let kernel = of(artifacts, Kind::Kernel, "default")?;
    let file = initrd_file(place, initrd)?;
    let share = utf8(Path::new("/"))?;
    for word in &mut argv {
        *word = match word.as_str() {
            "/wall/kernel" => utf8(&kernel)?,
            "/wall/initrd" => utf8(&file)?,
            other if other.ends_with("filename=/wall/rootfs") => {
                other.replace("/wall/rootfs", &utf8(&of(artifacts, Kind::Rootfs, ROOT)?)?)
            }
            other => other.replace("path=/guest,", &format!("path={share},readonly=on,")),
        };
    }
    // What leads to the driver is left out, with the option before it; the console is standard output.
    let mut kept: Vec<String> = Vec::new();
    let mut words = argv.into_iter().peekable();
    while let Some(word) = words.next() {
        let led = |value: &str| {
            ["id=agent", "chardev=agent", "id=qmp", "chardev=qmp", "id=console"]
                .iter()
                .any(|w| value.contains(w))
        };
        match words.peek() {
            Some(value) if word.starts_with('-') && led(value) => drop(words.next()),
            Some(value) if word == "-serial" && value == "chardev:console" => {
                words.next();
                kept.extend(["-serial".to_owned(), "stdio".to_owned()]);
            }
            _ => kept.push(word),
        }
    }
    Ok(kept)
}

/// By its content: each machine has its own.
fn initrd_file(place: &Place, content: &[u8]) -> Outcome<PathBuf> {
    let digest = sr_common::Digest::of(content).hex();
    let file = place.path().join(format!("{digest}.cpio"));
    fs::write(&file, content).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(file)
}

fn busybox() -> Outcome<PathBuf> {
    tree::on_path("busybox").ok_or_else(|| "no busybox on PATH: busybox-static".to_owned())
}

fn of(artifacts: &Artifacts, kind: Kind, name: &str) -> Outcome<PathBuf> {
    let fault = |fault: sr_common::Fault| fault.found;
    let wanted = Wanted::named(kind, name).map_err(fault)?;
    let artifact = artifacts.resolve(&wanted, Some(kind)).map_err(fault)?;
    Ok(artifacts.path(&artifact.digest))
}

/// `modules`, and what they need, lead to a root that is mounted by those words.
fn bare_initrd(artifacts: &Artifacts, modules: &[&str], mount: &str) -> Outcome<Vec<u8>> {
    let read = |path: &Path| fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
    let mut bytes = read(&of(artifacts, Kind::Modules, "default")?)?;
    let list = String::from_utf8_lossy(&bytes).into_owned();
    let wanted = closure(&list, modules);
    let mut archive = Archive::default();
    for name in ["bin", "dev", "proc", "root"] {
        archive.directory(name);
    }
    archive.device("dev/console", 0o600, (5, 1));
    archive.file("bin/busybox", 0o755, &read(&busybox()?)?);
    let init = BARE_INIT.replace("$MODULES", &wanted.join(" ")).replace("$ROOT", mount);
    archive.file("init", 0o755, init.as_bytes());
    bytes.extend(archive.end());
    Ok(bytes)
}

/// `names` and all that they need, by the lines `FILE: FILE …` of the archive's own list.
fn closure(list: &str, names: &[&str]) -> Vec<String> {
    let mut wanted: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut at = 0;
    while let Some(name) = wanted.get(at).cloned() {
        let line = list.lines().find_map(|line| line.strip_prefix(&format!("{name}.ko:")));
        for need in line.unwrap_or_default().split_ascii_whitespace() {
            let need = need.trim_end_matches(".ko").to_owned();
            if !wanted.contains(&need) {
                wanted.push(need);
            }
        }
        at += 1;
    }
    wanted
}

fn measure(place: &Place, setting: &Setting, pair: &Pair, rounds: u32) -> Outcome<(Vec<f64>, Vec<f64>)> {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..rounds + WARM_UP {
        for (words, times) in [(&pair.ours, &mut ours), (&pair.bare, &mut bare)] {
            let time = first(setting.command(place, words)?)
                .map_err(|e| format!("{}: {}: {e}", pair.name, words.first().map_or("", String::as_str)))?;
            if round >= WARM_UP {
                times.push(time.as_secs_f64() * 1e3);
            }
        }
    }
    Ok((ours, bare))
}

/// From the start of the command until it has written [`WORD`]; it is waited for then.
fn first(mut command: Command) -> Outcome<Duration> {
    let start = Instant::now();
    let mut child = command
        // Never /dev/null: runsc, started by root, gives its standard streams to another user.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    let mut out = child.stdout.take().ok_or("no pipe")?;
    let (mut seen, mut buffer, mut found) = (Vec::new(), [0; 4096], None);
    while start.elapsed() < PATIENCE {
        let mut wait = [PollFd::new(&out, PollFlags::IN)];
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        if poll(&mut wait, Some(&second)).map_err(|e| e.to_string())? == 0 {
            continue;
        }
        match out.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(n) => seen.extend_from_slice(&buffer[..n]),
        }
        if found.is_none() && String::from_utf8_lossy(&seen).contains(WORD) {
            found = Some(start.elapsed());
        }
    }
    if start.elapsed() >= PATIENCE {
        // Its end is waited for below.
        let _ = child.kill();
    }
    let rest = child.wait_with_output().map_err(|e| e.to_string())?;
    found.ok_or_else(|| {
        let shown: String = String::from_utf8_lossy(&seen).chars().rev().take(400).collect();
        let shown: String = shown.chars().rev().collect();
        format!(
            "it never began ({}): {shown} {}",
            rest.status,
            String::from_utf8_lossy(&rest.stderr).trim()
        )
    })
}

/// What a guest is given besides the user's files, and what its agent takes of its memory, as the run's events tell.
fn sizes(place: &Place, setting: &Setting, artifacts: &Artifacts) -> Outcome<Value> {
    let all = artifacts.list().map_err(|fault| fault.found)?;
    let initrd = all.iter().find(|artifact| artifact.kind == Kind::Initrd);
    let kernel = fs::metadata(of(artifacts, Kind::Kernel, "default")?)
        .map_err(|e| e.to_string())?
        .len();
    let show = [utf8(&place.safe_run)?, "runs".into(), "--json".into()];
    let _ = setting.command(place, &show)?;
    let runs = place.store().join("runs");
    let newest = fs::read_dir(&runs)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .max();
    let events = newest.map(|run| fs::read_to_string(run.join("events.jsonl")).unwrap_or_default());
    let agent = events.unwrap_or_default().lines().find_map(|line| {
        let event: Value = serde_json::from_str(line).ok()?;
        event["data"]["agentBytes"].as_u64()
    });
    Ok(json!({
        "imageBytes": initrd.map(|artifact| artifact.size), "agentBytes": agent, "kernelBytes": kernel,
        "agentFileBytes": fs::metadata(&setting.agent).map_err(|e| e.to_string())?.len(),
    }))
}

fn page(result: &Value) -> String {
    let mut page = String::from("# Walls with a kernel of their own\n\nWritten by `cargo xtask bench microvm`. ");
    let host = &result["host"];
    let _ = writeln!(page, "Host: {}.\n", host.to_string().replace('"', ""));
    page.push_str("| from the command to the program's first word | ours, ms | the bare monitor, ms | ratio | bar |\n|---|---:|---:|---:|---:|\n");
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    for row in result["rows"].as_array().into_iter().flatten() {
        let name = row["monitor"].as_str().unwrap_or_default();
        let (ours, bare, ratio) = (
            number(&row["oursMillis"]),
            number(&row["bareMillis"]),
            number(&row["ratio"]),
        );
        let _ = writeln!(page, "| {name} | {ours:.0} | {bare:.0} | {ratio:.2}× | {MOST}× |");
    }
    let mib = |value: &Value| {
        value
            .as_f64()
            .map_or_else(|| "?".to_owned(), |n| format!("{:.1} MiB", n / (1 << 20) as f64))
    };
    let sizes = &result["sizes"];
    let _ = writeln!(
        page,
        "\nThe bare monitor has no limits and no evidence. QEMU: the same kernel, modules and machine, and an init of a few lines of \
         shell. `runsc`, started by root: the same platform, flags and container (its mounts, its capabilities, the program's \
         variables), but the host's root directory in place of the view and the program in place of the agent. Medians; the ratio is \
         the median of the ratios round by round."
    );
    if sizes.is_null() {
        return page;
    }
    let _ = writeln!(
        page,
        "\nWhat a guest is given besides the user's files (modules and agent): {} of 32 MiB; its kernel: {}. Resident memory of the \
         agent: {} of 4 MiB.",
        mib(&sizes["imageBytes"]),
        mib(&sizes["kernelBytes"]),
        mib(&sizes["agentBytes"])
    );
    page
}
