//! Pictures of every format, past the checksum of an archive, and resized.
#![no_main]

use ganymede::data::policy::{ImagePolicy, Resize};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let policy = ImagePolicy { resize: Some(Resize::Fit), size: Some(8), ..ImagePolicy::default() };
    let _ = ganymede::data::picture_from_bytes(bytes, "fuzz", &policy);
});
