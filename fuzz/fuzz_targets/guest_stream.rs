//! What a hostile guest says to its host.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sr_fuzz::must_hold("guest_stream", data));
