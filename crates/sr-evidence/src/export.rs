//! Taking a report out of the run store: the report under a name of one's own, and beside it a folder with all that
//! verification needs.

use crate::attestation::{STATEMENT_MEDIA_TYPE, parse_bundle, parse_statement};
use crate::files::{self, Unreadable};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use sr_common::{Code, Fault};
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Files that an unsigned run has, or that no attestation names.
const ALWAYS: [&str; 8] = [
    files::EVENTS,
    files::POLICY,
    files::BUNDLE,
    files::CHANGES,
    files::HEAD_LAUNCH,
    files::SIGNER,
    files::ATTESTATION,
    files::APPROVALS,
];

/// The folder that belongs to an exported report: `r.json` → `r.json.evidence`.
pub fn companion_dir(report: &Path) -> PathBuf {
    let mut name = OsString::from(report.as_os_str());
    name.push(".evidence");
    PathBuf::from(name)
}

/// Copies the report of a finished run to `dest` and everything that verification needs to `DEST.evidence/`, replacing
/// what an earlier export left there. The report comes last, so that a new report never stands beside old evidence
/// without verification saying so. The report gets the usual mode (0666 less the umask); the folder is the owner's
/// alone, since policy and bundle hold the values of environment variables.
pub fn export_evidence(run_dir: impl AsFd, dest: &Path) -> Result<(), Fault> {
    let run_dir = run_dir.as_fd();
    let name = dest
        .file_name()
        .ok_or_else(|| fault(dest, "is not the name of a file"))?;
    let name = name.to_str().ok_or_else(|| fault(dest, "is not UTF-8"))?;
    let parent = match dest.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent =
        rustix::fs::open(parent, flags, Mode::empty()).map_err(|e| fault(parent, &format!("cannot be opened: {e}")))?;
    refuse_special(parent.as_fd(), name, dest)?;
    let report =
        read(run_dir, files::REPORT)?.ok_or_else(|| fault(dest, "cannot be written: the run has no report"))?;

    let folder = companion_dir(dest);
    let dir = open_folder(parent.as_fd(), &format!("{name}.evidence"), &folder)?;
    for file in names(run_dir)? {
        match read(run_dir, &file)? {
            Some(bytes) => write(dir.as_fd(), &file, &bytes, 0o600, &folder)?,
            None => match rustix::fs::unlinkat(&dir, file.as_str(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(fault(&folder.join(file), &format!("cannot be replaced: {e}"))),
            },
        }
    }
    write(parent.as_fd(), name, &report, 0o666, dest)
}

/// What to copy: the usual files, and what the attestation names besides.
fn names(run_dir: BorrowedFd) -> Result<Vec<String>, Fault> {
    let mut names: Vec<String> = ALWAYS.into_iter().map(str::to_owned).collect();
    if let Some(bytes) = read(run_dir, files::ATTESTATION)? {
        let subjects = parse_bundle(&bytes)
            .and_then(|bundle| bundle.dsse_envelope.open(STATEMENT_MEDIA_TYPE))
            .and_then(|payload| parse_statement(&payload)?.subjects())
            .map_err(|e| fault(Path::new(files::ATTESTATION), &e))?;
        for subject in subjects {
            if subject.name != files::REPORT && !names.contains(&subject.name) {
                names.push(subject.name);
            }
        }
    }
    Ok(names)
}

fn read(dir: BorrowedFd, name: &str) -> Result<Option<Vec<u8>>, Fault> {
    match files::read_regular(dir, name, files::MAX_EVENTS) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Unreadable::Absent) => Ok(None),
        Err(why) => Err(fault(Path::new(name), why.text())),
    }
}

fn write(dir: BorrowedFd, name: &str, bytes: &[u8], mode: u32, shown: &Path) -> Result<(), Fault> {
    files::write_atomic(dir, name, bytes, Mode::from_raw_mode(mode), false)
        .map_err(|e| fault(shown, &format!("cannot be written: {e}")))
}

/// A device, directory or link in the report's place is not replaced.
fn refuse_special(parent: BorrowedFd, name: &str, dest: &Path) -> Result<(), Fault> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(fault(dest, &format!("cannot be examined: {e}"))),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Ok(()),
        Ok(_) => Err(fault(dest, "exists and is not a regular file")),
    }
}

fn open_folder(parent: BorrowedFd, name: &str, shown: &Path) -> Result<OwnedFd, Fault> {
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(fault(shown, &format!("cannot be made: {e}"))),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
        .map_err(|e| fault(shown, &format!("cannot be opened as a directory: {e}")))
}

fn fault(path: &Path, found: &str) -> Fault {
    let remedy = "name a file in a directory that you can write to";
    Fault::new(Code::Evd002, "report", format!("{} {found}", path.display()), remedy)
}
