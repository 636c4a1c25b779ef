//! What the rig is made of, fetched once from Debian's archive through apt and unpacked into `target/tools/rig-SERIES`: a
//! generic kernel of Debian's as an ELF image, its modules, and two programs for use inside. Nothing of it is installed.

use super::apt::Apt;
use crate::{Outcome, needs, tree};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The package that names the current kernel by its dependency.
const KERNEL: &str = "linux-image-amd64";
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

/// What the rig needs of the modules that Debian builds for real hardware: virtual devices.
const DRIVERS: [&str; 4] = ["block", "char", "vhost", "virtio"];

/// The parts, unpacked.
pub struct Parts {
    dir: PathBuf,
    /// `6.1.0-1-amd64`.
    pub release: String,
}

impl Parts {
    /// Those that were fetched before, or now.
    pub fn get(series: Series) -> Outcome<Parts> {
        let name = format!("rig-{}", series.version());
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
        let list = |name: &str| {
            let list = self.modules().join(name);
            fs::read_to_string(&list).map_err(|e| format!("   {}: {e}", list.display()))
        };
        let own = list("modules.builtin")?;
        let names: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| !own.lines().any(|file| is(file, name)))
            .collect();
        let text = list("modules.dep")?;
        let order = load_order(&text, &names)?;
        Ok(order.into_iter().map(|file| self.modules().join(file)).collect())
    }
}

fn make(dir: &Path, series: Series) -> Outcome {
    let packages = dir.join("packages");
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |e: std::io::Error| format!("   {path}: {e}")
    };
    fs::create_dir_all(&packages).map_err(failed(&packages))?;
    let apt = Apt::of(series.codename(), &dir.join("apt"))?;
    let image = newest_kernel(&apt)?;
    // The parser may need another C library than this host's.
    let wanted = [image.as_str(), "busybox-static", "apparmor", "libc6"];
    println!("   fetching {}", wanted.join(", "));
    apt.download(&packages, &wanted)?;

    let unpacked = dir.join("unpacked");
    for entry in fs::read_dir(&packages).map_err(failed(&packages))?.flatten() {
        needs::run(Command::new("dpkg").arg("-x").arg(entry.path()).arg(&unpacked))?;
    }
    let bin = dir.join("bin");
    fs::create_dir_all(&bin).map_err(failed(&bin))?;
    take(&unpacked, &["bin/busybox"], &bin.join("busybox"))?;
    take(&unpacked, &["sbin/apparmor_parser"], &bin.join("parser"))?;
    take(&unpacked, &["etc/apparmor.d/abi"], &dir.join("abi"))?;
    let lib = dir.join("lib");
    take(&unpacked, &["lib/x86_64-linux-gnu"], &lib)?;
    starter(&bin.join("apparmor_parser"))?;
    let release = image.trim_start_matches("linux-image-").to_owned();
    let version = series.version();
    if !release.starts_with(&format!("{version}.")) {
        return Err(format!(
            "   {KERNEL} of {} is {release} here; the rig is made for kernels {version}",
            series.codename()
        ));
    }
    let packed = unpacked.join(format!("boot/vmlinuz-{release}"));
    let image = fs::read(&packed).map_err(failed(&packed))?;
    unpack_kernel(&image, &dir.join("vmlinux"))?;

    let to = lib.join("modules").join(&release);
    fs::create_dir_all(lib.join("modules")).map_err(failed(&to))?;
    take(&unpacked, &["lib/modules", &release], &to)?;
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
fn take(unpacked: &Path, from: &[&str], to: &Path) -> Outcome {
    let path: PathBuf = from.iter().collect();
    let places = [unpacked.join(&path), unpacked.join("usr").join(&path)];
    let found = places.iter().find(|place| place.exists());
    let found = found.ok_or_else(|| format!("   Debian's packages have no {}", path.display()))?;
    fs::rename(found, to).map_err(|e| format!("   {}: {e}", found.display()))
}

