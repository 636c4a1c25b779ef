//! `safe-run-wasm`: see [`sr_wasm::worker`].

use std::process::ExitCode;

fn main() -> ExitCode {
    sr_wasm::worker::main().into()
}
