//! The filter of a generated policy against its plan.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sr_fuzz::must_hold("filter", data));
