//! What a wall with a kernel of its own is made of, as found on this host: the monitor, the driver, the images. Nothing is run.

use crate::digests;
use crate::module;
use crate::request::{Caller, Making};
use crate::store::Store;
use crate::subject::opened;
use crate::walls::Programs;
use rustix::fs::{Access, AtFlags, CWD};
use sr_artifact::cpio::Archive;
use sr_artifact::{Artifact, Artifacts, Input, Kind, Provenance, Wanted};
use sr_common::facts::{Command, Image, WallParts};
use sr_common::guest::DiskFormat;
use sr_common::{Backend, Code, Digest, Fault, Vmm};
use sr_policy::PolicySpec;
use sr_policy::spec::Microvm;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

/// The largest init of a guest that is taken for one.
const MOST_AGENT: u64 = 64 << 20;

/// What `backend` is made of for `command` under `policy`.
pub fn find(
    backend: Backend,
    policy: &PolicySpec,
    command: &Command,
    caller: &Caller,
    store: &Store,
    making: Making,
) -> Result<Option<WallParts>, Fault> {
    let (programs, path_var) = (&caller.programs, caller.path_var.as_os_str());
    let vmm = match backend {
        Backend::Process => return Ok(None),
        Backend::Wasm => return module::parts(policy, command, caller, store, making).map(Some),
        Backend::Gvisor => return gvisor(programs, path_var, store).map(Some),
        Backend::Microvm(vmm) => vmm,
    };
    let monitor = match vmm {
        Vmm::Qemu => monitor("qemu", "qemu-system-x86_64", programs.qemu.as_deref(), path_var)?,
        Vmm::Firecracker => {
            jailer(programs.jailer.as_deref())?;
            monitor("firecracker", "firecracker", programs.firecracker.as_deref(), path_var)?
        }
        Vmm::CloudHypervisor => {
            let (what, name) = ("cloudHypervisor", "cloud-hypervisor");
            monitor(what, name, programs.cloud_hypervisor.as_deref(), path_var)?
        }
    };
    let driver = own_program()?;
    let guest = policy.microvm.clone().unwrap_or_default();
    Ok(Some(WallParts {
        images: images(&guest, programs, &driver, store)?,
        driver: text(&driver)?,
        monitor,
    }))
}

/// `runsc`, and the agent for its container's first process.
fn gvisor(programs: &Programs, path_var: &OsStr, store: &Store) -> Result<WallParts, Fault> {
    let monitor = monitor("runsc", "runsc", programs.runsc.as_deref(), path_var)?;
    let driver = own_program()?;
    let agent = agent(programs, &driver);
    let (_, digest) = open_agent(&agent, store)?;
    Ok(WallParts {
        images: vec![Image {
            role: "agent".to_owned(),
            path: text(&agent)?,
            digest,
            format: None,
        }],
        driver: text(&driver)?,
        monitor,
    })
}

pub(crate) fn own_program() -> Result<PathBuf, Fault> {
    std::fs::read_link("/proc/self/exe")
        .map_err(|e| preflight("driver", format!("the own program cannot be found: {e}"), "mount /proc"))
}

pub(crate) fn preflight(what: &str, found: impl Into<String>, remedy: impl Into<String>) -> Fault {
    Fault::new(Code::Run002, format!("launch.preflight.{what}"), found, remedy)
}

pub(crate) fn text(path: &Path) -> Result<String, Fault> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| preflight("driver", format!("{} is not UTF-8", path.display()), "move it"))
}

/// The canonical path of a monitor: the one that is named, else the first of that name in `path_var` that can be executed.
fn monitor(what: &str, name: &str, named: Option<&Path>, path_var: &OsStr) -> Result<String, Fault> {
    let variable = match what {
        "cloudHypervisor" => "SAFE_RUN_CLOUD_HYPERVISOR".to_owned(),
        what => format!("SAFE_RUN_{}", what.to_ascii_uppercase()),
    };
    let found = match named {
        Some(path) => {
            let bad = |found: String| {
                let remedy = format!("have {variable} name the program {name}, which must be executable");
                Err(preflight(what, found, remedy))
            };
            match executable(path) {
                Ok(true) => path.to_owned(),
                Ok(false) => return bad(format!("{} is not an executable file", path.display())),
                Err(e) => return bad(format!("{}: {e}", path.display())),
            }
        }
        None => {
            let places = std::env::split_paths(path_var).filter(|dir| dir.is_absolute());
            let mut found = places
                .map(|dir| dir.join(name))
                .filter(|path| executable(path).unwrap_or(false));
            found.next().ok_or_else(|| {
                let remedy = format!("install it, or name it with {variable}");
                preflight(what, format!("there is no {name} on PATH"), remedy)
            })?
        }
    };
    let canonical = found
        .canonicalize()
        .map_err(|e| preflight(what, format!("{}: {e}", found.display()), "install it anew"))?;
    text(&canonical)
}

