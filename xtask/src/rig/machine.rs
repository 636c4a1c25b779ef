//! One boot of the rig: QEMU without hardware help, the host's files read-only, and a share through which a script goes
//! in and its output and exit status come out. Whatever becomes of xtask, nothing of the machine stays.

use super::initramfs;
use super::kernel::Parts;
use crate::scratch::Scratch;
use crate::{Outcome, plain, tree};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const QEMU: &str = "qemu-system-x86_64";
/// From the start to the script, on a host that is busy with other things. An idle one needs six seconds.
const LAUNCH: Duration = Duration::from_secs(90);
/// QEMU without hardware help is known to stand still, once in many boots, before the kernel does anything
/// that is tested here.
const BOOTS: usize = 2;
/// How much of the console is shown where the machine fails.
const SHOWN: usize = 30;
/// What must be there before the root file system is; all else is loaded when it is asked for.
const MODULES: [&str; 7] = [
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "overlay",
    "virtio_blk",
    "crc32c_generic",
    "ext4",
];
const START: &str = include_str!("start.sh");
/// On the command line of the rig's kernel and of no other: what harms a machine looks for it there.
pub const MARKER: &str = "safe_run.rig=1";

/// The machine's processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processors {
    /// Where it runs guests itself: with its first guest and after its last one a kernel writes to its scheduler's code, and
    /// QEMU before 8.1 can go on for ever with a translation of code that is written to while another processor runs it.
    One = 1,
    /// As many as the hosts of development and CI have.
    Two = 2,
}

const MEMORY: &str = "3G";
/// Sparse: only what tests write takes room.
const DISK: u64 = 16 << 30;

/// Ends with QEMU, or ends it: when xtask closes the pipe, which it also does by dying. The machine's files go with it.
const KEEPER: &str = "\
scratch=$1; shift; exec 3<&0 < /dev/null
\"$@\" 3<&- & machine=$!
{ read -r end <&3; kill -KILL $machine; } 2> /dev/null & watch=$!
wait $machine; status=$?
kill -KILL $watch; rm -rf \"$scratch\"; exit $status";

/// Mandatory access control that the kernel is started with: it has one of the two at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mac {
    AppArmor,
    /// Without a policy, which denies nothing: a test loads its own.
    Selinux,
}

impl Mac {
    /// On the kernel's command line. SELinux tells of what it denied only where there is audit at all.
    fn words(self) -> &'static str {
        match self {
            Mac::AppArmor => "audit=0 apparmor=1 security=apparmor lsm=landlock,lockdown,yama,apparmor,bpf",
            Mac::Selinux => "enforcing=0 security=selinux lsm=landlock,lockdown,yama,selinux,bpf",
        }
    }
}

/// Which of the script's streams a piece of output is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

/// A machine whose script has begun.
pub struct Machine {
    // In this order: the keeper has ended before the directory goes.
    keeper: Keeper,
    share: PathBuf,
    /// The console, and what QEMU itself says.
    logs: [PathBuf; 2],
    /// How long it took to begin.
    pub took: Duration,
    _scratch: Scratch,
}

impl Machine {
    /// Boots, and begins `script` as root. The console is in `target/xtask/LOG.log`. A machine that stood still on the
    /// way is told of and booted anew; one that ended is a failure.
    pub fn start(parts: &Parts, mac: Mac, processors: Processors, script: &str, log: &str) -> Outcome<Machine> {
        for _ in 1..BOOTS {
            match Machine::boot(parts, mac, processors, script, log)? {
                Ok(machine) => return Ok(machine),
                Err(stuck) => eprintln!("{stuck}\n   once more"),
            }
        }
        Machine::boot(parts, mac, processors, script, log)?
    }

