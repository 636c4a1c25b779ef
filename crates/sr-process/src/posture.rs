//! What holds at the exec stop, read back from the kernel's own files: nothing here repeats what was asked for without
//! having seen it.

use crate::mac;
use crate::stage::{DEVICES, Devices};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir, Stat};
use sr_common::{Code, Control, Fault, Observed};
use sr_compiler::bundle::{CompileBundle, FilesystemPlan, IdMap, MacPlan, ViewKind};
use sr_kernel::selinux::Ruling;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};

/// A file's identity when it was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    dev: u64,
    ino: u64,
    size: i64,
    ctime: (i64, i64),
}

impl Identity {
    pub fn of(stat: &Stat) -> Self {
        Identity {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: stat.st_size,
            #[allow(clippy::unnecessary_cast)] // The types differ between architectures.
            ctime: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

/// What the program's posture is compared with, gathered while there is time.
#[derive(Debug)]
pub struct Before {
    /// The supervisor's own namespaces, as their links name them.
    namespaces: Vec<String>,
    mounts: BTreeMap<String, Planned>,
    /// Of the program's context; a supervisor that is confined cannot ask any more.
    mac: Option<std::io::Result<Ruling>>,
}

impl Before {
    pub fn take(bundle: &CompileBundle, devices: Devices) -> Result<Self, Fault> {
        let own = Reader::open("/proc/self".into(), None, None)?;
        Ok(Before {
            namespaces: NAMESPACES
                .iter()
                .map(|(name, _)| own.link(&format!("ns/{name}")))
                .collect::<Result<_, _>>()?,
            mounts: expected_mounts(&bundle.filesystem_plan, devices),
            mac: mac::ruling(bundle.mac_plan.as_ref()),
        })
    }

    /// The supervisor's own, as its link names it.
    pub fn user_namespace(&self) -> &str {
        self.namespaces.first().map_or("", String::as_str)
    }
}

/// Opens a file of `/proc/PID` that only who may trace that process can see into: `exe`, `ns/…`, `fdinfo/…`.
pub trait Opener {
    fn open(&self, pid: i32, name: &str) -> std::io::Result<OwnedFd>;
}

/// Reads the posture of `program`, stopped at its exec or, where that cannot be, held just before it. `executable` is
/// what was hashed, by descriptor. `opener`: where this process may not trace the program. `extra`: it has been given
/// a descriptor besides its standard streams.
pub fn observe(
    bundle: &CompileBundle,
    before: &Before,
    program: i32,
    executable: (&fs::File, Identity),
    opener: Option<&dyn Opener>,
    extra: bool,
) -> Result<Vec<Observed>, Fault> {
    let reader = Reader::open(
        format!("/proc/{program}"),
        opener.map(|opener| (opener, program)),
        bundle.mac_plan.as_ref(),
    )?;
    let status = reader.read("status")?;
    let status = Status::parse(&status);
    let at_exec = bundle.process_plan.posture_at_exec;
    let mut seen = vec![
        executable_posture(&reader, executable, at_exec)?,
        seccomp_posture(&status, bundle),
        simple(
            Control::NoNewPrivileges,
            "1",
            "prctl PR_SET_NO_NEW_PRIVS",
            "status NoNewPrivs",
            &status.get("NoNewPrivs"),
        ),
        capability_posture(&status),
        identity_posture(&status, bundle),
    ];
    seen.extend(namespace_posture(&reader, &before.namespaces)?);
    seen.push(network_posture(&reader)?);
    seen.push(filesystem_posture(&reader, &before.mounts)?);
    if let Some(landlock) = &bundle.filesystem_plan.landlock {
        seen.push(Observed {
            control: Control::Landlock,
            requested: format!("{} rules, ABI {}", landlock.rules.len(), landlock.abi),
            mechanism: "landlock_restrict_self".into(),
            // The kernel shows a domain nowhere; a start whose call failed never reaches the exec stop.
            observed: "domain entered: the call returned 0 before the exec".into(),
            holds: true,
        });
    }
    if let Some(plan) = &bundle.mac_plan {
        let current = match at_exec {
            true => Some((
                reader.read(&format!("{}/current", plan.directory()))?,
                // Of a context that is known, and a try that fails would be one more line in the audit log.
                before.mac.is_some() || sr_kernel::process::signal_reaches(program).is_ok(),
            )),
            false => None,
        };
        seen.push(mac::posture(plan, before.mac.as_ref(), current));
    }
    seen.push(descriptor_posture(&reader, at_exec, extra)?);
    seen.extend(limit_posture(&reader, bundle)?);
    Ok(seen)
}

/// The first line that does not hold, as the fault that ends the run.
pub fn first_mismatch(posture: &[Observed]) -> Option<Fault> {
    const OURS: &str = "the program was killed before its first instruction; please report this with the run's events";
    posture.iter().find(|line| !line.holds).map(|line| {
        let of_descriptors = line.control == Control::OpenFiles && line.observed.starts_with("fd");
        Fault::new(
            Code::Run002,
            format!("launch.posture.{}", line.control.name()),
            format!("asked for {}, but the kernel shows {}", line.requested, line.observed),
            match line.control {
                Control::Mac => mac::remedy(line),
                _ if of_descriptors => mac::streams(posture).unwrap_or(OURS),
                _ => OURS,
            },
        )
    })
}

/// A process's directory in /proc, held open: the way there is most of what a look at a file costs.
struct Reader<'a> {
    dir: OwnedFd,
    path: String,
    opener: Option<(&'a dyn Opener, i32)>,
    /// What the process was put behind, which may keep it from being looked at.
    mac: Option<&'a MacPlan>,
}

impl<'a> Reader<'a> {
    fn open(path: String, opener: Option<(&'a dyn Opener, i32)>, mac: Option<&'a MacPlan>) -> Result<Self, Fault> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(dir) => Ok(Reader { dir, path, opener, mac }),
            Err(e) => Err(unseen(&path, &e.into(), mac)),
        }
    }

    fn fail(&self, name: &str, error: &std::io::Error) -> Fault {
        unseen(&format!("{}/{name}", self.path), error, self.mac)
    }

    fn read(&self, name: &str) -> Result<String, Fault> {
        sr_kernel::pseudo::read_at(&self.dir, name)
            .map(|b| String::from_utf8_lossy(&b).into_owned())
            .map_err(|e| self.fail(name, &e))
    }

    /// What only who may trace the process can read.
    fn read_opened(&self, name: &str) -> Result<String, Fault> {
        let Some((opener, pid)) = self.opener else {
            return self.read(name);
        };
        let text = opener.open(pid, name).and_then(|file| {
            let mut text = String::new();
            fs::File::from(file).read_to_string(&mut text).map(|_| text)
        });
        text.map_err(|e| self.fail(name, &e))
    }

    fn link(&self, name: &str) -> Result<String, Fault> {
        let target = match self.opener {
            Some((opener, pid)) => opener.open(pid, name).and_then(|file| own_link(&file)),
            None => rustix::fs::readlinkat(&self.dir, name, Vec::with_capacity(64))
                .map(|target| target.to_string_lossy().into_owned())
                .map_err(std::io::Error::from),
        };
        target.map_err(|e| self.fail(name, &e))
    }

    fn stat(&self, name: &str) -> Result<Stat, Fault> {
        let stat = match self.opener {
            Some((opener, pid)) => opener.open(pid, name).and_then(|file| Ok(rustix::fs::fstat(file)?)),
            None => rustix::fs::statat(&self.dir, name, AtFlags::empty()).map_err(std::io::Error::from),
        };
        stat.map_err(|e| self.fail(name, &e))
    }
}

/// What an own descriptor leads to, as its link in /proc says.
pub fn own_link(file: &OwnedFd) -> std::io::Result<String> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let target = rustix::fs::readlink(path, Vec::with_capacity(64))?;
    Ok(target.to_string_lossy().into_owned())
}

fn unseen(path: &str, error: &std::io::Error, mac: Option<&MacPlan>) -> Fault {
    Fault::new(
        Code::Run002,
        "launch.posture",
        format!("cannot read {path}: {error}"),
        mac::unseen(mac, error)
            .unwrap_or("the posture could not be observed, so the program was not started; see `safe-run doctor`"),
    )
}

/// The lines of `/proc/PID/status`, by name.
struct Status<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Status<'a> {
    fn parse(text: &'a str) -> Self {
        Status(text.lines().filter_map(|line| line.split_once(':')).collect())
    }

