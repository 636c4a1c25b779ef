//! Against the real kernel where it lets us (as root, below the caller's own groups), else skipped with the reason.

use super::discover::{Look, discover_with};
use super::*;
use sr_common::facts::CgroupFacts;
use std::collections::HashMap;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};

#[derive(Default)]
struct Fake {
    files: HashMap<&'static str, &'static str>,
    writable: Vec<&'static str>,
    roots: Vec<(&'static str, u8)>,
}

impl Look for Fake {
    fn read(&self, file: &Path) -> Option<String> {
        self.files.get(file.to_str()?).map(|s| (*s).to_owned())
    }
    fn exists(&self, file: &Path) -> bool {
        file.to_str().is_some_and(|f| self.files.contains_key(f))
    }
    fn writable(&self, file: &Path) -> bool {
        file.to_str().is_some_and(|f| self.writable.contains(&f))
    }
    fn root_of(&self, dir: &Path) -> Option<u8> {
        self.roots
            .iter()
            .find(|(root, _)| Path::new(root) == dir)
            .map(|(_, version)| *version)
    }
}

const V2_MOUNT: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

fn at(version: u8, parent: &str) -> Option<CgroupController> {
    Some(CgroupController {
        version,
        parent: parent.into(),
    })
}

#[test]
fn the_real_root_can_hold_groups() {
    let facts = discover_with(&Fake {
        files: HashMap::from([
            ("/proc/self/cgroup", "0::/\n"),
            ("/proc/self/mountinfo", V2_MOUNT),
            ("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu memory pids\n"),
        ]),
        writable: vec![
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/cgroup.procs",
            "/sys/fs/cgroup/cgroup.subtree_control",
        ],
        ..Fake::default()
    });
    assert_eq!(facts.memory, at(2, "/sys/fs/cgroup"));
    assert_eq!(facts.cpu, at(2, "/sys/fs/cgroup"));
    assert_eq!(facts.pids, at(2, "/sys/fs/cgroup"));
}

#[test]
fn a_session_with_processes_makes_siblings_in_a_delegated_slice() {
    let own = "/user.slice/user-1000.slice/user@1000.service/app.slice/shell.scope";
    let dir = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice";
    let mut fake = Fake {
        files: HashMap::from([
            (
                "/proc/self/cgroup",
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/shell.scope\n",
            ),
            ("/proc/self/mountinfo", V2_MOUNT),
            (
                "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/shell.scope/cgroup.controllers",
                "memory pids\n",
            ),
            (
                "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/shell.scope/cgroup.subtree_control",
                "\n",
            ),
        ]),
        writable: vec![
            dir,
            "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/cgroup.procs",
        ],
        ..Fake::default()
    };
    let facts = discover_with(&fake);
    assert_eq!(facts.memory, at(2, dir), "{own}");
    assert_eq!(facts.cpu, None, "cpu is not delegated");
    fake.writable.clear();
    assert_eq!(
        discover_with(&fake),
        CgroupFacts::default(),
        "a slice of root's is no use"
    );
}

#[test]
fn a_container_whose_group_is_the_mount_s_top_has_nowhere_to_go() {
    let fake = Fake {
        files: HashMap::from([
            ("/proc/self/cgroup", "0::/\n"),
            ("/proc/self/mountinfo", V2_MOUNT),
            ("/sys/fs/cgroup/cgroup.type", "domain\n"),
            ("/sys/fs/cgroup/cgroup.controllers", "memory pids\n"),
            ("/sys/fs/cgroup/cgroup.subtree_control", "\n"),
        ]),
        writable: vec![
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/cgroup.procs",
            "/sys/fs/cgroup/cgroup.subtree_control",
        ],
        ..Fake::default()
    };
    assert_eq!(discover_with(&fake), CgroupFacts::default());
}

#[test]
fn v1_hierarchies_in_a_container_are_seen_through_the_mount_s_root() {
    let fake = Fake {
        files: HashMap::from([
            (
                "/proc/self/cgroup",
                "5:memory:/docker/ab c\n3:cpuacct,cpu:/docker/ab c\n2:pids:/elsewhere\n0::/x/../y\n",
            ),
            (
                "/proc/self/mountinfo",
                "1 0 0:1 /docker/ab\\040c /cg/memory rw - cgroup cgroup rw,memory\n\
                 2 0 0:2 /docker/ab\\040c /cg/cpu rw master:4 - cgroup cgroup rw,cpu,cpuacct\n\
                 3 0 0:3 /docker/ab\\040c /cg/pids rw - cgroup cgroup rw,pids\n\
                 4 0 0:4 / /cg/unified rw - cgroup2 cgroup2 rw\n",
            ),
        ]),
        writable: vec!["/cg/memory", "/cg/cpu", "/cg/pids"],
        ..Fake::default()
    };
    let facts = discover_with(&fake);
    assert_eq!(facts.memory, at(1, "/cg/memory"));
    assert_eq!(facts.cpu, at(1, "/cg/cpu"));
    assert_eq!(facts.pids, None, "the own group is not below the mount's root");
}

#[test]
fn where_hierarchies_usually_are_mountinfo_is_not_asked() {
    let v1 = [
        ("/sys/fs/cgroup/memory", 1),
        ("/sys/fs/cgroup/cpu", 1),
        ("/sys/fs/cgroup/pids", 1),
    ];
    let hybrid = |roots: &[(&'static str, u8)]| Fake {
        files: HashMap::from([
            (
                "/proc/self/cgroup",
                "5:memory:/a\n4:cpuset:/c\n3:cpu,cpuacct:/\n2:pids:/b\n0::/\n",
            ),
            (
                "/proc/self/mountinfo",
                "1 0 0:1 / /cg/memory rw - cgroup cgroup rw,memory\n",
            ),
        ]),
        writable: vec!["/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/cpu", "/cg/memory/a"],
        roots: roots.to_vec(),
    };
    let all = [&v1[..], &[("/sys/fs/cgroup/unified", 2)]].concat();
    let facts = discover_with(&hybrid(&all));
    assert_eq!(facts.memory, at(1, "/sys/fs/cgroup/memory/a"));
    assert_eq!(facts.cpu, at(1, "/sys/fs/cgroup/cpu"));
    assert_eq!(facts.pids, None, "not writable");
    // One that is elsewhere, or of another kind there, and mountinfo is asked for all.
    for missing in 0..all.len() {
        let mut roots = all.clone();
        roots.remove(missing);
        assert_eq!(discover_with(&hybrid(&roots)).memory, at(1, "/cg/memory/a"));
        roots.push((all[missing].0, 3 - all[missing].1));
        assert_eq!(discover_with(&hybrid(&roots)).memory, at(1, "/cg/memory/a"));
    }
    let whole = Fake {
        files: HashMap::from([
            ("/proc/self/cgroup", "0::/u\n"),
            ("/sys/fs/cgroup/u/cgroup.controllers", "memory\n"),
            ("/sys/fs/cgroup/u/cgroup.subtree_control", "memory\n"),
        ]),
        writable: vec!["/sys/fs/cgroup/u", "/sys/fs/cgroup/u/cgroup.procs"],
        roots: vec![("/sys/fs/cgroup", 2)],
    };
    assert_eq!(discover_with(&whole).memory, at(2, "/sys/fs/cgroup/u"));
}

#[test]
fn both_ways_find_the_same_on_this_host() {
    struct Slow;
    impl Look for Slow {
        fn read(&self, file: &Path) -> Option<String> {
            std::fs::read_to_string(file).ok()
        }
        fn exists(&self, file: &Path) -> bool {
            file.exists()
        }
        fn writable(&self, file: &Path) -> bool {
            let flags = rustix::fs::AtFlags::EACCESS;
            rustix::fs::accessat(rustix::fs::CWD, file, rustix::fs::Access::WRITE_OK, flags).is_ok()
        }
        fn root_of(&self, _: &Path) -> Option<u8> {
            None
        }
    }
    assert_eq!(discover(), discover_with(&Slow));
}

#[test]
fn only_a_run_s_group_is_ever_removed() {
    for bad in [
        "/sys/fs/cgroup/memory",
        "/sys/fs/cgroup/safe-run-",
        "safe-run-x",
        "/a/../safe-run-x",
        "/safe-run-x/..",
    ] {
        let errors = remove_by_path(&[bad.into()]).unwrap_err();
        assert_eq!(errors[0].problem, Problem::NotOurs, "{bad}");
    }
    // The right name in the wrong file system.
    let dir = std::env::temp_dir().join(format!("safe-run-notacgroup{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    assert_eq!(
        remove_by_path(std::slice::from_ref(&dir)).unwrap_err()[0].problem,
        Problem::NotOurs
    );
    std::fs::remove_dir(&dir).unwrap();
    remove_by_path(&[dir]).unwrap();
    for bad in ["other-x", "safe-run-a/b", "safe-run-", ".."] {
        let limits = Limits {
            pids: Some(Clause {
                at: at(1, "/cg").unwrap(),
                limit: None,
            }),
            ..Limits::default()
        };
        assert!(RunGroup::plan(bad, &limits).is_err(), "{bad}");
    }
}

#[test]
fn one_directory_for_each_hierarchy() {
    let clause = |version, parent: &str| {
        Some(Clause {
            at: at(version, parent).unwrap(),
            limit: Some(1),
        })
    };
    let v1 = Limits {
        memory: clause(1, "/m"),
        cpu: clause(1, "/c"),
        pids: clause(1, "/p"),
    };
    let paths: Vec<PathBuf> = ["/m/safe-run-x", "/c/safe-run-x", "/p/safe-run-x"]
        .map(Into::into)
        .into();
    assert_eq!(RunGroup::plan("safe-run-x", &v1).unwrap(), paths);
    let v2 = Limits {
        memory: clause(2, "/u"),
        cpu: clause(2, "/u"),
        pids: clause(2, "/u"),
    };
    assert_eq!(
        RunGroup::plan("safe-run-x", &v2).unwrap(),
        [PathBuf::from("/u/safe-run-x")]
    );
}

#[test]
fn small_shares_of_a_cpu_have_a_longer_period() {
    assert_eq!(super::v2::quota_and_period(1), (1000, 1_000_000));
    assert_eq!(super::v2::quota_and_period(10), (1000, 100_000));
    assert_eq!(super::v2::quota_and_period(1500), (150_000, 100_000));
}

// ---- with the real kernel ----

/// A group of this test's own, removed however the test ends.
struct Own(RunGroup);

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.0.kill_all();
        let _ = self.0.remove();
    }
}

fn name(test: &str) -> String {
    format!("safe-run-test-{}-{test}", std::process::id())
}

/// The limits as asked, or why this host cannot hold them.
fn real_limits(memory: u64, cpu: u64, pids: u64) -> Result<Limits, &'static str> {
    let facts = discover();
    let clause = |at: Option<CgroupController>, limit| at.map(|at| Clause { at, limit: Some(limit) });
    let limits = Limits {
        memory: clause(facts.memory, memory),
        cpu: clause(facts.cpu, cpu),
        pids: clause(facts.pids, pids),
    };
    if limits.clauses().count() < 3 {
        return Err("no writable cgroup for memory, cpu and pids here");
    }
    Ok(limits)
}

