//! Files that were opened, folded to few places: what the `files` of a policy names.

use crate::learn::{Observation, Use};
use sr_common::path::{parent, within};
use sr_policy::spec::Files;
use sr_policy::{MOST_FILES, can_be_named};
use std::collections::BTreeSet;

/// So many places below a directory become the directory: of files that are read, and of directories that are written to.
const READ: usize = 5;
const WRITTEN: usize = 3;

/// The view that files were seen in.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Where the policy's mounts lie, in their order.
    pub mounts: Vec<String>,
    /// Directories and files that the view lets be changed.
    pub writable: Vec<String>,
    /// Those of them whose files could be emptied unless all of them may be changed: by Landlock before ABI 3.
    pub whole: Vec<String>,
    /// Where the command's own installation lies.
    pub prefixes: Vec<String>,
}

/// The places that let be opened what was seen, and no more than `base` names. `besides`: what the kernel itself opened.
pub fn files(seen: &Observation, shown: &Shown, besides: &BTreeSet<String>, base: Option<&Files>) -> Files {
    let within_base = |list: fn(&Files) -> Vec<&String>, place: &str| {
        base.is_none_or(|base| list(base).into_iter().any(|held| within(place, held)))
    };
    let top = |path: &str| {
        let tops = shown.writable.iter().filter(|top| within(path, top));
        tops.max_by_key(|top| top.len()).map(String::as_str)
    };
    // What is saved is often saved beside, and put in its place.
    let written = seen.files.iter().filter_map(|(path, used)| {
        let top = top(path)?;
        match used {
            Use::Filled => Some(path.as_str()),
            Use::Changed if path == top => Some(top),
            Use::Changed => parent(path),
            _ => None,
        }
    });
    let written = written.chain(shown.whole.iter().map(String::as_str));
    let may = |directory: &str| top(directory).is_some() && within_base(|base| base.write.iter().collect(), directory);
    let write = fold(written.map(str::to_owned).collect(), WRITTEN, may, may);
    let of_policy = |path: &str| {
        let tops = shown.mounts.iter().chain(&shown.prefixes).filter(|top| *top != "/");
        tops.into_iter().any(|top| within(path, top))
    };
    let opened = seen
        .files
        .iter()
        .filter(|(_, used)| **used >= Use::Read && **used < Use::Filled);
    let read = opened.map(|(path, _)| path).chain(besides);
    let read = read.filter(|path| {
        let always = ["/proc", "/dev"].iter().any(|own| within(path, own));
        !always && !write.iter().any(|held| within(path, held))
    });
    let named = |directory: &str| within_base(|base| base.read.iter().chain(&base.write).collect(), directory);
    // A mount's own directory holds a bit of everything too: what else is in a workspace was not asked for.
    let may = |directory: &str| {
        let mount = shown.mounts.iter().any(|mount| mount == directory);
        named(directory) && !mount && (of_policy(directory) || !is_common(directory))
    };
    let read = fold(read.cloned().collect(), READ, may, named);
    Files {
        read: read.into_iter().collect(),
        write: write.into_iter().collect(),
    }
}

/// Directories that hold a bit of everything: `/usr/lib`, `/etc`.
fn is_common(directory: &str) -> bool {
    let depth = directory.split('/').filter(|name| !name.is_empty()).count();
    let deep = match directory.split('/').nth(1) {
        Some("usr") if within(directory, "/usr/local") => 4,
        Some("usr") => 3,
        _ => 2,
    };
    depth < deep
}

/// As [`fold_by`], by smaller numbers where a policy could not name as many, and at last into any directory that it `could`.
fn fold(
    places: BTreeSet<String>,
    most: usize,
    may: impl Fn(&str) -> bool,
    could: impl Fn(&str) -> bool,
) -> BTreeSet<String> {
    // What a policy cannot name is its directory.
    let named = places.iter().filter_map(|place| {
        let mut place = place.as_str();
        while !can_be_named(place) {
            place = parent(place)?;
        }
        Some(place.to_owned())
    });
    let places: BTreeSet<String> = named.collect();
    let few = |places: &BTreeSet<String>| places.len() <= MOST_FILES;
    let by_number = (1..=most)
        .rev()
        .map(|most| fold_by(places.clone(), most, &may))
        .find(few);
    by_number.unwrap_or_else(|| fold_by(places.clone(), most, could))
}

/// The places, without those that lie in another, and with a directory in place of `most` of them and more where `may`.
fn fold_by(mut places: BTreeSet<String>, most: usize, may: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let mut directories: BTreeSet<String> = BTreeSet::new();
    for place in &places {
        let mut above = parent(place);
        while let Some(directory) = above.filter(|directory| *directory != "/") {
            directories.insert(directory.to_owned());
            above = parent(directory);
        }
    }
    // The deepest first: what was folded counts as one.
    let mut directories: Vec<String> = directories.into_iter().filter(|directory| may(directory)).collect();
    directories.sort_by_key(|directory| std::cmp::Reverse(directory.matches('/').count()));
    reduce(&mut places);
    for directory in directories {
        let below = places.iter().filter(|place| within(place, &directory)).count();
        if below >= most {
            places.insert(directory);
            reduce(&mut places);
        }
    }
    places
}

