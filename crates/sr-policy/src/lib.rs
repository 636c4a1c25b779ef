//! The policy: its typed form, the presets, strict parsing with positions, `extends`, and the combination rules.
//! No I/O and no system call: text and plain strings in, values and faults out.

mod decode;
pub mod document;
mod explain;
mod format;
mod host;
mod host_call;
mod merge;
mod node;
mod overlay;
pub mod planned;
mod preset;
mod read_json;
mod read_toml;
mod read_yaml;
mod render;
mod required;
mod resolve;
pub mod rules;
mod schema;
mod source;
pub mod spec;
mod suggest;
mod text;
mod words;

pub use document::PolicyDocument;
pub use explain::explain;
pub use format::Format;
pub use host::{Ceilings, HostRules, parse_host};
pub use overlay::{CommandLine, Overlay};
pub use preset::{PRESET_NAMES, preset};
pub use render::{render_path, render_yaml};
pub use resolve::{Loader, resolve};
pub use rules::calls::never_allowed;
pub use rules::files::{MOST as MOST_FILES, can_be_named};
pub use rules::host::{HostContext, validate_host};
pub use schema::json_schema;
pub use source::{PolicySource, parse};
pub use spec::PolicySpec;
pub use words::{Cpus, OrAll, Text, Word};