/// None is run. But who names one counts on it, and is not left to believe in one that is not there.
fn jailer(named: Option<&Path>) -> Result<(), Fault> {
    let Some(path) = named else { return Ok(()) };
    let found = match executable(path) {
        Ok(true) => return Ok(()),
        Ok(false) => format!("{} is not an executable file", path.display()),
        Err(e) => format!("{}: {e}", path.display()),
    };
    let remedy = "unset SAFE_RUN_JAILER, or have it name a jailer: none is run, since the native sandbox around Firecracker is its jail";
    Err(preflight("jailer", found, remedy))
}

/// What whoever starts a run is told of what is named and not used.
pub(crate) fn unused(backend: Backend, programs: &Programs) -> Option<String> {
    let jailer = programs.jailer.as_ref()?;
    (backend == Backend::Microvm(Vmm::Firecracker)).then(|| {
        format!(
            "{} (SAFE_RUN_JAILER) is not run: the native sandbox around Firecracker is its jail",
            jailer.display()
        )
    })
}

fn executable(path: &Path) -> io::Result<bool> {
    let regular = std::fs::metadata(path)?.is_file();
    let may = rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok();
    Ok(regular && may)
}

/// The kernel that is named, what it unpacks at its start (its modules, and the agent for init), and the root that is named.
fn images(guest: &Microvm, programs: &Programs, driver: &Path, store: &Store) -> Result<Vec<Image>, Fault> {
    let kernel = &guest.kernel;
    let remedy = "`safe-run artifact build kernel` makes one of Debian's";
    let missing = || preflight("kernel", format!("there is no kernel artifact {kernel}"), remedy);
    let artifacts = Artifacts::existing(store.path()).ok_or_else(missing)?;
    let (kernel, modules) = artifacts
        .kernel(&Wanted::named(Kind::Kernel, kernel)?)
        .map_err(|_| missing())?;
    let agent = agent(programs, driver);
    let initrd = initrd(&artifacts, &kernel, modules, &agent, store)?;
    let root = guest.rootfs.as_deref().map(|name| root(&artifacts, name)).transpose()?;
    let root = root.map(|(artifact, format)| ("rootfs", artifact, Some(format)));
    [("kernel", kernel, None), ("initrd", initrd, None)]
        .into_iter()
        .chain(root)
        .map(|(role, artifact, format)| {
            Ok(Image {
                role: role.to_owned(),
                path: text(&artifacts.path(&artifact.digest))?,
                digest: artifact.digest,
                format,
            })
        })
        .collect()
}

/// The root file system of that name, and of what kind it is.
fn root(artifacts: &Artifacts, name: &str) -> Result<(Artifact, DiskFormat), Fault> {
    let wanted = Wanted::named(Kind::Rootfs, name)?;
    let root = artifacts.resolve(&wanted, Some(Kind::Rootfs)).map_err(|_| {
        let remedy = "`safe-run artifact build rootfs` or `import` makes one";
        preflight("rootfs", format!("there is no rootfs artifact {name}"), remedy)
    })?;
    let format = match root.provenance.format.as_deref() {
        Some("erofs") => DiskFormat::Erofs,
        Some("squashfs") => DiskFormat::Squashfs,
        Some("ext4") => DiskFormat::Ext4,
        other => {
            let found = format!("the rootfs artifact {name} is of the format {other:?}");
            return Err(preflight("rootfs", found, "import it anew"));
        }
    };
    Ok((root, format))
}

pub(crate) fn worker(programs: &Programs, driver: &Path) -> PathBuf {
    let beside = || driver.with_file_name("safe-run-wasm");
    programs.wasm.clone().unwrap_or_else(beside)
}

pub(crate) fn agent(programs: &Programs, driver: &Path) -> PathBuf {
    let beside = || driver.with_file_name("sr-guest");
    programs.guest.clone().unwrap_or_else(beside)
}

fn no_agent(agent: &Path, error: &io::Error) -> Fault {
    let remedy = "build it with `cargo xtask guest`, beside safe-run, or name it with SAFE_RUN_GUEST";
    let found = format!("{}, the init of guests: {error}", agent.display());
    preflight("guest", found, remedy)
}

/// The agent and its digest.
fn open_agent(agent: &Path, store: &Store) -> Result<(File, Digest), Fault> {
    let bad = |e: io::Error| no_agent(agent, &e);
    let file = File::open(agent).map_err(bad)?;
    let stat = rustix::fs::fstat(&file).map_err(|e| bad(e.into()))?;
    let digest = digests::of_file(store, &file, &stat, &mut || false).map_err(bad)?;
    Ok((file, digest))
}

