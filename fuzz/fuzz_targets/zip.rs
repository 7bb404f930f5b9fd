//! ZIP archives of pictures with labels.
#![no_main]

use ganymede::data::{self, ImagePolicy};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = data::pictures_from_zip_bytes(bytes, "fuzz", &ImagePolicy::default());
});
