//! Links the unwinder statically where the C compiler has it so: of all that a run's start loads, `libgcc_s.so` is the one
//! library that `/bin/true` does not need.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_ENV").as_deref() != Ok("gnu") || env::var("HOST") != env::var("TARGET") {
        return;
    }
    // The linker is asked, not assumed: without the archive the shared library is used, as ever.
    let Ok(asked) = Command::new("cc").arg("-print-file-name=libgcc_eh.a").output() else {
        return;
    };
    let path = String::from_utf8_lossy(&asked.stdout);
    let path = Path::new(path.trim());
    if let Some(dir) = path.parent().filter(|_| path.is_absolute() && path.exists()) {
        println!("cargo::rustc-link-search=native={}", dir.display());
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
    }
}
