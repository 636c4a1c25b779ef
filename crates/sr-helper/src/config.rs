//! `helper.toml`: who may ask, for how much, and below which control groups. Everything in it is written out: there is no
//! default that an operator could have overlooked.

use crate::trusted;
use crate::wire::Amounts;
use rustix::fs::OFlags;
use serde::Deserialize;
use sr_common::ByteSize;
use sr_common::facts::CgroupController;
use sr_kernel::peer::Peer;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The longest file that is read.
const MOST_BYTES: u64 = 64 << 10;
/// More runs at once than any machine has for one user.
const MOST_RUNS: u32 = 4096;

/// What the operator allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub memory: CgroupController,
    pub cpu: CgroupController,
    pub pids: CgroupController,
    users: Vec<u32>,
    groups: Vec<u32>,
    /// The most that a run may hold.
    pub ceilings: Amounts,
    /// How many runs a user may have at once.
    pub runs: u32,
    /// `None`: no project quotas.
    pub disk: Option<Disk>,
}

/// What of project quotas the operator gives away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// A directory on each file system, and its device.
    pub mounts: Vec<(PathBuf, u64)>,
    /// The projects that a run may have, none of which is anybody else's.
    pub first: u32,
    pub last: u32,
    /// The most that a run may hold.
    pub bytes: u64,
    pub inodes: u64,
}