/// A program beside `parser` that starts it with the C library that it was built for.
fn starter(path: &Path) -> Outcome {
    let text = "#!/bin/sh\nrig=$(readlink -f \"$0\") && rig=${rig%/bin/*}\n\
                exec \"$rig/lib/ld-linux-x86-64.so.2\" --library-path \"$rig/lib\" \"$rig/bin/parser\" \"$@\"\n";
    let failed = |e: std::io::Error| format!("   {}: {e}", path.display());
    fs::write(path, text).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(failed)
}

/// `linux-image-6.1.0-1-amd64`.
fn newest_kernel(apt: &Apt) -> Outcome<String> {
    let ask = || dependency(&apt.depends(KERNEL)?);
    if let Some(found) = ask() {
        return Ok(found);
    }
    apt.update()?;
    ask().ok_or_else(|| format!("   apt knows no package {KERNEL}: the rig is made of Debian's own kernel for x86_64"))
}

fn dependency(text: &str) -> Option<String> {
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names
        .map(str::trim)
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned)
}

/// The kernel proper from a bzImage, by the program that its packing asks for.
fn unpack_kernel(image: &[u8], to: &Path) -> Outcome {
    let payload = Payload::find(image)?;
    let file = fs::File::create(to).map_err(|e| format!("   {}: {e}", to.display()))?;
    let mut command = Command::new(payload.program);
    command
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(file)
        .stderr(Stdio::null());
    let mut child = command
        .spawn()
        .map_err(|e| format!("   {}: {e}: it unpacks the kernel", payload.program))?;
    if let Some(mut input) = child.stdin.take() {
        // A program that stops reading says so by its status.
        let _ = input.write_all(payload.bytes);
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    let found = fs::metadata(to).map_or(0, |m| m.len());
    if status.success() && found == u64::from(payload.unpacked) {
        return Ok(());
    }
    Err(format!(
        "   {} made {found} bytes of a kernel that has {}: {status}",
        payload.program, payload.unpacked
    ))
}

/// What a bzImage carries.
#[derive(Debug)]
struct Payload<'a> {
    program: &'static str,
    bytes: &'a [u8],
    unpacked: u32,
}

impl Payload<'_> {
    /// By the header that every bzImage has (Documentation/arch/x86/boot.rst: `setup_sects`, `payload_offset`,
    /// `payload_length`) and by the first bytes there. The last four are the length of what was packed.
    fn find(image: &[u8]) -> Outcome<Payload<'_>> {
        let bad = |what: &str| format!("   not a kernel image of a kind that is known here: {what}");
        let word = |at: usize| -> Option<u32> {
            let bytes = image.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        if image.get(0x202..0x206) != Some(b"HdrS") {
            return Err(bad("no boot header"));
        }
        let sectors = match image.get(0x1f1) {
            Some(0) | None => 4,
            Some(n) => usize::from(*n),
        };
        let place = || {
            let start = (sectors + 1) * 512 + usize::try_from(word(0x248)?).ok()?;
            let end = start.checked_add(usize::try_from(word(0x24c)?).ok()?)?;
            let unpacked = word(end.checked_sub(4)?)?;
            Some((image.get(start..end)?, unpacked))
        };
        let Some((bytes, unpacked)) = place() else {
            return Err(bad("its payload lies outside"));
        };
        // gzip's own last word is the length; to the others it was appended, and they would stumble over it.
        let (program, own) = match bytes {
            [0x1f, 0x8b, ..] => ("gzip", 0),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => ("xz", 4),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => ("zstd", 4),
            _ => return Err(bad(&format!("a payload that begins with {:02x?}", bytes.get(..6)))),
        };
        let bytes = bytes.get(..bytes.len() - own).unwrap_or_default();
        Ok(Payload {
            program,
            bytes,
            unpacked,
        })
    }
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

/// Whether the module in `file` has that name, which is the same with `-` and `_`.
fn is(file: &str, name: &str) -> bool {
    let own = file.rsplit('/').next().unwrap_or_default();
    own.trim_end_matches(".ko").replace('-', "_") == name.replace('-', "_")
}