    /// Its words with single spaces between them.
    fn get(&self, key: &str) -> String {
        match self.0.iter().find(|(name, _)| *name == key) {
            Some((_, value)) => value.split_whitespace().collect::<Vec<_>>().join(" "),
            None => "nothing".to_owned(),
        }
    }
}

fn simple(control: Control, requested: &str, mechanism: &str, source: &str, value: &str) -> Observed {
    Observed {
        control,
        requested: requested.into(),
        mechanism: mechanism.into(),
        observed: format!("{source}: {value}"),
        holds: value == requested,
    }
}

fn executable_posture(
    reader: &Reader<'_>,
    (file, hashed): (&fs::File, Identity),
    at_exec: bool,
) -> Result<Observed, Fault> {
    let now = Identity::of(&rustix::fs::fstat(file).map_err(|e| reader.fail("the executable", &e.into()))?);
    let same = |a: Identity, b: Identity| a.dev == b.dev && a.ino == b.ino && a.size == b.size && a.ctime == b.ctime;
    let changed = !same(now, hashed);
    let (observed, holds) = if at_exec {
        let running = Identity::of(&reader.stat("exe")?);
        (format!("exe: inode {}", running.ino), same(running, hashed))
    } else {
        ("exe: not executed yet".to_owned(), true)
    };
    Ok(Observed {
        control: Control::ExecutableDigest,
        requested: format!("the file that was hashed (inode {})", hashed.ino),
        mechanism: "execveat on the hashed descriptor".into(),
        observed: format!("{observed}, changed since hashing: {changed}"),
        holds: holds && !changed,
    })
}

