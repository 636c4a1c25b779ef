//! Canonical JSON (RFC 8785), the only byte form in which Safe-Run hashes or signs a document.

use serde::Serialize;

/// The canonical bytes of `value`. Fails on what RFC 8785 cannot express: NaN, infinities, non-string keys.
pub fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    serde_json_canonicalizer::to_vec(value)
}

/// The canonical text of `value`.
pub fn to_text<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    serde_json_canonicalizer::to_string(value)
}

/// SHA-256 of the canonical bytes.
pub fn digest<T: Serialize>(value: &T) -> Result<crate::Digest, serde_json::Error> {
    Ok(crate::Digest::of(&to_bytes(value)?))
}
