//! GANs on points: a mixture that is learned, the same bits twice, true resumes, and what the run folder shows of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

use ganymede::data::{self, DataSet, LoadOptions, Split};
use ganymede::error::Error;
use ganymede::eval::modes::{DEFAULT_SAMPLES, ModeStats, mode_stats};
use ganymede::gan::config::GanConfig;
use ganymede::gan::sampler::Images;
use ganymede::gan::step::{Inputs, Z_STREAM};
use ganymede::gan::trainer::Trainer;
use ganymede::gpu::{Gpu, GpuOptions, testing};
use ganymede::graph::lower::Caps;
use ganymede::graph::tensor::Tensor;
use ganymede::nn::layer::Layer;
use ganymede::nn::network::{InitScheme, Network};
use ganymede::nn::state::HostData;
use ganymede::ops::gather::{Storage, batch_index};
use ganymede::ops::noise::{Distribution, Source, noise_twin};
use ganymede::ops::stats::Stat;
use image::RgbImage;

/// A GPU for a test, one test at a time. `None` where tests do not use one.
fn gpu() -> Option<(Arc<Gpu>, MutexGuard<'static, ()>)> {
    static ONE: Mutex<()> = Mutex::new(());
    testing::gpu()?;
    let guard = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let adapter = std::env::var("GANYMEDE_TEST_ADAPTER").ok();
    let options = GpuOptions { adapter, pipeline_cache: false, ..GpuOptions::default() };
    Some((Arc::new(Gpu::open(&options).expect("the test GPU opens twice")), guard))
}

fn load(spec: &str, split: Split) -> DataSet {
    data::load(spec, &LoadOptions { split, ..LoadOptions::default() }).expect("built-in data")
}

/// A perceptron with two hidden layers.
fn mlp(name: &str, inputs: usize, hidden: usize, outputs: usize) -> Network {
    let leaky = || Layer::leaky_relu(0.2);
    network(name, &[inputs], vec![Layer::linear(hidden), leaky(), Layer::linear(hidden), leaky(), Layer::linear(outputs)])
}

fn network(name: &str, input: &[usize], layers: Vec<Layer>) -> Network {
    Network { name: name.into(), input: input.to_vec(), data: Vec::new(), layers, init: InitScheme::PyTorch, classes: None }
}

/// For points of `features` numbers.
fn config(features: usize, hidden: usize, batch: usize) -> GanConfig {
    GanConfig {
        lr_g: 1e-3.into(),
        lr_d: 1e-3.into(),
        seed: 3,
        ..GanConfig::new(mlp("G", 8, hidden, features), mlp("D", features, hidden, 1), batch)
    }
}

fn trainer(gpu: &Arc<Gpu>, config: GanConfig, set: &DataSet) -> Trainer {
    let trainer = Trainer::new(gpu.clone(), config, &Inputs::Device { images: set.count }).expect("the trainer starts");
    trainer.upload_vectors(&set.vectors.as_ref().expect("points").values).expect("the points fit");
    trainer
}

fn z_of(seeds: impl IntoIterator<Item = u64>, z_dim: usize) -> Vec<f32> {
    seeds
        .into_iter()
        .flat_map(|seed| noise_twin(Source { seed, stream: Z_STREAM }, Distribution::Normal, 0, z_dim))
        .map(|v| v as f32)
        .collect()
}

fn samples(trainer: &Trainer, n: usize) -> Images {
    trainer.sample(&z_of(0..n as u64, trainer.config().z_dim)).expect("samples")
}

/// Bits of the whole state.
fn bits(trainer: &Trainer) -> BTreeMap<String, Vec<u32>> {
    let words = |data| match data {
        HostData::F32(values) => values.into_iter().map(f32::to_bits).collect(),
        HostData::U32(values) => values,
    };
    trainer.tensors().expect("the state reads").into_iter().map(|(name, tensor)| (name, words(tensor.data))).collect()
}