fn seccomp_posture(status: &Status<'_>, bundle: &CompileBundle) -> Observed {
    // More than one where this supervisor itself runs under a filter.
    let filters: u64 = status.get("Seccomp_filters").parse().unwrap_or(1);
    Observed {
        control: Control::Seccomp,
        requested: format!("filter of {} instructions", bundle.syscalls_plan.program.len()),
        mechanism: "seccomp SET_MODE_FILTER".into(),
        observed: format!("status Seccomp: {}, filters: {filters}", status.get("Seccomp")),
        holds: status.get("Seccomp") == "2" && filters >= 1,
    }
}

fn capability_posture(status: &Status<'_>) -> Observed {
    let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
    let values = sets.map(|set| (set, status.get(set)));
    Observed {
        control: Control::Capabilities,
        requested: "none in any set".into(),
        mechanism: "capset, PR_CAPBSET_DROP, PR_CAP_AMBIENT_CLEAR_ALL".into(),
        holds: values.iter().all(|(_, value)| u64::from_str_radix(value, 16) == Ok(0)),
        observed: values.map(|(set, value)| format!("{set} {value}")).join(", "),
    }
}

fn identity_posture(status: &Status<'_>, bundle: &CompileBundle) -> Observed {
    let user = &bundle.process_plan.user;
    let (uid, gid, groups_must_be_empty) = match user.map {
        IdMap::Single { host_uid, host_gid } => (host_uid, host_gid, false),
        IdMap::Range { base, .. } => (base + user.inside, base + user.inside, true),
    };
    let four = |id: u32| format!("{id} {id} {id} {id}");
    let groups = status.get("Groups");
    Observed {
        control: Control::UserNamespace,
        requested: format!("uid and gid {} inside, {uid} and {gid} on the host", user.inside),
        mechanism: "user namespace map, setresuid, setresgid".into(),
        observed: format!(
            "status Uid: {}, Gid: {}, Groups: {groups:?}",
            status.get("Uid"),
            status.get("Gid")
        ),
        holds: status.get("Uid") == four(uid)
            && status.get("Gid") == four(gid)
            && uid != 0
            && (groups.is_empty() || !groups_must_be_empty),
    }
}

const NAMESPACES: [(&str, Control); 7] = [
    ("user", Control::UserNamespace),
    ("mnt", Control::MountNamespace),
    ("pid", Control::PidNamespace),
    ("net", Control::NetworkNamespace),
    ("ipc", Control::IpcNamespace),
    ("uts", Control::UtsNamespace),
    ("cgroup", Control::CgroupNamespace),
];

fn namespace_posture(reader: &Reader<'_>, own: &[String]) -> Result<Vec<Observed>, Fault> {
    NAMESPACES
        .into_iter()
        .zip(own)
        .map(|((name, control), ours)| {
            let inside = reader.link(&format!("ns/{name}"))?;
            Ok(Observed {
                control,
                requested: format!("own {name} namespace"),
                mechanism: "clone3, unshare".into(),
                observed: format!("{inside} (supervisor: {ours})"),
                holds: inside != *ours,
            })
        })
        .collect()
}

