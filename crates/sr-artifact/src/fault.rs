//! How things go wrong here, in the one shape of an error.

use sr_common::{Code, Fault};
use std::io;
use std::path::Path;

/// `path` is a stage below `artifact`, such as `build.kernel`.
pub(crate) fn fault(path: &str, found: impl Into<String>, remedy: impl Into<String>) -> Fault {
    Fault::new(Code::Run001, format!("artifact.{path}"), found, remedy)
}

/// A file or directory that cannot be worked with.
pub(crate) fn on(path: &Path) -> impl Fn(io::Error) -> Fault {
    move |error| {
        let remedy = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "make room there (safe-run artifact gc), or name another run store with SAFE_RUN_WORKDIR_BASE"
            }
            io::ErrorKind::NotFound => "name what exists",
            _ => "see that it is yours and can be written",
        };
        fault("files", format!("{}: {error}", path.display()), remedy)
    }
}