#[test]
fn a_ring_is_learned() {
    let Some((gpu, _guard)) = gpu() else { return };
    let (set, held_out) = (load("builtin:ring", Split::Train), load("builtin:ring", Split::Test));
    let modes = set.vectors.as_ref().expect("points").modes.clone().expect("a mixture has modes");
    let mut trainer = trainer(&gpu, config(2, 64, 256), &set);
    let mode_counts = |trainer: &Trainer| -> ModeStats {
        mode_stats(&samples(trainer, DEFAULT_SAMPLES).data, &held_out.gather_f32(0..held_out.count), &modes, 2).expect("statistics")
    };
    let losses = |trainer: &mut Trainer| {
        let stats: BTreeMap<_, _> = trainer.tick_stats().expect("finite").into_iter().map(|(stat, s)| (stat.name(), s.mean)).collect();
        [Stat::LossDReal, Stat::LossDFake, Stat::LossG].map(|stat| stats[stat.name()])
    };
    let before = mode_counts(&trainer);
    trainer.run_steps(10).expect("steps");
    let first = losses(&mut trainer);
    trainer.run_steps(890).expect("steps");
    losses(&mut trainer);
    trainer.run_steps(100).expect("steps");
    let (last, after) = (losses(&mut trainer), mode_counts(&trainer));
    // Before, all samples are near the middle of the ring. After 1,000 steps the generator draws the ring's circle, and gathers at its modes.
    assert!(before.covered <= 1 && before.high_quality < 0.001 && before.divergence > 0.3, "{before:?}");
    assert!(after.covered >= 6 && after.high_quality > 0.01 && after.divergence < 0.1, "{after:?}, losses {last:?}");
    // Nothing is learned at first, so that D says 1/2 of everything: ln 2. The game then stays near its balance, and D is ahead.
    let ln2 = 2f64.ln();
    assert!(first.iter().all(|loss| (loss - ln2).abs() < 0.2), "{first:?}");
    assert!(last[0] < first[0] - 0.01 && last.iter().all(|loss| (0.3..1.2).contains(loss)), "from {first:?} to {last:?}");
}

/// With a discriminator that says 1/2 of everything and a generator that makes zeros, the gradient of D's only weights is the mean of the batch
/// times -1/2: it shows which points were drawn, unscaled.
#[test]
fn batches_are_the_points_of_the_batch_order_as_they_are() {
    let Some((gpu, _guard)) = gpu() else { return };
    for (spec, batch) in [("builtin:ring?n=100", 6), ("builtin:grid?n=37", 16), ("builtin:gaussian?n=50", 7)] {
        let set = load(spec, Split::Train);
        let features = set.channels;
        let config = GanConfig {
            seed: 77,
            ..GanConfig::new(network("G", &[3], vec![Layer::linear(features)]), network("D", &[features], vec![Layer::linear(1)]), batch)
        };
        assert_eq!((config.storage(), config.image().expect("vectors")), (Storage::F32, [features, 1, 1]));
        let mut trainer = trainer(&gpu, config.clone(), &set);
        for (name, network) in [("G", &config.generator), ("D", &config.discriminator)] {
            let zeros = network.tensors().expect("valid").into_iter();
            let zeros = zeros.map(|t| (t.name, Tensor::new(t.shape.clone(), vec![0.0; t.shape.len()]))).collect();
            trainer.load_network(name, &zeros).expect("its own tensors");
        }
        trainer.run_steps(1).expect("a step");
        let state = trainer.tensors().expect("the state reads");
        let moment = state["adam.D.m.0.weight"].as_f32().expect("floats");
        let rows: Vec<Vec<f32>> =
            (0..batch as u32).map(|r| set.to_f32(batch_index(config.seed, 0, set.count as u32, r) as usize)).collect();
        for (feature, &got) in moment.iter().enumerate() {
            let mean = rows.iter().map(|row| f64::from(row[feature])).sum::<f64>() / batch as f64;
            let expected = (1.0 - 0.5) * -0.5 * mean;
            assert!((f64::from(got) - expected).abs() < 1e-6, "{spec}, feature {feature}: {got}, expected {expected}");
        }
    }
}

#[test]
fn equal_seeds_give_equal_bits_however_steps_are_submitted() {
    let Some((gpu, _guard)) = gpu() else { return };
    let set = load("builtin:grid?n=500", Split::Train);
    let run = |seed, chunks: &[u32], per_submit| {
        let mut trainer = trainer(&gpu, GanConfig { seed, ..config(2, 12, 20) }, &set);
        trainer.set_steps_per_submit(Some(per_submit));
        chunks.iter().for_each(|&steps| trainer.run_steps(steps).expect("steps"));
        let bits_of = |images: Images| images.data.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let samples = samples(&trainer, 70);
        assert_eq!((samples.n, samples.c, samples.h, samples.w), (70, 2, 1, 1));
        (bits(&trainer), bits_of(samples))
    };
    let whole = run(1, &[60], 8);
    assert_eq!(run(1, &[60], 8), whole);
    assert_eq!(run(1, &[1, 29, 30], 3), whole);
    let other = run(2, &[60], 8);
    assert!(other.0["G.0.weight"] != whole.0["G.0.weight"] && other.1 != whole.1);

    // From the state at step 30 on: the same again.
    let mut first = trainer(&gpu, GanConfig { seed: 1, ..config(2, 12, 20) }, &set);
    first.run_steps(30).expect("steps");
    let (position, state) = (first.position(), first.tensors().expect("the state reads"));
    let mut second = trainer(&gpu, GanConfig { seed: 1, ..config(2, 12, 20) }, &set);
    second.load_tensors(position, &state).expect("its own state");
    second.run_steps(30).expect("steps");
    assert_eq!(bits(&second), whole.0);
}

