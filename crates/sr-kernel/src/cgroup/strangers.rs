//! Processes that came into a v2 group because their number had been another's a moment ago. They were born in that moment,
//! so where they belong is where their parent is.

use super::file::{read, version, write};
use super::kill::{belongs, members};
use rustix::process::Pid;
use std::path::{Component, Path, PathBuf};

/// Of strangers that had children meanwhile.
const ROUNDS: u32 = 3;

/// The top of the mount that `dir` is on.
pub fn top_of(dir: &Path) -> PathBuf {
    let above = dir.ancestors().take_while(|dir| version(dir) == Some(2));
    above.last().unwrap_or(dir).to_owned()
}

/// Moves every process of `dir` that the user `uid` could not kill to its parent's group, as far as that can be told; and
/// the one of the number `whoever`, unless it was born in `dir`.
pub(super) fn put_back(dir: &Path, uid: u32, whoever: Option<Pid>) {
    let top = top_of(dir);
    for _ in 0..ROUNDS {
        let all = members(dir).unwrap_or_default();
        let out = |pid: &Pid| Some(*pid) == whoever || !belongs(*pid, uid);
        for pid in all.into_iter().filter(out) {
            let number = pid.as_raw_nonzero();
            let home = parent_of(&format!("/proc/{number}")).and_then(|parent| group_of(&parent, &top));
            if let Some(home) = home.filter(|home| home != dir) {
                // It may have ended.
                let _ = write(&home.join("cgroup.procs"), &number.to_string());
            }
        }
    }
}

fn parent_of(process: &str) -> Option<String> {
    let status = read(&Path::new(process).join("status")).ok()?;
    let parent: u32 = status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))?
        .trim()
        .parse()
        .ok()?;
    Some(format!("/proc/{parent}"))
}

/// The group of a process below `top`, where the hierarchy is seen from its root.
fn group_of(process: &str, top: &Path) -> Option<PathBuf> {
    let text = read(&Path::new(process).join("cgroup")).ok()?;
    let path = Path::new(text.lines().find_map(|line| line.strip_prefix("0::/"))?);
    let plain = path.components().all(|c| matches!(c, Component::Normal(_)));
    plain.then(|| top.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_and_its_group() {
        let parent = parent_of("/proc/self").unwrap();
        assert_eq!(parent, format!("/proc/{}", std::os::unix::process::parent_id()));
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let expected = own.lines().find_map(|line| line.strip_prefix("0::/"));
        assert_eq!(
            group_of("/proc/self", Path::new("/x")),
            expected.map(|path| Path::new("/x").join(path))
        );
        assert_eq!(top_of(Path::new("/usr/bin")), Path::new("/usr/bin"));
    }
}