macro_rules! or_skip {
    ($limits:expr) => {
        match $limits {
            Ok(limits) => limits,
            Err(reason) => {
                eprintln!("SKIPPED: {reason}");
                return;
            }
        }
    };
}

/// A shell that waits for a line before it runs `script`: in the group before it does anything.
fn held(script: &str) -> Child {
    Command::new("/bin/sh")
        .args(["-c", &format!("read go; {script}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn go(child: &mut Child) {
    use std::io::Write;
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
}

#[test]
fn limits_are_written_and_read_back() {
    let limits = or_skip!(real_limits((64 << 20) + 1, 250, 7));
    let name = name("limits");
    let plan = RunGroup::plan(&name, &limits).unwrap();
    assert!(plan.iter().all(|p| !p.exists()));
    let group = Own(RunGroup::create(&name, &limits).unwrap());
    assert!(plan.iter().all(|p| p.exists()));
    assert!(group.0.observe().unwrap().iter().eq(group.0.read_back()));
    let values: Vec<&str> = group.0.read_back().map(|r| r.value.as_str()).collect();
    assert!(values.contains(&"67108864") && values.contains(&"7"), "{values:?}");
    assert!(
        RunGroup::create(&name, &limits).is_err(),
        "a group of that name is somebody's"
    );
    assert!(plan.iter().all(|p| p.exists()), "and stays his");
    group.0.remove().unwrap();
    group.0.remove().unwrap();
    assert!(plan.iter().all(|p| !p.exists()));
}

#[test]
fn an_impossible_limit_leaves_nothing() {
    let limits = or_skip!(real_limits(64 << 20, 1000, u64::MAX));
    let name = name("impossible");
    let error = RunGroup::create(&name, &limits).unwrap_err();
    assert!(error.file.ends_with("pids.max"), "{error}");
    assert!(error.to_string().contains("errno"), "{error}");
    assert!(RunGroup::plan(&name, &limits).unwrap().iter().all(|p| !p.exists()));
}

#[test]
fn the_pids_limit_holds_and_is_counted() {
    let limits = or_skip!(real_limits(256 << 20, 1000, 4));
    let group = Own(RunGroup::create(&name("pids"), &limits).unwrap());
    let mut child = held("for i in 1 2 3 4 5 6; do sleep 1 & done; echo made; wait");
    group.0.add(child.id(), false).unwrap();
    assert!(group.0.contains(child.id()).unwrap());
    assert_eq!(group.0.usage().pids, Some(1));
    go(&mut child);
    let mut buffer = [0u8; 4];
    let _ = child.stdout.as_mut().unwrap().read(&mut buffer);
    assert!(group.0.pids_limit_hits().unwrap_or(1) > 0);
    assert!(group.0.usage().pids.unwrap() <= 4);
    assert!(group.0.peaks().pids.is_none_or(|p| p <= 4));
    group.0.kill_all().unwrap();
    child.wait().unwrap();
    group.0.remove().unwrap();
}

#[test]
fn the_memory_limit_kills_and_is_counted() {
    let limits = or_skip!(real_limits(24 << 20, 1000, 16));
    let group = Own(RunGroup::create(&name("memory"), &limits).unwrap());
    let mut child = held("x=$(head -c 100000000 /dev/zero | tr '\\0' a); echo ${#x}");
    group.0.add(child.id(), false).unwrap();
    go(&mut child);
    let status = child.wait().unwrap();
    assert!(!status.success());
    assert!(group.0.oom_kills().unwrap() >= 1);
    assert!(group.0.peaks().memory_bytes.unwrap() <= 24 << 20);
    group.0.kill_all().unwrap();
    group.0.remove().unwrap();
}

#[test]
fn gc_kills_what_is_left_and_removes() {
    let limits = or_skip!(real_limits(64 << 20, 1000, 16));
    let name = name("gc");
    let group = Own(RunGroup::create(&name, &limits).unwrap());
    let mut child = held("sleep 60 & sleep 60 & wait");
    group.0.add(child.id(), false).unwrap();
    go(&mut child);
    let reaper = std::thread::spawn(move || child.wait());
    let paths = RunGroup::plan(&name, &limits).unwrap();
    remove_by_path(&paths).unwrap();
    assert!(paths.iter().all(|p| !p.exists()));
    remove_by_path(&paths).unwrap();
    assert!(!reaper.join().unwrap().unwrap().success());
}

/// The v2 files that exist in every v2 group, on the hierarchy of this host, whatever controllers it has.
#[test]
fn a_v2_group_without_controllers_can_be_entered_killed_and_removed() {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts
        .lines()
        .find(|l| l.contains(" - cgroup2 "))
        .and_then(|l| l.split(' ').nth(4));
    let path = own.lines().find_map(|l| l.strip_prefix("0::"));
    let (Some(mount), Some("/")) = (mount, path) else {
        eprintln!("SKIPPED: no cgroup2 mount with this process at its top");
        return;
    };
    let place = Place {
        dir: Path::new(mount).join(name("v2")),
        version: 2,
        controllers: vec![],
        own: true,
    };
    let group = RunGroup {
        places: vec![place],
        v2: None,
        written: vec![],
    };
    if let Err(error) = file::mkdir(&group.places[0].dir) {
        eprintln!("SKIPPED: {error}");
        return;
    }
    let group = Own(group);
    let mut child = held("sleep 60 & wait");
    group.0.add(child.id(), true).unwrap();
    assert!(
        !group.0.contains(child.id()).unwrap(),
        "CLONE_INTO_CGROUP was to have done it"
    );
    group.0.add(child.id(), false).unwrap();
    assert!(group.0.contains(child.id()).unwrap());
    go(&mut child);
    assert!(group.0.usage().cpu_micros.is_some(), "cpu.stat is in every v2 group");
    let reaper = std::thread::spawn(move || child.wait());
    group.0.kill_all().unwrap();
    assert!(!reaper.join().unwrap().unwrap().success());
    group.0.remove().unwrap();
}