#[test]
fn data_that_do_not_suit_the_networks_are_refused() {
    // A set above the binding limit is split between points.
    let step = ganymede::gan::step::build(&config(2, 4, 8), &Inputs::Device { images: 1000 }, 4096).expect("a step");
    assert_eq!((step.images_per_segment, step.data.iter().map(|place| place.len).collect::<Vec<_>>()), (512, vec![1024, 976]));
    let apart = GanConfig { discriminator: mlp("D", 3, 4, 1), ..config(2, 4, 8) };
    let error = ganymede::gan::trainer::plan(&apart, &Inputs::Given, &Caps::minimal()).expect_err("two numbers are not three");
    assert!(error.to_string().contains("the generator makes (8, 2), the discriminator takes (8, 3)"), "{error}");
    let odd = GanConfig { discriminator: network("D", &[2, 3], vec![Layer::linear(1)]), ..config(3, 4, 8) };
    assert!(odd.image().unwrap_err().to_string().contains("inputs of shape [2, 3]"));

    let Some((gpu, _guard)) = gpu() else { return };
    let vectors = Trainer::new(gpu.clone(), config(2, 4, 8), &Inputs::Device { images: 10 }).expect("the trainer starts");
    let error = vectors.upload_data(&[0; 20]).unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().contains("holds images, and the discriminator takes vectors")), (2, true), "{error}");
    assert!(matches!(vectors.upload_vectors(&[0.0; 19]), Err(Error::Internal(_))));
    let images = GanConfig::new(
        network("G", &[4], vec![Layer::linear(4), Layer::unflatten([1, 2, 2])]),
        network("D", &[1, 2, 2], vec![Layer::flatten(), Layer::linear(1)]),
        4,
    );
    let images = Trainer::new(gpu.clone(), images, &Inputs::Device { images: 10 }).expect("the trainer starts");
    let error = images.upload_vectors(&[0.0; 40]).unwrap_err();
    assert!(error.to_string().contains("holds vectors, and the discriminator takes images"), "{error}");
    images.upload_data(&[0; 40]).expect("images fit");
}

/// Networks for points of any length, as a config file.
const NETWORKS: &str = r#"
[generator]
z = 8
init = "pytorch"
layers = [
    { type = "linear", features = 16 },
    { type = "leaky_relu", slope = 0.2 },
    { type = "linear", features = "data" },
]

[discriminator]
init = "pytorch"
layers = [
    { type = "linear", features = 16 },
    { type = "leaky_relu", slope = 0.2 },
    { type = "linear", features = 1 },
]
"#;

/// Runs the command in `dir`; it must succeed.
#[track_caller]
fn ganymede(dir: &Path, args: &[&str]) {
    let output = command(dir, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn command(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ganymede"));
    command.args(args).current_dir(dir).stdin(Stdio::null());
    if let Ok(adapter) = std::env::var("GANYMEDE_TEST_ADAPTER") {
        command.args(["--adapter", &adapter]);
    }
    command.output().expect("the command starts")
}

/// A folder with [`NETWORKS`] as points.toml.
fn with_networks() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("points.toml"), NETWORKS).expect("a file");
    dir
}

/// Trains on `data` with a tick of 10 steps and a snapshot every 3 ticks.
fn train(dir: &Path, data: &str, steps: &str, more: &[&str]) {
    let length = ["--steps", steps, "--batch", "16", "--tick", "0.16", "--snap", "3"];
    ganymede(dir, &[&["train", "--config", "points.toml", "--data", data], &length[..], more].concat());
}

/// Checkpoints and pictures of a run folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    names
        .filter(|name| name.ends_with(".png") || name.ends_with(".safetensors"))
        .map(|name| (name.clone(), fs::read(folder.join(name)).expect("a file")))
        .collect()
}

