//! `--precision f16` and `f16-matrix` through the library: what they change in a plan, what becomes of them where an adapter cannot, that training in
//! f16 goes the way of f32, and that it repeats.

use std::collections::BTreeMap;
use std::sync::Arc;

use ganymede::data::{self, LoadOptions};
use ganymede::gan::config::GanConfig;
use ganymede::gan::precision::settle;
use ganymede::gan::step::Inputs;
use ganymede::gan::trainer::{self, Trainer};
use ganymede::gpu::kernel::Bind;
use ganymede::gpu::{Gpu, GpuOptions, testing};
use ganymede::graph::lower::Caps;
use ganymede::graph::precision::Precision;
use ganymede::nn::layer::Layer;
use ganymede::nn::network::{InitScheme, Network};
use ganymede::nn::state::HostData;
use ganymede::plan::Plan;
use ganymede::run::presets::PRESETS;

const BATCH: usize = 16;

/// A DCGAN of 28x28 images small enough for a software adapter, with products of every kind that reads f16.
fn config(precision: Precision, micro_batch: usize) -> GanConfig {
    let conv = |channels: usize, kernel, stride, padding| Layer::conv2d(channels, kernel, stride, padding).without_bias();
    let conv_t = |channels: usize, kernel, stride, padding| Layer::conv_transpose2d(channels, kernel, stride, padding).without_bias();
    let (norm, leaky) = (Layer::batch_norm, || Layer::leaky_relu(0.2));
    let g = vec![conv_t(24, 7, 1, 0), norm(), Layer::relu(), conv_t(12, 4, 2, 1), norm(), Layer::relu(), conv_t(1, 4, 2, 1), Layer::tanh()];
    let d = vec![conv(12, 4, 2, 1), leaky(), conv(24, 4, 2, 1), norm(), leaky(), conv(1, 7, 1, 0)];
    let network = |name: &str, input: &[usize], layers| Network {
        name: name.into(),
        input: input.to_vec(),
        layers,
        data: Vec::new(),
        init: InitScheme::Dcgan,
        classes: None,
    };
    GanConfig {
        micro_batch,
        ema_half_life_kimg: 0.1,
        ema_ramp: 1.0,
        seed: 3,
        precision,
        ..GanConfig::new(network("G", &[20], g), network("D", &[1, 28, 28], d), BATCH)
    }
}

/// The test GPU with the kernels of a GPU, so that nothing but the precision differs between runs.
fn gpu() -> Option<Arc<Gpu>> {
    let shared = testing::gpu().filter(|gpu| gpu.caps().float16)?;
    let adapter = std::env::var("GANYMEDE_TEST_ADAPTER").ok();
    let gpu = Gpu::open(&GpuOptions { adapter, pipeline_cache: false, ..GpuOptions::default() }).expect("it opens twice");
    Some(Arc::new(gpu.choosing_for(Caps { software: false, ..shared.caps() }).expect("it promises nothing")))
}

struct Run {
    /// D on reals, D on fakes, G after each step.
    losses: Vec<[f32; 3]>,
    weights: BTreeMap<String, Vec<u32>>,
}

fn run(gpu: &Arc<Gpu>, config: GanConfig, steps: usize) -> Run {
    let data = data::load("builtin:digits?n=200", &LoadOptions { pad_to: Some((28, 28)), ..LoadOptions::default() }).expect("built in");
    let mut trainer = Trainer::new(gpu.clone(), config, &Inputs::Device { images: data.count }).expect("the trainer starts");
    trainer.upload_data(&data.images).expect("the images fit");
    let step = |_| {
        trainer.run_steps(1).expect("a step");
        trainer.losses().expect("its losses")
    };
    let losses = (0..steps).map(step).collect();
    let words = |data: &HostData| match data {
        HostData::F32(values) => values.iter().map(|v| v.to_bits()).collect(),
        HostData::U32(values) => values.clone(),
    };
    let tensors = trainer.tensors().expect("the state reads");
    Run { losses, weights: tensors.iter().map(|(name, tensor)| (name.clone(), words(&tensor.data))).collect() }
}

