//! The group `step`: whole training steps.

use super::timing::Budget;
use super::{Add, Better, Group, Measurement, Options};
use crate::data::{self, DataSet, LoadOptions};
use crate::error::{Error, Result};
use crate::gan::config::GanConfig;
use crate::gan::precision;
use crate::gan::step::Inputs;
use crate::gan::trainer::Trainer;
use crate::gpu::{Clock, Gpu};
use crate::graph::precision::Precision;
use crate::run::presets::Preset;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Presets that are measured when none is named.
const DEFAULT: [&str; 5] = ["mlp", "dcgan-28-small", "dcgan-28", "dcgan-32", "dcgan-64"];
/// Seconds for each preset, unless told otherwise.
const SECONDS: f64 = 10.0;
/// Submits of single steps by which host time is measured.
const HOST_SAMPLES: usize = 10;
/// Steps whose dispatches are timed one by one.
const TIMED_STEPS: usize = 3;

/// Runs the group.
///
/// # Errors
/// [`Error::SelfTest`] if a loss is not finite; else as [`Trainer::new`], a table of kernels that does not fit included.
pub fn run(gpu: &Arc<Gpu>, options: &Options, add: &mut Add) -> Result<()> {
    for preset in options.presets(&DEFAULT) {
        let mut name = name(preset, options.batch(preset));
        if options.precision != Precision::F32 {
            // Results are compared by name.
            name = format!("{name}, {}", options.precision);
        }
        if options.wants(&name, "") {
            add(measure(gpu, options, preset, &name)?)?;
        }
    }
    Ok(())
}

/// `dcgan-32, batch 64`.
pub fn name(preset: &Preset, batch: usize) -> String {
    format!("{}, batch {batch}", preset.name)
}

/// The preset's built-in data, at its size.
pub fn images(preset: &Preset) -> Result<DataSet> {
    data::load(preset.data(), &LoadOptions { pad_to: Some((preset.image(), preset.image())), ..LoadOptions::default() })
}

fn measure(gpu: &Arc<Gpu>, options: &Options, preset: &Preset, name: &str) -> Result<Measurement> {
    let batch = options.batch(preset);
    let data = images(preset)?;
    let before = gpu.memory_allocated();
    let inputs = Inputs::Device { images: data.count };
    let config = GanConfig { precision: options.precision, variants: options.variants.clone(), ..preset.gan_config(data.channels, batch) };
    let settled = precision::settle(gpu, &config, &inputs)?;
    if settled.precision != options.precision {
        // Numbers of f32 under the name of f16 would be worse than none.
        return Err(Error::environment(settled.note.unwrap_or_default()));
    }
    let mut trainer = Trainer::new(gpu.clone(), config, &inputs)?;
    trainer.upload_data(&data.images)?;
    data.labels.iter().try_for_each(|labels| trainer.upload_labels(labels))?;
    // The first step compiles what the driver has put off.
    trainer.set_steps_per_submit(Some(1));
    trainer.run_steps(1)?;
    gpu.wait()?;

    let time = Duration::from_secs_f64(options.seconds.unwrap_or(SECONDS));
    let start = Instant::now();
    let mut host = Vec::new();
    let mut single = Vec::new();
    while single.is_empty() || single.len() < HOST_SAMPLES && start.elapsed() < time / 4 {
        let begun = Instant::now();
        trainer.run_steps(1)?;
        host.push(begun.elapsed().as_secs_f64());
        gpu.wait()?;
        single.push(begun.elapsed().as_secs_f64());
    }
    let step = single.iter().copied().fold(f64::INFINITY, f64::min);

    // A preset whose step takes all the time is measured by that one step.
    let is_slow = step > time.as_secs_f64();
    let (seconds, steps) = if is_slow && options.runs.is_none() {
        (vec![step], 1)
    } else {
        trainer.set_steps_per_submit(None);
        // One more step alone: from it the trainer learns how many steps to submit at once.
        trainer.run_steps(1)?;
        gpu.wait()?;
        let budget = Budget { time, runs: options.runs, sample: Duration::ZERO };
        let in_sample = (time.as_secs_f64() / 12.0 / step).clamp(1.0, 1000.0) as u32;
        let mut seconds = Vec::new();
        let start = Instant::now();
        while !budget.is_enough(seconds.len(), start.elapsed()) {
            let begun = Instant::now();
            trainer.run_steps(in_sample)?;
            gpu.wait()?;
            seconds.push(begun.elapsed().as_secs_f64() / f64::from(in_sample));
        }
        let steps = seconds.len() * in_sample as usize;
        (seconds, steps)
    };
    let allocated = gpu.memory_allocated();

    let samples = seconds.iter().map(|s| batch as f64 / s).collect();
    let best = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let dispatches = trainer.plan().dispatches.len();
    let mut m = Measurement::new(Group::Step, name, "", "images/s", Better::Higher, samples)?
        .with("steps", steps as f64)
        .with("batch", batch as f64)
        .with("dispatches", dispatches as f64)
        .with("step_ms", best * 1e3)
        .with("gflops", trainer.plan().flops() as f64 / best * 1e-9)
        .with("host_us_per_dispatch", host.iter().copied().fold(f64::INFINITY, f64::min) * 1e6 / dispatches as f64)
        .with("planned_mb", trainer.memory() as f64 * 1e-6)
        .with("texture_mb", trainer.plan().memory().textures as f64 * 1e-6);
    if let (Some(before), Some(after)) = (before, allocated) {
        m = m.with("allocated_mb", after.saturating_sub(before) as f64 * 1e-6);
    }
    let mut busy = f64::INFINITY;
    let timed_steps = if is_slow { 1 } else { TIMED_STEPS };
    // The host's clock would count a submit and a wait for each dispatch.
    for _ in 0..if gpu.clock() == Clock::Host { 0 } else { timed_steps } {
        let run = trainer.time_step()?;
        busy = busy.min(run.spans.iter().filter_map(|s| s.ns).sum::<f64>() * 1e-9);
    }
    if busy.is_finite() {
        m = m.with("device_ms", busy * 1e3).with("idle_share", (1.0 - busy / best).max(0.0));
    }
    let losses = trainer.losses()?;
    if losses.iter().any(|l| !l.is_finite()) {
        return Err(Error::SelfTest(format!("{name}: losses {losses:?} are not finite, so that the step is not timed")));
    }
    Ok(m)
}
