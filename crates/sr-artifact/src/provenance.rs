//! Where an artifact is from: how it was made, and of what.

use serde::{Deserialize, Serialize};
use sr_common::Digest;
use std::collections::BTreeMap;

/// Kept with an artifact's name. No time is in it: the same making gives the same record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Provenance {
    /// What was done: `build kernel`, `import oci`.
    pub how: String,
    /// In a fixed order.
    pub inputs: Vec<Input>,
    /// Of a kernel and its modules: what `uname -r` says in its guest.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub release: Option<String>,
    /// Of a root file system: `erofs`, `squashfs` or `ext4`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub format: Option<String>,
    /// What belongs to this one: by their kind other artifacts, a kernel's `modules`; by another word what is not in the store.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub with: BTreeMap<String, Digest>,
    /// How an image's author wanted it to be started.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub config: Option<ImageConfig>,
    /// What of the inputs is not in the artifact, and what is in it that was not in them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notes: Vec<String>,
}

/// One thing that an artifact was made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Input {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    /// Of a package, a layer, a file as it was read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<Digest>,
}

/// Of a container image: what it says of its command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageConfig {
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub working_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user: Option<String>,
}
