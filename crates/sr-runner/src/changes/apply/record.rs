//! What was applied from a layer: by path, the change time that our own writing gave the host's file. A file that
//! still has that time was not changed by anybody else, so it is no conflict.

use crate::changes::copy::store_fault;
use crate::changes::manifest::beside;
use crate::changes::name::{escape, unescape};
use rustix::fs::Stat;
use serde::{Deserialize, Serialize};
use sr_common::Fault;
use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Line {
    path: String,
    seconds: i64,
    nanos: i64,
}

pub(in crate::changes) struct Record {
    file: PathBuf,
    times: HashMap<Vec<u8>, (i64, i64)>,
    /// Open once something was noted: a kill must not make our own writing look like somebody else's.
    growing: Option<File>,
}

#[allow(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
fn time(stat: &Stat) -> (i64, i64) {
    (stat.st_ctime as i64, stat.st_ctime_nsec as i64)
}

impl Record {
    pub fn read(layer: &Path) -> Result<Record, Fault> {
        let file = beside(layer, ".applied.jsonl");
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            Err(e) => return Err(store_fault("read", &file, &e)),
        };
        let mut times = HashMap::new();
        // A line that a crash cut off stands for something that is then judged as if it had not been recorded.
        for line in text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
            if let Some(path) = unescape(&line.path) {
                times.insert(path, (line.seconds, line.nanos));
            }
        }
        Ok(Record {
            file,
            times,
            growing: None,
        })
    }

    /// Whether the last change of the host's file was ours.
    pub fn wrote(&self, path: &[u8], stat: &Stat) -> bool {
        self.times.get(path) == Some(&time(stat))
    }

    /// Notes what was just written, on the spot.
    pub fn note(&mut self, path: &[u8], stat: &Stat) -> std::io::Result<()> {
        let time = time(stat);
        self.times.insert(path.to_vec(), time);
        let file = match &mut self.growing {
            Some(file) => file,
            none => none.insert(File::options().create(true).append(true).open(&self.file)?),
        };
        let mut line = text(path, time)?;
        line.push('\n');
        file.write_all(line.as_bytes())
    }

    pub fn save(&self) -> Result<(), Fault> {
        let mut lines: Vec<_> = self.times.iter().collect();
        lines.sort();
        let mut all = String::new();
        for (path, time) in lines {
            all.push_str(&text(path, *time).map_err(|e| store_fault("write", &self.file, &e))?);
            all.push('\n');
        }
        let new = beside(&self.file, ".new");
        let written = std::fs::write(&new, all).and_then(|()| std::fs::rename(&new, &self.file));
        written.map_err(|e| store_fault("write", &self.file, &e))
    }
}

fn text(path: &[u8], (seconds, nanos): (i64, i64)) -> std::io::Result<String> {
    let line = Line {
        path: escape(path),
        seconds,
        nanos,
    };
    Ok(serde_json::to_string(&line)?)
}
