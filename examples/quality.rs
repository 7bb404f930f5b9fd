//! How good the pictures of a run get: trains a preset for some steps with each of several seeds, and measures how much of the way from the first,
//! meaningless fakes to real images the samples have come.
//!
//! ```text
//! cargo run --release --example quality -- [--preset NAME] [--data SPEC] [--batch N] [--lr X] [--steps N] [--seeds 0,1,2] [--images 2000] [--require 0.8]
//! ```
//!
//! Settings that are not given are those of `ganymede train`, so that without any argument this measures the default run: `dcgan-28-small` on
//! `builtin:digits` for 1,200 steps. For each seed it prints the sliced Wasserstein distance (512 fixed projections, `eval::swd`) from held-out reals
//! (the data set's test split) to
//!
//! - `initial`: fakes of the untrained generator,
//! - `floor`: as many real images that training sees, which is as near as samples of this number can be expected to come,
//! - `final`: samples of the averaged generator after training,
//!
//! and the share of the gap between the first two that the third has closed. It ends with exit code 1 if a seed closes less than `--require`.

use ganymede::data::{self, DataSet, LoadOptions, Split};
use ganymede::error::{Error, Result};
use ganymede::eval::swd::{DEFAULT_PROJECTIONS, gap_closed, sliced_wasserstein};
use ganymede::gan::step::{Inputs, Z_STREAM};
use ganymede::gan::trainer::Trainer;
use ganymede::gpu::{Gpu, GpuOptions};
use ganymede::ops::noise::{Distribution, Source, noise_twin};
use ganymede::run::config::TrainConfig;
use ganymede::run::layers::Layers;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// Seed of the projections: the same for all measurements, so that they can be compared.
const PROJECTION_SEED: u64 = 0;

struct Options {
    given: Layers,
    seeds: Vec<u64>,
    images: usize,
    require: f64,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quality: error: {error}");
            ExitCode::from(error.exit_code() as u8)
        }
    }
}

/// Whether every seed closed as much of the gap as required.
fn run() -> Result<bool> {
    let options = options(std::env::args().skip(1))?;
    let gpu = Arc::new(Gpu::open(&GpuOptions::default())?);
    println!("{}", gpu.adapter_summary());
    let mut worst = f64::INFINITY;
    for &seed in &options.seeds {
        let mut given = options.given.clone();
        given.flag("--seeds", "training.seed", Some(seed as i64));
        let config = given.resolve(None)?;
        worst = worst.min(measure(&gpu, &config, options.images)?);
    }
    println!("worst of {} seeds: {:.1} % of the gap closed, {:.1} % required", options.seeds.len(), 100.0 * worst, 100.0 * options.require);
    Ok(worst >= options.require)
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options { given: Layers::default(), seeds: vec![0, 1, 2], images: 2000, require: 0.8 };
    while let Some(flag) = args.next() {
        let value = args.next().ok_or_else(|| Error::input(format!("{flag} needs a value")))?;
        let given = &mut options.given;
        match flag.as_str() {
            "--preset" => given.flag("--preset", "preset", Some(value)),
            "--data" => given.flag("--data", "data.source", Some(value)),
            "--batch" => given.flag("--batch", "training.batch", Some(number::<u32>(&flag, &value)?)),
            "--lr" => {
                let lr: f64 = number(&flag, &value)?;
                given.flag("--lr", "generator.optimizer.lr", Some(lr));
                given.flag("--lr", "discriminator.optimizer.lr", Some(lr));
            }
            "--steps" => given.flag("--steps", "run.steps", Some(number::<u32>(&flag, &value)?)),
            "--seeds" => options.seeds = value.split(',').map(|seed| number(&flag, seed)).collect::<Result<_>>()?,
            "--images" => options.images = number(&flag, &value)?,
            "--require" => options.require = number(&flag, &value)?,
            _ => return Err(Error::input(format!("there is no flag {flag}; see the head of examples/quality.rs"))),
        }
    }
    Ok(options)
}

fn number<T: std::str::FromStr>(flag: &str, value: &str) -> Result<T> {
    value.parse().map_err(|_| Error::input(format!("{flag}: {value:?} is not a number of that kind")))
}

/// Trains once, prints a line, and returns the share of the gap that was closed.
fn measure(gpu: &Arc<Gpu>, config: &TrainConfig, images: usize) -> Result<f64> {
    let (source, seed) = (&config.data.source, config.training.seed);
    let side = config.data.size.map_or(0, |size| size as usize);
    let load = |split| data::load(source, &LoadOptions { seed, split, pad_to: Some((side, side)) });
    let (train, test) = (load(Split::Train)?, load(Split::Test)?);
    let n = images.min(train.count).min(test.count);
    let held_out = test.gather_f32(0..n);
    let distance = |other: &[f32]| sliced_wasserstein(&held_out, other, test.image_len(), DEFAULT_PROJECTIONS, PROJECTION_SEED);

    let gan = config.recipe().gan_config(&[train.channels, side, side], train.labels.as_ref().map(|_| train.classes()));
    let mut trainer = Trainer::new(gpu.clone(), gan, &Inputs::Device { images: train.count })?;
    trainer.upload_data(&train.images)?;
    train.labels.iter().try_for_each(|labels| trainer.upload_labels(labels))?;
    let initial = distance(&samples(&trainer, &train, n)?)?;
    let floor = distance(&train.gather_f32(0..n))?;
    let steps = config.last_step(0, 0);
    let begun = Instant::now();
    while trainer.position().step < steps {
        trainer.run_steps((steps - trainer.position().step).min(50) as u32)?;
        trainer.tick_stats()?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let last = distance(&samples(&trainer, &train, n)?)?;
    let closed = gap_closed(initial, last, floor)?;
    println!(
        "{} on {source}, seed {seed}, {steps} steps of {} in {seconds:.1} s, {n} images: initial {initial:.5}, floor {floor:.5}, final {last:.5}, {:.1} % closed",
        config.preset,
        config.training.batch,
        100.0 * closed
    );
    Ok(closed)
}

/// Pictures of seeds 0 to n - 1 as `ganymede sample` makes them, in the data set's order of values.
fn samples(trainer: &Trainer, like: &DataSet, n: usize) -> Result<Vec<f32>> {
    let z_dim = trainer.config().z_dim;
    let row = |seed| noise_twin(Source { seed, stream: Z_STREAM }, Distribution::Normal, 0, z_dim);
    let z: Vec<f32> = (0..n as u64).flat_map(row).map(|v| v as f32).collect();
    let images = trainer.sample(&z)?;
    // The generator's images are channel by channel, a data set's are pixel by pixel.
    let (channels, pixels) = (like.channels, like.height * like.width);
    let planar = |i: usize| (i / (channels * pixels), i / channels % pixels, i % channels);
    let at = |(image, pixel, channel)| images.data[(image * channels + channel) * pixels + pixel];
    Ok((0..images.data.len()).map(|i| at(planar(i))).collect())
}
