//! The classic systems that ship as presets: each trains, with every part that its file names, and learns what it can.

use std::sync::{Arc, Mutex, MutexGuard};

use ganymede::data::{self, DataSet, LoadOptions};
use ganymede::gan::step::{Inputs, Z_STREAM};
use ganymede::gan::trainer::Trainer;
use ganymede::gpu::{Gpu, GpuOptions, testing};
use ganymede::ops::noise::{Distribution, Source, noise_twin};
use ganymede::ops::stats::Stat;
use ganymede::run::layers::Layers;

/// A GPU for a test, one test at a time. `None` where tests do not use one.
fn gpu() -> Option<(Arc<Gpu>, MutexGuard<'static, ()>)> {
    static ONE: Mutex<()> = Mutex::new(());
    testing::gpu()?;
    let guard = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let adapter = std::env::var("GANYMEDE_TEST_ADAPTER").ok();
    let options = GpuOptions { adapter, pipeline_cache: false, ..GpuOptions::default() };
    Some((Arc::new(Gpu::open(&options).expect("the test GPU opens twice")), guard))
}

/// A trainer of a preset with its data.
fn trainer(gpu: &Arc<Gpu>, preset: &str, changes: &[&str]) -> (Trainer, DataSet) {
    let mut layers = Layers::default();
    layers.flag("--preset", "preset", Some(preset));
    for change in changes {
        layers.set(change).unwrap_or_else(|error| panic!("{preset}: {error}"));
    }
    let config = layers.resolve(None).unwrap_or_else(|error| panic!("{preset}: {error}"));
    let policy = config.data.policy();
    let mut set = data::load_with(&config.data.source, &LoadOptions::default(), &policy, &|_, _| {}).expect("built-in data");
    let sample = if set.vectors.is_some() {
        vec![set.channels]
    } else {
        let side = config.data.size.expect("a size of images") as usize;
        set = set.pad_to(side, side).expect("images of that size, or smaller");
        vec![set.channels, side, side]
    };
    let gan = config.recipe().gan_config(&sample, set.labels.as_ref().map(|_| set.classes()));
    let mut trainer =
        Trainer::new(gpu.clone(), gan, &Inputs::Device { images: set.count }).unwrap_or_else(|error| panic!("{preset}: {error}"));
    match &set.vectors {
        Some(vectors) => trainer.upload_vectors(&vectors.values).expect("the points fit"),
        None => trainer.upload_data(&set.images).expect("the images fit"),
    }
    set.labels.iter().for_each(|labels| trainer.upload_labels(labels).expect("the labels fit"));
    (trainer, set)
}

fn samples(trainer: &Trainer, n: u64) -> Vec<f32> {
    let z_dim = trainer.config().z_dim;
    let row = |seed| noise_twin(Source { seed, stream: Z_STREAM }, Distribution::Normal, 0, z_dim);
    let z: Vec<f32> = (0..n).flat_map(row).map(|v| v as f32).collect();
    trainer.sample(&z).expect("samples").data
}

