//! IDX images, gzipped or not.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = ganymede::data::idx::from_bytes(bytes, "fuzz");
});
