//! GANs on points: a mixture that is learned, the same bits twice, true resumes, and what the run folder shows of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ganymede::data::{self, DataSet, LoadOptions, Split};
use ganymede::error::{Error, Result};
use ganymede::eval::modes::{DEFAULT_SAMPLES, ModeStats, mode_stats};
use ganymede::gan::config::GanConfig;
use ganymede::gan::sampler::Images;
use ganymede::gan::step::{Inputs, Z_STREAM};
use ganymede::gan::trainer::{Position, Trainer};
use ganymede::gpu::{Gpu, GpuOptions, testing};
use ganymede::graph::lower::Caps;
use ganymede::graph::tensor::Tensor;
use ganymede::nn::network::{InitScheme, Layer, Network};
use ganymede::nn::state::HostData;
use ganymede::ops::gather::{Storage, batch_index};
use ganymede::ops::noise::{Distribution, Source, noise_twin};
use ganymede::ops::optimiser::Adam;
use ganymede::ops::stats::Stat;
use ganymede::run::checkpoint;
use ganymede::run::config::{Given, Layers, TrainConfig};
use ganymede::run::folder::{self, RunFolder};
use ganymede::run::log::Log;
use ganymede::run::picture::Pictures;
use ganymede::run::signal::Stop;
use ganymede::run::state::{DataId, Tensors, TrainState};
use ganymede::run::train::{Engine, Origin, Outcome, Session, TickStats, train};
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
    let linear = |inputs, outputs| Layer::Linear { inputs, outputs, bias: true };
    let leaky = Layer::LeakyRelu(0.2);
    let layers = vec![linear(inputs, hidden), leaky, linear(hidden, hidden), leaky, linear(hidden, outputs)];
    Network { name: name.into(), input: vec![inputs], layers, init: InitScheme::PyTorch }
}

/// For points of `features` numbers.
fn config(features: usize, hidden: usize, batch: usize) -> GanConfig {
    GanConfig {
        lr_g: 1e-3,
        lr_d: 1e-3,
        adam: Adam { beta1: 0.5, beta2: 0.999, eps: 1e-8 },
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
        let linear = |name: &str, inputs, outputs| Network {
            name: name.into(),
            input: vec![inputs],
            layers: vec![Layer::Linear { inputs, outputs, bias: true }],
            init: InitScheme::PyTorch,
        };
        let config = GanConfig { seed: 77, ..GanConfig::new(linear("G", 3, features), linear("D", features, 1), batch) };
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
            let expected = (1.0 - config.adam.beta1) * -0.5 * mean;
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
    let odd = GanConfig { discriminator: Network { input: vec![2, 3], ..mlp("D", 3, 4, 1) }, ..config(3, 4, 8) };
    assert!(odd.image().unwrap_err().to_string().contains("inputs of shape [2, 3]"));

    let Some((gpu, _guard)) = gpu() else { return };
    let vectors = Trainer::new(gpu.clone(), config(2, 4, 8), &Inputs::Device { images: 10 }).expect("the trainer starts");
    let error = vectors.upload_data(&[0; 20]).unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().contains("holds images, and the discriminator takes vectors")), (2, true), "{error}");
    assert!(matches!(vectors.upload_vectors(&[0.0; 19]), Err(Error::Internal(_))));
    let layers = |rest: &[Layer]| [&[Layer::Linear { inputs: 4, outputs: 4, bias: true }], rest].concat();
    let images = GanConfig::new(
        Network { input: vec![4], layers: layers(&[Layer::Unflatten { channels: 1, height: 2, width: 2 }]), ..mlp("G", 4, 4, 4) },
        Network {
            input: vec![1, 2, 2],
            layers: vec![Layer::Flatten, Layer::Linear { inputs: 4, outputs: 1, bias: true }],
            ..mlp("D", 4, 4, 1)
        },
        4,
    );
    let images = Trainer::new(gpu.clone(), images, &Inputs::Device { images: 10 }).expect("the trainer starts");
    let error = images.upload_vectors(&[0.0; 40]).unwrap_err();
    assert!(error.to_string().contains("holds vectors, and the discriminator takes images"), "{error}");
    images.upload_data(&[0; 40]).expect("images fit");
}

