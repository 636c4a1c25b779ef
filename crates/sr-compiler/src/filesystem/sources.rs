//! Which host paths may be shown, and for what. Only what the facts say is known here: sources come canonicalised.

use crate::bundle::SYSTEM_DIRECTORIES;
use sr_common::HostFacts;
use sr_common::path::within;

/// What a host path is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Shown read-only, because the policy names it.
    Shown,
    /// Shown read-only, because the command lives there.
    Installation,
    /// Writable, its writes captured.
    Captured,
    /// The root directory, its writes captured.
    CapturedRoot,
    /// Writable on the host itself.
    Writable,
}

const FOLDER: &str = "run it from a project folder, or use --policy strict";

/// Why `source` may not serve (what was found, what to do), if it may not.
pub(crate) fn refusal(facts: &HostFacts, source: &str, wanted: Use) -> Option<(String, String)> {
    let refuse = |found: String, remedy: &str| Some((found, remedy.to_owned()));
    let own = || {
        std::iter::once(&facts.store)
            .chain(&facts.private)
            .filter(|path| path.starts_with('/'))
    };
    if let Some(path) = own().find(|path| within(source, path)) {
        return refuse(
            format!("{source} belongs to Safe-Run itself ({path})"),
            "name another directory",
        );
    }
    match wanted {
        Use::Shown => {
            if source == "/" || source == "/run" {
                return refuse(
                    format!("{source} holds the host's own sockets and state"),
                    "name the directories in it",
                );
            }
            if let Some(dir) = ["/proc", "/sys", "/dev"].into_iter().find(|dir| within(source, dir)) {
                let found = format!("{source} is the kernel's: the view has a {dir} of its own");
                return refuse(found, "leave the mount out");
            }
            None
        }
        Use::Installation => {
            if source == "/" || facts.home.as_deref().is_some_and(|home| within(home, source)) {
                let found = format!("the command's installation is {source} itself");
                return refuse(found, "move the program to a folder of its own, or mount what it needs");
            }
            refusal(facts, source, Use::Shown)
        }
        Use::CapturedRoot => {
            let home = facts.home.as_deref().filter(|home| within(home, source));
            // Below /var is where machines and images are kept.
            let system = SYSTEM_DIRECTORIES.into_iter().find(|dir| within(source, dir));
            let system = system.filter(|dir| *dir != "/var" || source == "/var");
            let found = match (home, system) {
                (Some(home), _) => format!("{source} holds the home directory {home}"),
                (None, Some(dir)) => format!("{source} lies in the host's own {dir}"),
                (None, None) => return refusal(facts, source, Use::Shown),
            };
            refuse(found, "name a directory that holds a root file system")
        }
        Use::Captured | Use::Writable => workspace(facts, source, wanted == Use::Writable),
    }
}

fn workspace(facts: &HostFacts, source: &str, writable: bool) -> Option<(String, String)> {
    let refuse = |found: String| Some((found, FOLDER.to_owned()));
    if source == "/" {
        return refuse("the whole host would be writable".to_owned());
    }
    if let Some(home) = facts.home.as_deref().filter(|home| within(home, source)) {
        return refuse(if source == home {
            format!("{source} is your home directory")
        } else {
            format!("{source} holds your home directory")
        });
    }
    if let Some(dir) = SYSTEM_DIRECTORIES.into_iter().find(|dir| within(source, dir)) {
        return refuse(format!("{source} lies in the system directory {dir}"));
    }
    if let Some(dir) = facts.system.iter().find(|dir| within(&dir.path, source)) {
        return refuse(format!("{source} holds the system directory {}", dir.path));
    }
    if within(&facts.store, source) {
        return refuse(format!("{source} holds the run store ({})", facts.store));
    }
    // A captured directory's lower layer leaves them out; through a writable one they could be moved or replaced.
    let private = facts.private.iter().find(|path| writable && within(path, source))?;
    refuse(format!("{source} holds Safe-Run's own {private} and would be writable"))
}