/// Rounding to 11 bits moves a loss of about 0.7 by less than 2 % over 32 steps of this network, the last ones with all they have learnt; f16 that
/// overflowed, or gradients lost to underflow, would move it by more than it is.
#[test]
fn losses_go_the_way_of_f32_and_repeat() {
    const STEPS: usize = 32;
    let Some(gpu) = gpu() else { return };
    let full = run(&gpu, config(Precision::F32, BATCH), STEPS);
    let half = run(&gpu, config(Precision::F16, BATCH), STEPS);
    assert_ne!(half.weights, full.weights, "f16 changes nothing");
    let mut worst: f32 = 0.0;
    for (step, (half, full)) in half.losses.iter().zip(&full.losses).enumerate() {
        for (name, (half, full)) in ["D real", "D fake", "G"].iter().zip(half.iter().zip(full)) {
            worst = worst.max((half - full).abs() / full.abs().max(0.1));
            assert!((half - full).abs() <= 0.02 * full.abs().max(0.1), "{name} of step {step}: {half} in f16, {full} in f32");
        }
    }
    println!("worst relative difference {worst:.2e}");
    // The curves agree because training does, not because nothing moves.
    let [first, last] = [0, STEPS - 1].map(|i| full.losses[i]);
    assert!((0..3).any(|i| (first[i] - last[i]).abs() > 0.2), "{first:?} to {last:?}");
    let again = run(&gpu, config(Precision::F16, BATCH), STEPS);
    assert!(again.losses == half.losses && again.weights == half.weights, "the same steps in f16 give other bits");
}

#[test]
fn micro_batches_read_their_own_values() {
    let Some(gpu) = gpu() else { return };
    let [full, half] = [Precision::F32, Precision::F16].map(|precision| run(&gpu, config(precision, BATCH / 2), 6));
    assert_ne!(half.weights, full.weights);
    for (half, full) in half.losses.iter().flatten().zip(full.losses.iter().flatten()) {
        assert!((half - full).abs() <= 0.02 * full.abs().max(0.1), "{half} in f16, {full} in f32");
    }
}

fn plan(caps: &Caps, precision: Precision) -> Plan {
    trainer::plan(&config(precision, BATCH), &Inputs::Device { images: 200 }, caps).expect("the plan compiles")
}

fn kernels(plan: &Plan) -> Vec<String> {
    plan.dispatches.iter().map(|(_, d)| d.kernel.label()).collect()
}

/// Weights and activations are converted once each, and nothing that differentiation made is.
#[test]
fn a_plan_converts_each_value_once_and_no_gradient() {
    let caps = Caps { float16: true, ..Caps::minimal() };
    let (full, half) = (plan(&caps, Precision::F32), plan(&caps, Precision::F16));
    let conversions: Vec<_> = half.dispatches.iter().filter(|(_, d)| d.kernel.name == "to_f16").collect();
    // Three weights of G, and of D before and after its update; z, two activations of G, the pair and its two activations, the fake and its two.
    assert_eq!(conversions.len(), 9 + 3 + 3 + 3, "{:#?}", conversions.iter().map(|(label, _)| label).collect::<Vec<_>>());
    let without: Vec<String> = kernels(&half).into_iter().filter(|k| k != "to_f16").collect();
    assert_eq!(without.len(), full.dispatches.len(), "other dispatches differ");
    let read: Vec<&String> = without.iter().filter(|k| k.contains("16")).collect();
    for kind in ["gemm_rows_tile_small/n_ab16", "gemm_rows_tile_small/t_b16", "gemm_cols_tile_small/b16", "gemm_cols_tile_small/a16"] {
        assert!(read.iter().any(|k| k.starts_with(kind)), "no {kind} among {read:?}");
    }
    // Gradients' stores are no operand of a conversion, and the parameters that optimisers update are read by them alone.
    for (label, dispatch) in &conversions {
        let from = &half.buffers[dispatch.operands[0].buffer].name;
        assert!(!from.contains("grads"), "{label} rounds {from}");
        let into = dispatch.operands[1];
        assert!(!half.buffers[into.buffer].declared && into.len * 2 == dispatch.operands[0].len, "{label}");
        assert_eq!(dispatch.kernel.bindings, [Bind::Params, Bind::In, Bind::Out]);
    }
    let bytes = |plan: &Plan, name: &str| -> u64 {
        plan.dispatches.iter().filter(|(_, d)| d.kernel.name.starts_with(name)).map(|(_, d)| d.cost.bytes).sum()
    };
    assert!(bytes(&half, "gemm_") < bytes(&full, "gemm_"), "products move no less");
}

