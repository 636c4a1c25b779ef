//! The layers that the runs of a session share: `sessions/NAME/KEY/LAYER/`. The key stands for the directories that are
//! captured, so that a session of one name in another project is another session. An empty layer is removed at the end
//! of a run: a layer that is there began to be filled by some run, and that run's start is kept beside it.

use crate::changes::micros;
use crate::removal;
use rustix::fs::{AtFlags, CWD, StatxFlags};
use sr_common::Digest;
use sr_compiler::bundle::{FilesystemPlan, ViewKind};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970, as text.
const BEGAN: &str = "began";

/// The folder of the session `name` in the store at `base`.
pub(crate) fn folder(base: &Path, name: &str) -> PathBuf {
    base.join("sessions").join(name)
}

/// The folder in it for what this plan captures.
pub(crate) fn key(plan: &FilesystemPlan) -> String {
    let mut sources = Vec::new();
    for entry in &plan.entries {
        if let ViewKind::Captured { source, layer, .. } = &entry.what {
            sources.push((*layer, source.as_str()));
        }
    }
    sources.sort_unstable();
    let mut text = String::new();
    for (layer, source) in sources {
        // No path holds a zero byte.
        text.push_str(&format!("{layer} {source}\0"));
    }
    let mut key = Digest::of(text.as_bytes()).hex();
    key.truncate(16);
    key
}

/// When the layer in `own` began to be filled: the start of the first run that left something in it, where that run
/// came to its end; else when the layer was made, as far as the file system knows; never later than `started`.
pub(crate) fn began(own: &Path, started: SystemTime) -> SystemTime {
    let kept = fs::read_to_string(own.join(BEGAN)).ok();
    let kept = kept
        .and_then(|text| text.trim_end().parse().ok())
        .map(Duration::from_micros);
    let birth = || {
        let stat = rustix::fs::statx(CWD, own.join("upper"), AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME).ok()?;
        let known = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
        let seconds = u64::try_from(stat.stx_btime.tv_sec).ok()?;
        known.then(|| Duration::new(seconds, stat.stx_btime.tv_nsec.min(999_999_999)))
    };
    let since = kept.or_else(birth).and_then(|since| UNIX_EPOCH.checked_add(since));
    since.unwrap_or(started).min(started)
}

/// At the end of a run: keeps when the layer began, or removes it if there is nothing in it.
pub(crate) fn settle(own: &Path, began: SystemTime, empty: bool) -> io::Result<()> {
    if empty {
        return clear(own);
    }
    let path = own.join(BEGAN);
    match path.try_exists()? {
        true => Ok(()),
        false => {
            let new = own.join(".began");
            fs::write(&new, format!("{}\n", micros(began)))?;
            fs::rename(new, path)
        }
    }
}

/// Removes one layer.
pub(crate) fn clear(own: &Path) -> io::Result<()> {
    removal::remove(own).map(drop)
}

/// Removes all layers of the session in `folder`, but not the folder: it carries the lock.
pub(crate) fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        clear(&entry?.path())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_began_when_it_was_first_filled() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("0");
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(began(&own, at(9)), at(9), "no layer yet: this run's own start");
        fs::create_dir_all(own.join("upper")).unwrap();
        // A run that was killed left no word: the file system knows, or it is this run.
        let now = SystemTime::now() + Duration::from_secs(60);
        assert!(began(&own, now) <= now);
        assert_eq!(began(&own, at(9)), at(9), "never later than the run that asks");
        settle(&own, at(9), false).unwrap();
        settle(&own, at(12), false).unwrap();
        assert_eq!(began(&own, at(20)), at(9));
        settle(&own, at(20), true).unwrap();
        assert!(!own.exists());
        settle(&own, at(20), true).unwrap();
    }
}
