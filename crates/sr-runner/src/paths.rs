//! Looks at the paths of told calls: whether the view shows the file, and lets be done with it what is meant. What it does
//! not is answered from here, with the path that was looked at: the program may change its memory at any time, so a denial
//! is never left to a second reading.

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, openat2, readlink};
use rustix::io::Errno;
use sr_common::path::{parent, within};
use sr_compiler::Denial;
use sr_compiler::bundle::{FilesystemPlan, LandlockAccess, MountEvidence};
use sr_compiler::syscalls::{Intent, PathArgument};
use sr_kernel::seccomp::Notification;
use sr_observe::learn::Use;
use sr_process::posture::Opener;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

/// What the program sees, for who judges its paths.
pub(crate) struct View<'a> {
    plan: &'a FilesystemPlan,
    mounts: &'a [MountEvidence],
    opener: Rc<dyn Opener>,
    /// The program's root directory.
    root: OwnedFd,
    /// Where only a part of the view may be opened.
    opened: Option<Opened>,
}

/// Places of the view that the policy's `files` let be opened, as they are without links.
#[derive(Default)]
struct Opened {
    read: Vec<String>,
    write: Vec<String>,
}

/// The policy's field that denies, the reason, the remedy, and the errno that says so.
type Verdict = (&'static str, String, Option<String>, u16);

/// Longest path that is looked at, as of the kernel's own (PATH_MAX).
const MOST: usize = 4096;
const AT_FDCWD: i32 = -100;
const READ_ONLY: u64 = 1;
/// O_ACCMODE, and O_TRUNC, O_CREAT of open(2): the same on both architectures.
const WRITES: u64 = 0o3 | 0o1000;
const CREATES: u64 = 0o100;
/// O_PATH, likewise.
const PATH: u64 = 0o10_000_000;

impl<'a> View<'a> {
    /// What `program` sees.
    pub fn new(
        plan: &'a FilesystemPlan,
        mounts: &'a [MountEvidence],
        opener: Rc<dyn Opener>,
        program: i32,
    ) -> io::Result<View<'a>> {
        let root = opener.open(program, "root")?;
        let mut view = View {
            plan,
            mounts,
            opener,
            root,
            opened: None,
        };
        view.opened = view.opened();
        Ok(view)
    }

    /// The rules of the program's domain, by the places that they stand for: those that a link leads to lie where no program
    /// makes links.
    fn opened(&self) -> Option<Opened> {
        let rules = &self.plan.landlock.as_ref()?.rules;
        if !rules.iter().any(|rule| rule.access == LandlockAccess::List) {
            return None;
        }
        let mut opened = Opened::default();
        for rule in rules {
            let places = match rule.access {
                LandlockAccess::Read => &mut opened.read,
                LandlockAccess::Write => &mut opened.write,
                LandlockAccess::List | LandlockAccess::Device => continue,
            };
            places.extend(self.place(&rule.path));
        }
        Some(opened)
    }

    /// The true place in the view of what is at `path`.
    fn place(&self, path: &str) -> Option<String> {
        place_of(&self.open(path, OFlags::empty()).ok()?)
    }

    /// The first of the call's paths that is denied, with the errno that says so. `None`: it goes on, also where nothing
    /// can be said.
    pub fn judge(&self, name: &str, told: &Notification, arguments: &[PathArgument]) -> Option<(Denial, u16)> {
        arguments.iter().find_map(|argument| {
            let path = self.path(told, argument).ok()?;
            let (clause, reason, remedy, errno) = self.denied(&path, self.wanted(argument, told)?)?;
            let denial = Denial {
                operation: format!("{name} {path}"),
                clause,
                reason,
                remedy,
            };
            Some((denial, errno))
        })
    }

    /// The files that the call names and that are there, by their true places in the view, and what they are for. What is to
    /// be made or taken away is a change of its directory.
    pub fn files(&self, told: &Notification, arguments: &[PathArgument]) -> Vec<(String, Use)> {
        let file = |argument: &PathArgument| {
            let path = self.path(told, argument).ok()?;
            let wanted = self.wanted(argument, told)?;
            let file = self.open(&path, OFlags::empty()).ok();
            let place = file.as_ref().and_then(place_of);
            match (wanted, place) {
                (Wanted::Read, Some(place)) if file.as_ref().is_some_and(is_directory) => Some((place, Use::Listed)),
                (Wanted::Look | Wanted::Mark | Wanted::Make, Some(place)) => Some((place, Use::Listed)),
                (Wanted::Read, Some(place)) => Some((place, Use::Read)),
                (Wanted::Run, Some(place)) => Some((place, Use::Executed)),
                (Wanted::Change | Wanted::Save, Some(place)) => Some((place, Use::Changed)),
                (Wanted::Make | Wanted::Save, None) | (Wanted::Replace | Wanted::Remove, _) => {
                    Some((self.place(parent(&path)?)?, Use::Filled))
                }
                (_, None) => None,
            }
        };
        arguments.iter().filter_map(file).collect()
    }

    /// What the file is wanted for. `None`: another way of looking for it than by its path is asked for.
    fn wanted(&self, argument: &PathArgument, told: &Notification) -> Option<Wanted> {
        Some(match argument.intent {
            Intent::Look => Wanted::Look,
            Intent::Execute => Wanted::Run,
            Intent::Make | Intent::Bind { .. } => Wanted::Make,
            Intent::Save => Wanted::Save,
            Intent::Replace => Wanted::Replace,
            Intent::Change => Wanted::Change,
            Intent::Mark => Wanted::Mark,
            Intent::Remove => Wanted::Remove,
            Intent::Open { flags } => open_for(told.args[usize::from(flags)]),
            Intent::OpenHow { how } => {
                let memory = self.opener.open(i32::try_from(told.pid).ok()?, "mem").ok()?;
                // Its flags, mode and resolve, 64 bits each.
                let mut bytes = [0; 24];
                let read = rustix::io::pread(&memory, &mut bytes, told.args[usize::from(how)]).ok()?;
                let word = |at: usize| bytes[at..at + 8].try_into().map(u64::from_ne_bytes).ok();
                let in_root = word(16)? & ResolveFlags::IN_ROOT.bits() != 0;
                (read == bytes.len() && !in_root).then(|| word(0).map(open_for))??
            }
        })
    }

    /// Absolute in the view, as the program wrote it otherwise.
    fn path(&self, told: &Notification, argument: &PathArgument) -> io::Result<String> {
        let pid = i32::try_from(told.pid).map_err(io::Error::other)?;
        let memory = self.opener.open(pid, "mem")?;
        let address = told.args[usize::from(argument.path)];
        let written = match argument.intent {
            Intent::Bind { length } => socket_path(&memory, address, told.args[usize::from(length)])?,
            _ => text(&memory, address)?,
        };
        if written.starts_with('/') {
            return Ok(written);
        }
        let directory = match argument.directory.map(|n| told.args[usize::from(n)] as u32 as i32) {
            None | Some(AT_FDCWD) => "cwd".to_owned(),
            Some(fd) => format!("fd/{fd}"),
        };
        let directory = self.opener.open(pid, &directory)?;
        let base = readlink(format!("/proc/self/fd/{}", directory.as_raw_fd()), Vec::new())?;
        let base = base.into_string().map_err(io::Error::other)?;
        match base.starts_with('/') && !written.is_empty() {
            true => Ok(format!("{}/{written}", base.trim_end_matches('/'))),
            false => Err(Errno::NOENT.into()),
        }
    }

    fn denied(&self, path: &str, wanted: Wanted) -> Option<Verdict> {
        // What these hold differs for who looks.
        if ["/proc", "/dev"].iter().any(|own| within(path, own)) {
            return None;
        }
        let file = match self.open(path, OFlags::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => {
                // A link that leads to what only the program sees.
                if self.open(path, OFlags::NOFOLLOW).is_ok() {
                    return None;
                }
                return match (wanted, parent(path)) {
                    (Wanted::Make | Wanted::Save | Wanted::Replace, Some(directory)) => {
                        match self.open(directory, OFlags::DIRECTORY) {
                            Ok(place) if read_only(&place) => Some(self.unchangeable(path)),
                            Ok(place) => self.unopened(&place, Wanted::Change),
                            Err(_) => self.unseen(directory),
                        }
                    }
                    _ => self.unseen(path),
                };
            }
            // Nothing of the policy's: permissions, loops, names that are too long.
            Err(_) => return None,
        };
        let covered = self.plan.masked.iter().any(|masked| within(path, masked));
        if covered && let Some(hidden) = self.hidden(&self.host(path).0) {
            return Some(hidden);
        }
        let changes = !matches!(wanted, Wanted::Look | Wanted::Read | Wanted::Run | Wanted::Make);
        if changes && read_only(&file) {
            return Some(self.unchangeable(path));
        }
        match wanted {
            Wanted::Replace | Wanted::Remove => {
                self.unopened(&self.open(parent(path)?, OFlags::DIRECTORY).ok()?, Wanted::Change)
            }
            _ => self.unopened(&file, wanted),
        }
    }

    /// What the policy's `files` keep `file` from being opened for.
    fn unopened(&self, file: &OwnedFd, wanted: Wanted) -> Option<Verdict> {
        let opened = self.opened.as_ref()?;
        let place = place_of(file)?;
        let among = |places: &[String]| places.iter().any(|held| within(&place, held));
        let (clause, held) = match wanted {
            // A directory is there to be listed; a pipe or a socket is no file of the view's.
            Wanted::Read | Wanted::Run if !is_file(file) => return None,
            Wanted::Read | Wanted::Run => ("files.read", among(&opened.read) || among(&opened.write)),
            Wanted::Change | Wanted::Save if is_file(file) || is_directory(file) => {
                ("files.write", among(&opened.write))
            }
            _ => return None,
        };
        let reason = match clause {
            "files.read" => "the policy does not let it be opened",
            _ => "the policy does not let it be changed",
        };
        let remedy = format!("{}: […, {place}]}}", clause.replace('.', ": {"));
        (!held).then(|| (clause, reason.to_owned(), Some(remedy), EACCES))
    }

    fn open(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    /// Where `path` lies on the host, and by which mount of the policy's.
    fn host(&self, path: &str) -> (String, Option<usize>) {
        let mounts = self.mounts.iter().enumerate().filter(|(_, mount)| mount.target != "/");
        let mount = mounts
            .filter(|(_, mount)| within(path, &mount.target))
            .max_by_key(|(_, mount)| mount.target.len());
        match mount {
            Some((i, mount)) => (format!("{}{}", mount.source, &path[mount.target.len()..]), Some(i)),
            None => (path.to_owned(), None),
        }
    }

    /// Something of the host's that the view does not show. What is nowhere is nobody's denial.
    fn unseen(&self, path: &str) -> Option<Verdict> {
        let (host, mount) = self.host(path);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat2(CWD, &host, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS).ok()?;
        if let Some((clause, reason, remedy, _)) = self.hidden(&host) {
            return Some((clause, reason, remedy, ENOENT));
        }
        // In a directory that is shown the program itself may have removed it.
        if mount.is_some() {
            return None;
        }
        let remedy = format!("mounts: [{{source: {host}}}]");
        Some(("mounts", "the view does not show it".into(), Some(remedy), ENOENT))
    }

    fn hidden(&self, host: &str) -> Option<Verdict> {
        let hidden = self.plan.hidden.iter().find(|hidden| within(host, &hidden.path))?;
        let remedy = "take what matches it out of hide, or write a shorter list";
        Some(("hide", hidden.reason.clone(), Some(remedy.into()), EACCES))
    }

    fn unchangeable(&self, path: &str) -> Verdict {
        let reason = "it is shown read-only".to_owned();
        match self.host(path).1.and_then(|i| self.mounts.get(i)) {
            Some(mount) => {
                let remedy = format!(
                    "mounts: [{{source: {}, captured: true}}], or readOnly: false",
                    mount.source
                );
                ("mounts", reason, Some(remedy), EROFS)
            }
            None => {
                let remedy = "rootfs: {writable: overlay}, or write to a mount or /tmp".to_owned();
                ("rootfs.writable", reason, Some(remedy), EROFS)
            }
        }
    }
}

const ENOENT: u16 = 2;
const EACCES: u16 = 13;
const EROFS: u16 = 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Look,
    Read,
    Run,
    Make,
    Change,
    /// To change it, or make it where it is not.
    Save,
    Replace,
    Mark,
    Remove,
}

