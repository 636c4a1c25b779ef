//! What a program did, and was denied: read from what its run recorded. It knows no backend.

pub mod learn;
pub mod profile;
pub mod why;