/// A trainer as the run loop drives it.
struct Points(Trainer);

impl Engine for Points {
    fn run_steps(&mut self, n: u32) -> Result<()> {
        self.0.run_steps(n)
    }

    fn step(&self) -> u64 {
        self.0.position().step
    }

    fn check_finite(&mut self) -> Result<()> {
        self.0.check_finite()
    }

    fn end_tick(&mut self) -> Result<()> {
        Ok(())
    }

    fn tick_stats(&mut self, _: bool) -> Result<Option<TickStats>> {
        let stats: BTreeMap<_, _> = self.0.tick_stats()?.into_iter().map(|(stat, s)| (stat.name(), s)).collect();
        let mean = |stat: Stat| stats[stat.name()].mean;
        Ok(Some(TickStats {
            steps: stats[Stat::GradNormG.name()].count,
            loss_d: mean(Stat::LossDReal),
            loss_d_real: mean(Stat::LossDReal),
            loss_d_fake: mean(Stat::LossDFake),
            loss_g: mean(Stat::LossG),
            d_x: mean(Stat::DX),
            d_g_z1: mean(Stat::DGZ1),
            d_g_z2: mean(Stat::DGZ2),
            grad_norm_d: mean(Stat::GradNormD),
            grad_norm_g: mean(Stat::GradNormG),
        }))
    }

    fn state(&mut self) -> Result<Tensors> {
        self.0.tensors()
    }

    fn load(&mut self, state: &TrainState) -> Result<()> {
        self.0.load_tensors(Position { step: state.step, images_seen: state.images_seen }, &state.tensors)
    }

    fn sample(&mut self, seeds: &[u64]) -> Result<Images> {
        self.0.sample(&z_of(seeds.iter().copied(), self.0.config().z_dim))
    }

    fn memory(&self) -> u64 {
        self.0.memory()
    }
}

/// Settings of the run folder: a tick of 10 steps, a snapshot every 3 ticks.
fn settings(outdir: &Path, steps: u64) -> TrainConfig {
    let mut flags = Given::default();
    flags.training.batch = Some(16);
    flags.run.steps = Some(Some(steps));
    flags.run.tick_kimg = Some(0.16);
    flags.run.snap_ticks = Some(3);
    flags.run.steps_per_submit = Some(5);
    flags.run.outdir = Some(outdir.to_str().expect("UTF-8").to_string());
    Layers { flags, file: None }.resolve(None).expect("valid settings")
}

/// A run of the folder with a small network.
fn run(gpu: &Arc<Gpu>, set: &DataSet, folder: &RunFolder, settings: &TrainConfig, origin: Origin, stop_after: Option<u64>) -> Outcome {
    let mut engine = Points(trainer(gpu, config(set.channels, 16, 16), set));
    let source = "builtin:points".to_string();
    let id = DataId { source, fingerprint: set.fingerprint(), channels: set.channels as u32, height: 1, width: 1 };
    let session = Session {
        folder,
        config: settings,
        data: &id,
        origin,
        pictures: Pictures::of(set),
        reals: &mut |_| Err(Error::internal("plots hold their data")),
        log: &mut Log::quiet(),
        stop: &Stop::default(),
        stop_after,
        checkpoint_every: Duration::from_secs(3600),
    };
    train(&mut engine, session).expect("a run")
}

/// Checkpoints and pictures of a run folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    names
        .filter(|name| name.ends_with(".png") || name.ends_with(".safetensors"))
        .map(|name| (name.clone(), fs::read(folder.join(name)).expect("a file")))
        .collect()
}

