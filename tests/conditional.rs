//! Conditional GANs: against PyTorch, against the batch order, on points whose label names their mode, and from the command line to folders of
//! generated images that train as a labelled set.

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

use common::Fixture;
use ganymede::data::{self, DataSet, LoadOptions};
use ganymede::error::Error;
use ganymede::gan::config::GanConfig;
use ganymede::gan::schedule::{self, Position};
use ganymede::gan::step::{Inputs, Z_STREAM, build};
use ganymede::gan::trainer::{self, Trainer};
use ganymede::gpu::{Gpu, GpuOptions, testing};
use ganymede::graph::lower::Caps;
use ganymede::graph::tensor::Tensor;
use ganymede::nn::layer::Layer;
use ganymede::nn::network::{InitScheme, Network};
use ganymede::ops::gather::batch_index;
use ganymede::ops::noise::{Distribution, Source, noise_twin};
use ganymede::ops::optimiser::Optimiser;
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

fn network(name: &str, input: &[usize], layers: Vec<Layer>, classes: usize) -> Network {
    Network { name: name.into(), input: input.to_vec(), data: Vec::new(), layers, init: InitScheme::PyTorch, classes: Some(classes) }
}

/// The networks and settings of the golden trajectory.
fn golden() -> (Fixture, GanConfig) {
    #[derive(serde::Deserialize)]
    struct File {
        layers: Vec<Layer>,
    }
    let fixture = Fixture::load("conditional_trajectory");
    let number = |key: &str| fixture.parameters[key].as_f64().unwrap_or_else(|| panic!("no parameter {key}"));
    let layers = |key: &str| {
        let text = fixture.parameters[key].as_str().expect("the text of a network");
        toml::from_str::<File>(&format!("layers = [{text}]")).unwrap_or_else(|error| panic!("{key}: {error}")).layers
    };
    let sizes = |key: &str| fixture.get(key).shape.dims()[1..].to_vec();
    let classes = number("classes") as usize;
    let generator = network("G", &sizes("z.0"), layers("G"), classes);
    let discriminator = network("D", &sizes("real.0"), layers("D"), classes);
    let adam = Optimiser::Adam { beta1: number("beta1"), beta2: number("beta2"), eps: number("adam_eps"), weight_decay: 0.0 };
    let config = GanConfig {
        lr_g: number("lr").into(),
        lr_d: number("lr").into(),
        optimiser_g: adam,
        optimiser_d: adam,
        ..GanConfig::new(generator, discriminator, number("batch") as usize)
    };
    (fixture, config)
}

/// Runs the golden trajectory with what `fault` makes of the labels of a step; returns every disagreement with PyTorch.
fn disagreements(gpu: &Arc<Gpu>, fault: impl Fn(&mut Vec<u32>)) -> Vec<String> {
    let (fixture, config) = golden();
    let step = build(&config, &Inputs::Given, 128 << 20).expect("the step builds");
    let mut trainer = Trainer::from_step(gpu.clone(), config.clone(), step, 0).expect("the trainer starts");
    for name in ["G", "D"] {
        let prefix = format!("{name}.init.");
        let state: HashMap<String, Tensor> =
            fixture.tensors.iter().filter_map(|(key, t)| Some((key.strip_prefix(&prefix)?.to_string(), t.clone()))).collect();
        assert_eq!(state.keys().filter(|key| *key == "0.weight").count(), 1, "the embedding is called as PyTorch calls it");
        trainer.load_network(name, &state).expect("PyTorch's tensors are ours");
    }
    let mut wrong = Vec::new();
    for i in 0..10 {
        let mut labels: Vec<u32> = fixture.get(&format!("labels.{i}")).data.iter().map(|&label| label as u32).collect();
        fault(&mut labels);
        trainer.upload_batch(0, fixture.get(&format!("z.{i}")), fixture.get(&format!("real.{i}"))).expect("the batch fits");
        trainer.upload_batch_labels(0, &labels).expect("the labels fit");
        trainer.run_rows(&[schedule::row(&config, 0, Position::default().after(i as u64, config.batch))]).expect("a step");
        for (name, got) in ["loss_d_real", "loss_d_fake", "loss_g"].iter().zip(trainer.losses().expect("losses")) {
            let expected = fixture.get(&format!("{name}.{i}")).data[0];
            let apart = (f64::from(got) - expected).abs();
            if apart.is_nan() || apart > 1e-4 {
                wrong.push(format!("{name} of step {i}: {got}, PyTorch {expected}"));
            }
        }
    }
    let tensors = trainer.tensors().expect("the state reads");
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    for (name, expected) in fixture.tensors.iter().filter(|(name, _)| name.contains(".final.")) {
        let start = fixture.get(&name.replace(".final.", ".init."));
        let got = tensors[&name.replace(".final.", ".")].as_f32().expect("floats");
        let moved = length(&mut start.data.iter().zip(&expected.data).map(|(a, b)| b - a));
        let apart = length(&mut got.iter().zip(&expected.data).map(|(a, b)| f64::from(*a) - b));
        if apart.is_nan() || apart > 1e-2 * moved {
            wrong.push(format!("{name}: {apart:.3e} from PyTorch after a movement of {moved:.3e}"));
        }
    }
    wrong
}

