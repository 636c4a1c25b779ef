//! Looks at the paths of told calls: whether the view shows the file, and lets be done with it what is meant. What it does
//! not is answered from here, with the path that was looked at: the program may change its memory at any time, so a denial
//! is never left to a second reading.

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, openat2, readlink};
use rustix::io::Errno;
use sr_common::path::{lexical, parent, within};
use sr_compiler::Denial;
use sr_compiler::bundle::{FilesystemPlan, LandlockAccess, MountEvidence};
use sr_compiler::syscalls::{Intent, PathArgument};
use sr_kernel::seccomp::Notification;
use sr_observe::learn::Use;
use sr_policy::render_path;
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
// Of open(2): the same on both architectures but for those that the library names.
const WRITES: u64 = 0o3 | 0o1000;
const CREATES: u64 = 0o100;
const EXCLUSIVE: u64 = 0o200;
const PATH: u64 = 0o10_000_000;
const DIRECTORY: u64 = OFlags::DIRECTORY.bits() as u64;
const NOFOLLOW: u64 = OFlags::NOFOLLOW.bits() as u64;
/// O_TMPFILE without O_DIRECTORY.
const UNNAMED: u64 = 0o20_000_000;
const AT_SYMLINK_NOFOLLOW: u64 = 0x100;

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

    /// The rules of the program's domain, by the places that they stand for. Nothing has been opened or moved yet.
    fn opened(&self) -> Option<Opened> {
        let landlock = self.plan.landlock.as_ref().filter(|landlock| landlock.holds_files())?;
        let mut opened = Opened::default();
        for rule in &landlock.rules {
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
            let wanted = self.wanted(argument, told).filter(|wanted| !wanted.otherwise)?;
            let (clause, reason, remedy, errno) = self.denied(&path, wanted)?;
            let denial = Denial {
                operation: format!("{name} {path}"),
                clause,
                reason,
                remedy,
            };
            Some((denial, errno))
        })
    }

    /// The files that the call names and that are there, by their true places in the view, and what they are for; how many
    /// there were whose names cannot be told. What is to be made or taken away is a change of its directory.
    pub fn files(&self, told: &Notification, arguments: &[PathArgument]) -> (Vec<(String, Use)>, u64) {
        let (mut files, mut lost) = (Vec::new(), 0);
        for argument in arguments {
            let path = match self.path(told, argument) {
                Ok(path) => path,
                Err(e) => {
                    lost += u64::from(e.kind() == io::ErrorKind::InvalidData);
                    continue;
                }
            };
            let Some(wanted) = self.wanted(argument, told) else {
                continue;
            };
            match self.used(&path, wanted) {
                // What is not there is not taken away, nor put in another's place.
                None if wanted.to == To::Remove => return (files, lost),
                found => files.extend(found),
            }
        }
        (files, lost)
    }

    fn used(&self, path: &str, wanted: Wanted) -> Option<(String, Use)> {
        let file = self.open(path, wanted.last()).ok();
        let directory = || Some((self.place(parent(path)?)?, Use::Filled));
        let Some(file) = file else {
            return match wanted.to {
                To::Make | To::Obtain | To::Save | To::Replace => directory(),
                _ => None,
            };
        };
        let place = place_of(&file)?;
        let used = match wanted.to {
            To::Replace | To::Remove => return directory(),
            To::Fill if is_directory(&file) => Use::Filled,
            To::Run => Use::Executed,
            _ if is_directory(&file) => Use::Listed,
            To::Read | To::Obtain => Use::Read,
            To::Change | To::Save | To::Fill => Use::Changed,
            To::Mark => Use::Marked,
            To::Look | To::Make => Use::Listed,
        };
        Some((place, used))
    }

    /// What the file is wanted for. `None`: it is looked for in another root.
    fn wanted(&self, argument: &PathArgument, told: &Notification) -> Option<Wanted> {
        let plain = |to| Wanted {
            to,
            follow: !matches!(to, To::Make | To::Replace | To::Remove),
            otherwise: false,
        };
        let flags = |at: u8| told.args[usize::from(at)];
        Some(match argument.intent {
            Intent::Look => plain(To::Look),
            Intent::Execute => plain(To::Run),
            Intent::Make | Intent::Bind { .. } => plain(To::Make),
            Intent::Save => plain(To::Save),
            Intent::Replace => plain(To::Replace),
            Intent::Change => plain(To::Change),
            Intent::Remove => plain(To::Remove),
            Intent::Mark { flags: Some(at) } if flags(at) & AT_SYMLINK_NOFOLLOW != 0 => plain(To::Look),
            Intent::Mark { .. } => plain(To::Mark),
            Intent::Open { flags: at } => open_for(flags(at), 0),
            Intent::OpenHow { how } => {
                let memory = self.opener.open(i32::try_from(told.pid).ok()?, "mem").ok()?;
                // Its flags, mode and resolve, 64 bits each.
                let mut bytes = [0; 24];
                let read = rustix::io::pread(&memory, &mut bytes, flags(how)).ok()?;
                let word = |at: usize| bytes[at..at + 8].try_into().map(u64::from_ne_bytes).ok();
                let (flags, resolve) = (word(0)?, word(16)?);
                let here = read == bytes.len() && resolve & ResolveFlags::IN_ROOT.bits() == 0;
                here.then(|| open_for(flags, resolve))?
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
        if ["/proc", "/dev"]
            .iter()
            .any(|own| within(path, own) || within(&lexical(path), own))
        {
            return None;
        }
        let file = match self.open(path, wanted.last()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => {
                // A link that leads to what only the program sees.
                if self.open(path, OFlags::NOFOLLOW).is_ok() {
                    return None;
                }
                return match (wanted.to, parent(path)) {
                    (To::Make | To::Obtain | To::Save | To::Replace, Some(directory)) => {
                        match self.open(directory, OFlags::DIRECTORY) {
                            Ok(place) if read_only(&place) => Some(self.unchangeable(path)),
                            Ok(place) => self.unopened(&place, To::Change),
                            Err(_) => self.unseen(directory),
                        }
                    }
                    // Whether the host has it shows in no other answer.
                    (To::Remove, _) => None,
                    _ => self.unseen(path),
                };
            }
            // Nothing of the policy's: permissions, loops, names that are too long.
            Err(_) => return None,
        };
        if !wanted.fits(&file) {
            return None;
        }
        let covered = self.plan.masked.iter().any(|masked| within(path, masked));
        if covered && let Some(hidden) = self.hidden(&self.host(path).0) {
            return Some(hidden);
        }
        let changes = matches!(
            wanted.to,
            To::Change | To::Save | To::Fill | To::Mark | To::Replace | To::Remove
        );
        if changes && read_only(&file) {
            return Some(self.unchangeable(path));
        }
        match wanted.to {
            To::Replace | To::Remove => self.unopened(&self.open(parent(path)?, OFlags::DIRECTORY).ok()?, To::Change),
            to => self.unopened(&file, to),
        }
    }

    /// What the policy's `files` keep `file` from being opened for.
    fn unopened(&self, file: &OwnedFd, to: To) -> Option<Verdict> {
        let opened = self.opened.as_ref()?;
        let place = place_of(file)?;
        let among = |places: &[String]| places.iter().any(|held| within(&place, held));
        let (clause, reason, held) = match to {
            // A directory is there to be listed; a pipe or a socket is no file of the view's.
            To::Read | To::Run | To::Obtain if is_file(file) => {
                let held = among(&opened.read) || among(&opened.write);
                ("files.read", "the policy does not let it be opened", held)
            }
            To::Change | To::Save | To::Fill if is_file(file) || is_directory(file) => (
                "files.write",
                "the policy does not let it be changed",
                among(&opened.write),
            ),
            _ => return None,
        };
        let remedy = render_path(&place).map(|place| format!("{}: […, {place}]}}", clause.replace('.', ": {")));
        (!held).then(|| (clause, reason.to_owned(), remedy, EACCES))
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
        // A root of its own has what it has.
        if self.mounts.iter().any(|mount| mount.target == "/") && self.host(path).1.is_none() {
            return None;
        }
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
        let remedy = render_path(&host).map(|host| format!("mounts: [{{source: {host}}}]"));
        Some(("mounts", "the view does not show it".into(), remedy, ENOENT))
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
                let remedy = render_path(&mount.source)
                    .map(|source| format!("mounts: [{{source: {source}, captured: true}}], or readOnly: false"));
                ("mounts", reason, remedy, EROFS)
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

/// What a file is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Look,
    Read,
    Run,
    Make,
    /// To read it, or make it where it is not.
    Obtain,
    Change,
    /// To change it, or make it where it is not.
    Save,
    /// To make a file without a name in the directory.
    Fill,
    Replace,
    Mark,
    Remove,
}

#[derive(Debug, Clone, Copy)]
struct Wanted {
    to: To,
    /// Where a link is the last of the path, what it leads to is meant.
    follow: bool,
    /// Something is asked for besides that the kernel answers first where it is not so.
    otherwise: bool,
}

impl Wanted {
    fn last(self) -> OFlags {
        match self.follow {
            true => OFlags::empty(),
            false => OFlags::NOFOLLOW,
        }
    }

    /// Whether it is for `file` at all: a link that is not followed is not opened.
    fn fits(self, file: &OwnedFd) -> bool {
        let opens = matches!(self.to, To::Read | To::Obtain | To::Change | To::Save | To::Fill);
        !opens || kind(file) != Some(FileType::Symlink)
    }
}

/// What open(2) with `flags` wants; `resolve` as in openat2(2).
fn open_for(flags: u64, resolve: u64) -> Wanted {
    let to = match (flags & CREATES != 0, flags & WRITES != 0) {
        _ if flags & PATH != 0 => To::Look,
        _ if flags & UNNAMED != 0 => To::Fill,
        (true, true) => To::Save,
        (true, false) => To::Obtain,
        (false, true) => To::Change,
        (false, false) => To::Read,
    };
    Wanted {
        to,
        follow: flags & NOFOLLOW == 0,
        otherwise: resolve != 0
            || flags & EXCLUSIVE != 0 && flags & CREATES != 0
            || flags & DIRECTORY != 0 && to != To::Fill,
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

fn unreadable(error: std::string::FromUtf8Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
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
    String::from_utf8(path.ok_or(Errno::NOENT)?.to_vec()).map_err(unreadable)
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
            return String::from_utf8(bytes).map_err(unreadable);
        }
        if read == 0 {
            break;
        }
    }
    Err(Errno::NAMETOOLONG.into())
}