fn open_for(flags: u64) -> Wanted {
    match (flags & CREATES != 0, flags & WRITES != 0) {
        (true, true) => Wanted::Save,
        (true, false) => Wanted::Make,
        (false, true) => Wanted::Change,
        (false, false) if flags & PATH != 0 => Wanted::Look,
        (false, false) => Wanted::Read,
    }
}

/// The true place in the view of what is open at `file`; `None` for what has none.
fn place_of(file: &OwnedFd) -> Option<String> {
    let place = readlink(format!("/proc/self/fd/{}", file.as_raw_fd()), Vec::new()).ok()?;
    place.into_string().ok().filter(|place| place.starts_with('/'))
}

fn kind(file: &OwnedFd) -> Option<FileType> {
    Some(FileType::from_raw_mode(fstat(file).ok()?.st_mode))
}

fn is_file(file: &OwnedFd) -> bool {
    kind(file) == Some(FileType::RegularFile)
}

fn is_directory(file: &OwnedFd) -> bool {
    kind(file) == Some(FileType::Directory)
}

/// A pipe or a device may be written where the file system may not.
fn read_only(file: &OwnedFd) -> bool {
    (is_file(file) || is_directory(file)) && fstatfs(file).is_ok_and(|stat| stat.f_flags as u64 & READ_ONLY != 0)
}

