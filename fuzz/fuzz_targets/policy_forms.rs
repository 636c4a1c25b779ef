//! A generated policy in three languages, and one of these texts changed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sr_fuzz::must_hold("policy_forms", data));
