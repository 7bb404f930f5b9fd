//! Checkpoints: safetensors files with settings in their metadata. What is read can be written and is the same then.
#![no_main]

use std::path::Path;

use ganymede::nn::summary;
use ganymede::run::checkpoint;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzz.safetensors");
    let state = match checkpoint::decode(bytes, path) {
        Ok(state) => state,
        Err(error) => return assert_eq!(error.exit_code(), 2, "{error}"),
    };
    let (generator, _) = state.recipe.networks(&state.data.sample(), state.data.classes());
    if let Err(error) = summary::rows(&generator) {
        assert_eq!(error.exit_code(), 2, "{error}");
    }
    // Numbers that are not finite are never written.
    if let Ok(written) = checkpoint::encode(&state) {
        let again = checkpoint::decode(&written, path).expect("a checkpoint just written");
        assert!(again == state, "{again:?}");
    }
});
