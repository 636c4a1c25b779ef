//! Gathers [`HostFacts`]: what this host can enforce and what its system tree looks like. Looks only, makes no
//! process, and is on the start path of every run: a handful of system calls.

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, openat, statat};
use rustix::io::Errno;
use rustix::system::{sysinfo, uname};
use rustix::thread::{CpuSet, sched_getaffinity};
use sr_common::facts::{MacFacts, SystemDir};
use sr_common::{Code, Fault, HostFacts};
use sr_kernel::probe;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

/// The top level of the operating system, in mount order.
const SYSTEM: [&str; 7] = ["bin", "lib", "lib32", "lib64", "libx32", "sbin", "usr"];

/// What of `/etc` a sandbox may see: nothing that names people, machines or secrets, and only what programs cannot do
/// without: each is a mount, and mounts are most of what a start costs.
const ETC: [&str; 24] = [
    "alternatives",
    "crypto-policies",
    "fonts",
    "ld-musl-aarch64.path",
    "ld-musl-x86_64.path",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.conf",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "pki/ca-trust",
    "pki/java",
    "pki/nss-legacy",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
];

/// Everything that compilation must know of this host. `store`, `private` and `home` are absolute; `id_base` is the
/// first host id of the range that sandboxes of a privileged supervisor use.
pub fn gather(store: &Path, private: &[PathBuf], home: Option<&Path>, id_base: u32) -> Result<HostFacts, Fault> {
    let names = uname();
    let memory = sysinfo();
    Ok(HostFacts {
        arch: names.machine().to_string_lossy().into_owned(),
        kernel: names.release().to_string_lossy().into_owned(),
        privileged: probe::privileged(),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        cpus: cpus()?,
        memory_bytes: u64::from(memory.mem_unit).saturating_mul(memory_units(&memory)),
        user_namespaces_blocked: probe::user_namespaces_blocked(),
        landlock_abi: sr_kernel::landlock::abi(),
        seccomp: probe::seccomp_available(),
        ptrace: probe::ptrace_allowed(),
        cgroup: sr_kernel::cgroup::discover(),
        system: system(Path::new("/"))?,
        etc: etc(Path::new("/etc"), Path::new("/usr/lib/jvm"))?,
        store: text(store)?,
        private: private.iter().map(text).collect::<Result<_, _>>()?,
        home: home.map(text).transpose()?,
        id_base,
        disk: None,
        mac: None,
        walls: None,
    })
}

/// What a policy that names a profile or a context has to be compiled with besides: no other run pays for it.
pub fn mac() -> MacFacts {
    probe::mac()
}

#[allow(
    clippy::useless_conversion,
    reason = "the field is 32 bits wide on some architectures"
)]
fn memory_units(memory: &rustix::system::Sysinfo) -> u64 {
    memory.totalram.into()
}

fn cpus() -> Result<u32, Fault> {
    let set = sched_getaffinity(None).map_err(|e| {
        let found = format!("sched_getaffinity failed: {e}");
        Fault::new(
            Code::Run001,
            "launch.facts.cpus",
            found,
            "allow the call, or run on a host with fewer CPUs",
        )
    })?;
    let count = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).count();
    Ok(u32::try_from(count).unwrap_or(u32::MAX).max(1))
}

fn system(root: &Path) -> Result<Vec<SystemDir>, Fault> {
    let mut found = Vec::new();
    for name in SYSTEM {
        let path = root.join(name);
        let link = match std::fs::read_link(&path) {
            Ok(target) => Some(text(&target)?),
            // EINVAL: there, and not a symbolic link.
            Err(e) if e.kind() == ErrorKind::InvalidInput => None,
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(unreadable(&path, &e)),
        };
        if link.is_some() || path.is_dir() {
            found.push(SystemDir {
                path: format!("/{name}"),
                link,
            });
        }
    }
    Ok(found)
}