#[test]
fn ten_conditional_steps_agree_with_pytorch() {
    let Some((gpu, _guard)) = gpu() else { return };
    let wrong = disagreements(&gpu, |_| ());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let swapped = disagreements(&gpu, |labels| labels.swap(0, 1));
    let constant = disagreements(&gpu, |labels| labels.fill(0));
    assert!(!swapped.is_empty() && !constant.is_empty(), "other labels go unnoticed");
}

fn points(spec: &str) -> DataSet {
    data::load(spec, &LoadOptions::default()).expect("built-in data")
}

/// A trainer of networks that are all zeros, with points and labels.
fn zeroed(gpu: &Arc<Gpu>, config: &GanConfig, set: &DataSet) -> Trainer {
    let mut trainer = Trainer::new(gpu.clone(), config.clone(), &Inputs::Device { images: set.count }).expect("the trainer starts");
    trainer.upload_vectors(&set.vectors.as_ref().expect("points").values).expect("the points fit");
    trainer.upload_labels(set.labels.as_ref().expect("labels")).expect("the labels fit");
    for (name, network) in [("G", &config.generator), ("D", &config.discriminator)] {
        let zeros = network.tensors().expect("valid").into_iter();
        let zeros = zeros.map(|t| (t.name, Tensor::new(t.shape.clone(), vec![0.0; t.shape.len()]))).collect();
        trainer.load_network(name, &zeros).expect("its own tensors");
    }
    trainer
}

/// D is linear in [x, c, all products of two of these], c the one-hot class. At zero, its gradient by the weight of x_i c_k is -1/2 of the mean of x_i
/// over the reals of class k: each real is beside its own label. That by the weight of c_k is 0, because the fakes are of the same classes.
#[test]
fn reals_have_their_labels_and_fakes_the_same() {
    let Some((gpu, _guard)) = gpu() else { return };
    let (set, batch, classes) = (points("builtin:ring?n=100"), 24, 8);
    for micro_batch in [batch, batch / 3] {
        let discriminator = vec![Layer::class_concat(None), Layer::Quadratic {}, Layer::linear(1)];
        let generator = vec![Layer::class_concat(None), Layer::linear(2)];
        let config = GanConfig {
            seed: 77,
            micro_batch,
            ..GanConfig::new(network("G", &[3], generator, classes), network("D", &[2], discriminator, classes), batch)
        };
        let mut trainer = zeroed(&gpu, &config, &set);
        trainer.run_steps(1).expect("a step");
        let state = trainer.tensors().expect("the state reads");
        let moment = state["adam.D.m.2.weight"].as_f32().expect("floats");
        let labels = set.labels.as_ref().expect("labels");
        let rows: Vec<usize> = (0..batch as u32).map(|r| batch_index(config.seed, 0, set.count as u32, r) as usize).collect();
        let width = 2 + classes;
        for class in 0..classes {
            assert!(moment[2 + class].abs() < 1e-6, "class {class} tells reals from fakes: {}", moment[2 + class]);
            for feature in 0..2 {
                let of_class = rows.iter().filter(|&&row| labels[row] as usize == class);
                let mean = of_class.map(|&row| f64::from(set.to_f32(row)[feature])).sum::<f64>() / batch as f64;
                let (got, expected) = (f64::from(moment[width + feature * width + 2 + class]), -0.25 * mean);
                assert!((got - expected).abs() < 1e-6, "micro-batches of {micro_batch}, class {class}: {got}, expected {expected}");
            }
        }
    }
}

