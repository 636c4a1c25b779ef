//! What the rig is made of, fetched once from Debian's archive through apt and unpacked into `target/tools/rig-SERIES-EDITION`: a
//! generic kernel of Debian's as an ELF image, its modules, and two programs for use inside. Nothing of it is installed.

use crate::{Outcome, needs, tree};
use sr_artifact::apt::Apt;
use sr_artifact::debian;
use sr_artifact::kernel::{self, PACKAGE};
use sr_artifact::modules::Modules;
use sr_common::Fault;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Of which release of Debian's the kernel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Series {
    /// Debian 12's, what most tests on the rig are written for: Landlock ABI 2, AppArmor without mediation of user namespaces.
    Bookworm,
    /// Debian 13's: AppArmor mediates user namespaces, and its parser knows the word.
    Trixie,
}

impl Series {
    fn version(self) -> &'static str {
        match self {
            Series::Bookworm => "6.1",
            Series::Trixie => "6.12",
        }
    }

    fn codename(self) -> &'static str {
        match self {
            Series::Bookworm => "bookworm",
            Series::Trixie => "trixie",
        }
    }
}

/// What the rig needs of the modules that Debian builds for real hardware: virtual devices, and what KVM stands on.
const DRIVERS: [&str; 5] = ["block", "char", "crypto", "vhost", "virtio"];
/// More than was unpacked under an older name.
const EDITION: u32 = 2;

/// The parts, unpacked.
pub struct Parts {
    dir: PathBuf,
    /// `6.1.0-1-amd64`.
    pub release: String,
}

impl Parts {
    /// Those that were fetched before, or now.
    pub fn get(series: Series) -> Outcome<Parts> {
        let name = format!("rig-{}-{EDITION}", series.version());
        let dir = tree::tools().join(&name);
        let release = |dir: &Path| fs::read_to_string(dir.join("release"));
        if let Ok(release) = release(&dir) {
            return Ok(Parts { dir, release });
        }
        let making = tree::tools().join(format!("{name}.{}", std::process::id()));
        let made = make(&making, series).and_then(|()| {
            // A half of an older one has no release.
            let _ = fs::remove_dir_all(&dir);
            fs::rename(&making, &dir).map_err(|e| format!("   {}: {e}", dir.display()))
        });
        if made.is_err() {
            // The first failure is the one to tell.
            let _ = fs::remove_dir_all(&making);
        }
        made?;
        let release = release(&dir).map_err(|e| format!("   {}: {e}", dir.display()))?;
        Ok(Parts { dir, release })
    }

    /// The kernel, ready for a start by PVH.
    pub fn vmlinux(&self) -> PathBuf {
        self.dir.join("vmlinux")
    }

    /// A static one.
    pub fn busybox(&self) -> PathBuf {
        self.dir.join("bin/busybox")
    }

    pub fn apparmor_parser(&self) -> PathBuf {
        self.dir.join("bin/apparmor_parser")
    }

    /// What the parser knows of kernels: `/etc/apparmor.d/abi` inside.
    pub fn abi(&self) -> PathBuf {
        self.dir.join("abi")
    }

    /// What is `/lib/modules/RELEASE` inside.
    pub fn modules(&self) -> PathBuf {
        self.dir.join("lib/modules").join(&self.release)
    }

    /// The files of the modules `names` and of all that they stand on, in the order in which they can be loaded; without those
    /// that are the kernel's own.
    pub fn closure(&self, names: &[&str]) -> Outcome<Vec<PathBuf>> {
        let all = Modules::read(&self.modules()).map_err(plain)?;
        let closure = all.closure(names).map_err(plain)?;
        Ok(closure.into_iter().map(|module| module.path).collect())
    }
}