/// What of `dir` may be seen. `jvm` holds the Java installations, whose settings lie there under their names: it has a few
/// entries, where to list all of `/etc` costs as much as a mount.
fn etc(dir: &Path, jvm: &Path) -> Result<Vec<String>, Fault> {
    let unreadable = |e: Errno| unreadable(dir, &e.into());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = match openat(CWD, dir, flags, Mode::empty()) {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(e) => return Err(unreadable(e)),
    };
    let mut found = Vec::new();
    // A dangling link is left out; a directory is written with a `/` at its end.
    let mut look = |relative: &str| {
        if let Ok(stat) = statat(&opened, relative, AtFlags::empty()) {
            let directory = FileType::from_raw_mode(stat.st_mode).is_dir();
            found.push(format!("/etc/{relative}{}", if directory { "/" } else { "" }));
        }
    };
    ETC.into_iter().for_each(&mut look);
    for java in java(jvm) {
        look(&java);
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// The names that the settings of an installation may have: its own, or without the architecture (`java-17-openjdk` for
/// `java-17-openjdk-amd64`). None where there is no Java.
fn java(jvm: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(opened) = openat(CWD, jvm, flags, Mode::empty()) else {
        return names;
    };
    let mut buffer = [MaybeUninit::uninit(); 4 << 10];
    let mut entries = RawDir::new(&opened, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        if let Ok(name) = entry.file_name().to_str()
            && name.starts_with("java-")
        {
            names.extend(name.rsplit_once('-').map(|(whole, _)| whole.to_owned()));
            names.push(name.to_owned());
        }
    }
    names
}

fn text(path: impl AsRef<OsStr>) -> Result<String, Fault> {
    let path = path.as_ref();
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let found = format!("{} is not UTF-8", path.display());
        Fault::new(Code::Run001, "launch.facts", found, "use a path whose name is UTF-8")
    })
}

fn unreadable(path: &Path, error: &std::io::Error) -> Fault {
    let found = format!("cannot read {}: {error}", path.display());
    Fault::new(
        Code::Run001,
        "launch.facts",
        found,
        "make it readable for the user who starts the run",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host() {
        let facts = gather(Path::new("/store"), &["/keys".into()], Some(Path::new("/home/x")), 7).unwrap();
        assert!(facts.cpus >= 1 && facts.memory_bytes > 1 << 20);
        assert!(["x86_64", "aarch64"].contains(&facts.arch.as_str()));
        assert!(facts.system.iter().any(|d| d.path == "/usr" && d.link.is_none()));
        assert_eq!((facts.store.as_str(), facts.id_base), ("/store", 7));
        assert!(facts.seccomp);
        assert_eq!(
            facts,
            gather(Path::new("/store"), &["/keys".into()], Some(Path::new("/home/x")), 7).unwrap()
        );
    }

    #[test]
    fn only_the_allow_list_of_etc_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "shadow",
            "passwd",
            "ssh",
            "machine-id",
            "ld.so.cache",
            "java-17-openjdk",
            "python3.11",
            "ssl/private",
            "ssl/certs",
        ] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let jvm = dir.path().join("jvm");
        std::fs::create_dir_all(jvm.join("java-17-openjdk-amd64")).unwrap();
        assert_eq!(
            etc(dir.path(), &jvm).unwrap(),
            ["/etc/java-17-openjdk/", "/etc/ld.so.cache/", "/etc/ssl/certs/"]
        );
        assert_eq!(
            etc(dir.path(), &dir.path().join("none")).unwrap(),
            ["/etc/ld.so.cache/", "/etc/ssl/certs/"]
        );
        assert_eq!(etc(&dir.path().join("none"), &jvm).unwrap(), [""; 0]);
    }

    #[test]
    fn system_links_are_kept_as_links() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
        std::os::unix::fs::symlink("usr/bin", dir.path().join("bin")).unwrap();
        let expected = [
            SystemDir {
                path: "/bin".into(),
                link: Some("usr/bin".into()),
            },
            SystemDir {
                path: "/usr".into(),
                link: None,
            },
        ];
        assert_eq!(system(dir.path()).unwrap(), expected);
    }
}
