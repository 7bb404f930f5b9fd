//! Trains a preset through the library: no run folder, no command line.
//!
//! ```text
//! cargo run --release --example dcgan -- [preset] [steps] [picture.png]
//! ```

use ganymede::data::{self, LoadOptions};
use ganymede::error::Result;
use ganymede::gan::step::{Inputs, Z_STREAM};
use ganymede::gan::trainer::Trainer;
use ganymede::gpu::{Clock, Gpu, GpuOptions};
use ganymede::ops::noise::{Distribution, Source, noise_twin};
use ganymede::run::presets::preset;
use std::sync::Arc;
use std::time::Instant;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let preset = preset(&args.next().unwrap_or_else(|| "dcgan-28-small".into()))?;
    let steps: u32 = args.next().and_then(|n| n.parse().ok()).unwrap_or(200);
    let picture = args.next().unwrap_or_else(|| "fakes.png".into());

    let side = preset.image();
    let data = data::load("builtin:digits", &LoadOptions { pad_to: Some((side, side)), ..LoadOptions::default() })?;
    let config = preset.gan_config(data.channels, preset.batch());

    let gpu = Arc::new(Gpu::open(&GpuOptions::default())?);
    println!("{}", gpu.adapter_summary());
    let mut trainer = Trainer::new(gpu, config, &Inputs::Device { images: data.count })?;
    trainer.upload_data(&data.images)?;

    let mut left = steps;
    while left > 0 {
        let tick = left.min(50);
        let start = Instant::now();
        trainer.run_steps(tick)?;
        let stats = trainer.tick_stats()?;
        let rate = tick as f64 * preset.batch() as f64 / start.elapsed().as_secs_f64();
        let text: Vec<String> = stats.iter().map(|(stat, s)| format!("{} {:.3}", stat.name(), s.mean)).collect();
        println!("step {:>5}  {rate:6.1} images/s  {}", trainer.position().step, text.join("  "));
        left -= tick;
    }

    // Where a step's time goes, if the adapter has timestamps; `ganymede profile` says more.
    let timed = trainer.time_step()?;
    if timed.clock != Clock::Host {
        let costs = trainer.plan().dispatches.iter().map(|(_, d)| (d.cost.flops, d.kernel.variant));
        let mut times: Vec<_> = timed.spans.iter().zip(costs).filter_map(|(span, cost)| Some((span.ns?, &span.label, cost))).collect();
        times.sort_by(|a, b| b.0.total_cmp(&a.0));
        let total: f64 = times.iter().map(|(ns, ..)| ns).sum();
        println!("{} dispatches in {:.1} ms; the slowest:", times.len(), total / 1e6);
        for (ns, label, (flops, variant)) in times.iter().take(12) {
            println!("{:9.3} ms {:7.1} GFLOP/s  {label} {variant}", ns / 1e6, *flops as f64 / ns);
        }
    }

    // The z of a grid: the same numbers on the host as on the device.
    let source = Source { seed: 1, stream: Z_STREAM };
    let z: Vec<f32> =
        noise_twin(source, Distribution::Normal, 0, 64 * preset.config.generator.z as usize).into_iter().map(|v| v as f32).collect();
    let images = trainer.sample(&z)?;
    ganymede::run::grid::write(std::path::Path::new(&picture), &images, 8, 8)
}
