//! Trains a GAN on a ring of eight Gaussians and draws its samples over the modes.
//!
//! ```text
//! cargo run --release --example mixture -- [steps] [picture.png]
//! ```

use ganymede::data::{self, LoadOptions};
use ganymede::error::{Error, Result};
use ganymede::gan::step::{Inputs, Z_STREAM};
use ganymede::gan::trainer::Trainer;
use ganymede::gpu::{Gpu, GpuOptions};
use ganymede::ops::noise::{Distribution, Source, noise_twin};
use ganymede::run::presets::preset;
use ganymede::run::view::{PLOT_POINTS, View};
use std::sync::Arc;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let steps: u32 = args.next().and_then(|n| n.parse().ok()).unwrap_or(3000);
    let picture = args.next().unwrap_or_else(|| "mixture.png".into());

    let data = data::load("builtin:ring", &LoadOptions::default())?;
    let vectors = data.vectors.as_ref().ok_or_else(|| Error::input("the ring is made of points"))?;
    let preset = preset("ring")?;
    let gpu = Arc::new(Gpu::open(&GpuOptions::default())?);
    println!("{}", gpu.adapter_summary());
    let mut trainer = Trainer::new(gpu, preset.gan_config(data.channels, preset.batch()), &Inputs::Device { images: data.count })?;
    trainer.upload_vectors(&vectors.values)?;

    // The z of a plot: the same numbers each time.
    let source = Source { seed: 1, stream: Z_STREAM };
    let numbers = PLOT_POINTS * trainer.config().z_dim;
    let z: Vec<f32> = noise_twin(source, Distribution::Normal, 0, numbers).into_iter().map(|v| v as f32).collect();
    let view = View::of(&data);
    let mut left = steps;
    loop {
        let samples = trainer.sample(&z)?;
        if let Some(line) = view.describe(&samples)? {
            println!("step {:>5}  {line}", trainer.position().step);
        }
        if left == 0 {
            let png = view.picture(&samples)?.png()?;
            std::fs::write(&picture, png).map_err(|error| Error::environment(format!("cannot write {picture}: {error}")))?;
            println!("{PLOT_POINTS} samples over the modes are in {picture}");
            return Ok(());
        }
        let tick = left.min(500);
        trainer.run_steps(tick)?;
        trainer.check_finite()?;
        left -= tick;
    }
}
