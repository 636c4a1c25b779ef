//! Any file of the evidence replaced by anything.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sr_fuzz::must_hold("documents", data));
