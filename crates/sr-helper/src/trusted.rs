//! Opening what only root can have put there: every directory on the way is root's, no link is followed, nobody else may
//! write.

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

const STICKY: u32 = 0o1000;
const OTHERS_WRITE: u32 = 0o022;

/// Opens an absolute path with `flags`.
pub fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, String> {
    let names: Option<Vec<_>> = path
        .components()
        .skip(1)
        .map(|c| match c {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    let (true, Some(names)) = (path.is_absolute(), names) else {
        return Err(format!("{} is not an absolute path without . and ..", path.display()));
    };
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = rustix::fs::open("/", step, Mode::empty()).map_err(|e| format!("/: {e}"))?;
    let mut shown = std::path::PathBuf::from("/");
    let mut left = names.len();
    for name in names {
        left -= 1;
        shown.push(name);
        let flags = match left {
            0 => flags | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            _ => step,
        };
        at = openat(&at, name, flags, Mode::empty()).map_err(|e| match e {
            rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR => {
                format!("{} is a link, or not a directory", shown.display())
            }
            e => format!("{}: {e}", shown.display()),
        })?;
        let stat = fstat(&at).map_err(|e| format!("{}: {e}", shown.display()))?;
        judge(&stat, left > 0).map_err(|why| format!("{} {why}", shown.display()))?;
    }
    Ok(at)
}

/// In a sticky directory nobody can exchange what is another's; a name that is missing there could be anybody's.
fn judge(stat: &Stat, on_the_way: bool) -> Result<(), String> {
    if stat.st_uid != 0 {
        return Err(format!("belongs to uid {}, not to root", stat.st_uid));
    }
    let sticky = on_the_way && FileType::from_raw_mode(stat.st_mode).is_dir() && stat.st_mode & STICKY != 0;
    if stat.st_mode & OTHERS_WRITE != 0 && !sticky {
        return Err(format!("may be written by others (mode {:04o})", stat.st_mode & 0o7777));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    #[test]
    fn only_what_root_alone_can_have_made() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP only_what_root_alone_can_have_made: not started by root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let (way, file) = (top.join("way"), top.join("way/file"));
        fs::create_dir(&way).unwrap();
        fs::write(&file, "x").unwrap();
        mode(&way, 0o755);
        mode(&file, 0o644);
        let refused = |path: &Path, word: &str| {
            let why = open(path, OFlags::RDONLY).unwrap_err();
            assert!(why.contains(word), "{why}");
        };
        open(&file, OFlags::RDONLY).unwrap();
        for bad in [0o664, 0o646] {
            mode(&file, bad);
            refused(&file, "written by others");
        }
        mode(&file, 0o600);
        mode(&way, 0o777);
        refused(&file, "way may be written");
        // As /tmp.
        mode(&way, 0o1777);
        open(&file, OFlags::RDONLY).unwrap();
        refused(&way, "written by others");
        mode(&way, 0o755);
        chown(&file, Some(65534), None).unwrap();
        refused(&file, "uid 65534");
        chown(&file, Some(0), None).unwrap();
        chown(&way, Some(65534), None).unwrap();
        refused(&file, "uid 65534");
        chown(&way, Some(0), None).unwrap();
        symlink("file", way.join("link")).unwrap();
        symlink("way", top.join("other")).unwrap();
        refused(&way.join("link"), "link");
        refused(&top.join("other/file"), "link");
        refused(&way.join("none"), "No such file");
        refused(&way.join("../way/file"), "without . and ..");
        refused(Path::new("file"), "absolute");
    }
}