    /// One boot: what stood in its way is an error; that it was not ready in time is the inner one.
    fn boot(parts: &Parts, mac: Mac, processors: Processors, script: &str, log: &str) -> Outcome<Outcome<Machine>> {
        let start = Instant::now();
        let scratch = Scratch::new("rig")?;
        let share = scratch.dir("share")?;
        let failed = |e: std::io::Error| format!("   {}: {e}", scratch.path().display());
        fs::write(share.join("start"), START).map_err(failed)?;
        fs::write(share.join("command"), script).map_err(failed)?;
        fs::write(share.join("settings"), settings(parts)?).map_err(failed)?;
        for stream in ["out", "err"] {
            fs::write(share.join(stream), "").map_err(failed)?;
        }
        let initramfs = scratch.path().join("initramfs");
        let archive = initramfs::build(&parts.busybox(), &parts.closure(&MODULES)?)?;
        fs::write(&initramfs, archive).map_err(failed)?;
        let disk = scratch.path().join("disk");
        File::create(&disk).and_then(|f| f.set_len(DISK)).map_err(failed)?;
        let mut mkfs = Command::new(tree::on_path("mkfs.ext4").ok_or("   mkfs.ext4 is missing: e2fsprogs")?);
        crate::needs::run(mkfs.args(["-q", "-F", "-O", "^has_journal"]).arg(&disk))?;

        let logs = tree::target().join("xtask");
        fs::create_dir_all(&logs).map_err(|e| format!("   {}: {e}", logs.display()))?;
        let console = logs.join(format!("{log}.log"));
        let mut qemu = vec![QEMU.to_owned()];
        let kernel = parts.vmlinux();
        let files = [&kernel, &initramfs, &disk, &share, &console].map(|path| path.as_path());
        qemu.extend(arguments(mac, processors, files)?);
        let complaints = logs.join(format!("{log}-qemu.log"));
        let keeper = Keeper::start(scratch.path(), &complaints, &qemu)?;
        let mut machine = Machine {
            keeper,
            share,
            logs: [console, complaints],
            took: Duration::ZERO,
            _scratch: scratch,
        };
        while !machine.share.join("ready").exists() {
            machine.alive("before it was ready")?;
            if start.elapsed() > LAUNCH {
                return Ok(Err(
                    machine.failure(&format!("it was not ready within {}", plain::seconds(LAUNCH)))
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        machine.took = start.elapsed();
        Ok(Ok(machine))
    }

    /// Hands on what the script writes, until its end: its exit status. Past `limit` it has failed.
    pub fn finish(mut self, limit: Duration, mut seen: impl FnMut(Stream, &[u8])) -> Outcome<i32> {
        let open = |name: &str| {
            let path = self.share.join(name);
            File::open(&path).map_err(|e| format!("   {}: {e}", path.display()))
        };
        let mut streams = [(Stream::Out, open("out")?), (Stream::Err, open("err")?)];
        let end = Instant::now() + limit;
        loop {
            // Asked before the output is read: what the script wrote was there before its status.
            let ended = fs::read_to_string(self.share.join("status")).ok();
            for (stream, file) in &mut streams {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)
                    .map_err(|e| format!("   the script's output: {e}"))?;
                if !bytes.is_empty() {
                    seen(*stream, &bytes);
                }
            }
            if let Some(text) = ended {
                return status(&text);
            }
            self.alive("before its script ended")?;
            if Instant::now() > end {
                return Err(self.failure(&format!(
                    "its script did not end within {}: killed",
                    plain::seconds(limit)
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn alive(&mut self, when: &str) -> Outcome {
        match self.keeper.ended() {
            None => Ok(()),
            Some(how) => Err(self.failure(&format!("it ended {when} ({how})"))),
        }
    }

    /// What happened, with the console's last lines.
    fn failure(&self, what: &str) -> String {
        let shown = self.logs.each_ref().map(|log| {
            let text = fs::read(log).unwrap_or_default();
            last_lines(&String::from_utf8_lossy(&text), SHOWN)
        });
        let [console, _] = &self.logs;
        format!(
            "{}   the rig: {what}; its console is in {}",
            shown.concat(),
            console.display()
        )
    }
}

fn status(text: &str) -> Outcome<i32> {
    let number = text.trim().parse();
    number.map_err(|_| format!("   the rig gave {:?} for an exit status", text.trim()))
}

fn last_lines(text: &str, most: usize) -> String {
    let mut last = VecDeque::new();
    for line in text.lines().map(|l| l.trim_end_matches('\r')) {
        last.push_back(format!("   | {line}\n"));
        if last.len() > most {
            last.pop_front();
        }
    }
    last.into_iter().collect()
}

/// What `start.sh` needs to know, as a shell reads it.
fn settings(parts: &Parts) -> Outcome<String> {
    let lines = [
        ("modules", parts.modules()),
        ("busybox", parts.busybox()),
        ("parser", parts.apparmor_parser()),
        ("abi", parts.abi()),
    ];
    let line = |(name, path): (&str, PathBuf)| Ok(format!("{name}={}\n", super::quoted(super::utf8(&path)?)));
    lines.into_iter().map(line).collect()
}

fn arguments(mac: Mac, processors: Processors, files: [&Path; 5]) -> Outcome<Vec<String>> {
    let [kernel, initramfs, disk, share, console] = files;
    let value = |path: &Path| -> Outcome<String> {
        // A comma ends a value; QEMU reads two as one.
        Ok(super::utf8(path)?.replace(',', ",,"))
    };
    // No check that costs time here is what the rig is for; the clock is the processor's, because reading the others is
    // slow. Without `-no-reboot` a panic would boot again. The console says how far it came until the script begins.
    let line = "console=ttyS0 loglevel=7 panic=-1 nokaslr mitigations=off init_on_alloc=0 hardened_usercopy=off \
                tsc=reliable clocksource=tsc psi=1 cgroup_no_v1=all";
    let words = [
        // All but 5-level page tables, whose walks cost a fifth more.
        "-M pc -accel tcg,thread=multi,tb-size=512 -cpu max,la57=off -nodefaults -no-user-config -no-reboot -display none",
        "-monitor none -parallel none",
    ];
    let mut all: Vec<String> = words.iter().flat_map(|w| w.split(' ')).map(str::to_owned).collect();
    let pairs = [
        ("-smp", (processors as u8).to_string()),
        ("-m", MEMORY.to_owned()),
        ("-kernel", super::utf8(kernel)?.to_owned()),
        ("-initrd", super::utf8(initramfs)?.to_owned()),
        ("-append", format!("{line} {} {MARKER}", mac.words())),
        ("-serial", format!("file:{}", super::utf8(console)?)),
        (
            "-fsdev",
            "local,id=host,path=/,security_model=none,multidevs=remap,readonly=on".to_owned(),
        ),
        ("-device", "virtio-9p-pci,fsdev=host,mount_tag=host".to_owned()),
        (
            "-fsdev",
            format!("local,id=share,path={},security_model=none", value(share)?),
        ),
        ("-device", "virtio-9p-pci,fsdev=share,mount_tag=share".to_owned()),
        (
            "-drive",
            format!("file={},format=raw,if=virtio,cache=unsafe", value(disk)?),
        ),
    ];
    all.extend(pairs.into_iter().flat_map(|(option, value)| [option.to_owned(), value]));
    Ok(all)
}

/// The process that watches over QEMU, in a process group of its own: an interrupt from the terminal is for xtask alone.
struct Keeper(Child);

impl Keeper {
    fn start(scratch: &Path, log: &Path, command: &[String]) -> Outcome<Keeper> {
        let errors = File::create(log).map_err(|e| format!("   {}: {e}", log.display()))?;
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "rig"]).arg(scratch).args(command);
        keeper
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(errors)
            .process_group(0);
        Ok(Keeper(keeper.spawn().map_err(|e| format!("   sh: {e}"))?))
    }

    /// How it ended, if it has.
    fn ended(&mut self) -> Option<String> {
        match self.0.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(format!("QEMU: {status}")),
            Err(e) => Some(e.to_string()),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It ends: its machine is killed.
        let _ = self.0.wait();
    }
}

/// Writes whole lines of a stream that comes in pieces.
#[derive(Default)]
pub struct Lines(Vec<u8>);

impl Lines {
    pub fn push(&mut self, bytes: &[u8], mut seen: impl FnMut(&str)) {
        self.0.extend(bytes);
        while let Some(at) = self.0.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.0.drain(..=at).collect();
            seen(String::from_utf8_lossy(&line).trim_end_matches('\n'));
        }
    }
}

/// Passes bytes on at once.
pub fn pass_on(stream: Stream, bytes: &[u8]) {
    // A reader that is gone is no reason to stop.
    let _ = match stream {
        Stream::Out => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
        Stream::Err => std::io::stderr().lock().write_all(bytes),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(path: &Path) -> bool {
        let until = Instant::now() + Duration::from_secs(20);
        while path.exists() {
            if Instant::now() > until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    #[test]
    fn the_keeper_ends_the_machine_and_takes_its_files_away() {
        for by_itself in [false, true] {
            let scratch = Scratch::new("keeper").unwrap();
            let dir = scratch.dir("machine").unwrap();
            let said = scratch.path().join("pid");
            let script = format!(
                "echo $$ > {0}.new; mv {0}.new {0}; exec sleep {1}",
                said.display(),
                if by_itself { "0" } else { "1000" }
            );
            let keeper = Keeper::start(&dir, &scratch.path().join("log"), &["sh".into(), "-c".into(), script]).unwrap();
            let pid = loop {
                if let Ok(pid) = fs::read_to_string(&said) {
                    break pid;
                }
                std::thread::sleep(Duration::from_millis(5));
            };
            if !by_itself {
                assert!(dir.exists(), "while it runs its files are there");
                drop(keeper);
            } else {
                // Held open: it ends because its machine has.
                assert!(gone(&dir));
                drop(keeper);
            }
            assert!(gone(&dir), "its files are left");
            assert!(gone(Path::new(&format!("/proc/{}", pid.trim()))), "the machine is left");
        }
    }

    #[test]
    fn statuses_and_lines() {
        assert_eq!(status("7\n"), Ok(7));
        assert!(status("").is_err() && status("7 x").is_err());
        assert_eq!(last_lines("a\r\nb\r\nc", 2), "   | b\n   | c\n");
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for piece in ["one\ntw", "o\n", "\nthr"] {
            lines.push(piece.as_bytes(), |line| seen.push(line.to_owned()));
        }
        assert_eq!(seen, ["one", "two", ""]);
    }

    #[test]
    fn a_comma_in_a_path_ends_no_value() {
        let files = ["/k", "/i", "/a,b/disk", "/a,b/share", "/c"].map(Path::new);
        let all = arguments(Mac::Selinux, Processors::One, files).unwrap();
        assert!(
            all.iter().any(|a| a.starts_with("file=/a,,b/disk,format=raw,")),
            "{all:?}"
        );
        assert!(all.iter().any(|a| a.contains("path=/a,,b/share,")), "{all:?}");
        let line = all.iter().skip_while(|a| *a != "-append").nth(1).unwrap();
        assert!(line.split(' ').any(|word| word == MARKER), "{line}");
    }
}
