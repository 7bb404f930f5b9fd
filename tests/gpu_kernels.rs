//! The kernels that GPUs run, proven without one: which the presets get, and that whole training steps with them agree with those of the
//! adapter at hand. (Single kernels against their twins are kernel cases, which every adapter runs; see `ganymede check`.)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ganymede::gan::config::GanConfig;
use ganymede::gan::schedule::{self, Position};
use ganymede::gan::step::Inputs;
use ganymede::gan::trainer::{self, Trainer};
use ganymede::gpu::{Gpu, GpuOptions, testing};
use ganymede::graph::lower::Caps;
use ganymede::graph::shape::Shape;
use ganymede::graph::tensor::Tensor;
use ganymede::nn::layer::Layer;
use ganymede::nn::network::{InitScheme, Network};
use ganymede::nn::state::HostData;
use ganymede::plan::Plan;
use ganymede::run::presets::{PRESETS, preset};

fn preset_config(name: &str, channels: usize, batch: Option<usize>) -> GanConfig {
    let preset = preset(name).expect("a preset of that name");
    GanConfig { seed: 3, ..preset.gan_config(channels, batch.unwrap_or(preset.batch())) }
}

/// Floating-point operations of the products of a plan, by kernel label.
fn products(plan: &Plan) -> BTreeMap<String, u64> {
    let mut flops = BTreeMap::new();
    for (_, dispatch) in plan.dispatches.iter().filter(|(_, d)| d.kernel.name.starts_with("gemm_")) {
        *flops.entry(dispatch.kernel.label()).or_insert(0) += dispatch.cost.flops;
    }
    flops
}

#[test]
fn presets_run_on_tiles() {
    // The others are made of layers too small for tiles, or of points.
    let wide = ["mlp", "dcgan-28-small", "dcgan-28", "dcgan-32", "dcgan-64"];
    for preset in PRESETS.iter().filter(|preset| wide.contains(&preset.name)) {
        for channels in [1, 3] {
            let config = preset_config(preset.name, channels, None);
            let plan = trainer::plan(&config, &Inputs::Given, &Caps::minimal()).expect("presets compile");
            let products = products(&plan);
            let total: u64 = products.values().sum();
            let of = |part: &str| products.iter().filter(|(label, _)| label.contains(part)).map(|(_, flops)| flops).sum::<u64>();
            assert!(of("_tile_") * 100 > 95 * total, "{} x {channels}: {products:?}", preset.name);
            assert!(of("split") > 0, "{} x {channels} has sums that are long enough to be split: {products:?}", preset.name);
            assert!(of("reduce") > 0, "{} x {channels} has results of few columns: {products:?}", preset.name);
            assert_eq!(of("scalar") + of("broadcast") + of("narrow"), 0, "{} x {channels}: {products:?}", preset.name);
        }
    }
    let plan = trainer::plan(&preset_config("dcgan-64", 3, Some(128)), &Inputs::Given, &Caps::minimal()).expect("it compiles");
    let products = products(&plan);
    assert!(products.keys().any(|label| label.starts_with("gemm_rows_tile_large")), "{products:?}");
    assert!(products.keys().any(|label| label.starts_with("gemm_cols_tile_large")), "{products:?}");
}

/// A DCGAN for 16 x 16 images whose products take several tiles and splits, at channels that fill neither.
fn dcgan() -> GanConfig {
    let conv_t = |channels: usize, stride, padding| Layer::conv_transpose2d(channels, 4, stride, padding).without_bias();
    let conv = |channels: usize, stride, padding| Layer::conv2d(channels, 4, stride, padding).without_bias();
    let (norm, leaky) = (Layer::batch_norm, || Layer::leaky_relu(0.2));
    let g = vec![conv_t(72, 1, 0), norm(), Layer::relu(), conv_t(20, 2, 1), norm(), Layer::relu(), conv_t(3, 2, 1), Layer::tanh()];
    let d = vec![conv(20, 2, 1), leaky(), conv(72, 2, 1), norm(), leaky(), conv(1, 1, 0)];
    let network = |name: &str, input: Vec<usize>, layers| Network {
        name: name.into(),
        input,
        layers,
        data: Vec::new(),
        init: InitScheme::Dcgan,
        classes: None,
    };
    GanConfig { seed: 3, ..GanConfig::new(network("G", vec![20], g), network("D", vec![3, 16, 16], d), 10) }
}

