//! Builds two networks in Rust, with a skip and a residual block, and trains them with losses and optimisers of its own choice: what
//! `docs/CONFIG.md` writes as text.
//!
//! ```text
//! cargo run --release --example custom_network -- [steps] [picture.png]
//! ```

use ganymede::data::{self, LoadOptions};
use ganymede::error::Result;
use ganymede::gan::config::GanConfig;
use ganymede::gan::loss::{LossConfig, LossKind};
use ganymede::gan::schedule::Schedule;
use ganymede::gan::step::{Inputs, Z_STREAM};
use ganymede::gan::trainer::Trainer;
use ganymede::gpu::{Gpu, GpuOptions};
use ganymede::nn::layer::{Layer, Names, UpsampleMode};
use ganymede::nn::network::{InitScheme, Network};
use ganymede::nn::summary;
use ganymede::ops::noise::{Distribution, Source, noise_twin};
use ganymede::ops::optimiser::{Clip, Optimiser};
use ganymede::run::grid;
use std::path::Path;
use std::sync::Arc;

const Z: usize = 64;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let steps: u32 = args.next().and_then(|n| n.parse().ok()).unwrap_or(300);
    let picture = args.next().unwrap_or_else(|| "custom.png".into());

    let data = data::load("builtin:digits", &LoadOptions::default())?;
    let sample = [data.channels, data.height, data.width];
    let (generator, discriminator) = (generator(&sample), discriminator(&sample));
    println!("{}\n{}", summary::table(&generator)?, summary::table(&discriminator)?);

    let config = GanConfig {
        loss: LossConfig { kind: LossKind::Hinge, ..LossConfig::default() },
        optimiser_d: Optimiser::Adam { beta1: 0.5, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 },
        lr_g: Schedule::linear(4e-4, 1e-4, 20.0),
        clip_g: Some(Clip::Norm(10.0)),
        ..GanConfig::new(generator, discriminator, 32)
    };
    let gpu = Arc::new(Gpu::open(&GpuOptions::default())?);
    println!("{}", gpu.adapter_summary());
    let mut trainer = Trainer::new(gpu, config, &Inputs::Device { images: data.count })?;
    trainer.upload_data(&data.images)?;
    let mut left = steps;
    while left > 0 {
        let tick = left.min(50);
        trainer.run_steps(tick)?;
        let stats = trainer.tick_stats()?;
        let text: Vec<String> = stats.iter().map(|(stat, s)| format!("{} {:.3}", stat.name(), s.mean)).collect();
        println!("step {:>5}  {}", trainer.position().step, text.join("  "));
        left -= tick;
    }

    let source = Source { seed: 1, stream: Z_STREAM };
    let z: Vec<f32> = noise_twin(source, Distribution::Normal, 0, 64 * Z).into_iter().map(|v| v as f32).collect();
    grid::write(Path::new(&picture), &trainer.sample(&z)?, 8, 8)?;
    println!("64 samples of the averaged generator are in {picture}");
    Ok(())
}

/// z to 7x7, twice upsampled; the second convolution sees what came before the first one too.
fn generator(sample: &[usize]) -> Network {
    let up = || Layer::Upsample { scale: ganymede::nn::layer::Pair([2, 2]), mode: UpsampleMode::Nearest };
    let layers = vec![
        Layer::linear(32 * 49),
        Layer::unflatten([32, 7, 7]),
        Layer::batch_norm(),
        Layer::relu(),
        up(),
        Layer::Tap { name: "coarse".into() },
        Layer::conv2d(32, 3, 1, 1),
        Layer::batch_norm(),
        Layer::relu(),
        Layer::Concat { from: Names(vec!["coarse".into()]) },
        up(),
        Layer::conv2d(16, 3, 1, 1),
        Layer::batch_norm(),
        Layer::relu(),
        Layer::conv2d(sample[0], 3, 1, 1),
        Layer::tanh(),
    ];
    Network { name: "G".into(), input: vec![Z], data: sample.to_vec(), layers, init: InitScheme::PyTorch, classes: None }
}

/// Strided convolutions with a residual block between them.
fn discriminator(sample: &[usize]) -> Network {
    let residual = Layer::Residual { layers: vec![Layer::conv2d(32, 3, 1, 1), Layer::leaky_relu(0.2)], shortcut: Vec::new() };
    let layers = vec![
        Layer::conv2d(32, 4, 2, 1),
        Layer::leaky_relu(0.2),
        residual,
        Layer::conv2d(64, 4, 2, 1),
        Layer::leaky_relu(0.2),
        Layer::MinibatchStddev { group: 4 },
        Layer::linear(1),
    ];
    Network { name: "D".into(), input: sample.to_vec(), data: sample.to_vec(), layers, init: InitScheme::PyTorch, classes: None }
}
