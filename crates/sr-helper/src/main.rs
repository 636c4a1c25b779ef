//! `safe-run-helper`: see the library. It takes no arguments, and no environment but who called.

use sr_helper::{CONFIG, Places, STATE, Told, serve};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// A terminal's or sudo's: it ends when its caller does, and not before it has cleaned up.
const BLOCKED: [i32; 7] = [1, 2, 3, 15, 20, 21, 22];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Nobody may be reading.
            let _ = writeln!(std::io::stderr(), "safe-run-helper: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let told = Told {
        sudo: std::env::var_os("SUDO_UID").map(|uid| uid.to_string_lossy().into_owned()),
        pkexec: std::env::var_os("PKEXEC_UID").map(|uid| uid.to_string_lossy().into_owned()),
    };
    sr_kernel::process::clear_environment();
    if std::env::args_os().len() > 1 {
        return Err("it takes no arguments: Safe-Run starts it, see OPERATIONS.md".into());
    }
    // Set-uid it would have the caller's real uid, and be theirs to signal.
    if !rustix::process::getuid().is_root() || !rustix::process::geteuid().is_root() {
        return Err("it must be started as root, by sudo or pkexec, and never be setuid".into());
    }
    let shown = |what: &'static str| move |e: std::io::Error| format!("{what}: {e}");
    sr_kernel::process::close_from(3).map_err(shown("closing descriptors"))?;
    let _blocked = sr_kernel::process::signal_descriptor(&BLOCKED).map_err(shown("blocking signals"))?;
    sr_kernel::process::set_not_dumpable().map_err(shown("PR_SET_DUMPABLE"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    rustix::process::chdir("/").map_err(|e| format!("/: {e}"))?;
    let places = Places {
        config: Path::new(CONFIG),
        state: Path::new(STATE),
    };
    serve(rustix::stdio::stdin(), &told, places)
}
