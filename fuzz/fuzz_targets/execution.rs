//! A random filter: our interpreter against the kernel's.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sr_fuzz::must_hold("execution", data));
