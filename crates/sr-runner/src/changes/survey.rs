//! A look through a host directory that is to go: how much is in it, whether the host changed it since the capture began,
//! and whether it holds what no deletion should take along unseen.

use super::name::escape;
use super::tree::{Cursor, file_type, join};
use super::unseen::Unseen;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Debug, Default)]
pub(super) struct Survey {
    pub entries: u64,
    pub conflict: Option<String>,
    pub danger: Option<String>,
}

/// When the inode last changed.
pub(super) fn changed_at(stat: &Stat) -> SystemTime {
    #[allow(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
    let (seconds, nanos) = (stat.st_ctime as i64, stat.st_ctime_nsec as u32);
    match u64::try_from(seconds) {
        Ok(seconds) => UNIX_EPOCH + Duration::new(seconds, nanos.min(999_999_999)),
        Err(_) => UNIX_EPOCH,
    }
}

/// `at` is in the directory that holds `name`, and is there again at the end. `path` is `name`'s, relative to the tree.
pub(super) fn directory(
    at: &mut Cursor,
    name: &[u8],
    path: &[u8],
    started: SystemTime,
    unseen: &Unseen,
) -> Result<Survey, Errno> {
    let mut survey = Survey::default();
    match at.descend(name) {
        Ok(()) => {}
        Err(Errno::XDEV) => {
            survey.danger = Some("another file system is mounted there".to_owned());
            return Ok(survey);
        }
        Err(e) => return Err(e),
    }
    let mut here = path.to_vec();
    let mut levels = vec![at.names()?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.pop() else {
            levels.pop();
            at.ascend()?;
            here = super::tree::split(&here).0.to_vec();
            continue;
        };
        let path = join(&here, &name);
        let Some(stat) = at.stat(&name)? else { continue };
        survey.entries += 1;
        if survey.conflict.is_none() && changed_at(&stat) > started {
            survey.conflict = Some(format!(
                "{} in it changed on the host since the capture began",
                escape(&path)
            ));
        }
        if unseen.is(&path) {
            survey.danger = Some(format!("it holds {}, which the program did not see", escape(&path)));
        } else if name == b".git" && survey.danger.is_none() {
            survey.danger = Some("it holds a git repository".to_owned());
        }
        if file_type(&stat) == FileType::Directory {
            match at.descend(&name) {
                Ok(()) => {
                    levels.push(at.names()?);
                    here = path;
                }
                Err(Errno::XDEV) => survey.danger = Some("another file system is mounted in it".to_owned()),
                // What cannot be looked into cannot be deleted either; apply will say so.
                Err(Errno::ACCESS) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(survey)
}
