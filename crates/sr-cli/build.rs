//! How the program is linked, as far as the linker at hand can: with the C library and the unwinder in it (as ever
//! position-independent), which a start then neither loads nor relocates; and written in one piece. Every option is tried on
//! a program that does nothing first: what does not link and run is left out.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the standard library links by these names (`-l`), as archives.
const C_LIBRARY: [&str; 6] = ["c", "m", "rt", "pthread", "util", "dl"];

/// The standard library's own linker maps its output by default, and by this option, the other way round than its help
/// says, writes it. A file that was written lies in the page cache in large pieces, one that was mapped page by page; each
/// page of it that a start touches is then mapped, and unmapped at its end, by itself: a twelfth of all that a start costs.
const WRITTEN: &str = "-Wl,--mmap-output-file";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_ENV").as_deref() != Ok("gnu") || env::var("HOST") != env::var("TARGET") {
        return Ok(());
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let mut library = Vec::new();
    if let Some(archives) = archives(&["gcc_eh"]) {
        // The unwinder is linked by another name than its archive's.
        let shared_name = archives.iter().map(|(_, path)| ("libgcc_s.a".to_owned(), path.clone()));
        let dir = links(out.join("unwinder"), archives.iter().cloned().chain(shared_name))?;
        println!("cargo::rustc-link-search=native={}", dir.display());
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
        library = vec![
            format!("-Lnative={}", dir.display()),
            "-lstatic:-bundle=gcc_eh".to_owned(),
        ];
    }
    let mut options = vec![vec![WRITTEN.to_owned()]];
    if let Some(archives) = archives(&C_LIBRARY) {
        // Beside the shared library the linker would not take the archive.
        let dir = links(out.join("static"), archives)?;
        // The archive asks for the compiler's own functions, where the shared library has them.
        options.push(vec![
            format!("-L{}", dir.display()),
            "-static-pie".to_owned(),
            "-lgcc".to_owned(),
        ]);
    }
    for option in options {
        if works(&out, &library, &option)? {
            option
                .iter()
                .for_each(|argument| println!("cargo::rustc-link-arg-bins={argument}"));
        }
    }
    Ok(())
}

/// The archives of these libraries, if the C compiler has them all.
fn archives(names: &[&str]) -> Option<Vec<(String, PathBuf)>> {
    let find = |name: &&str| {
        let file = format!("lib{name}.a");
        let asked = Command::new("cc")
            .arg(format!("-print-file-name={file}"))
            .output()
            .ok()?;
        let path = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
        let found = path.is_absolute() && path.exists();
        if found {
            // A library that was mended since is linked anew.
            println!("cargo::rerun-if-changed={}", path.display());
        }
        found.then_some((file, path))
    };
    names.iter().map(find).collect()
}

/// Makes `dir` a directory of these links alone.
fn links(dir: PathBuf, links: impl IntoIterator<Item = (String, PathBuf)>) -> io::Result<PathBuf> {
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    for (name, target) in links {
        symlink(target, dir.join(name))?;
    }
    Ok(dir)
}

/// Whether a program that is linked with these arguments, as cargo links, can be made and run.
fn works(out: &Path, library: &[String], option: &[String]) -> io::Result<bool> {
    let (source, program) = (out.join("probe.rs"), out.join("probe"));
    fs::write(&source, "fn main() {}\n")?;
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg(format!("-Clinker={linker}"));
    }
    rustc.args(library);
    rustc.args(option.iter().map(|argument| format!("-Clink-arg={argument}")));
    rustc.arg("-o").arg(&program).arg(&source);
    let quietly = |command: &mut Command| {
        let run = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        run.status().is_ok_and(|status| status.success())
    };
    Ok(quietly(&mut rustc) && quietly(&mut Command::new(&program)))
}