fn make(dir: &Path, series: Series) -> Outcome {
    let packages = dir.join("packages");
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |e: std::io::Error| format!("   {path}: {e}")
    };
    fs::create_dir_all(&packages).map_err(failed(&packages))?;
    let mut apt = Apt::of(Some(series.codename()), &dir.join("apt")).map_err(plain)?;
    let image = kernel::newest(&mut apt).map_err(plain)?;
    // The parser may need another C library than this host's.
    let wanted = [image.as_str(), "busybox-static", "apparmor", "libc6"];
    println!("   fetching {}", wanted.join(", "));
    let unpacked = dir.join("unpacked");
    for package in apt.download(&packages, &wanted).map_err(plain)? {
        debian::unpack(&package, &unpacked).map_err(plain)?;
    }
    let bin = dir.join("bin");
    fs::create_dir_all(&bin).map_err(failed(&bin))?;
    take(&unpacked, "bin/busybox", &bin.join("busybox"))?;
    take(&unpacked, "sbin/apparmor_parser", &bin.join("parser"))?;
    take(&unpacked, "etc/apparmor.d/abi", &dir.join("abi"))?;
    let lib = dir.join("lib");
    take(&unpacked, "lib/x86_64-linux-gnu", &lib)?;
    starter(&bin.join("apparmor_parser"))?;
    let release = image.trim_start_matches("linux-image-").to_owned();
    let version = series.version();
    if !release.starts_with(&format!("{version}.")) {
        return Err(format!(
            "   {PACKAGE} of {} is {release} here; the rig is made for kernels {version}",
            series.codename()
        ));
    }
    let packed = unpacked.join(format!("boot/vmlinuz-{release}"));
    let image = fs::read(&packed).map_err(failed(&packed))?;
    kernel::unpack(&image, &dir.join("vmlinux")).map_err(plain)?;

    let to = lib.join("modules").join(&release);
    fs::create_dir_all(lib.join("modules")).map_err(failed(&to))?;
    take(&unpacked, &format!("lib/modules/{release}"), &to)?;
    prune(&to)?;
    unpack_modules(&to)?;
    needs::run(
        Command::new(bin.join("busybox"))
            .args(["depmod", "-b"])
            .arg(dir)
            .arg(&release),
    )?;
    let apt = dir.join("apt");
    for done in [packages, unpacked, apt].into_iter().filter(|done| done.exists()) {
        fs::remove_dir_all(&done).map_err(failed(&done))?;
    }
    // Written last: what has it is whole.
    fs::write(dir.join("release"), &release).map_err(failed(dir))
}

/// Moves a file or directory of the packages, whose `/usr` may be merged or not.
fn take(unpacked: &Path, from: &str, to: &Path) -> Outcome {
    let found = kernel::within(unpacked, from).map_err(plain)?;
    fs::rename(&found, to).map_err(|e| format!("   {}: {e}", found.display()))
}

/// A fault as this program's errors are written.
fn plain(fault: Fault) -> String {
    format!("   {}; {}", fault.found, fault.remedy)
}

/// A program beside `parser` that starts it with the C library that it was built for.
fn starter(path: &Path) -> Outcome {
    let text = "#!/bin/sh\nrig=$(readlink -f \"$0\") && rig=${rig%/bin/*}\n\
                exec \"$rig/lib/ld-linux-x86-64.so.2\" --library-path \"$rig/lib\" \"$rig/bin/parser\" \"$@\"\n";
    let failed = |e: std::io::Error| format!("   {}: {e}", path.display());
    fs::write(path, text).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(failed)
}

/// Three quarters of the modules are for hardware that no rig has.
fn prune(modules: &Path) -> Outcome {
    let kernel = modules.join("kernel");
    let drivers = kernel.join("drivers");
    let mut gone = vec![kernel.join("sound")];
    let dirs = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|e| e.path()).filter(|p| p.is_dir()).collect()
    };
    let kept = |path: &PathBuf| path.file_name().is_some_and(|n| DRIVERS.iter().any(|d| n == *d));
    gone.extend(dirs(&drivers).into_iter().filter(|p| !kept(p) && !p.ends_with("net")));
    // The virtual ones (tun, veth, dummy) lie at the top.
    gone.extend(dirs(&drivers.join("net")));
    for path in gone {
        fs::remove_dir_all(&path).map_err(|e| format!("   {}: {e}", path.display()))?;
    }
    Ok(())
}

/// Busybox reads them as they are only.
fn unpack_modules(dir: &Path) -> Outcome {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            unpack_modules(&path)?;
        } else if path.extension().is_some_and(|e| e == "xz") {
            needs::run(Command::new("xz").arg("-d").arg(&path))?;
        }
    }
    Ok(())
}
