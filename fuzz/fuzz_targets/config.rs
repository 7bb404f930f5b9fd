//! Config files: whatever they say is refused with exit code 2, or becomes settings that their own text gives back, and whose networks and
//! training step can be built or are refused likewise.
#![no_main]

use std::path::Path;

use ganymede::error::Result;
use ganymede::gan::step::Inputs;
use ganymede::gan::trainer;
use ganymede::graph::lower::Caps;
use ganymede::nn::summary;
use ganymede::run::config::TrainConfig;
use ganymede::run::layers::Layers;

/// Steps with more layers, or more floating-point operations a sample, only cost time here.
const MOST_LAYERS: usize = 24;
const MOST_FLOPS: u64 = 1 << 28;

fn resolve(text: &str) -> Result<TrainConfig> {
    let mut layers = Layers::default();
    layers.text(Path::new("fuzz.toml"), text.to_string())?;
    layers.resolve(None)
}

fn bad_input<T>(result: Result<T>) -> Option<T> {
    result.map_err(|error| assert_eq!(error.exit_code(), 2, "{error}")).ok()
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Some(config) = bad_input(resolve(text)) else { return };
    let written = config.to_toml().expect("settings have a text");
    assert_eq!(resolve(&written).expect("the text of settings is read back"), config);
    for (sample, classes) in [(&[1, 28, 28][..], Some(10)), (&[3, 8, 8], None), (&[2], Some(3))] {
        let (generator, discriminator) = config.recipe().networks(sample, classes);
        let rows = [&generator, &discriminator].map(|network| bad_input(summary::rows(network)));
        let [Some(generator), Some(discriminator)] = rows else { continue };
        let small = [generator, discriminator].iter().all(|rows| {
            rows.len() <= MOST_LAYERS && rows.iter().all(|row| row.flops <= MOST_FLOPS && row.parameters <= 1 << 24)
        });
        if small && config.training.batch <= 64 {
            bad_input(trainer::plan(&config.recipe().gan_config(sample, classes), &Inputs::Device { images: 100 }, &Caps::minimal()));
        }
    }
});