#[test]
fn a_run_folder_has_plots_and_mode_counts_and_resumes_to_the_same_bits() {
    let Some((gpu, _guard)) = gpu() else { return };
    let set = load("builtin:ring?n=2000", Split::Train);
    let dir = tempfile::tempdir().expect("a folder");
    let create = || RunFolder::create(dir.path(), "ring", "mlp", 16, "").expect("a run folder");
    let all = settings(dir.path(), 60);
    let whole = create();
    assert_eq!(run(&gpu, &set, &whole, &all, Origin::Fresh, None), Outcome::Finished);
    let expected = files(whole.path());
    let names: Vec<&str> = expected.keys().map(String::as_str).collect();
    let fakes = ["fakes-000000000480.png", "fakes-000000000960.png", "fakes_init.png", "reals.png"];
    assert_eq!(names[2..], fakes, "{names:?}");
    let log = fs::read_to_string(whole.path().join("log.txt")).expect("a log");
    assert_eq!(log.matches("Modes: ").count(), 3, "{log}");
    assert!(log.contains(" of 8 covered"), "{log}");

    // Reals are blue alone, fakes blue and orange; the axes of all are the same.
    let pictures: Vec<RgbImage> =
        ["reals.png", "fakes_init.png", fakes[1]].map(|name| image::load_from_memory(&expected[name]).expect("a PNG").to_rgb8()).into();
    let count = |picture: &RgbImage, is: fn(&[u8; 3]) -> bool| picture.enumerate_pixels().filter(|(_, y, p)| *y > 31 && is(&p.0)).count();
    let blue = |p: &[u8; 3]| p[2] > p[0].saturating_add(60);
    let orange = |p: &[u8; 3]| p[0] > p[2].saturating_add(60);
    assert!(pictures.iter().all(|picture| count(picture, blue) > 100));
    assert_eq!(count(&pictures[0], orange), 0);
    assert!(pictures[1..].iter().all(|picture| count(picture, orange) > 100));
    let below = |picture: &RgbImage| picture.rows().skip(466).flatten().map(|p| p.0).collect::<Vec<_>>();
    assert!(pictures.iter().all(|picture| below(picture) == below(&pictures[0])), "the labels below the axes");

    // Stopped between snapshots, and resumed.
    let parts = create();
    assert_eq!(run(&gpu, &set, &parts, &all, Origin::Fresh, Some(37)), Outcome::Stopped);
    let path = folder::find(dir.path(), parts.path().to_str().expect("UTF-8")).expect("a run").checkpoint.expect("a checkpoint");
    let state = checkpoint::read(&path).expect("its own checkpoint");
    assert_eq!(state.step, 37);
    assert_eq!(run(&gpu, &set, &parts, &all, Origin::Resume(Some((path.clone(), state))), None), Outcome::Finished);
    let mut resumed = files(parts.path());
    resumed.remove(path.file_name().and_then(|name| name.to_str()).expect("UTF-8"));
    for (name, bytes) in resumed {
        assert!(expected[&name] == bytes, "{name} differs");
    }
}

#[test]
fn runs_on_longer_vectors_have_plots_of_pairs_and_log_means() {
    let Some((gpu, _guard)) = gpu() else { return };
    let set = load("builtin:gaussian?n=500", Split::Train);
    let dir = tempfile::tempdir().expect("a folder");
    let folder = RunFolder::create(dir.path(), "gaussian", "mlp", 16, "").expect("a run folder");
    run(&gpu, &set, &folder, &settings(dir.path(), 3), Origin::Fresh, None);
    let picture = image::open(folder.path().join("fakes-000000000048.png")).expect("a PNG");
    assert_eq!((picture.width(), picture.height()), (3 * 512, 2 * 512));
    let log = fs::read_to_string(folder.path().join("log.txt")).expect("a log");
    assert_eq!(log.matches("Samples: means ").count(), 2, "{log}");
}
