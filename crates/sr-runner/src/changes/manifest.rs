//! What a copied layer cannot say by itself: true modes, special files that were not made again, marks that the
//! store's file system does not take. One JSON object a line, beside the layer.

use super::name::{escape, unescape};
use super::{What, copy};
use serde::{Deserialize, Serialize};
use sr_common::Fault;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Line {
    pub path: String,
    /// Permission bits as the run left them, where the copy has others.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<u32>,
    /// A file of this kind, which was not made again.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub special: Option<What>,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub whiteout: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub opaque: bool,
    /// The file had capabilities, which were not copied.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub capabilities: bool,
}

/// The file beside `layer` with another ending.
pub(super) fn beside(layer: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(layer);
    name.push(ending);
    name.into()
}

fn file_of(layer: &Path) -> PathBuf {
    beside(layer, ".manifest.jsonl")
}

pub(super) struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
}

impl Writer {
    pub fn create(layer: &Path) -> Result<Writer, Fault> {
        let path = file_of(layer);
        let file = File::create(&path).map_err(|e| copy::store_fault("create", &path, &e))?;
        Ok(Writer {
            file: BufWriter::new(file),
            path,
        })
    }

    pub fn add(&mut self, path: &[u8], line: Line) -> Result<(), Fault> {
        let line = Line {
            path: escape(path),
            ..line
        };
        let written = serde_json::to_writer(&mut self.file, &line).map_err(std::io::Error::from);
        written
            .and_then(|()| self.file.write_all(b"\n"))
            .map_err(|e| copy::store_fault("write", &self.path, &e))
    }

    pub fn finish(mut self) -> Result<(), Fault> {
        self.file
            .flush()
            .map_err(|e| copy::store_fault("write", &self.path, &e))
    }
}

/// What is known of a copied layer, by path. A layer without a manifest speaks for itself.
#[derive(Default)]
pub(super) struct Manifest(HashMap<Vec<u8>, Line>);

impl Manifest {
    pub fn read(layer: &Path) -> Result<Manifest, Fault> {
        let path = file_of(layer);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Manifest::default()),
            Err(e) => return Err(copy::store_fault("read", &path, &e)),
        };
        let mut lines = HashMap::new();
        for text in BufReader::new(file).lines() {
            let text = text.map_err(|e| copy::store_fault("read", &path, &e))?;
            let line: Line = serde_json::from_str(&text).map_err(|e| copy::store_fault("read", &path, &e.into()))?;
            if let Some(name) = unescape(&line.path) {
                lines.insert(name, line);
            }
        }
        Ok(Manifest(lines))
    }

    pub fn get(&self, path: &[u8]) -> Option<&Line> {
        self.0.get(path)
    }

    /// Names below `dir` that exist in the manifest only.
    pub fn only_here(&self, dir: &[u8]) -> impl Iterator<Item = (&[u8], &Line)> {
        let dir = dir.to_vec();
        self.0
            .iter()
            .filter(|(_, line)| line.special.is_some() || line.whiteout)
            .filter_map(move |(path, line)| {
                let (parent, name) = super::tree::split(path);
                (parent == dir).then_some((name, line))
            })
    }
}
