//! Layers of a stranger's, the tree that comes of them, and its image.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sr_fuzz::must_hold("layers", data));
