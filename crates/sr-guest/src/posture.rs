//! What holds at the program's exec, read back from the guest's kernel.

use crate::failure::{Failure, failure};
use crate::view;
use rustix::fs::{AtFlags, fstat, statat};
use sr_common::guest::{GuestMountKind, GuestPlan, GuestRoot};
use sr_common::{Control, Observed};
use std::fs::File;

pub fn observe(plan: &GuestPlan, pid: i32, executable: &File, filter: usize) -> Result<Vec<Observed>, Failure> {
    let process = Process(format!("/proc/{pid}"));
    let status = process.read("status")?;
    let limits = process.read("limits")?;
    let mounts = process.read("mountinfo")?;
    // gVisor's kernel shows less of a process, and mount options not at all.
    let own = plan.root == GuestRoot::Own;
    let word = |key: &str| word(&status, key);
    let line = |control, requested: String, mechanism: &str, observed: String, holds| Observed {
        control,
        requested,
        mechanism: format!("{mechanism}, in the guest"),
        observed,
        holds,
    };
    // The container's root is who the program's user is of.
    let seen_as = if own { 0 } else { plan.user };
    let four = format!("{seen_as} {seen_as} {seen_as} {seen_as}");
    let mut sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].to_vec();
    if own {
        sets.pop();
    }
    let sets: Vec<(&str, String)> = sets.into_iter().map(|set| (set, word(set))).collect();
    let same = process.is(executable)?;
    let open = process.open()?;
    let maps = match own {
        true => vec![process.words("uid_map")?, process.words("gid_map")?],
        false => Vec::new(),
    };
    let apart = process.link("ns/mnt")? != Process("/proc/self".into()).link("ns/mnt")?;
    let mut seen = vec![
        line(
            Control::ExecutableDigest,
            plan.executable.clone(),
            "execveat on a descriptor",
            format!(
                "exe {}",
                if same {
                    "is the file that was opened"
                } else {
                    "is another file"
                }
            ),
            same,
        ),
        line(
            Control::Seccomp,
            format!("filter of {filter} instructions"),
            "seccomp SET_MODE_FILTER",
            format!(
                "status Seccomp: {}, filters: {}",
                word("Seccomp"),
                word("Seccomp_filters")
            ),
            word("Seccomp") == "2" && (own || word("Seccomp_filters") == "1"),
        ),
        match own {
            false => line(
                Control::NoNewPrivileges,
                "1".into(),
                "prctl PR_SET_NO_NEW_PRIVS",
                format!("status NoNewPrivs: {}", word("NoNewPrivs")),
                word("NoNewPrivs") == "1",
            ),
            true => {
                let inherited = rustix::thread::no_new_privs().unwrap_or(false);
                line(
                    Control::NoNewPrivileges,
                    "1".into(),
                    "set in the agent already, and inherited",
                    format!("PR_GET_NO_NEW_PRIVS of the agent: {}", u8::from(inherited)),
                    inherited,
                )
            }
        },
        line(
            Control::Capabilities,
            "none in any set".into(),
            "capset, PR_CAPBSET_DROP, PR_CAP_AMBIENT_CLEAR_ALL",
            sets.iter()
                .map(|(set, value)| format!("{set} {value}"))
                .collect::<Vec<_>>()
                .join(", "),
            sets.iter().all(|(_, value)| u64::from_str_radix(value, 16) == Ok(0)),
        ),
        line(
            Control::UserNamespace,
            format!("uid and gid {}", plan.user),
            "setresuid, setresgid, setgroups",
            format!(
                "status Uid: {}, Gid: {}, Groups: {:?}{}",
                word("Uid"),
                word("Gid"),
                word("Groups"),
                maps.iter().map(|map| format!(", map: {map}")).collect::<String>()
            ),
            word("Uid") == four
                && word("Gid") == four
                && word("Groups").is_empty()
                && maps.iter().all(|map| *map == format!("{} 0 1", plan.user)),
        ),
        line(
            Control::OpenFiles,
            "descriptors 0, 1 and 2".into(),
            "close_range",
            format!("fd: {}", open.join(" ")),
            open == ["0", "1", "2"],
        ),
    ];
    if !own {
        seen.push(line(
            Control::MountNamespace,
            "its own".into(),
            "clone3 CLONE_NEWNS",
            if apart {
                "ns/mnt: not the agent's"
            } else {
                "ns/mnt: the agent's"
            }
            .into(),
            apart,
        ));
    }
    let wrong = wrong_mount(plan, &process, &mounts);
    seen.push(line(
        Control::Filesystem,
        match plan.root {
            GuestRoot::Disk { .. } => format!("the disk's root and {} places", plan.mounts.len()),
            GuestRoot::Shared | GuestRoot::Own => {
                format!("the shared root and {} places", plan.mounts.len())
            }
        },
        match own {
            true => "the container's mounts",
            false => "fsmount, move_mount, mount_setattr",
        },
        wrong
            .clone()
            .unwrap_or_else(|| format!("mountinfo: {} mounts, all places as planned", mounts.lines().count())),
        wrong.is_none(),
    ));
    for (name, label, control) in [
        ("NOFILE", "Max open files", Control::OpenFiles),
        ("NPROC", "Max processes", Control::Pids),
        ("AS", "Max address space", Control::Memory),
        ("FSIZE", "Max file size", Control::Disk),
        ("CORE", "Max core file size", Control::Disk),
    ] {
        let Some(asked) = plan.rlimits.get(name) else { continue };
        let values = limits.lines().find_map(|line| line.strip_prefix(label));
        let values: Vec<&str> = values.unwrap_or_default().split_whitespace().take(2).collect();
        let wanted = match *asked {
            u64::MAX => "unlimited".to_owned(),
            number => number.to_string(),
        };
        seen.push(line(
            control,
            format!("RLIMIT_{name} {wanted}"),
            "setrlimit",
            format!("limits: {}", values.join(" ")),
            values == [&wanted, &wanted],
        ));
    }
    if let GuestRoot::Disk { .. } = plan.root {
        // Found by its path there: what was opened is what the process has, and says nothing of it.
        seen.remove(0);
    }
    Ok(seen)
}