/// G is linear in [z, c]. Its gradient by the weights of c_k is as large as its batch has samples of class k: those of the last batch of reals, also
/// where the fakes are made again for each micro-batch.
#[test]
fn the_generator_learns_from_the_classes_of_the_last_batch() {
    let Some((gpu, _guard)) = gpu() else { return };
    let (set, batch, classes) = (points("builtin:ring?n=100"), 24, 8);
    for (micro_batch, d_steps) in [(batch, 1), (batch / 3, 1), (batch, 2), (batch / 3, 2)] {
        let generator = vec![Layer::class_concat(None), Layer::linear(2)];
        let config = GanConfig {
            seed: 5,
            micro_batch,
            d_steps,
            // So that D barely moves from zero, and sees all fakes alike.
            lr_d: 1e-3.into(),
            ..GanConfig::new(network("G", &[3], generator, classes), network("D", &[2], vec![Layer::linear(1)], classes), batch)
        };
        let mut trainer = zeroed(&gpu, &config, &set);
        trainer.run_steps(1).expect("a step");
        let state = trainer.tensors().expect("the state reads");
        let moment = state["adam.G.m.1.weight"].as_f32().expect("floats");
        let whole = f64::from(state["adam.G.m.1.bias"].as_f32().expect("floats")[0]);
        assert!(whole.abs() > 1e-5, "the generator got no gradient: {whole:e}");
        let first = ((d_steps - 1) * batch) as u32;
        let mut counts = vec![0usize; classes];
        for r in 0..batch as u32 {
            counts[set.labels.as_ref().expect("labels")[batch_index(config.seed, 0, set.count as u32, first + r) as usize] as usize] += 1;
        }
        for (class, count) in counts.iter().enumerate() {
            let (share, expected) = (f64::from(moment[3 + class]) / whole, *count as f64 / batch as f64);
            assert!(
                (share - expected).abs() < 1e-3,
                "{micro_batch} {d_steps} class {class}: {share:.4}, expected {expected:.4} ({counts:?})"
            );
        }
    }
}

/// The ring's settings, with the class in both networks.
const RING: &str = r#"
preset = "ring"

[generator]
layers = [
    { type = "class_concat", features = 8 },
    { type = "linear", features = 64 },
    { type = "relu" },
    { type = "linear", features = 64 },
    { type = "relu" },
    { type = "linear", features = "data" },
]

[discriminator]
layers = [
    { type = "class_concat" },
    { type = "linear", features = 64 },
    { type = "leaky_relu", slope = 0.2 },
    { type = "linear", features = 64 },
    { type = "leaky_relu", slope = 0.2 },
    { type = "linear", features = 1 },
]
"#;