/// Takes out what lies in another.
fn reduce(places: &mut BTreeSet<String>) {
    let all = places.clone();
    places.retain(|place| {
        let mut above = parent(place);
        while let Some(directory) = above {
            if all.contains(directory) {
                return false;
            }
            above = parent(directory);
        }
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(seen: &[(&str, Use)], base: Option<&Files>) -> Files {
        let mut observation = Observation::default();
        for (path, used) in seen {
            observation.file((*path).to_owned(), *used);
        }
        let texts = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        let shown = Shown {
            mounts: texts(&["/work", "/one.txt"]),
            writable: texts(&["/work", "/one.txt", "/tmp"]),
            prefixes: texts(&["/opt/python"]),
            whole: Vec::new(),
        };
        files(&observation, &shown, &["/bin/sh".to_owned()].into(), base)
    }

    #[test]
    fn single_files_stay_and_many_become_their_directory() {
        let mut seen = vec![
            ("/etc/passwd", Use::Read),
            ("/usr/lib/libc.so.6", Use::Read),
            ("/usr/share", Use::Listed),
            ("/proc/self/maps", Use::Read),
            ("/dev/null", Use::Changed),
        ];
        assert_eq!(
            learned(&seen, None).read,
            ["/bin/sh", "/etc/passwd", "/usr/lib/libc.so.6"]
        );
        seen.extend(
            ["a", "b", "c/d", "c/e", "f"].map(|name| (&*format!("/usr/lib/python3/{name}").leak() as &str, Use::Read)),
        );
        seen.extend(["a", "b", "c", "d", "e"].map(|name| (&*format!("/usr/bin/{name}").leak() as &str, Use::Executed)));
        let found = learned(&seen, None);
        assert!(found.read.contains(&"/usr/lib/python3".to_owned()), "{found:?}");
        assert!(
            !found.read.contains(&"/usr/bin".to_owned()),
            "it holds a bit of everything: {found:?}"
        );
        assert!(found.write.is_empty());
    }

    #[test]
    fn what_is_changed_is_its_directory() {
        let seen = [
            ("/work/out/a.txt", Use::Changed),
            ("/work/out/a.txt.new", Use::Read),
            ("/one.txt", Use::Changed),
            ("/tmp", Use::Filled),
            ("/tmp/x/y", Use::Changed),
            ("/usr/lib/x", Use::Changed),
        ];
        let found = learned(&seen, None);
        assert_eq!(found.write, ["/one.txt", "/tmp", "/work/out"]);
        assert_eq!(
            found.read,
            ["/bin/sh", "/usr/lib/x"],
            "where nothing can be changed it was opened"
        );
        let many = ["a", "b", "c"].map(|name| (&*format!("/work/{name}/f").leak() as &str, Use::Changed));
        assert_eq!(learned(&many, None).write, ["/work"]);
    }

    #[test]
    fn what_could_be_emptied_is_named_whole() {
        let shown = Shown {
            writable: vec!["/work".into(), "/tmp".into()],
            whole: vec!["/work".into()],
            ..Shown::default()
        };
        let found = files(&Observation::default(), &shown, &BTreeSet::new(), None);
        assert_eq!((found.read.len(), found.write), (0, vec!["/work".to_owned()]));
    }

    #[test]
    fn what_a_policy_cannot_name_is_its_directory() {
        let seen = [
            ("/work/a\nb", Use::Read),
            ("/work/d\u{202e}/x", Use::Read),
            ("/tmp/\u{1b}[2J/y", Use::Changed),
        ];
        let found = learned(&seen, None);
        assert_eq!(
            (found.read, found.write),
            (vec!["/bin/sh".into(), "/work".into()], vec!["/tmp".to_owned()])
        );
        // A few in each of many directories are too many by the usual measure.
        let many: Vec<(String, Use)> = (0..1500)
            .map(|n| (format!("/usr/share/x/{}/{n}", n / 3), Use::Read))
            .chain((0..900).map(|n| (format!("/etc/y/{n}/z"), Use::Read)))
            .collect();
        let many: Vec<(&str, Use)> = many.iter().map(|(path, used)| (path.as_str(), *used)).collect();
        assert_eq!(learned(&many, None).read, ["/bin/sh", "/etc/y", "/usr/share/x"]);
        // More than can be named, all in a directory that holds a bit of everything.
        let many: Vec<String> = (0..600).map(|n| format!("/usr/bin/{n}")).collect();
        let many: Vec<(&str, Use)> = many.iter().map(|path| (path.as_str(), Use::Read)).collect();
        assert_eq!(learned(&many, None).read, ["/bin/sh", "/usr/bin"]);
        // The workspace itself is not what five files of it are.
        let five = ["a/f", "b/f", "c/f", "d/f", "e/f"].map(|name| format!("/work/{name}"));
        let five: Vec<(&str, Use)> = five.iter().map(|path| (path.as_str(), Use::Read)).collect();
        assert_eq!(learned(&five, None).read.len(), 6);
    }

    #[test]
    fn no_fold_goes_beyond_what_the_policy_beneath_names() {
        let base = Files {
            read: ["/bin", "/usr/lib/a", "/usr/lib/b"].map(str::to_owned).to_vec(),
            write: ["/work/a", "/work/b", "/work/c"].map(str::to_owned).to_vec(),
        };
        let many = ["a", "b", "c"].map(|name| (&*format!("/work/{name}/f").leak() as &str, Use::Changed));
        assert_eq!(learned(&many, Some(&base)).write, ["/work/a", "/work/b", "/work/c"]);
        let five = ["a/1", "a/2", "a/3", "b/1", "b/2"];
        let five = five.map(|name| (&*format!("/usr/lib/{name}").leak() as &str, Use::Read));
        assert_eq!(learned(&five, Some(&base)).read.len(), 6);
    }
}
