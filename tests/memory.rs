//! Device memory: what a plan says, what the executor takes, and what the driver's allocator reports.

use std::collections::HashMap;
use std::sync::Arc;

use ganymede::gan::config::GanConfig;
use ganymede::gan::step::Inputs;
use ganymede::gan::trainer::{self, Trainer};
use ganymede::gpu::{Gpu, GpuOptions, testing};
use ganymede::graph::lower::Caps;
use ganymede::nn::layer::Layer;
use ganymede::nn::network::{InitScheme, Network};
use ganymede::plan::{Executor, Plan};
use ganymede::run::presets::preset;

/// A GPU of the test's own, so that other tests' buffers do not count. `None` where tests do not use one.
fn gpu() -> Option<Arc<Gpu>> {
    testing::gpu()?;
    let adapter = std::env::var("GANYMEDE_TEST_ADAPTER").ok();
    let options = GpuOptions { adapter, pipeline_cache: false, ..GpuOptions::default() };
    Some(Arc::new(Gpu::open(&options).expect("the test GPU opens twice")))
}

fn config(name: &str, batch: usize) -> GanConfig {
    let preset = preset(name).expect("the preset exists");
    preset.gan_config(1, batch)
}

const IMAGES: usize = 1000;

/// Every preset's plan, and its sampler's, against what a trainer allocates: buffers and textures, to the byte.
#[test]
fn a_trainer_allocates_what_is_planned() {
    let Some(gpu) = gpu() else { return };
    let inputs = Inputs::Device { images: IMAGES };
    for (name, batch, micro_batch) in [("mlp", 64, 64), ("dcgan-28-small", 32, 32), ("dcgan-28-small", 32, 8), ("dcgan-32", 20, 20)] {
        let config = GanConfig { micro_batch, ..config(name, batch) };
        let plan = trainer::plan(&config, &inputs, &gpu.caps()).expect("the plan compiles");
        let executor = Executor::new(&gpu, "step", &plan, &HashMap::new(), Some(&gpu.uniform("rows", 512).expect("there is room")))
            .expect("the plan binds");
        let memory = plan.memory();
        assert_eq!(executor.own_bytes(), memory.total(), "{name}");
        // Where products go through textures, a plan without any would make this test empty; GPUs have none at all.
        let caps = gpu.caps();
        assert!(if caps.software { memory.textures > 0 || !caps.fixed_subgroup } else { memory.textures == 0 }, "{name}");

        let sampler = trainer::sampler_bytes(&config, &gpu.caps()).expect("the sampler compiles");
        let trainer = Trainer::new(gpu.clone(), config, &inputs).expect("the trainer starts");
        assert_eq!(trainer.memory(), memory.total() + sampler, "{name}");
    }
}

/// The driver's allocator, for plans of 64 MB and more: in use, and held in blocks.
#[test]
fn the_driver_needs_little_more_than_the_plan() {
    for (name, batch) in [("dcgan-28-small", 512), ("dcgan-64", 64)] {
        let Some(gpu) = gpu() else { return };
        let config = config(name, batch);
        let inputs = Inputs::Device { images: IMAGES };
        let plan = trainer::plan(&config, &inputs, &gpu.caps()).expect("the plan compiles").memory().total();
        let planned = plan + trainer::sampler_bytes(&config, &gpu.caps()).expect("the sampler compiles");
        assert!(planned >= 64_000_000, "{name} at batch {batch} is too small to tell: {planned} bytes");
        let trainer = Trainer::new(gpu.clone(), config, &inputs).expect("the trainer starts");
        // Waits, so that what first values went through is free again.
        trainer.losses().expect("the device answers");
        let (Some(used), Some(held)) = (gpu.memory_allocated(), gpu.memory_reserved()) else { return };
        assert!(used >= planned && used as f64 <= 1.1 * planned as f64, "{name}: {used} bytes in use for a plan of {planned}");
        assert!(held as f64 <= 1.1 * planned as f64, "{name}: {held} bytes held for a plan of {planned}");
    }
}

/// What a batch takes beside the parameters and the data shrinks nearly as its micro-batches do.
#[test]
fn micro_batches_need_less_memory() {
    let software = Caps { fixed_subgroup: true, int64: true, software: true, ..Caps::minimal() };
    for caps in [Caps::minimal(), software] {
        for name in ["mlp", "dcgan-28-small", "dcgan-64"] {
            let of = |micro_batch| {
                let config = GanConfig { micro_batch, ..config(name, 256) };
                trainer::plan(&config, &Inputs::Device { images: IMAGES }, &caps).expect("the plan compiles")
            };
            let (whole, split) = (of(256), of(32));
            // Values, and the inputs with the fakes behind the reals.
            let inputs = |plan: &Plan| plan.buffers.iter().filter(|b| b.name.starts_with("pair.")).map(|b| b.words as u64 * 4).sum::<u64>();
            let batch = |plan: &Plan| (plan.memory().transients + inputs(plan)) as f64;
            assert!(batch(&split) < 0.25 * batch(&whole), "{name}: {} after {}", batch(&split), batch(&whole));
            assert!(split.memory().textures <= whole.memory().textures, "{name}");
            // One more store of gradients for each network, and inputs of an eighth.
            let parameters =
                |plan: &Plan| plan.buffers.iter().filter(|b| b.name.contains(".grads")).map(|b| b.words as u64 * 4).sum::<u64>();
            assert!(split.memory().declared <= whole.memory().declared + parameters(&whole), "{name}");
            // The generator's forward pass is done once more.
            assert!((1.0..1.35).contains(&(split.flops() as f64 / whole.flops() as f64)), "{name}: {} of {}", split.flops(), whole.flops());
        }
    }
}

/// Two thousand steps of a small dense GAN, with statistics and pictures in between.
#[test]
fn training_does_not_grow() {
    let Some(gpu) = gpu() else { return };
    let mut trainer = Trainer::new(gpu.clone(), tiny(), &Inputs::Device { images: IMAGES }).expect("the trainer starts");
    let settled = |trainer: &mut Trainer, steps: u32| {
        for _ in 0..10 {
            trainer.run_steps(steps / 10).expect("steps run");
            trainer.tick_stats().expect("statistics are there");
        }
        trainer.sample(&[0.5; 8]).expect("a picture is made");
        trainer.losses().expect("the device answers");
        (gpu.memory_allocated(), gpu.memory_reserved())
    };
    let before = settled(&mut trainer, 20);
    assert_eq!(settled(&mut trainer, 2000), before);
}

/// A dense GAN for 28x28 images, as small as it gets.
fn tiny() -> GanConfig {
    let network = |name: &str, input: &[usize], layers| Network {
        name: name.into(),
        input: input.to_vec(),
        layers,
        data: Vec::new(),
        init: InitScheme::PyTorch,
        classes: None,
    };
    let linear = |features: usize| Layer::linear(features);
    let leaky = || Layer::leaky_relu(0.2);
    let unflatten = Layer::unflatten([1, 28, 28]);
    GanConfig {
        generator: network("G", &[8], vec![linear(16), leaky(), linear(784), Layer::tanh(), unflatten]),
        discriminator: network("D", &[1, 28, 28], vec![Layer::flatten(), linear(16), leaky(), linear(1)]),
        z_dim: 8,
        ..config("mlp", 4)
    }
}