#[test]
fn each_class_of_a_ring_makes_its_own_mode() {
    let Some((gpu, _guard)) = gpu() else { return };
    let mut layers = Layers::default();
    layers.text(Path::new("ring.toml"), RING.to_string()).expect("a config");
    let config = layers.resolve(None).expect("a config");
    assert_eq!(config.class_layer().as_deref(), Some("generator layer 0 (ClassConcat 8)"));
    let set = points("builtin:ring");
    let gan = config.recipe().gan_config(&[2], Some(set.classes()));
    let mut trainer = Trainer::new(gpu.clone(), gan, &Inputs::Device { images: set.count }).expect("the trainer starts");
    trainer.upload_vectors(&set.vectors.as_ref().expect("points").values).expect("the points fit");
    let error = trainer.run_steps(1).unwrap_err();
    assert!(matches!(error, Error::Internal(_)) && error.to_string().contains("upload_labels"), "{error}");
    let labels = set.labels.as_ref().expect("labels");
    let wrong: Vec<u32> = labels.iter().map(|label| label + 1).collect();
    assert!(trainer.upload_labels(&wrong).unwrap_err().to_string().contains("is 8, and the networks know 8 classes"));
    assert!(trainer.upload_labels(&labels[1..]).is_err());
    trainer.upload_labels(labels).expect("the labels fit");

    let row = |seed| noise_twin(Source { seed, stream: Z_STREAM }, Distribution::Normal, 0, 2);
    let z: Vec<f32> = (0..100).flat_map(row).map(|v| v as f32).collect();
    let centres = set.vectors.as_ref().expect("points").modes.clone().expect("modes").centres;
    let near = |trainer: &Trainer| -> (usize, Vec<f32>) {
        let away: Vec<f32> = (0..8u32)
            .map(|class| {
                let samples = trainer.sample_classes(&z, &vec![class; 100]).expect("samples").data;
                let mean = |i: usize| samples.iter().skip(i).step_by(2).sum::<f32>() / 100.0;
                let centre = &centres[2 * class as usize..][..2];
                (mean(0) - centre[0]).hypot(mean(1) - centre[1])
            })
            .collect();
        (away.iter().filter(|away| **away < 0.3).count(), away)
    };
    assert!(near(&trainer).0 <= 1, "before training, no class makes its mode: {:?}", near(&trainer));
    trainer.run_steps(1500).expect("steps");
    let (right, away) = near(&trainer);
    assert!(right >= 7, "{right} of 8 classes make their mode; the means are {away:?} away");

    // Without a list of classes, they take turns.
    let turns: Vec<u32> = (0..100).map(|i| i % 8).collect();
    assert_eq!(trainer.sample(&z).expect("samples"), trainer.sample_classes(&z, &turns).expect("samples"));
    for classes in [&turns[1..], &[8; 100], &[]] {
        assert_eq!(trainer.sample_classes(&z, classes).unwrap_err().exit_code(), 2);
    }
}

/// What classes cost a step, and that they cost nothing where no layer takes them.
#[test]
fn labels_are_one_dispatch_a_batch_and_only_where_they_are_needed() {
    let classes = 8;
    let plan = |layers: Vec<Layer>, d_steps| {
        let g = vec![Layer::linear(2)];
        let config = GanConfig { d_steps, ..GanConfig::new(network("G", &[3], g, classes), network("D", &[2], layers, classes), 8) };
        trainer::plan(&config, &Inputs::Device { images: 50 }, &Caps::minimal()).expect("it compiles")
    };
    for d_steps in [1, 3] {
        let plain = plan(vec![Layer::linear(1)], d_steps);
        assert!(plain.dispatches.iter().all(|(_, d)| d.kernel.name != "draw_labels"));
        assert!(plain.buffers.iter().all(|buffer| !buffer.name.starts_with("labels")));
        let conditional = plan(vec![Layer::class_concat(None), Layer::linear(1)], d_steps);
        assert_eq!(conditional.dispatches.iter().filter(|(_, d)| d.kernel.name == "draw_labels").count(), d_steps);
        assert_eq!(conditional.buffers.iter().filter(|buffer| buffer.name.starts_with("labels")).count(), d_steps + 1);
    }
}

