//! An archive of a stranger's, as it is read.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sr_fuzz::must_hold("archive", data));