fn network_posture(reader: &Reader<'_>) -> Result<Observed, Fault> {
    let text = reader.read("net/dev")?;
    let devices: Vec<&str> = text
        .lines()
        .skip(2)
        .filter_map(|l| l.split_once(':'))
        .map(|(n, _)| n.trim())
        .collect();
    // Kernels with tunnel drivers built in give every namespace their (down) fallback devices.
    let fallback = [
        "lo", "sit0", "tunl0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0",
    ];
    Ok(Observed {
        control: Control::Network,
        requested: "no device but loopback".into(),
        mechanism: "empty network namespace".into(),
        observed: format!("net/dev: {}", devices.join(" ")),
        holds: devices.iter().all(|d| fallback.contains(d)),
    })
}

fn filesystem_posture(reader: &Reader<'_>, expected: &BTreeMap<String, Planned>) -> Result<Observed, Fault> {
    let text = reader.read("mountinfo")?;
    let mut problems = Vec::new();
    let mut missing: BTreeSet<&str> = expected.keys().map(String::as_str).collect();
    let mut count = 0usize;
    for line in text.lines() {
        count += 1;
        let mut fields = line.split(' ').skip(4);
        let (Some(target), Some(options)) = (fields.next().map(unescape), fields.next()) else {
            problems.push(format!("unreadable line {line:?}"));
            continue;
        };
        let target = target.as_ref();
        missing.remove(target);
        let has = |name: &str| options.split(',').any(|o| o == name);
        match owner(expected, target) {
            None => problems.push(format!("{target} is mounted and not planned")),
            // What is mounted below a recursive bind belongs to it; below the root skeleton nothing may be.
            Some(("/", _)) if target != "/" => problems.push(format!("{target} is mounted and not planned")),
            Some((_, kind)) => {
                if kind.read_only && !has("ro") {
                    problems.push(format!("{target} is writable"));
                }
                if !has("nosuid") {
                    problems.push(format!("{target} allows setuid"));
                }
                if !kind.device && !has("nodev") {
                    problems.push(format!("{target} allows devices"));
                }
            }
        }
    }
    problems.extend(missing.iter().map(|target| format!("{target} is not mounted")));
    Ok(Observed {
        control: Control::Filesystem,
        requested: format!(
            "{} planned mounts, nosuid, nodev, read-only where planned",
            expected.len()
        ),
        mechanism: "mount namespace, pivot_root, detached old root".into(),
        observed: match problems.first() {
            None => format!("mountinfo: {count} mounts, all within the plan"),
            Some(first) => format!("mountinfo: {first} ({} problems)", problems.len()),
        },
        holds: problems.is_empty(),
    })
}

/// The deepest planned target at or above `target`.
fn owner<'a>(expected: &'a BTreeMap<String, Planned>, target: &str) -> Option<(&'a str, Planned)> {
    let mut at = target;
    loop {
        if let Some((found, kind)) = expected.get_key_value(at) {
            return Some((found, *kind));
        }
        at = match at.rfind('/') {
            Some(0) if at.len() > 1 => "/",
            Some(end) if end > 0 => &at[..end],
            _ => return None,
        };
    }
}

#[derive(Debug, Clone, Copy)]
struct Planned {
    read_only: bool,
    device: bool,
}

fn expected_mounts(plan: &FilesystemPlan, devices: Devices) -> BTreeMap<String, Planned> {
    let mut mounts = BTreeMap::new();
    if plan.entries.first().is_none_or(|e| e.target != "/") {
        let kind = Planned {
            read_only: true,
            device: devices == Devices::Nodes,
        };
        mounts.insert("/".to_owned(), kind);
    }
    let with_devices = Planned {
        read_only: false,
        device: true,
    };
    for entry in &plan.entries {
        let read_only = match &entry.what {
            ViewKind::ReadOnly { .. } => true,
            ViewKind::Writable { .. } | ViewKind::Captured { .. } | ViewKind::Scratch { .. } => false,
            ViewKind::Proc => false,
            // Its nodes are ptys of the sandbox's own; nothing else can be made in it.
            ViewKind::Devpts => {
                mounts.insert(entry.target.clone(), with_devices);
                continue;
            }
            ViewKind::Dev => {
                if devices == Devices::Mounts {
                    mounts.extend(DEVICES.map(|(name, ..)| (format!("{}/{name}", entry.target), with_devices)));
                }
                continue;
            }
            ViewKind::Kvm => {
                if devices == Devices::Mounts {
                    mounts.insert(entry.target.clone(), with_devices);
                }
                continue;
            }
            ViewKind::Directory { .. } | ViewKind::Symlink { .. } | ViewKind::File { .. } | ViewKind::Copy { .. } => {
                continue;
            }
        };
        let kind = Planned {
            read_only,
            device: false,
        };
        mounts.insert(entry.target.clone(), kind);
    }
    mounts
}

