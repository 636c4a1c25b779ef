//! bubblewrap in our place: the command by which it makes the namespaces and the mounts of a plan of ours.

use crate::Outcome;
use crate::bench::Place;
use crate::bench::contender::{self, Contender};
use serde_json::Value;
use std::path::PathBuf;

const NAME: &str = "bubblewrap, the same namespaces and mounts";

const NAMESPACES: [&str; 11] = [
    "--unshare-all",
    "--uid",
    "1000",
    "--gid",
    "1000",
    "--hostname",
    "sandbox",
    "--cap-drop",
    "ALL",
    "--die-with-parent",
    "--new-session",
];

/// What its `--proc` makes read-only where that is needed.
const OF_ITS_PROC: [&str; 4] = ["/proc/bus", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A word of the command.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Is(String),
    /// The number of a file descriptor of the text.
    Text(String),
    /// The number of a file descriptor of the host's file.
    Host(String),
}

/// bubblewrap with the namespaces and mounts of `plan`, the filesystem plan of a bundle.
pub fn contender(place: &Place, plan: &Value, program: &[&str]) -> Outcome<Contender> {
    let directory = |path: &str| std::fs::metadata(path).ok().map(|m| m.is_dir());
    let view = view(plan, &directory)?;
    let mut words: Vec<String> = NAMESPACES.map(str::to_owned).into();
    let mut files = Vec::new();
    for word in view {
        let file = match word {
            Word::Is(word) => {
                words.push(word);
                continue;
            }
            Word::Host(path) => PathBuf::from(path),
            Word::Text(text) => {
                let path = place.path().join(format!("twin-{}", files.len()));
                std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
                path
            }
        };
        // The first word of the command is the program.
        files.push((words.len() + 1, file));
        words.push("FD".into());
    }
    words.extend(program.iter().map(|w| (*w).to_owned()));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let twin = contender::other(NAME, "bwrap", &words).map_err(|(who, why)| format!("{who}: {why}"))?;
    Ok(Contender { files, ..twin })
}

/// The words for the view. `directory` says of a path of the host whether it is one, if it exists.
fn view(plan: &Value, directory: &dyn Fn(&str) -> Option<bool>) -> Outcome<Vec<Word>> {
    let mut words = Vec::new();
    let mut devices: Option<&str> = None;
    for entry in list(plan, "entries")? {
        let unknown = || format!("no words of bubblewrap's for the view's entry {entry}");
        let target = entry["target"].as_str().ok_or_else(unknown)?;
        let what = &entry["what"];
        let (kind, detail) = match what.as_object().and_then(|w| w.iter().next()) {
            Some((kind, detail)) => (kind.as_str(), detail),
            None => (what.as_str().unwrap_or_default(), &Value::Null),
        };
        let text = |key: &str| detail[key].as_str().ok_or_else(unknown);
        let mode = || detail["mode"].as_u64().map(|m| format!("{m:04o}")).ok_or_else(unknown);
        match kind {
            "readOnly" => take(&mut words, &["--ro-bind", text("source")?, target]),
            "writable" => take(&mut words, &["--bind", text("source")?, target]),
            "scratch" => take(&mut words, &["--perms", &mode()?, "--tmpfs", target]),
            "directory" => take(&mut words, &["--perms", &mode()?, "--dir", target]),
            "symlink" => take(&mut words, &["--symlink", text("to")?, target]),
            "proc" => take(&mut words, &["--proc", target]),
            "dev" => {
                devices = Some(target);
                take(&mut words, &["--dev", target]);
            }
            // Its `--dev` brings its own.
            "devpts" if devices.is_some_and(|dev| target.strip_prefix(dev) == Some("/pts")) => {}
            "file" | "copy" => {
                take(&mut words, &["--perms", "0444", "--file"]);
                words.push(match kind {
                    "file" => Word::Text(text("content")?.into()),
                    _ => Word::Host(text("source")?.into()),
                });
                take(&mut words, &[target]);
            }
            _ => return Err(unknown()),
        }
    }
    for path in list(plan, "masked")?.iter().filter_map(Value::as_str) {
        match directory(path) {
            Some(true) => take(&mut words, &["--perms", "0555", "--tmpfs", path, "--remount-ro", path]),
            Some(false) => take(&mut words, &["--ro-bind", "/dev/null", path]),
            None => {}
        }
    }
    for path in list(plan, "readOnlyPaths")?.iter().filter_map(Value::as_str) {
        if directory(path).is_some() && !OF_ITS_PROC.contains(&path) {
            take(&mut words, &["--ro-bind", path, path]);
        }
    }
    take(&mut words, &["--remount-ro", "/"]);
    Ok(words)
}

