//! What a generated policy compiles to on a generated host.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sr_fuzz::must_hold("bundle", data));
