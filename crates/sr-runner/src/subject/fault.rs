//! The faults of this search, each `SR-RUN-001`.

use sr_common::{Code, Fault};
use std::path::Path;

pub(super) const COMMAND: &str = "runtime.command";

pub(super) fn run(path: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Fault {
    Fault::new(Code::Run001, path, found, remedy)
}

pub(super) fn text(path: &Path, field: &str) -> Result<String, Fault> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        run(
            field,
            format!("the path {} is not UTF-8", path.display()),
            "rename it: documents hold UTF-8 only",
        )
    })
}
