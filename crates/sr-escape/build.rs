//! Finds what of tests/escape the program carries: the cases whose header says `harmless: yes`, and what cases share.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// As far down as a header goes.
const HEADER: usize = 40;

fn main() -> io::Result<()> {
    let corpus = Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../../tests/escape");
    let corpus = corpus.canonicalize()?;
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", corpus.display());
    let (mut cases, mut shared) = (Vec::new(), Vec::new());
    for name in ["lib.h", "lib.py", "lib.sh"] {
        shared.push(corpus.join(name));
    }
    let groups: Vec<PathBuf> = entries(&corpus)?.into_iter().filter(|p| p.is_dir()).collect();
    for path in groups
        .iter()
        .map(|group| entries(group))
        .collect::<io::Result<Vec<_>>>()?
        .concat()
    {
        match path.extension().and_then(|e| e.to_str()) {
            Some("h") => shared.push(path),
            Some("c" | "py" | "sh") if is_harmless(&fs::read_to_string(&path)?) => cases.push(path),
            _ => {}
        }
    }
    let mut out = String::new();
    for (name, files) in [("CASES", cases), ("SHARED", shared)] {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "pub static {name}: [File; {}] = [", files.len());
        for file in files {
            let path = file.strip_prefix(&corpus).unwrap_or(&file).to_owned();
            let _ = writeln!(out, "    File {{ path: {path:?}, text: include_str!({file:?}) }},");
        }
        out.push_str("];\n");
    }
    let to = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("carried.rs");
    fs::write(to, out)
}

/// Whether a header says so. What it may say is the reader's business: a test reads every case that is carried.
fn is_harmless(text: &str) -> bool {
    let marks = [' ', '*', '/', '#'];
    text.lines()
        .take(HEADER)
        .any(|line| line.trim_start_matches(marks).starts_with("harmless:"))
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)?.map(|e| Ok(e?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    Ok(paths)
}