struct Process(String);

impl Process {
    fn failed(&self, name: &str, error: impl std::fmt::Display) -> Failure {
        failure(format!("read {}/{name}", self.0), error.to_string())
    }

    fn read(&self, name: &str) -> Result<String, Failure> {
        sr_kernel::pseudo::text(format!("{}/{name}", self.0)).map_err(|e| self.failed(name, e))
    }

    /// With single spaces between them.
    fn words(&self, name: &str) -> Result<String, Failure> {
        Ok(self.read(name)?.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    fn link(&self, name: &str) -> Result<Vec<u8>, Failure> {
        let target = rustix::fs::readlink(format!("{}/{name}", self.0), Vec::new());
        target
            .map(|target| target.into_bytes())
            .map_err(|e| self.failed(name, e))
    }

    /// Whether it runs `file`.
    fn is(&self, file: &File) -> Result<bool, Failure> {
        let runs = rustix::fs::stat(format!("{}/exe", self.0)).map_err(|e| self.failed("exe", e))?;
        let opened = fstat(file).map_err(|e| self.failed("exe", e))?;
        Ok((runs.st_dev, runs.st_ino) == (opened.st_dev, opened.st_ino))
    }

    /// The numbers of its descriptors.
    fn open(&self) -> Result<Vec<String>, Failure> {
        let names = std::fs::read_dir(format!("{}/fd", self.0)).and_then(|entries| {
            let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            names.collect::<std::io::Result<Vec<_>>>()
        });
        let mut names = names.map_err(|e| self.failed("fd", e))?;
        names.sort();
        Ok(names)
    }

    /// Whether its view has something at `path`.
    fn sees(&self, path: &str) -> bool {
        let root = rustix::fs::open(
            format!("{}/root", self.0),
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        );
        // What cannot be looked at may be there.
        root.map_or(true, |root| {
            statat(&root, path.trim_start_matches('/'), AtFlags::SYMLINK_NOFOLLOW).is_ok()
        })
    }
}

/// The words of a line of `status`, with single spaces between them.
fn word(status: &str, key: &str) -> String {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    value.map_or("nothing".to_owned(), |value| {
        value.split_whitespace().collect::<Vec<_>>().join(" ")
    })
}

/// One line of `mountinfo`: where, how, of what kind, from what.
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    place: &'a str,
    options: Vec<&'a str>,
    kind: &'a str,
    source: &'a str,
}

fn mount(line: &str) -> Option<Mount<'_>> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(4);
    let mut after = after.split(' ');
    Some(Mount {
        place: before.next()?,
        options: before.next()?.split(',').collect(),
        kind: after.next()?,
        source: after.next()?,
    })
}

/// As `mountinfo` writes it.
fn escaped(path: &str) -> String {
    path.replace('\\', "\\134")
        .replace(' ', "\\040")
        .replace('\t', "\\011")
        .replace('\n', "\\012")
}

