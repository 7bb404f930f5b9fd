//! CIFAR-10 records, in a tar archive or alone, gzipped or not.
#![no_main]

use ganymede::data::{Split, cifar};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for split in [Split::Train, Split::Test] {
        let _ = cifar::from_bytes(bytes, "fuzz", split);
    }
});