/// Every system takes some steps: losses are finite and move, both networks learn, samples change and stay in range.
#[test]
fn every_system_trains() {
    let Some((gpu, _guard)) = gpu() else { return };
    for (preset, changes) in [
        ("linear", &["training.batch=16", "data.source=builtin:gaussian?n=100"][..]),
        ("linear-quadratic", &["training.batch=16", "data.source=builtin:gaussian?n=100"]),
        ("ring", &["training.batch=16", "data.source=builtin:ring?n=100"]),
        ("grid", &["training.batch=16", "data.source=builtin:grid?n=100"]),
        ("dense", &["training.batch=16", "data.source=builtin:digits?n=100"]),
        ("mlp-cnn", &["training.batch=8", "data.source=builtin:digits?n=100"]),
        // A fifth of the side, so that a step stays below a GFLOP.
        (
            "conv-pool-lsgan",
            &[
                "training.batch=4",
                "data.source=builtin:shapes?n=50",
                "data.size=20",
                "generator.layers.0.features=800",
                "generator.layers.1.shape=[32,5,5]",
            ],
        ),
        ("cnn-sigmoid", &["training.batch=8", "data.source=builtin:digits?n=100"]),
        ("dcgan-bn", &["training.batch=8", "data.source=builtin:digits?n=100"]),
        ("cgan-28", &["training.batch=8", "data.source=builtin:digits?n=100"]),
        // What no preset asks for.
        ("ring", &["training.batch=16", "data.source=builtin:ring?n=100", "loss.kind=hinge", "discriminator.optimizer.kind=rmsprop"]),
        (
            "dense",
            &[
                "training.batch=16",
                "data.source=builtin:digits?n=100",
                "loss.generator=saturating",
                "loss.reconstruction={ kind = \"l1\", weight = 0.1 }",
                "generator.optimizer={ kind = \"sgd\", lr = 1e-3, momentum = 0.9, nesterov = true, clip = { norm = 1.0 } }",
            ],
        ),
    ] {
        let (mut trainer, set) = trainer(&gpu, preset, changes);
        let before = samples(&trainer, 4);
        trainer.run_steps(2).unwrap_or_else(|error| panic!("{preset}: {error}"));
        let first = trainer.losses().expect("losses");
        trainer.run_steps(10).unwrap_or_else(|error| panic!("{preset}: {error}"));
        let last = trainer.losses().expect("losses");
        let stats = trainer.tick_stats().unwrap_or_else(|error| panic!("{preset}: {error}"));
        assert!(first.iter().chain(&last).all(|loss| loss.is_finite()) && first != last, "{preset}: losses {first:?}, then {last:?}");
        for wanted in [Stat::LossDReal, Stat::LossDFake, Stat::LossG, Stat::DX, Stat::DGZ1, Stat::DGZ2, Stat::GradNormD, Stat::GradNormG] {
            let summary = stats.iter().find(|(stat, _)| *stat == wanted).unwrap_or_else(|| panic!("{preset}: no {}", wanted.name())).1;
            assert_eq!(summary.count, 12, "{preset}: {}", wanted.name());
            assert!(summary.mean.is_finite() && (summary.std > 0.0 || summary.mean > 0.0), "{preset}: {} is {summary:?}", wanted.name());
        }
        let after = samples(&trainer, 4);
        assert_ne!(before, after, "{preset}: the generator did not move");
        if set.vectors.is_none() && preset != "conv-pool-lsgan" {
            assert!(after.iter().all(|v| (-1.0..=1.0).contains(v)), "{preset}: samples leave [-1, 1]");
        }
    }
}

/// Means and deviations of each number of (N, F) values.
fn moments(values: &[f32], features: usize) -> Vec<(f64, f64)> {
    let n = (values.len() / features) as f64;
    (0..features)
        .map(|i| {
            let column = || values.iter().skip(i).step_by(features).map(|v| f64::from(*v));
            let mean = column().sum::<f64>() / n;
            (mean, (column().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt())
        })
        .collect()
}

/// Rates with which the linear systems arrive in a third of the steps.
const FAST: &[&str] = &["generator.optimizer.lr=3e-3", "discriminator.optimizer.lr=3e-3"];

/// A discriminator that is linear in the data sees means only, so that the spread of the fakes is left to chance.
#[test]
fn a_linear_discriminator_teaches_the_mean_alone() {
    let Some((gpu, _guard)) = gpu() else { return };
    let (mut trainer, set) = trainer(&gpu, "linear", FAST);
    trainer.run_steps(800).expect("steps");
    let data = moments(&set.vectors.as_ref().expect("points").values, 5);
    let fakes = moments(&samples(&trainer, 4000), 5);
    for ((mean, _), (expected, deviation)) in fakes.iter().zip(&data) {
        assert!((mean - expected).abs() < 0.3 * deviation, "means and deviations {fakes:?}, of the data {data:?}");
    }
    let lost = fakes.iter().zip(&data).filter(|((_, own), (_, expected))| *own < 0.5 * expected).count();
    assert!(lost >= 2, "the deviations {fakes:?} are not learned, those of the data are {data:?}");
}

/// With products of two numbers it sees second moments too.
#[test]
fn a_quadratic_discriminator_teaches_the_covariance() {
    let Some((gpu, _guard)) = gpu() else { return };
    let (mut trainer, set) = trainer(&gpu, "linear-quadratic", FAST);
    trainer.run_steps(1000).expect("steps");
    let covariance = |values: &[f32]| -> Vec<f64> {
        let (means, rows) = (moments(values, 5), values.chunks_exact(5));
        let n = rows.len() as f64;
        let centred = |row: &[f32], i: usize| f64::from(row[i]) - means[i].0;
        (0..25).map(|k| rows.clone().map(|row| centred(row, k / 5) * centred(row, k % 5)).sum::<f64>() / n).collect()
    };
    let (data, fakes) = (covariance(&set.vectors.as_ref().expect("points").values), covariance(&samples(&trainer, 4000)));
    let norm = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
    let difference: Vec<f64> = data.iter().zip(&fakes).map(|(a, b)| a - b).collect();
    let share = norm(&difference) / norm(&data);
    assert!(share < 0.35, "the covariance is {share:.2} of its norm away: {fakes:.2?}, expected {data:.2?}");
}
