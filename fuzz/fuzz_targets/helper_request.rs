//! What a hostile caller says to safe-run-helper.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sr_fuzz::must_hold("helper_request", data));