/// Values in [-1, 1) that differ from call to call.
fn values(dims: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    Tensor::from_fn(Shape::new(dims).expect("a shape"), |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
    })
}

/// The losses of each step, and every tensor after the last.
#[derive(Debug, PartialEq)]
struct Run {
    kernels: BTreeSet<String>,
    losses: Vec<[f32; 3]>,
    tensors: BTreeMap<String, Vec<f32>>,
}

fn run(gpu: &Arc<Gpu>, config: &GanConfig, steps: u64) -> Run {
    let mut trainer = Trainer::new(gpu.clone(), config.clone(), &Inputs::Given).expect("the trainer starts");
    let kernels = products(trainer.plan()).into_keys().collect();
    let real: Vec<usize> = [&[config.batch], &config.discriminator.input[..]].concat();
    let mut losses = Vec::new();
    for i in 0..steps {
        trainer.upload_batch(0, &values(&[config.batch, config.z_dim], 2 * i + 1), &values(&real, 2 * i + 2)).expect("the batch fits");
        let row = schedule::row(config, 0, Position::default().after(i, config.batch));
        trainer.run_rows(&[row]).expect("the step runs");
        losses.push(trainer.losses().expect("the losses read"));
    }
    let tensors = trainer.tensors().expect("the state reads").into_iter();
    let floats = tensors.filter_map(|(name, tensor)| match tensor.data {
        HostData::F32(data) => Some((name, data)),
        _ => None,
    });
    Run { kernels, losses, tensors: floats.collect() }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

#[test]
fn steps_with_the_kernels_of_gpus_agree_and_repeat() {
    let Some(shared) = testing::gpu() else { return };
    let adapter = std::env::var("GANYMEDE_TEST_ADAPTER").ok();
    let open =
        || Gpu::open(&GpuOptions { adapter: adapter.clone(), pipeline_cache: false, ..GpuOptions::default() }).expect("it opens twice");
    let own = Arc::new(open());
    let forced = Arc::new(open().choosing_for(Caps { software: false, ..shared.caps() }).expect("it promises nothing"));
    let mut met = BTreeSet::new();
    for config in [dcgan(), preset_config("mlp", 1, Some(40))] {
        let name = config.discriminator.input.clone();
        let expected = run(&own, &config, 3);
        let got = run(&forced, &config, 3);
        met.extend(got.kernels.clone());
        if shared.caps().software {
            assert!(!expected.kernels.iter().any(|k| k.contains("_tile_")), "{name:?}: {:?}", expected.kernels);
        }
        for (i, (got, expected)) in got.losses.iter().zip(&expected.losses).enumerate() {
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() <= 1e-4, "{name:?}: loss of step {i}: {got}, otherwise {expected}");
            }
        }
        assert_eq!(got.tensors.len(), expected.tensors.len());
        for (tensor, expected) in &expected.tensors {
            let apart = norm(got.tensors[tensor].iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
            let size = norm(expected.iter().map(|v| f64::from(*v)));
            assert!(apart <= 1e-3 * size, "{name:?}: {tensor} of size {size:.3e} is {apart:.3e} from that of the other kernels");
        }
        assert!(got == run(&forced, &config, 3), "{name:?}: the same steps give other bits");
    }
    for kernel in
        ["gemm_rows_tile_small/n", "gemm_rows_tile_small/t", "gemm_rows_reduce/", "gemm_cols_tile_small/split", "gemm_split_finish"]
    {
        assert!(met.iter().any(|k| k.starts_with(kernel)), "{kernel} was not run: {met:?}");
    }
}

#[test]
fn no_adapter_runs_what_it_cannot() {
    let Some(shared) = testing::gpu() else { return };
    let open = || {
        let adapter = std::env::var("GANYMEDE_TEST_ADAPTER").ok();
        Gpu::open(&GpuOptions { adapter, pipeline_cache: false, ..GpuOptions::default() }).expect("it opens twice")
    };
    let more = Caps { max_binding: shared.caps().max_binding + 1, ..shared.caps() };
    let error = open().choosing_for(more).expect_err("bindings beyond the limit").to_string();
    assert!(error.contains("cannot run the kernels chosen for"), "{error}");
}