/// The first place that is not as the plan has it.
fn wrong_mount(plan: &GuestPlan, process: &Process, mountinfo: &str) -> Option<String> {
    let mounts: Vec<Mount<'_>> = mountinfo.lines().filter_map(mount).collect();
    // What was mounted last on a place is what is seen there.
    let at = |place: &str| mounts.iter().rev().find(|mount| mount.place == escaped(place));
    let has = |mount: &Mount<'_>, wanted: &[&str]| wanted.iter().all(|option| mount.options.contains(option));
    let shared = plan.share.as_ref().map(view::source);
    let (kind, source, read_only) = match &plan.root {
        GuestRoot::Own => return wrong_in_container(plan, process, &mounts),
        GuestRoot::Shared => ("9p", shared.unwrap_or_default(), false),
        GuestRoot::Disk { .. } => ("overlay", "overlay", true),
    };
    match at("/") {
        Some(root)
            if root.kind == kind
                && root.source == source
                && has(root, &["nosuid", "nodev"])
                && (!read_only || has(root, &["ro"])) => {}
        other => return Some(format!("mountinfo has for the root {other:?}")),
    }
    for planned in &plan.mounts {
        let found = at(&planned.target);
        let right = |kind: &str, options: &[&str]| found.is_some_and(|mount| mount.kind == kind && has(mount, options));
        let holds = match planned.what {
            GuestMountKind::Proc => right("proc", &["nosuid", "nodev", "noexec"]),
            GuestMountKind::Dev => right("tmpfs", &["ro", "nosuid", "noexec"]),
            GuestMountKind::Tmpfs { .. } => right("tmpfs", &["nosuid", "nodev"]),
            GuestMountKind::Shared { .. } => {
                found.is_some_and(|mount| Some(mount.source) == shared) && right("9p", &["nosuid", "nodev"])
            }
            GuestMountKind::Masked | GuestMountKind::ReadOnly => found.map_or_else(
                || !process.sees(&planned.target),
                |mount| has(mount, &["ro", "nosuid", "nodev"]),
            ),
        };
        if !holds {
            return Some(format!("mountinfo has for {} {found:?}", planned.target));
        }
    }
    None
}

/// The same of a container, whose kernel tells kinds and little more.
fn wrong_in_container(plan: &GuestPlan, process: &Process, mounts: &[Mount<'_>]) -> Option<String> {
    let at = |place: &str| mounts.iter().rev().find(|mount| mount.place == escaped(place));
    let root = at("/").is_some_and(|mount| mount.kind == "9p");
    if !root {
        return Some(format!("mountinfo has for the root {:?}", at("/")));
    }
    let wrong = plan.mounts.iter().find(|planned| {
        let found = at(&planned.target);
        let is = |kind: &str| found.is_some_and(|mount| mount.kind == kind);
        !match planned.what {
            GuestMountKind::Proc => is("proc"),
            GuestMountKind::Dev | GuestMountKind::Tmpfs { .. } => is("tmpfs"),
            GuestMountKind::Shared { directory } => is("9p") || directory && leads_on(plan, &planned.target),
            GuestMountKind::Masked => found.is_some() || !process.sees(&planned.target),
            GuestMountKind::ReadOnly => {
                found.map_or_else(|| !process.sees(&planned.target), |mount| mount.options.contains(&"ro"))
            }
        }
    });
    wrong.map(|planned| format!("mountinfo has for {} {:?}", planned.target, at(&planned.target)))
}

/// Whether something is mounted below `place`.
fn leads_on(plan: &GuestPlan, place: &str) -> bool {
    let below = |target: &str| target.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'));
    plan.mounts.iter().any(|mount| below(&mount.target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read() {
        let line = "26 20 0:22 / /a\\040b ro,nosuid,noexec shared:1 - tmpfs tmpfs rw,size=64k";
        let mount = mount(line).unwrap();
        assert_eq!(
            (mount.place, mount.kind, mount.source),
            (escaped("/a b").as_str(), "tmpfs", "tmpfs")
        );
        assert!(mount.options.contains(&"ro") && !mount.options.contains(&"rw"));
        assert_eq!(super::mount("26 20"), None);
    }

    #[test]
    fn status_words() {
        let status = "Uid:\t1\t2\t3\t4\nGroups:\t \nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(word(status, "Uid"), "1 2 3 4");
        assert_eq!(word(status, "Seccomp"), "2");
        assert_eq!(word(status, "Groups"), "");
        assert_eq!(word(status, "None"), "nothing");
    }
}
