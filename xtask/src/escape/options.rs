//! What of the corpus is to run: the words of the command.

use super::DOCUMENT;
use super::wall::{Column, Wall};
use crate::tally::glob;
use crate::{Outcome, tree};
use sr_escape::case::Case;

/// What runs behind a virtual machine on each check, where the whole corpus would take the better part of an hour: of each
/// group the cases that another kernel answers in another way.
pub const SAMPLE: [&str; 13] = [
    "filesystem/captured_links",
    "filesystem/open_by_handle",
    "filesystem/proc_sys",
    "filesystem/symlinks_out",
    "syscalls/every_thread",
    "syscalls/io_uring_read",
    "syscalls/keyrings",
    "processes/fork_bomb",
    "processes/signal_others",
    "network/unix_abstract",
    "network/tcp_spellings",
    "secrets/memory_of_others",
    "evidence/forged_events",
];

#[derive(Debug, Default)]
pub struct Options {
    walls: Vec<Wall>,
    root: Option<bool>,
    pub write: bool,
    pub keep: bool,
    /// In the rig: those cases that harm a machine, or monitors that need KVM.
    pub rig: bool,
    globs: Vec<String>,
}

impl Options {
    pub fn parse(words: &[&str]) -> Outcome<Options> {
        let mut options = Options::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--write" => options.write = true,
                "--keep" => options.keep = true,
                "--rig" => options.rig = true,
                "--backend" => {
                    let wanted = "--backend wants process, gvisor, microvm, microvm:firecracker, microvm:cloud-hypervisor, \
                                  bubblewrap, runc or control";
                    let wall = words.next().and_then(|w| Wall::parse(w)).ok_or(wanted)?;
                    options.walls.push(wall);
                }
                "--user" => {
                    options.root = match words.next() {
                        Some(&"root") => Some(true),
                        Some(&"user") => Some(false),
                        _ => return Err("--user wants root or user".into()),
                    }
                }
                word if word.starts_with('-') => return Err(format!("xtask escape does not know {word}")),
                word => options.globs.push(word.to_owned()),
            }
        }
        let part = !options.walls.is_empty() || options.root.is_some() || !options.globs.is_empty();
        if options.rig && (part && !options.with_kvm() || options.root.is_some() || options.keep) {
            return Err(
                "--rig takes no other option than --write: all that harms a machine runs there at once; \
                 or --backend microvm:firecracker, microvm:cloud-hypervisor, and cases"
                    .into(),
            );
        }
        if options.write && !options.rig && options.walls.iter().any(|wall| wall.needs_kvm().is_some()) {
            return Err("--write: what runs with KVM is written as the rig had it, with --rig".into());
        }
        if options.write && !options.rig && !tree::is_root() {
            return Err(format!("--write: {DOCUMENT} is written by root, who runs all of it"));
        }
        Ok(options)
    }

    /// Whether nothing but monitors that need KVM is asked for.
    pub fn with_kvm(&self) -> bool {
        !self.walls.is_empty() && self.walls.iter().all(|wall| wall.needs_kvm().is_some())
    }

    /// Whether it is the cases that harm a machine, where that may be.
    pub fn harms(&self) -> bool {
        self.rig && !self.with_kvm()
    }

    /// In the rig: a sample behind each of these, which need KVM; without one, what harms a machine.
    pub fn in_rig(walls: Vec<Wall>) -> Options {
        Options {
            walls,
            rig: true,
            ..Options::default()
        }
    }

    /// The same again, as words for the rig.
    pub fn in_the_rig(&self) -> Vec<String> {
        let mut words = vec!["--rig".to_owned()];
        // The references, where the record is to be written.
        if self.write && self.harms() {
            words.push("--write".into());
        }
        for wall in &self.walls {
            words.extend(["--backend".into(), wall.word().into()]);
        }
        words.extend(self.globs.iter().cloned());
        words
    }

    pub fn walls(&self) -> &[Wall] {
        &self.walls
    }

    pub fn columns(&self) -> Vec<Column> {
        let wanted = |c: &Column| {
            (self.walls.is_empty() || self.walls.contains(&c.wall))
                && self.root.is_none_or(|root| root == c.root)
                // They decide nothing: the rig, which is slow, runs them where the record is to be written.
                && (!c.is_reference() || !self.rig || self.write)
                // Who is not root can be nobody else.
                && (tree::is_root() || !c.root)
                && (!c.wall.has_kernel() || self.wants_kernel(*c))
        };
        let with_kvm = |c: &Column| self.walls.contains(&c.wall) && self.root != Some(false) && tree::is_root();
        let more = Column::WITH_KVM.into_iter().filter(with_kvm);
        Column::ALL.into_iter().filter(wanted).chain(more).collect()
    }

    /// What takes long is run for one user, unless it is asked for; the rig's kernel has none of it.
    fn wants_kernel(&self, column: Column) -> bool {
        !self.rig && (self.write || !column.root || self.walls.contains(&column.wall))
    }

    /// Whether a case runs there: behind a virtual machine a sample, unless more is asked for, and in the rig by name.
    pub fn runs(&self, case: &Case, column: Column) -> bool {
        let asked = !self.rig && (self.write || self.walls.contains(&column.wall)) || !self.globs.is_empty();
        let sample = !column.wall.is_machine() || asked || SAMPLE.contains(&case.id().as_str());
        sample && self.takes(&case.group, &case.name)
    }

    pub fn takes(&self, group: &str, name: &str) -> bool {
        let names = [format!("{group}/{name}"), group.to_owned(), name.to_owned()];
        self.globs.is_empty() || self.globs.iter().any(|g| names.iter().any(|name| glob(g, name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sr_escape::case::GROUPS;

    #[test]
    fn the_sample_is_of_every_group() {
        let cases = Case::all(&tree::corpus(), |_, _| true).unwrap();
        let known: Vec<String> = cases.iter().map(Case::id).collect();
        for case in SAMPLE {
            assert!(known.iter().any(|id| id == case), "{case} is no case");
        }
        for group in GROUPS {
            assert!(SAMPLE.iter().any(|case| case.starts_with(group)), "{group}");
        }
        let user = Column {
            wall: Wall::Microvm,
            root: false,
        };
        let run = |options: &Options| cases.iter().filter(|case| options.runs(case, user)).count();
        assert_eq!(run(&Options::default()), SAMPLE.len());
        let asked = Options::parse(&["--backend", "microvm"]).unwrap();
        assert_eq!(run(&asked), cases.len());
        assert_eq!(run(&Options::parse(&["network/a*"]).unwrap()), 0);
        let [firecracker, _] = Column::WITH_KVM;
        let run = |options: &Options| cases.iter().filter(|case| options.runs(case, firecracker)).count();
        assert_eq!(run(&Options::in_rig(vec![Wall::Firecracker])), SAMPLE.len());
        let asked = ["--backend", "microvm:firecracker"];
        assert_eq!(run(&Options::parse(&asked).unwrap()), cases.len());
        assert_eq!(
            run(&Options::parse(&[&asked[..], &["--rig", "*"]].concat()).unwrap()),
            cases.len()
        );
    }

    #[test]
    fn options() {
        let columns = |words: &[&str]| Options::parse(words).unwrap().columns().len();
        assert_eq!(columns(&["--backend", "runc", "--user", "user"]), 0);
        assert_eq!(columns(&["--backend", "process"]), if tree::is_root() { 2 } else { 1 });
        let options = Options::parse(&["network", "a*"]).unwrap();
        assert!(options.takes("network", "x") && options.takes("evidence", "ab") && !options.takes("evidence", "b"));
        assert_eq!(Options::parse(&["--write", "network"]).is_ok(), tree::is_root());
        assert!(Options::parse(&["--backend", "x"]).is_err());
        assert_eq!(columns(&["--backend", "gvisor"]), if tree::is_root() { 2 } else { 1 });
        let kernels = Options::default().columns().into_iter().filter(|c| c.wall.has_kernel());
        assert_eq!(kernels.filter(|c| !c.root).count(), 2);
        assert!(Options::parse(&["--rig", "--write"]).is_ok_and(|o| o.rig && o.write));
        if tree::is_root() {
            assert_eq!((columns(&["--rig"]), columns(&["--rig", "--write"])), (4, 6));
        }
        let firecracker = ["--backend", "microvm:firecracker"];
        assert_eq!(columns(&firecracker), usize::from(tree::is_root()));
        assert_eq!(columns(&[&firecracker[..], &["--user", "user"]].concat()), 0);
        assert!(Options::parse(&[&firecracker[..], &["--write"]].concat()).is_err());
        let there = Options::parse(&[&firecracker[..], &["--rig", "--write", "network"]].concat()).unwrap();
        assert!(there.with_kvm() && !there.harms() && there.columns().iter().all(|c| c.wall == Wall::Firecracker));
        assert_eq!(
            there.in_the_rig(),
            ["--rig", "--backend", "microvm:firecracker", "network"]
        );
        let harm = Options::parse(&["--rig", "--write"]).unwrap();
        assert!(harm.harms() && harm.in_the_rig() == ["--rig", "--write"]);
        assert!(Options::parse(&["--rig", "--backend", "microvm"]).is_err());
        assert!(Options::parse(&["--rig", "reboot"]).is_err() && Options::parse(&["--rig", "--keep"]).is_err());
        assert!(Options::parse(&["--user"]).is_err() && Options::parse(&["--x"]).is_err());
    }
}
