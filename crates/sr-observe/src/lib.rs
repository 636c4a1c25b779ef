//! What a program did, and was denied: read from what its run recorded; the policy learned from that, or from another
//! tool's profile. It knows no backend.

pub mod learn;
pub mod places;
pub mod profile;
pub mod why;
