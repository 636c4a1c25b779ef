//! Any text as a policy.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sr_fuzz::must_hold("policy_text", data));
