//! A report with something in it changed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sr_fuzz::must_hold("report", data));