#[test]
fn adapters_that_cannot_convert_compile_f32() {
    let caps = Caps::minimal();
    assert_eq!(kernels(&plan(&caps, Precision::F16)), kernels(&plan(&caps, Precision::F32)));
    let Some(shared) = gpu() else { return };
    let adapter = std::env::var("GANYMEDE_TEST_ADAPTER").ok();
    let open = || Gpu::open(&GpuOptions { adapter: adapter.clone(), pipeline_cache: false, ..GpuOptions::default() }).expect("it opens");
    let inputs = Inputs::Device { images: 200 };
    let poor = open().choosing_for(Caps { float16: false, ..shared.caps() }).expect("it promises nothing");
    let settled = settle(&poor, &config(Precision::F16, BATCH), &inputs).expect("no fault of the device");
    assert_eq!(settled.precision, Precision::F32);
    let note = settled.note.unwrap_or_default();
    assert!(note.starts_with("--precision f16 is dropped, everything is f32: ") && note.contains("cannot convert f16"), "{note}");
    let settled = settle(&shared, &config(Precision::F16, BATCH), &inputs).expect("no fault of the device");
    assert_eq!(settled.precision, Precision::F16, "{:?}", settled.note);
    assert_eq!(settle(&shared, &config(Precision::F32, BATCH), &inputs).expect("nothing to test").note, None);
}

/// Only products of two operands in f16 change, and only their kernel, its label and its grid: the same values are converted.
#[test]
fn matrix_units_get_the_products_of_two_halves() {
    let caps = Caps { float16: true, matrix: true, ..Caps::minimal() };
    let (half, matrix) = (plan(&caps, Precision::F16), plan(&caps, Precision::F16Matrix));
    assert_eq!(half.dispatches.len(), matrix.dispatches.len());
    let mut by_matrix = 0;
    for ((label, half), (other, matrix)) in half.dispatches.iter().zip(&matrix.dispatches) {
        let (name, tile) = (half.kernel.label(), half.kernel.name.starts_with("gemm_rows_tile"));
        if !(tile && name.contains("_ab16")) {
            // A conversion is labelled by the product that asked for it first.
            let label = if name == "to_f16" { label.replace("gemm_rows_tile_small.", "gemm_rows_matrix.") } else { label.clone() };
            let other = other.replace("gemm_rows_tile_small.", "gemm_rows_matrix.");
            assert_eq!((label, name, half.workgroups), (other, matrix.kernel.label(), matrix.workgroups));
            continue;
        }
        by_matrix += 1;
        let form = name.rsplit('/').next().unwrap_or_default().replace("_ab16", "");
        assert_eq!(matrix.kernel.label(), format!("gemm_rows_matrix/{form}"), "{label}");
        assert_eq!(*other, label.replace(half.kernel.name, "gemm_rows_matrix"));
        assert_eq!((&half.params, &half.overrides, half.cost), (&matrix.params, &matrix.overrides, matrix.cost), "{label}");
        let groups = |[x, y, z]: [u32; 3]| (x * y, z);
        assert_eq!(groups(half.workgroups), groups(matrix.workgroups), "{label}: the small tiles have the same size");
    }
    assert!(by_matrix >= 6, "{by_matrix} products");
    // Without such units, and in a precision that does not ask for them, nothing uses them.
    let plain = Caps { matrix: false, ..caps };
    assert_eq!(kernels(&plan(&plain, Precision::F16Matrix)), kernels(&half));
}

