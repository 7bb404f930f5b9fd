//! NumPy arrays.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = ganymede::data::npy::from_bytes(bytes, "fuzz");
});
