//! What of the store nobody needs: contents that no name and no run names, and what killed makers left.

use super::Artifacts;
use crate::fault::on;
use crate::scratch;
use rustix::fs::FlockOperation;
use sr_common::{Digest, Fault};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What was found, and removed unless it was only looked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Collected {
    /// Contents, and their bytes.
    pub contents: Vec<(Digest, u64)>,
    /// What killed makers left.
    pub unfinished: Vec<PathBuf>,
}

impl Artifacts {
    /// `look`: nothing is removed.
    pub fn gc(&self, look: bool) -> Result<Collected, Fault> {
        let making = self.dir.join("making");
        let unfinished = scratch::sweep(&making, look).map_err(on(&making))?;
        let _alone = self.lock(FlockOperation::LockExclusive)?;
        let mut needed: BTreeSet<Digest> = BTreeSet::new();
        for artifact in self.list()? {
            needed.insert(artifact.digest);
            needed.extend(artifact.provenance.with.values());
        }
        runs(&self.store, &mut needed)?;
        let mut contents = Vec::new();
        let dir = self.dir.join("sha256");
        for entry in fs::read_dir(&dir).map_err(on(&dir))? {
            let entry = entry.map_err(on(&dir))?;
            let name = entry.file_name();
            let digest = name.to_str().and_then(|hex| Digest::parse(&format!("sha256:{hex}")));
            let Some(digest) = digest.filter(|digest| !needed.contains(digest)) else {
                continue;
            };
            let size = entry.metadata().map_err(on(&entry.path()))?.len();
            if !look {
                fs::remove_file(entry.path()).map_err(on(&entry.path()))?;
            }
            contents.push((digest, size));
        }
        contents.sort();
        Ok(Collected { contents, unfinished })
    }
}

/// Every digest that a run's bundle or journal names, whatever it is of.
fn runs(store: &Path, needed: &mut BTreeSet<Digest>) -> Result<(), Fault> {
    let bundles = entries(&store.join("runs"))?
        .into_iter()
        .map(|run| run.join("bundle.json"));
    for file in bundles.chain(entries(&store.join("journal"))?) {
        match fs::read(&file) {
            Ok(text) => needed.extend(digests(&text)),
            // No run that began, or one that was thrown away meanwhile.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(e) => return Err(on(&file)(e)),
        }
    }
    Ok(())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, Fault> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| entry.map(|e| e.path()).map_err(on(dir))).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(on(dir)(e)),
    }
}

/// The `sha256:…` in a text.
fn digests(text: &[u8]) -> impl Iterator<Item = Digest> {
    const LENGTH: usize = "sha256:".len() + 64;
    text.windows(LENGTH)
        .filter(|window| window.starts_with(b"sha256:"))
        .filter_map(|window| Digest::parse(std::str::from_utf8(window).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_wherever_they_stand() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let text = format!("{{\"x\":\"{a}\",\"y\":[\"sha256:12\",\"{b}\"]}}{a}sha256:");
        assert_eq!(digests(text.as_bytes()).collect::<Vec<_>>(), [a, b, a]);
        assert_eq!(digests(b"").count(), 0);
    }
}