/// The path in the address of a local socket (unix(7)); an error for one that has no path.
fn socket_path(memory: &OwnedFd, address: u64, length: u64) -> io::Result<String> {
    const AF_UNIX: [u8; 2] = 1u16.to_ne_bytes();
    const MOST: u64 = 110;
    let mut bytes = vec![0; length.min(MOST) as usize];
    let read = rustix::io::pread(memory, &mut bytes, address)?;
    bytes.truncate(read);
    let path = bytes.strip_prefix(&AF_UNIX).ok_or(Errno::AFNOSUPPORT)?;
    let path = path.split(|byte| *byte == 0).next().filter(|path| !path.is_empty());
    String::from_utf8(path.ok_or(Errno::NOENT)?.to_vec()).map_err(io::Error::other)
}

/// The text at `address` of another process, up to its NUL. It is read to the end of one page after another: the next may
/// not be there.
fn text(memory: &OwnedFd, address: u64) -> io::Result<String> {
    const PAGE: u64 = 4096;
    let mut bytes = Vec::new();
    while bytes.len() < MOST {
        let at = address + bytes.len() as u64;
        let mut page = vec![0; (PAGE - at % PAGE) as usize];
        let read = rustix::io::pread(memory, &mut page, at)?;
        let page = page.get(..read).unwrap_or_default();
        let end = page.iter().position(|byte| *byte == 0);
        bytes.extend_from_slice(page.get(..end.unwrap_or(read)).unwrap_or_default());
        if end.is_some() {
            return String::from_utf8(bytes).map_err(io::Error::other);
        }
        if read == 0 {
            break;
        }
    }
    Err(Errno::NAMETOOLONG.into())
}
