//! A policy file that has been read: its typed document, and the text to which faults point.

use crate::decode::{Decode, Decoder};
use crate::document::PolicyDocument;
use crate::format::Format;
use crate::node::{Kind, Node, Typed};
use crate::text::SourceText;
use crate::{read_json, read_toml, read_yaml, required};
use sr_common::{Fault, SourceLine};

/// One policy file, its form checked; `extends` is not followed yet.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicySource {
    pub document: PolicyDocument,
    pub(crate) layer: Layer,
}

/// A text and its tree, for pointing at places.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layer {
    pub source: SourceText,
    pub root: Node,
}

impl PolicySource {
    /// The name under which the file was read.
    pub fn file_name(&self) -> &str {
        &self.layer.source.name
    }

    /// The line that holds the field `path` (`mounts[1].source`), if the file has it.
    pub fn line_of(&self, path: &str) -> Option<SourceLine> {
        let located = self.layer.root.locate(path);
        located.complete.then(|| self.layer.source.line_at(located.at))
    }

    /// Gives each fault that has no line yet (those of `validate_host`) the line of its field, where this file has it.
    pub fn point(&self, faults: &mut [Fault]) {
        for fault in faults.iter_mut().filter(|f| f.source.is_none()) {
            fault.source = self.line_of(&fault.path);
        }
    }
}

/// Reads a policy file of at most 1 MiB of UTF-8 and checks its form.
///
/// # Errors
/// `SR-POL-001` for required fields that are missing (all of them, for an empty document), `SR-POL-002` for anything
/// malformed: syntax, encoding, size, depth, unknown or duplicate keys, wrong types, hostile characters, aliases,
/// several documents. As many faults as can be told in one pass, at most 64; never an empty list.
pub fn parse(file_name: &str, text: &[u8], format: Format) -> Result<PolicySource, Vec<Fault>> {
    let layer = read(file_name, text, format).map_err(|fault| vec![fault])?;
    let mut d = Decoder::new(&layer.source);
    let document = PolicyDocument::decode(&layer.root, &mut d);
    if let Some(document) = &document {
        required::check(document, &layer.root, &mut d);
    }
    let faults = d.finish();
    match document {
        Some(document) if faults.is_empty() => Ok(PolicySource { document, layer }),
        _ => Err(faults),
    }
}

/// The tree of a text in any of the three languages; an empty document is an empty map.
pub(crate) fn read(file_name: &str, text: &[u8], format: Format) -> Result<Layer, Fault> {
    let source = SourceText::new(file_name, text)?;
    let mut root = match format {
        Format::Yaml => read_yaml::read(&source)?,
        Format::Json => read_json::read(&source)?,
        Format::Toml => read_toml::read(&source)?,
    };
    if matches!(root.kind, Kind::Typed(Typed::Null, _)) {
        root.kind = Kind::Map(Vec::new());
    }
    Ok(Layer { source, root })
}