/// The files of `modules.dep` (`FILE: FILE FILE …`) that make up `names`, each after all that it needs.
fn load_order<'a>(text: &'a str, names: &[&str]) -> Outcome<Vec<&'a str>> {
    fn add<'a>(text: &'a str, file: &'a str, order: &mut Vec<&'a str>) {
        if order.contains(&file) {
            return;
        }
        let needed = text.lines().find_map(|line| line.strip_prefix(file)?.strip_prefix(':'));
        for other in needed.unwrap_or_default().split_ascii_whitespace().rev() {
            add(text, other, order);
        }
        order.push(file);
    }
    let mut order = Vec::new();
    for name in names {
        let mut files = text.lines().filter_map(|line| Some(line.split_once(':')?.0));
        let file = files
            .find(|file| is(file, name))
            .ok_or_else(|| format!("   the kernel has no module {name}"))?;
        add(text, file, &mut order);
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 3 * 512 + 8];
        image[0x1f1] = 2;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x248..0x24c].copy_from_slice(&8u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend(payload);
        // What comes behind is not the payload's.
        image.extend([7; 16]);
        image
    }

    #[test]
    fn payloads_are_found_by_the_header_and_their_first_bytes() {
        for (first, program, own) in [
            (&b"\xfd7zXZ\0"[..], "xz", 4),
            (b"\x28\xb5\x2f\xfd", "zstd", 4),
            (b"\x1f\x8b", "gzip", 0),
        ] {
            let payload = [first, b"packed", &9u32.to_le_bytes()].concat();
            let image = image(&payload);
            let found = Payload::find(&image).unwrap();
            assert_eq!((found.program, found.unpacked), (program, 9));
            assert_eq!(found.bytes, &payload[..payload.len() - own]);
        }
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        let whole = image(b"\xfd7zXZ\0 packed \x09\0\0\0");
        let mut no_header = whole.clone();
        no_header[0x202] = b'h';
        for (bytes, what) in [
            (&no_header[..], "no boot header"),
            (&whole[..whole.len() - 20], "outside"),
            (&image(b"BZh91AY"), "begins with"),
            (&image(b""), "begins with"),
            (b"", "no boot header"),
        ] {
            let why = Payload::find(bytes).unwrap_err();
            assert!(why.contains(what), "{why}");
        }
    }

    #[test]
    fn a_kernel_that_was_packed_comes_out_whole() {
        let dir = crate::scratch::Scratch::new("payload").unwrap();
        let mut gzip = Command::new("gzip")
            .arg("-c")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        gzip.stdin.take().unwrap().write_all(b"the kernel").unwrap();
        let packed = gzip.wait_with_output().unwrap().stdout;
        let to = dir.path().join("vmlinux");
        unpack_kernel(&image(&packed), &to).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"the kernel");
        // A length that is not what came out.
        let wrong = [&packed[..packed.len() - 4], &11u32.to_le_bytes()].concat();
        assert!(unpack_kernel(&image(&wrong), &to).is_err());
    }

    #[test]
    fn modules_come_after_what_they_need() {
        let text = "net/9p/9pnet.ko: fs/netfs.ko\nfs/9p/9p.ko: net/9p/9pnet.ko fs/fscache/fscache.ko fs/netfs.ko\n\
                    fs/fscache/fscache.ko: fs/netfs.ko\nfs/netfs.ko:\ndrivers/virtio-rng.ko: \n";
        assert_eq!(
            load_order(text, &["virtio_rng", "9p", "9pnet"]).unwrap(),
            [
                "drivers/virtio-rng.ko",
                "fs/netfs.ko",
                "fs/fscache/fscache.ko",
                "net/9p/9pnet.ko",
                "fs/9p/9p.ko"
            ]
        );
        assert!(load_order(text, &["9"]).is_err());
    }

    #[test]
    fn the_current_kernel_is_what_the_package_depends_on() {
        let text = "linux-image-amd64\n  Depends: linux-image-6.1.0-7-amd64\n  Recommends: other\n";
        assert_eq!(dependency(text).as_deref(), Some("linux-image-6.1.0-7-amd64"));
        assert_eq!(dependency("linux-image-amd64\n"), None);
    }
}