/// Made once for each kernel and agent, and kept.
fn initrd(
    artifacts: &Artifacts,
    kernel: &Artifact,
    modules: Option<Digest>,
    agent: &Path,
    store: &Store,
) -> Result<Artifact, Fault> {
    let bad = |e| no_agent(agent, &e);
    let (mut file, digest) = open_agent(agent, store)?;
    let mut with = kernel.provenance.with.clone();
    with.insert("agent".to_owned(), digest);
    let short = |digest: &Digest| digest.hex().chars().take(16).collect::<String>();
    let name = format!(
        "{}-{}",
        modules.as_ref().map_or_else(|| "bare".to_owned(), short),
        short(&digest)
    );
    if let Ok(found) = artifacts.resolve(&Wanted::named(Kind::Initrd, &name)?, Some(Kind::Initrd))
        && found.provenance.with == with
    {
        return Ok(found);
    }
    let mut content = Vec::new();
    if let Some(modules) = modules {
        artifacts
            .open_digest(&modules)?
            .file
            .read_to_end(&mut content)
            .map_err(|e| preflight("kernel", format!("its modules: {e}"), "build it anew"))?;
    }
    let mut init = Vec::new();
    file.rewind().map_err(bad)?;
    file.take(MOST_AGENT).read_to_end(&mut init).map_err(bad)?;
    if Digest::of(&init) != digest {
        return Err(bad(io::Error::other("it changed while it was read, or is too large")));
    }
    if let Some(loader) = opened::loader(agent) {
        let found = format!("it needs {}, and a guest has none", loader.display());
        return Err(bad(io::Error::other(found)));
    }
    let mut archive = Archive::default();
    for directory in ["dev", "proc", "share", "root"] {
        archive.directory(directory);
    }
    // The kernel opens it for the first process, before there is another.
    archive.device("dev/console", 0o600, (5, 1));
    archive.file("init", 0o755, &init);
    content.extend(archive.end());
    let provenance = Provenance {
        how: "initrd".to_owned(),
        inputs: vec![Input {
            name: "sr-guest".to_owned(),
            version: None,
            digest: Some(digest),
        }],
        release: kernel.provenance.release.clone(),
        with,
        ..Provenance::default()
    };
    artifacts.add(content.as_slice(), Kind::Initrd, &name, provenance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_jailer_that_is_named_must_be_there_and_is_told_not_to_be_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jailer");
        let refused = |what: &str| {
            let fault = jailer(Some(&path)).unwrap_err();
            assert_eq!(
                (fault.code, fault.path.as_str()),
                (Code::Run002, "launch.preflight.jailer")
            );
            assert!(fault.found.contains(what), "{fault:?}");
        };
        refused("No such file");
        std::fs::write(&path, "").unwrap();
        refused("not an executable file");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        assert!(jailer(Some(&path)).is_ok() && jailer(None).is_ok());
        let programs = Programs {
            jailer: Some(path),
            ..Programs::default()
        };
        let told = unused(Backend::Microvm(Vmm::Firecracker), &programs).unwrap();
        assert!(told.contains("jailer (SAFE_RUN_JAILER) is not run"), "{told}");
        assert_eq!(unused(Backend::Microvm(Vmm::Qemu), &programs), None);
        assert_eq!(unused(Backend::Microvm(Vmm::Firecracker), &Programs::default()), None);
    }

    #[test]
    fn a_monitor_is_the_one_that_is_named_or_the_first_that_can_be_executed() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        for (name, mode) in [("a/vmm", 0o644), ("b/vmm", 0o755), ("c/vmm", 0o755)] {
            let path = top.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        }
        let path_var = std::env::join_paths(["a", "b", "c"].map(|dir| top.join(dir))).unwrap();
        let found = |named: Option<&str>, name: &str| {
            let named = named.map(|named| top.join(named));
            monitor("qemu", name, named.as_deref(), &path_var)
        };
        assert_eq!(found(None, "vmm").unwrap(), top.join("b/vmm").to_str().unwrap());
        assert_eq!(
            found(Some("c/vmm"), "vmm").unwrap(),
            top.join("c/vmm").to_str().unwrap()
        );
        for (named, name, what) in [
            (Some("a/vmm"), "vmm", "not an executable file"),
            (Some("a"), "vmm", "not an executable file"),
            (Some("d/vmm"), "vmm", "No such file"),
            (None, "other", "no other on PATH"),
        ] {
            let fault = found(named, name).unwrap_err();
            assert!(
                fault.found.contains(what) && fault.path == "launch.preflight.qemu",
                "{fault:?}"
            );
        }
    }
}