/// Runs a command in a folder.
fn ganymede(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ganymede"));
    command.args(args).current_dir(folder).stdin(Stdio::null());
    if let Ok(adapter) = std::env::var("GANYMEDE_TEST_ADAPTER")
        && !matches!(args[0], "data" | "summary")
    {
        command.args(["--adapter", &adapter]);
    }
    command.output().expect("the command starts")
}

#[track_caller]
fn ok(folder: &Path, args: &[&str]) -> String {
    let output = ganymede(folder, args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{args:?}: {}\n{err}\n{out}", output.status);
    out.into_owned()
}

#[track_caller]
fn refused(folder: &Path, args: &[&str], needles: &[&str]) {
    let output = ganymede(folder, args);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), text.matches("error:").count()), (Some(2), 1), "{args:?}: {text}");
    needles.iter().for_each(|needle| assert!(text.contains(needle), "{args:?}: no {needle:?} in {text}"));
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn networks_that_take_classes_need_labels() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path();
    fs::create_dir_all(at.join("plain")).expect("a folder");
    image::GrayImage::new(28, 28).save(at.join("plain/a.png")).expect("a picture");
    let needles = [
        "it has no labels (data.labels is auto)",
        "generator layer 0 (ClassConcat 20) takes the class of each sample",
        "data.labels=folders",
    ];
    refused(at, &["summary", "--preset", "cgan-28", "--data", "plain"], &needles);
    refused(at, &["train", "--preset", "cgan-28", "--data", "builtin:gaussian", "--dry-run"], &["--data builtin:gaussian"]);
    let text = ok(at, &["summary", "--preset", "cgan-28", "--data", "builtin:digits?n=50"]);
    let row = text.lines().find(|line| line.contains("0 ClassConcat 20")).unwrap_or_else(|| panic!("{text}"));
    assert!(row.split_whitespace().any(|word| word == "120") && row.split_whitespace().any(|word| word == "200"), "{row}");
    assert!(text.lines().any(|line| line.contains("0 ClassConcat one-hot") && line.contains("11x28x28")), "{text}");
}

