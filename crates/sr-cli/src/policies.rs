//! Finds the policy that somebody named, a preset or a file with all that it extends, and saves one.

use crate::read;
use sr_common::{Code, Fault};
use sr_policy::{Format, PRESET_NAMES, PolicySpec, parse, preset, render_yaml, resolve};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The preset under which a run goes that names no policy.
pub const DEFAULT: &str = "standard";

/// A complete policy and where it came from.
pub struct Found {
    pub spec: PolicySpec,
    /// The file and those it extends, canonical; none for a preset.
    pub files: Vec<PathBuf>,
}

/// The policy that `name` means: a file if it holds `/` or `.`, else a preset.
pub fn find(name: &OsStr) -> Result<Found, Vec<Fault>> {
    let bytes = name.as_encoded_bytes();
    if bytes.iter().any(|b| matches!(b, b'/' | b'.')) {
        return file(Path::new(name));
    }
    let spec = name.to_str().and_then(preset).ok_or_else(|| vec![unknown(name)])?;
    Ok(Found {
        spec,
        files: Vec::new(),
    })
}

fn unknown(name: &OsStr) -> Fault {
    let shown = name.display();
    let mut remedy = format!("write {}, or a file's path with `/` or `.`", PRESET_NAMES.join(", "));
    if Path::new(name).exists() {
        remedy = format!("for the file write ./{shown}");
    }
    Fault::new(Code::Pol002, "policy", format!("there is no preset {shown}"), remedy)
}

fn file(path: &Path) -> Result<Found, Vec<Fault>> {
    let name = path.to_str().ok_or_else(|| {
        vec![Fault::new(
            Code::Pol002,
            "policy",
            format!("the name {} is not UTF-8", path.display()),
            "rename the file",
        )]
    })?;
    let files = RefCell::new(Vec::new());
    let load = |name: &str, field: &str| -> Result<Vec<u8>, Fault> {
        let document = read::document(Path::new(name), field)?;
        // The file is there: it was read just now.
        files
            .borrow_mut()
            .push(Path::new(name).canonicalize().unwrap_or_else(|_| name.into()));
        Ok(document.bytes)
    };
    let text = load(name, "policy").map_err(|fault| vec![fault])?;
    let source = parse(name, &text, Format::of(name))?;
    let spec = resolve(&source, &|name: &str| Ok((name.to_owned(), load(name, "extends")?)))?;
    Ok(Found {
        spec,
        files: files.into_inner(),
    })
}

/// Writes `policy` to `file`: whole, or what was there stays. Through a link, into the file that it leads to; a pipe or a device is
/// written as it is.
pub fn save(file: &Path, policy: &PolicySpec) -> Result<(), Fault> {
    let text = render_yaml(policy);
    let target = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let written = match std::fs::metadata(&target) {
        Ok(there) if !there.is_file() => std::fs::write(&target, text),
        _ => replace(&target, &text),
    };
    written.map_err(|e| {
        let found = format!("{} cannot be written: {e}", file.display());
        Fault::new(
            Code::Evd002,
            "save",
            found,
            "name a file in a directory that you can write to",
        )
    })
}

fn replace(target: &Path, text: &str) -> std::io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let new = target.with_file_name(name);
    let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, target));
    if written.is_err() {
        // It may not have come so far.
        let _ = std::fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_saved_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let policy = sr_policy::preset("strict").unwrap();
        let (file, link) = (dir.path().join("p.yaml"), dir.path().join("link.yaml"));
        std::fs::write(&file, "before").unwrap();
        std::os::unix::fs::symlink("p.yaml", &link).unwrap();
        save(&link, &policy).unwrap();
        assert!(std::fs::read_to_string(&file).unwrap().contains("strict"));
        assert!(link.is_symlink());
        // A name with which nothing can be made beside it stands for a disk that is full.
        std::fs::create_dir(dir.path().join(format!(".q.yaml.{}", std::process::id()))).unwrap();
        let other = dir.path().join("q.yaml");
        std::fs::write(&other, "before").unwrap();
        assert_eq!(save(&other, &policy).unwrap_err().path, "save");
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "before");
        save(Path::new("/dev/null"), &policy).unwrap();
    }

    fn refused(name: &OsStr) -> Fault {
        find(name).err().unwrap().remove(0)
    }

    #[test]
    fn a_dot_or_slash_makes_a_file() {
        assert!(find(OsStr::new("strict")).unwrap().files.is_empty());
        assert!(refused(OsStr::new("strct")).found.contains("no preset strct"));
        assert!(refused(OsStr::new("./strict")).found.contains("does not exist"));
    }

    #[test]
    fn extends_is_read_beside_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let base = "apiVersion: safe-run/v1\nmetadata: {name: b}\nextends: strict\nruntime: {args: []}\nmounts: []\n";
        let top =
            "apiVersion: safe-run/v1\nmetadata: {name: t}\nextends: sub/base.yaml\nruntime: {args: []}\nmounts: []\n";
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("sub/base.yaml"), base).unwrap();
        std::fs::write(dir.path().join("top.yaml"), top).unwrap();
        let found = find(dir.path().join("top.yaml").as_os_str()).unwrap();
        assert_eq!(
            (
                found.spec.metadata.name.as_str(),
                found.spec.resources.pids,
                found.files.len()
            ),
            ("t", Some(64), 2)
        );
        std::fs::write(dir.path().join("top.yaml"), top.replace("sub/base", "sub/none")).unwrap();
        let fault = refused(dir.path().join("top.yaml").as_os_str());
        assert_eq!(
            (fault.path.as_str(), fault.source.map(|s| s.line)),
            ("extends", Some(3))
        );
    }
}
