//! Evidence of a run: events in a hash chain, the report, signatures over both, and their verification.
//! Usable alone: it knows files and keys, not how a run happens, and reads no environment variable.

pub mod approval;
pub mod attestation;
pub mod clock;
pub mod dsse;
pub mod event;
pub mod export;
pub mod files;
pub mod head;
pub mod key;
pub mod keystore;
pub mod log;
pub mod merkle;
pub mod portable;
pub mod report;
pub mod seal;
pub mod verify;