fn take(words: &mut Vec<Word>, more: &[&str]) {
    words.extend(more.iter().map(|word| Word::Is((*word).to_owned())));
}

fn list<'a>(plan: &'a Value, name: &str) -> Outcome<&'a [Value]> {
    let list = plan[name].as_array();
    list.map(Vec::as_slice)
        .ok_or_else(|| format!("the bundle's filesystem plan has no list {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words(plan: &Value) -> Outcome<String> {
        let directory = |path: &str| match path {
            "/proc/acpi" | "/proc/fs" | "/proc/sys" => Some(true),
            "/proc/keys" => Some(false),
            _ => None,
        };
        let words = view(plan, &directory)?;
        let shown = words.into_iter().map(|word| match word {
            Word::Is(word) => word,
            Word::Text(text) => format!("<{text}>"),
            Word::Host(path) => format!("<{path}"),
        });
        Ok(shown.collect::<Vec<_>>().join(" "))
    }

    fn plan(entries: &Value) -> Value {
        json!({"entries": entries, "masked": [], "readOnlyPaths": []})
    }

    #[test]
    fn every_entry_has_its_words() {
        for (what, expected) in [
            (
                json!({"readOnly": {"source": "/usr", "directory": true}}),
                "--ro-bind /usr /t",
            ),
            (
                json!({"writable": {"source": "/data", "directory": true, "owner": null}}),
                "--bind /data /t",
            ),
            (json!({"scratch": {"mode": 0o1777}}), "--perms 1777 --tmpfs /t"),
            (json!({"directory": {"mode": 0o755}}), "--perms 0755 --dir /t"),
            (json!({"symlink": {"to": "usr/bin"}}), "--symlink usr/bin /t"),
            (json!({"file": {"content": "a b"}}), "--perms 0444 --file <a b> /t"),
            (json!({"copy": {"source": "/etc/x"}}), "--perms 0444 --file </etc/x /t"),
            (json!("proc"), "--proc /t"),
            (json!("dev"), "--dev /t"),
        ] {
            let plan = plan(&json!([{"target": "/t", "what": what}]));
            assert_eq!(words(&plan), Ok(format!("{expected} --remount-ro /")));
        }
    }

    #[test]
    fn devpts_comes_with_dev_alone() {
        let dev = json!({"target": "/dev", "what": "dev"});
        let pts = json!({"target": "/dev/pts", "what": "devpts"});
        assert_eq!(words(&plan(&json!([dev, pts]))), Ok("--dev /dev --remount-ro /".into()));
        assert!(words(&plan(&json!([pts]))).is_err_and(|why| why.contains("devpts")));
    }

    #[test]
    fn covers_lie_on_what_exists() {
        let plan = json!({
            "entries": [],
            "masked": ["/proc/acpi", "/proc/keys", "/proc/kcore"],
            "readOnlyPaths": ["/proc/fs", "/proc/sys", "/proc/none"],
        });
        let expected = "--perms 0555 --tmpfs /proc/acpi --remount-ro /proc/acpi --ro-bind /dev/null /proc/keys \
                        --ro-bind /proc/fs /proc/fs --remount-ro /";
        assert_eq!(words(&plan), Ok(expected.into()));
    }

    #[test]
    fn what_has_no_words_is_refused() {
        let captured = json!([{"target": "/t", "what": {"captured": {"source": "/s", "layer": 0}}}]);
        assert!(words(&plan(&captured)).is_err_and(|why| why.contains("captured")));
        assert!(words(&json!({"entries": []})).is_err_and(|why| why.contains("masked")));
    }
}