/// A message names all of them.
const MOST_MOUNTS: usize = 16;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    cgroup_parent: Parent,
    #[serde(default)]
    users: Vec<u32>,
    #[serde(default)]
    groups: Vec<u32>,
    ceilings: Ceilings,
    disk: Option<DiskRules>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DiskRules {
    mounts: Vec<PathBuf>,
    projects: [u32; 2],
    bytes: ByteSize,
    files: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Parent {
    /// Of version 2.
    One(String),
    /// Of version 1: one in each hierarchy.
    Each(Parents),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parents {
    memory: String,
    cpu: String,
    pids: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ceilings {
    memory: ByteSize,
    cpu: f64,
    pids: u64,
    runs: u32,
}

type Device<'a> = &'a dyn Fn(&Path) -> Result<u64, String>;
type Look<'a> = &'a dyn Fn(&str) -> Result<(u8, u64), String>;

impl Config {
    /// Reads the file, which must be root's alone, and looks at what it names.
    pub fn load(path: &Path) -> Result<Config, String> {
        let file = trusted::open(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let mut text = String::new();
        std::fs::File::from(file)
            .take(MOST_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        if text.len() as u64 > MOST_BYTES {
            return Err(format!("{} has more than {MOST_BYTES} bytes", path.display()));
        }
        Config::parse(&text, &look, &device).map_err(|why| format!("{}: {why}", path.display()))
    }

    /// `look` says of which version and of which hierarchy the control group at a path is.
    fn parse(text: &str, look: Look<'_>, device: Device<'_>) -> Result<Config, String> {
        let document: Document = toml::from_str(text).map_err(|e| e.to_string())?;
        let mut seen = Vec::new();
        let mut at = |parent: String| {
            let (version, hierarchy) = look(&parent).map_err(|why| format!("cgroupParent: {why}"))?;
            seen.push((hierarchy, parent.clone()));
            Ok::<_, String>(CgroupController { version, parent })
        };
        let [memory, cpu, pids] = match document.cgroup_parent {
            Parent::One(parent) => {
                let one = at(parent)?;
                if one.version != 2 {
                    return Err("cgroupParent is of version 1: name one for each of memory, cpu and pids".into());
                }
                [one.clone(), one.clone(), one]
            }
            Parent::Each(each) => [at(each.memory)?, at(each.cpu)?, at(each.pids)?],
        };
        for (hierarchy, parent) in &seen {
            // A process is in one group of each hierarchy.
            if let Some((_, other)) = seen.iter().find(|(is, at)| is == hierarchy && at != parent) {
                return Err(format!(
                    "cgroupParent: {parent} and {other} are of one hierarchy: name one of them for both"
                ));
            }
        }
        let ceilings = document.ceilings;
        let cpu_most = ceilings.cpu * 1000.0;
        if !(1.0..=1e9).contains(&cpu_most) {
            return Err(format!("ceilings.cpu: {} CPUs", ceilings.cpu));
        }
        if ceilings.memory.0 == 0 || ceilings.pids == 0 || !(1..=MOST_RUNS).contains(&ceilings.runs) {
            return Err(format!(
                "ceilings: memory and pids must not be 0, runs is 1 to {MOST_RUNS}"
            ));
        }
        let disk = document.disk.map(|rules| rules.checked(device)).transpose()?;
        Ok(Config {
            memory,
            cpu,
            pids,
            users: document.users,
            groups: document.groups,
            ceilings: Amounts {
                memory: ceilings.memory.0,
                // Checked above to be small and positive.
                cpu: cpu_most as u64,
                pids: ceilings.pids,
            },
            runs: ceilings.runs,
            disk,
        })
    }

    /// Whether the operator lets this user ask.
    pub fn allows(&self, peer: &Peer) -> bool {
        let in_group = |gid: &u32| peer.gid == *gid || peer.groups.contains(gid);
        self.users.contains(&peer.uid) || self.groups.iter().any(in_group)
    }
}

impl DiskRules {
    fn checked(self, device: Device<'_>) -> Result<Disk, String> {
        let [first, last] = self.projects;
        // 0 is what everything is that has no project; the last number is none.
        if first == 0 || last < first || last == u32::MAX {
            return Err(format!("disk.projects: {first} to {last}"));
        }
        if self.mounts.is_empty() || self.mounts.len() > MOST_MOUNTS {
            return Err(format!("disk.mounts: 1 to {MOST_MOUNTS} directories"));
        }
        if self.bytes.0 < sr_kernel::quota::BLOCK || self.files == 0 {
            return Err("disk: bytes and files must not be 0".into());
        }
        let mounts = self.mounts.into_iter();
        let mounts = mounts.map(|path| device(&path).map(|device| (path, device)));
        Ok(Disk {
            mounts: mounts
                .collect::<Result<_, _>>()
                .map_err(|why| format!("disk.mounts: {why}"))?,
            first,
            last,
            bytes: self.bytes.0,
            inodes: self.files,
        })
    }
}

/// Of the file system at a path that is root's, all the way.
fn device(path: &Path) -> Result<u64, String> {
    let dir = trusted::open(path, OFlags::PATH | OFlags::DIRECTORY)?;
    let stat = rustix::fs::fstat(&dir).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(stat.st_dev)
}

/// The control group must be root's, all the way: then nobody else can put another in its place.
fn look(parent: &str) -> Result<(u8, u64), String> {
    let path = Path::new(parent);
    let dir = trusted::open(path, OFlags::PATH | OFlags::DIRECTORY)?;
    let hierarchy = rustix::fs::fstat(&dir).map_err(|e| format!("{parent}: {e}"))?.st_dev;
    let version = sr_kernel::cgroup::version(path).ok_or_else(|| format!("{parent} is no control group"))?;
    Ok((version, hierarchy))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "users = [1000]\ngroups = [44]\n\
        cgroupParent = {memory = \"/m\", cpu = \"/c\", pids = \"/p\"}\n\
        [ceilings]\nmemory = \"1GiB\"\ncpu = 1.5\npids = 64\nruns = 3\n";

    fn parse(text: &str) -> Result<Config, String> {
        // A hierarchy for each first letter.
        let look = |path: &str| Ok((1 + u8::from(path == "/two"), u64::from(path.as_bytes()[1])));
        Config::parse(text, &look, &|path| Ok(path.as_os_str().len() as u64))
    }

    fn peer(uid: u32, gid: u32, groups: &[u32]) -> Peer {
        Peer {
            pid: 1,
            uid,
            gid,
            groups: groups.to_vec(),
        }
    }

    #[test]
    fn a_file_of_each_version() {
        let config = parse(V1).unwrap();
        assert_eq!(
            (config.memory.parent.as_str(), config.pids.parent.as_str()),
            ("/m", "/p")
        );
        let ceilings = Amounts {
            memory: 1 << 30,
            cpu: 1500,
            pids: 64,
        };
        assert_eq!((config.ceilings, config.runs), (ceilings, 3));
        assert!(config.allows(&peer(1000, 7, &[])) && config.allows(&peer(7, 44, &[])));
        assert!(config.allows(&peer(7, 7, &[1, 44])) && !config.allows(&peer(44, 1000, &[7])));
        let two = V1.replace("{memory = \"/m\", cpu = \"/c\", pids = \"/p\"}", "\"/two\"");
        let config = parse(&two).unwrap();
        assert_eq!((config.cpu.version, &config.cpu), (2, &config.memory));
    }

    const DISK: &str = "[disk]\nmounts = [\"/srv\"]\nprojects = [100, 200]\nbytes = \"1GiB\"\nfiles = 7\n";

    #[test]
    fn project_quotas_are_written_out_too() {
        assert_eq!(parse(V1).unwrap().disk, None);
        let text = format!("{V1}{DISK}");
        let expected = Disk {
            mounts: vec![("/srv".into(), 4)],
            first: 100,
            last: 200,
            bytes: 1 << 30,
            inodes: 7,
        };
        assert_eq!(parse(&text).unwrap().disk, Some(expected));
        for (what, with) in [
            ("[100, 200]", "[0, 200]"),
            ("[100, 200]", "[200, 100]"),
            ("[100, 200]", "[100]"),
            ("[100, 200]", "[100, 4294967295]"),
            ("[100, 200]", "[-1, 200]"),
            ("[\"/srv\"]", "[]"),
            ("files = 7\n", ""),
            ("files = 7", "files = 0"),
            ("bytes = \"1GiB\"", "bytes = 1023"),
            ("files", "inodes"),
        ] {
            let changed = text.replacen(what, with, 1);
            assert_ne!(changed, text);
            assert!(parse(&changed).is_err(), "{changed}");
        }
    }

    #[test]
    fn nothing_is_guessed() {
        for (what, with) in [
            ("users", "user"),
            ("runs = 3\n", ""),
            ("runs = 3", "runs = 0"),
            ("runs = 3", "runs = 5000"),
            ("runs = 3", "runs = 3\nruns = 4"),
            ("runs = 3", "runs = 3\ndisk = 1"),
            ("memory = \"1GiB\"", "memory = \"much\""),
            ("memory = \"1GiB\"", "memory = 0"),
            ("cpu = 1.5", "cpu = nan"),
            ("cpu = 1.5", "cpu = -1"),
            ("pids = 64", "pids = 0"),
            (", pids = \"/p\"", ""),
            (", pids = \"/p\"", ", pids = \"/p\", io = \"/i\""),
            ("{memory = \"/m\", cpu = \"/c\", pids = \"/p\"}", "\"/one\""),
            ("\"/c\"", "\"/memory\""),
            ("[1000]", "[\"ann\"]"),
            ("[1000]", "[-1]"),
        ] {
            let changed = V1.replacen(what, with, 1);
            assert_ne!(changed, V1);
            assert!(parse(&changed).is_err(), "{changed}");
        }
        let nobody = parse(&V1.replace("[1000]", "[]").replace("[44]", "[]")).unwrap();
        assert!(!nobody.allows(&peer(0, 0, &[0])));
    }

    #[test]
    fn a_parent_is_a_control_group() {
        assert!(look("/usr").unwrap_err().contains("no control group"));
        assert!(look("sys").unwrap_err().contains("absolute"));
        let bad = Config::parse(V1, &look, &device).unwrap_err();
        assert!(bad.starts_with("cgroupParent: /m: No such file"), "{bad}");
    }
}
