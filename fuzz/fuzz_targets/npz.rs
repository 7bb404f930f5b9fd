//! Archives of NumPy arrays.
#![no_main]

use ganymede::data::{Split, npy};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = npy::from_npz_bytes(bytes, "fuzz", Split::Train);
});