/// From training to folders of classes, which train as a labelled set, and every other output with its labels.
#[test]
fn images_of_each_class_make_a_labelled_set() {
    let Some((_, _guard)) = gpu() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path();
    let steps = ["--batch", "4", "--steps", "2", "--tick", "0.008"];
    ok(at, &[&["train", "--preset", "cgan-28", "--data", "builtin:digits?n=60"][..], &steps].concat());
    let run = "runs/00000-digits-cgan-28-b4";
    // Ten rows of six, each 28 high, with names to the left.
    for picture in ["fakes_init.png", "reals.png"] {
        let picture = image::open(at.join(run).join(picture)).expect("a picture");
        assert_eq!((picture.width(), picture.height()), (6 + 6 + 6 * 30 + 2, 10 * 30 + 2));
    }

    let sample = |args: &[&str]| ok(at, &[&["sample", "--model", "0"][..], args].concat());
    sample(&["--per-class", "3", "--out", "made"]);
    let set = data::load("builtin:digits?n=1", &LoadOptions::default()).expect("digits");
    assert_eq!(names(&at.join("made")), [&set.class_names[..], &["dataset.json".to_string()]].concat());
    assert_eq!(names(&at.join("made/7")), ["seed-000000.png", "seed-000001.png", "seed-000002.png"]);

    // The labels are read back, by the file and by the folders alone; and training goes on from them.
    let load = |path: &str, labels| {
        let policy = data::ImagePolicy { labels, ..data::ImagePolicy::default() };
        data::load_with(&at.join(path).display().to_string(), &LoadOptions::default(), &policy, &|_, _| {}).expect("a data set")
    };
    let by_file = load("made", data::policy::Labels::Auto);
    assert_eq!((by_file.count, by_file.classes(), &by_file.class_names), (30, 10, &set.class_names));
    fs::rename(at.join("made/dataset.json"), at.join("labels.json")).expect("a file");
    let by_folder = load("made", data::policy::Labels::Folders);
    assert_eq!((&by_folder.labels, &by_folder.class_names, &by_folder.images), (&by_file.labels, &by_file.class_names, &by_file.images));
    let train = ["train", "--preset", "cgan-28", "--data", "made"];
    refused(at, &[&train[..], &steps].concat(), &["it has no labels"]);
    let log = ok(at, &[&train[..], &["--set", "data.labels=folders"], &steps].concat());
    assert!(log.contains("30 images, 28 x 28 grey, 10 classes") && log.contains("Finished"), "{log}");
    fs::rename(at.join("labels.json"), at.join("made/dataset.json")).expect("a file");

    // The same images under the same seeds and classes, whatever the file.
    sample(&["--per-class", "3", "--out", "made.zip"]);
    sample(&["--per-class", "3", "--out", "made.npz"]);
    for path in ["made.zip", "made.npz"] {
        let other = load(path, data::policy::Labels::Auto);
        assert_eq!((&other.labels, &other.images), (&by_file.labels, &by_file.images), "{path}");
    }
    sample(&["--class", "7", "--class", "3", "--seeds", "0-2", "--out", "some.zip"]);
    let some = load("some.zip", data::policy::Labels::Auto);
    assert_eq!(some.labels.as_deref(), Some(&[7, 3, 7][..]));
    assert_eq!([some.image(0), some.image(1), some.image(2)], [by_file.image(21), by_file.image(10), by_file.image(23)]);
    sample(&["--count", "4", "--out", "flat"]);
    assert_eq!(names(&at.join("flat")), ["000000.png", "000001.png", "000002.png", "000003.png"]);
    sample(&["--seeds", "4-6", "--out", "some.safetensors"]);
    let bytes = fs::read(at.join("some.safetensors")).expect("a file");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("tensors");
    let labels: Vec<u32> = bytemuck::pod_collect_to_vec(tensors.tensor("labels").expect("labels").data());
    assert_eq!(labels, [4, 5, 6]);

    // Pictures: a row a class, or a grid in which they take turns; beside reals of the same classes; and in motion.
    let size = |path: &str| {
        let picture = image::open(at.join(path)).expect("a picture");
        (picture.width(), picture.height())
    };
    sample(&["--out", "sheet.png"]);
    assert_eq!(size("sheet.png"), (12 + 8 * 30 + 2, 10 * 30 + 2));
    sample(&["--class", "7", "--seeds", "0-4", "--out", "sevens.png"]);
    assert_eq!(size("sevens.png"), (12 + 5 * 30 + 2, 32));
    sample(&["--grid", "2x5", "--out", "grid.png"]);
    assert_eq!(size("grid.png"), (152, 62));
    sample(&["--compare", "--seeds", "0-2", "--out", "both.png"]);
    assert_eq!(size("both.png"), (2 * (12 + 92) + 8, 302 + 13));
    sample(&["--interpolate", "--frames", "2", "--class", "3", "--out", "walk.gif"]);
    sample(&["--film", "checkpoints", "--class", "3", "--out", "film.gif"]);

    refused(at, &["sample", "--model", "0", "--class", "ten"], &["--class: there is no class \"ten\"", "0, 1, 2"]);
    refused(at, &["sample", "--model", "0", "--per-class", "2", "--out", "made"], &["holds 0/seed-000002.png already"]);
    ok(at, &[&["train", "--preset", "mlp", "--data", "builtin:digits?n=60", "--desc", "plain"][..], &steps].concat());
    for args in [&["--class", "3"][..], &["--per-class", "3", "--out", "x"]] {
        refused(at, &[&["sample", "--model", "2"][..], args].concat(), &[args[0], "takes no classes", "--preset cgan-28"]);
    }
    // A run goes on with its labels.
    let log = ok(at, &["train", "--resume", "0", "--steps", "3"]);
    assert!(log.contains("Finished"), "{log}");
}