/// Large tiles have four times the area: as many workgroups stand in for each.
#[test]
fn matrix_units_cover_what_large_tiles_did() {
    let caps = Caps { float16: true, matrix: true, ..Caps::minimal() };
    let preset = PRESETS.iter().find(|p| p.name == "dcgan-64").expect("a preset");
    let plan = |precision| {
        let config = GanConfig { precision, ..preset.gan_config(3, preset.batch()) };
        trainer::plan(&config, &Inputs::Device { images: 200 }, &caps).expect("the plan compiles")
    };
    let (half, matrix) = (plan(Precision::F16), plan(Precision::F16Matrix));
    let mut large = 0;
    for ((label, half), (_, matrix)) in half.dispatches.iter().zip(&matrix.dispatches) {
        if half.kernel.label().starts_with("gemm_rows_tile_large") && matrix.kernel.name == "gemm_rows_matrix" {
            large += 1;
            let groups = |[x, y, z]: [u32; 3]| (x * y, z);
            let (tiles, phases) = groups(half.workgroups);
            assert_eq!(groups(matrix.workgroups), (4 * tiles, phases), "{label}");
        }
    }
    assert!(large > 0, "no large tile in {}", preset.name);
}

/// The test GPU of `gpu()` may have matrix units; this one was not asked for them.
#[test]
fn without_matrix_units_there_is_f16_and_without_f16_f32() {
    let Some(gpu) = gpu() else { return };
    let inputs = Inputs::Device { images: 200 };
    let asked = config(Precision::F16Matrix, BATCH);
    let settled = settle(&gpu, &asked, &inputs).expect("no fault of the device");
    assert_eq!(settled.precision, Precision::F16);
    let note = settled.note.unwrap_or_default();
    let begin =
        format!("--precision f16-matrix is dropped for f16: {} cannot do it: it was not asked for matrix units. ", gpu.adapter_name());
    let plain = settle(&gpu, &config(Precision::F16, BATCH), &inputs).expect("no fault of the device").note.unwrap_or_default();
    assert_eq!(note, begin + &plain);
    let gpu = Arc::try_unwrap(gpu).expect("nobody else has it");
    let caps = Caps { float16: false, ..gpu.caps() };
    let settled = settle(&gpu.choosing_for(caps).expect("it promises nothing"), &asked, &inputs).expect("no fault of the device");
    assert_eq!(settled.precision, Precision::F32);
    let note = settled.note.unwrap_or_default();
    assert!(note.starts_with("--precision f16-matrix is dropped, everything is f32: ") && note.contains("cannot convert f16"), "{note}");
}

/// Where the adapter has matrix units, they are proven and used; where it has not, the reason is its own.
#[test]
fn matrix_units_are_asked_for_and_settled() {
    let Some(shared) = testing::gpu().filter(|gpu| gpu.caps().float16) else { return };
    let settled = settle(shared, &config(Precision::F16Matrix, BATCH), &Inputs::Device { images: 200 }).expect("no fault of the device");
    let note = settled.note.unwrap_or_default();
    match shared.matrix_fault() {
        None => assert!(settled.precision == Precision::F16Matrix && note.contains(" of them by matrix units"), "{note}"),
        Some(fault) => {
            assert!(!shared.caps().matrix && fault.starts_with("its "), "{fault}");
            assert!(settled.precision == Precision::F16 && note.contains(fault), "{note}");
        }
    }
}