fn picture(bytes: &[u8]) -> RgbImage {
    image::load_from_memory(bytes).expect("a PNG").to_rgb8()
}

/// Pixels below the legend that are more orange than blue by far, or the reverse.
fn coloured(picture: &RgbImage, first: usize, second: usize) -> usize {
    picture.enumerate_pixels().filter(|(_, y, p)| *y > 31 && p[first] > p[second].saturating_add(60)).count()
}

fn orange(picture: &RgbImage) -> usize {
    coloured(picture, 0, 2)
}

#[test]
fn a_run_folder_has_plots_and_mode_counts_and_resumes_to_the_same_bits() {
    let Some((_, _guard)) = gpu() else { return };
    let dir = with_networks();
    train(dir.path(), "builtin:ring?n=2000", "60", &[]);
    let whole = dir.path().join("runs/00000-ring-custom-b16");
    let expected = files(&whole);
    let names: Vec<&str> = expected.keys().map(String::as_str).filter(|name| name.ends_with(".png")).collect();
    assert_eq!(names, ["fakes-000000000480.png", "fakes-000000000960.png", "fakes_init.png", "reals.png"]);
    let log = fs::read_to_string(whole.join("log.txt")).expect("a log");
    assert_eq!(log.matches("Modes: ").count(), 3, "{log}");
    assert!(log.contains(" of 8 covered") && log.contains(": 2000 points of 2 numbers, 8 classes"), "{log}");

    // Reals are blue alone, fakes blue and orange; the axes of all are the same.
    let pictures = ["reals.png", "fakes_init.png", names[1]].map(|name| picture(&expected[name]));
    assert!(pictures.iter().all(|picture| coloured(picture, 2, 0) > 100));
    assert_eq!(orange(&pictures[0]), 0);
    assert!(pictures[1..].iter().all(|picture| orange(picture) > 100));
    let below = |picture: &RgbImage| picture.rows().skip(466).flatten().map(|p| p.0).collect::<Vec<_>>();
    assert!(pictures.iter().all(|picture| below(picture) == below(&pictures[0])), "the labels below the axes");

    // Stopped between snapshots, and resumed.
    train(dir.path(), "builtin:ring?n=2000", "60", &["--stop-after", "37"]);
    let parts = dir.path().join("runs/00001-ring-custom-b16");
    assert!(files(&parts).contains_key("checkpoint-000000000592.safetensors"));
    ganymede(dir.path(), &["train", "--resume", "1"]);
    let resumed = files(&parts);
    for (name, bytes) in &expected {
        assert!(resumed[name] == *bytes, "{name} differs");
    }
    // Another distribution is other data.
    let output = command(dir.path(), &["train", "--resume", "1", "--data", "builtin:grid?n=2000", "--steps", "70"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));

    // The model alone: a plot of its points, their numbers, and no grid.
    ganymede(dir.path(), &["sample", "--model", "0", "--out", "plot.png"]);
    assert!(orange(&picture(&fs::read(dir.path().join("plot.png")).expect("a plot"))) > 100);
    ganymede(dir.path(), &["sample", "--model", "0", "--seeds", "0-9", "--out", "points.safetensors"]);
    let bytes = fs::read(dir.path().join("points.safetensors")).expect("a file");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    assert_eq!((tensors.tensor("points").expect("points").shape(), tensors.tensor("z").expect("z").shape()), (&[10, 2][..], &[10, 8][..]));
    for (args, needle) in
        [(["--grid", "2x2"], "--grid: the model makes points of 2 numbers"), (["--out", "folder"], "--out folder: the model")]
    {
        let output = command(dir.path(), &[&["sample", "--model", "0"], &args[..]].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && text.contains(needle), "{text}");
    }
}

#[test]
fn runs_on_longer_vectors_have_plots_of_pairs_and_log_means() {
    let Some((_, _guard)) = gpu() else { return };
    let dir = with_networks();
    train(dir.path(), "builtin:gaussian?n=500", "3", &[]);
    let folder = dir.path().join("runs/00000-gaussian-custom-b16");
    let picture = picture(&fs::read(folder.join("fakes-000000000048.png")).expect("a plot"));
    assert_eq!(picture.dimensions(), (3 * 512, 2 * 512));
    let log = fs::read_to_string(folder.join("log.txt")).expect("a log");
    assert_eq!(log.matches("Samples: means ").count(), 2, "{log}");
}