/// mountinfo writes space, tab, newline and backslash as octal (proc_pid_mountinfo(5)).
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\' && tail.len() >= 3)
            .then(|| {
                std::str::from_utf8(&tail[..3])
                    .ok()
                    .and_then(|d| u8::from_str_radix(d, 8).ok())
            })
            .flatten();
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn descriptor_posture(reader: &Reader<'_>, at_exec: bool, extra: bool) -> Result<Observed, Fault> {
    let fail = |e: rustix::io::Errno| reader.fail("fd", &e.into());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(&reader.dir, "fd", flags, Mode::empty()).map_err(fail)?;
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut open: Vec<i64> = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        // What the exec will close does not count before it.
        if at_exec || !closes_on_exec(&reader.read_opened(&format!("fdinfo/{name}"))?) {
            open.push(name.parse().unwrap_or(-1));
        }
    }
    open.sort_unstable();
    Ok(Observed {
        control: Control::OpenFiles,
        requested: match extra {
            false => "descriptors 0, 1 and 2 only".into(),
            true => "descriptors 0, 1, 2 and one more".into(),
        },
        mechanism: "close_range CLOEXEC, dup2".into(),
        observed: match at_exec {
            true => format!("fd: {open:?}"),
            false => format!("fd that stay open: {open:?}"),
        },
        holds: open.starts_with(&[0, 1, 2]) && open.len() == 3 + usize::from(extra),
    })
}

/// From the `flags:` line of fdinfo, in octal (proc_pid_fdinfo(5)).
fn closes_on_exec(fdinfo: &str) -> bool {
    const O_CLOEXEC: u32 = 0o2_000_000;
    fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
        .is_some_and(|flags| flags & O_CLOEXEC != 0)
}

fn limit_posture(reader: &Reader<'_>, bundle: &CompileBundle) -> Result<Vec<Observed>, Fault> {
    let text = reader.read("limits")?;
    let names = [
        ("NOFILE", "Max open files", Control::OpenFiles),
        ("NPROC", "Max processes", Control::Pids),
        ("AS", "Max address space", Control::Memory),
        ("FSIZE", "Max file size", Control::Disk),
    ];
    let mut seen = Vec::new();
    for (name, label, control) in names {
        let Some(asked) = bundle.resources_plan.rlimits.get(name) else {
            continue;
        };
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(label))
            .and_then(|rest| rest.split_whitespace().nth(1))
            .unwrap_or("nothing");
        let hard = value.parse::<u64>().ok();
        seen.push(Observed {
            control,
            requested: format!("RLIMIT_{name} at most {asked}"),
            mechanism: "setrlimit".into(),
            observed: format!("limits: {value}"),
            holds: hard.is_some_and(|hard| hard <= *asked),
        });
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_escapes_are_read() {
        assert_eq!(unescape("/a\\040b\\134"), "/a b\\");
        assert_eq!(unescape("/a\\04"), "/a\\04");
    }

    #[test]
    fn only_what_says_so_closes_on_exec() {
        assert!(closes_on_exec("pos:\t0\nflags:\t02100002\nmnt_id:\t3\n"));
        assert!(!closes_on_exec("pos:\t0\nflags:\t0100002\n"));
        assert!(!closes_on_exec("pos:\t0\n") && !closes_on_exec("flags:\tx\n"));
    }

    #[test]
    fn status_lines_are_read() {
        let status = Status::parse("Uid:\t1\t2\t3\t4\nGroups:\t \nSeccomp:\t2\n");
        assert_eq!(status.get("Uid"), "1 2 3 4");
        assert_eq!(status.get("Groups"), "");
        assert_eq!(status.get("absent"), "nothing");
    }
}
