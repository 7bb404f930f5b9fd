//! Data sets that are streamed from the host: the same bits as with the whole set on the device, however training is cut, and errors and threads that
//! end where they should.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ganymede::data::stream::Source;
use ganymede::data::{self, DataSet, LoadOptions};
use ganymede::error::{Error, Result};
use ganymede::gan::config::GanConfig;
use ganymede::gan::schedule::{self, Position};
use ganymede::gan::step::{self, Inputs, MAX_STEPS_PER_SUBMIT};
use ganymede::gan::trainer::{self, Trainer};
use ganymede::gpu::{Gpu, GpuOptions, testing};
use ganymede::graph::lower::Caps;
use ganymede::nn::layer::Layer;
use ganymede::nn::network::{InitScheme, Network};
use ganymede::nn::state::{HostData, HostTensor};
use ganymede::ops::augment::{AugmentConfig, Rotate, Translate};
use ganymede::ops::gather::Storage;
use ganymede::run::presets::preset;

/// A GPU for a test, one test at a time. `None` where tests do not use one.
fn gpu() -> Option<(Arc<Gpu>, MutexGuard<'static, ()>)> {
    static ONE: Mutex<()> = Mutex::new(());
    testing::gpu()?;
    let guard = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let adapter = std::env::var("GANYMEDE_TEST_ADAPTER").ok();
    let options = GpuOptions { adapter, pipeline_cache: false, ..GpuOptions::default() };
    Some((Arc::new(Gpu::open(&options).expect("the test GPU opens twice")), guard))
}

fn load(spec: &str) -> Arc<DataSet> {
    Arc::new(data::load(spec, &LoadOptions::default()).expect("built-in data"))
}

/// Colour images of 105 bytes, which fill no whole words.
fn odd_images() -> Arc<DataSet> {
    let pixels = (0..23 * 105u32).map(|i| (i * 37 % 251) as u8).collect();
    Arc::new(DataSet::new("odd", (23, 5, 7, 3), pixels, None, Vec::new()).expect("a data set"))
}

fn network(name: &str, input: &[usize], layers: Vec<Layer>) -> Network {
    Network { name: name.into(), input: input.to_vec(), data: Vec::new(), layers, init: InitScheme::PyTorch, classes: None }
}

/// Dense networks for images or points of a shape, without batch statistics.
fn dense(sample: &[usize], batch: usize) -> GanConfig {
    let len = sample.iter().product::<usize>();
    let leaky = || Layer::leaky_relu(0.2);
    let mut g = vec![Layer::linear(9), leaky(), Layer::linear(len)];
    let mut d = vec![Layer::linear(9), leaky(), Layer::linear(1)];
    if let [c, h, w] = *sample {
        g.push(Layer::unflatten([c, h, w]));
        d.insert(0, Layer::flatten());
    }
    GanConfig { seed: 5, ..GanConfig::new(network("G", &[6], g), network("D", sample, d), batch) }
}

/// Dense networks that take the class of each sample.
fn conditional(sample: &[usize], batch: usize, classes: usize) -> GanConfig {
    let mut config = dense(sample, batch);
    for network in [&mut config.generator, &mut config.discriminator] {
        network.layers.insert(0, Layer::class_concat(None));
        network.classes = Some(classes);
    }
    config
}

/// With convolutions, whose reals are not flat.
fn convolutions(batch: usize) -> GanConfig {
    let g = vec![Layer::linear(105), Layer::unflatten([3, 5, 7])];
    let d = vec![Layer::conv2d(5, 3, 1, 1), Layer::leaky_relu(0.2), Layer::flatten(), Layer::linear(1)];
    GanConfig { seed: 5, ..GanConfig::new(network("G", &[6], g), network("D", &[3, 5, 7], d), batch) }
}

fn augmented(config: GanConfig) -> GanConfig {
    let rotate = Some(Rotate { p: 0.5, degrees: 40.0 });
    let translate = Some(Translate { p: 0.5, range: 0.2 });
    GanConfig { augment: AugmentConfig { mirror: 0.5, rotate, translate, ..AugmentConfig::default() }, ..config }
}

fn resident(gpu: &Arc<Gpu>, config: &GanConfig, set: &DataSet) -> Trainer {
    let mut trainer = Trainer::new(gpu.clone(), config.clone(), &Inputs::Device { images: set.count }).expect("the trainer starts");
    set.labels.iter().for_each(|labels| trainer.upload_labels(labels).expect("the labels fit"));
    match &set.vectors {
        Some(vectors) => trainer.upload_vectors(&vectors.values),
        None => trainer.upload_data(&set.images),
    }
    .expect("the data fit");
    trainer
}

fn streamed(gpu: &Arc<Gpu>, config: &GanConfig, set: &Arc<DataSet>) -> Trainer {
    let mut trainer = Trainer::new(gpu.clone(), config.clone(), &Inputs::Stream { images: set.count }).expect("the trainer starts");
    trainer.stream_data(set.clone()).expect("the data fit");
    set.labels.iter().for_each(|labels| trainer.upload_labels(labels).expect("the labels fit"));
    trainer
}

fn tensors(trainer: &Trainer) -> BTreeMap<String, HostTensor> {
    trainer.tensors().expect("the state reads")
}

/// Bits of the whole state, statistics included.
fn bits(trainer: &Trainer) -> BTreeMap<String, Vec<u32>> {
    let words = |data| match data {
        HostData::F32(values) => values.into_iter().map(f32::to_bits).collect(),
        HostData::U32(values) => values,
    };
    tensors(trainer).into_iter().map(|(name, tensor)| (name, words(tensor.data))).collect()
}

/// What is trained, on what: images of whole words and others, flat or not, points; batches that divide the epoch and others; several updates of the
/// discriminator; micro-batches; augmentation; classes.
fn trainings() -> Vec<(&'static str, GanConfig, Arc<DataSet>)> {
    let (odd, points) = (odd_images(), load("builtin:gaussian?n=17"));
    let digits = preset("dcgan-28-small").expect("the preset exists").gan_config(1, 6);
    vec![
        ("dcgan-28-small", GanConfig { d_steps: 2, ..digits }, load("builtin:digits?n=20")),
        ("flat images", dense(&[3, 5, 7], 5), odd.clone()),
        ("convolutions", convolutions(3), odd.clone()),
        ("points", GanConfig { d_steps: 3, ..dense(&[5], 7) }, points.clone()),
        ("micro-batches", GanConfig { d_steps: 2, micro_batch: 2, ..dense(&[3, 5, 7], 6) }, odd.clone()),
        ("classes", GanConfig { d_steps: 2, ..conditional(&[2], 6, 8) }, load("builtin:ring?n=23")),
        ("classes in micro-batches", GanConfig { micro_batch: 2, ..conditional(&[2], 6, 8) }, load("builtin:ring?n=23")),
        ("augmented", augmented(GanConfig { d_steps: 2, ..convolutions(5) }), odd.clone()),
        ("augmented micro-batches", augmented(GanConfig { micro_batch: 3, ..convolutions(6) }), odd),
    ]
}

#[test]
fn streamed_data_give_the_bits_of_resident_data_however_steps_are_split() {
    let Some((gpu, _guard)) = gpu() else { return };
    for (name, config, set) in trainings() {
        let mut whole = resident(&gpu, &config, &set);
        whole.set_steps_per_submit(Some(4));
        let start = bits(&whole);
        // Several epochs, that end inside of batches.
        whole.run_steps(19).expect("steps run");
        let expected = bits(&whole);
        assert!(19 * config.batch * config.d_steps > 2 * set.count && expected != start, "{name}");
        for per_submit in [Some(1), Some(5), Some(8), None] {
            let mut trainer = streamed(&gpu, &config, &set);
            trainer.set_steps_per_submit(per_submit);
            trainer.run_steps(19).expect("steps run");
            assert!(bits(&trainer) == expected, "{name}, {per_submit:?} steps a submit");
        }
        // Other data are seen.
        let mut other = DataSet::clone(&set);
        match &mut other.vectors {
            Some(vectors) => vectors.values[0] += 0.5,
            None => other.images[0] ^= 255,
        }
        let mut trainer = streamed(&gpu, &config, &Arc::new(other));
        trainer.run_steps(19).expect("steps run");
        assert!(bits(&trainer) != expected, "{name}: one value in the data changes nothing");
    }
}

#[test]
fn a_run_goes_on_streamed_or_resident_to_the_bit() {
    let Some((gpu, _guard)) = gpu() else { return };
    for (name, config, set) in trainings().into_iter().skip(3) {
        let mut whole = resident(&gpu, &config, &set);
        whole.run_steps(11).expect("steps run");
        let expected = bits(&whole);
        for ways in [[true, true], [true, false], [false, true]] {
            let [mut first, mut second] =
                ways.map(|stream| if stream { streamed(&gpu, &config, &set) } else { resident(&gpu, &config, &set) });
            first.run_steps(4).expect("steps run");
            // It has steps of its own behind it, and batches read ahead.
            second.run_steps(2).expect("steps run");
            second.load_tensors(first.position(), &tensors(&first)).expect("the state loads");
            second.run_steps(7).expect("steps run");
            assert!(bits(&second) == expected, "{name}, streamed before and after: {ways:?}");
        }
    }
}

#[test]
fn rows_in_any_order_get_their_batches() {
    let Some((gpu, _guard)) = gpu() else { return };
    let (config, set) = (GanConfig { d_steps: 2, ..dense(&[3, 5, 7], 5) }, odd_images());
    let at = |step: u64| schedule::row(&config, set.count, Position { step, images_seen: 5 * step });
    let submits: [&[u64]; 4] = [&[7, 3, 3], &[0], &[1 << 33, 2], &[3, 4, 5, 6]];
    let run = |mut trainer: Trainer| {
        for submit in submits {
            trainer.run_rows(&submit.iter().map(|&step| at(step)).collect::<Vec<_>>()).expect("steps run");
        }
        trainer.time_step().expect("a step is timed");
        bits(&trainer)
    };
    assert!(run(streamed(&gpu, &config, &set)) == run(resident(&gpu, &config, &set)));
}

/// A step's plan holds the ring in place of the data; the ring is no larger than it has to be.
#[test]
fn the_ring_is_what_is_planned() {
    let config = preset("dcgan-32").expect("the preset exists").gan_config(3, 64);
    let build = |config: &GanConfig, max_bytes| step::build(config, &Inputs::Stream { images: 1_000_000 }, max_bytes);
    let max = 128 << 20;
    let ring = build(&config, max).expect("a step").ring.expect("a ring");
    assert_eq!((ring.places.len(), ring.steps, ring.stride, ring.places[0].len), (1, MAX_STEPS_PER_SUBMIT, 64, 8 * 64 * 3072 / 4));
    // A million images of 3,072 bytes are more than four bindings of the smallest adapter take.
    let planned = |inputs| trainer::plan(&config, &inputs, &Caps::minimal()).map(|plan| plan.memory().total());
    let error = planned(Inputs::Device { images: 1_000_000 }).expect_err("3 GB do not fit");
    assert!(matches!(&error, Error::Input(text) if text.contains("--data-on host")), "{error}");
    let small = planned(Inputs::Device { images: 1000 }).expect("a plan");
    assert_eq!(planned(Inputs::Stream { images: 1_000_000 }).expect("a plan"), small - 1000 * 3072 + 8 * 64 * 3072);
    // Fewer steps of large batches.
    for (batch, d_steps, steps) in [(2048, 1, 8), (1366, 2, 7), (4096, 3, 1), (16_384, 1, 1)] {
        let ring = build(&GanConfig { batch, d_steps, micro_batch: 2, ..config.clone() }, max).expect("a step").ring.expect("a ring");
        assert_eq!((ring.steps, ring.places.len()), (steps, d_steps), "batch {batch}");
    }
    let huge = GanConfig { batch: 65_536, micro_batch: 2, ..config.clone() };
    let error = build(&huge, max).expect_err("one batch is 192 MiB");
    assert!(error.exit_code() == 2 && error.to_string().contains("--batch"), "{error}");
}

#[test]
fn what_does_not_belong_to_the_step_is_refused() {
    let Some((gpu, _guard)) = gpu() else { return };
    let (config, set) = (dense(&[3, 5, 7], 5), odd_images());
    let new = |inputs| Trainer::new(gpu.clone(), config.clone(), &inputs).expect("the trainer starts");
    let mut trainer = new(Inputs::Stream { images: set.count });
    assert!(matches!(trainer.run_steps(1), Err(Error::Internal(text)) if text.contains("no data")));
    assert!(matches!(trainer.upload_data(&set.images), Err(Error::Internal(_))));
    assert!(matches!(trainer.stream_data(load("builtin:gaussian?n=23")), Err(Error::Input(text)) if text.contains("vectors")));
    assert!(matches!(trainer.stream_data(load("builtin:digits?n=23")), Err(Error::Internal(_))));
    assert_eq!(trainer.take_data_wait(), None);
    let mut trainer = new(Inputs::Device { images: set.count });
    assert!(matches!(trainer.stream_data(set.clone()), Err(Error::Internal(_))));
    assert_eq!(trainer.take_data_wait(), None);
}

/// Reads the odd images until one of them is broken.
struct Breaking {
    set: Arc<DataSet>,
    broken: u32,
    panics: bool,
}

impl Source for Breaking {
    fn count(&self) -> usize {
        self.set.count()
    }

    fn storage(&self) -> Storage {
        self.set.storage()
    }

    fn item_len(&self) -> usize {
        self.set.item_len()
    }

    fn read(&self, indices: &[u32], out: &mut [u8]) -> Result<()> {
        if indices.contains(&self.broken) {
            assert!(!self.panics, "the reader fell over");
            return Err(Error::input("photos/7.png is broken"));
        }
        self.set.read(indices, out)
    }
}

#[test]
fn a_reader_that_fails_ends_the_run_with_its_error_and_its_thread() {
    let Some((gpu, _guard)) = gpu() else { return };
    let (config, set) = (dense(&[3, 5, 7], 5), odd_images());
    for (panics, code, text) in [(false, 2, "photos/7.png is broken"), (true, 1, "the reader fell over")] {
        let source = Arc::new(Breaking { set: set.clone(), broken: 4, panics });
        let mut trainer = Trainer::new(gpu.clone(), config.clone(), &Inputs::Stream { images: set.count }).expect("the trainer starts");
        trainer.stream_data(source.clone()).expect("the data fit");
        let error = trainer.run_steps(5).expect_err("an epoch has every image");
        assert!(error.exit_code() == code && error.to_string().contains(text), "{error}");
        drop(trainer);
        // Whatever reads holds it.
        assert_eq!(Arc::strong_count(&source), 1);
    }
    let mut trainer = streamed(&gpu, &config, &set);
    trainer.run_steps(3).expect("steps run");
    assert!(trainer.take_data_wait().is_some_and(|wait| wait < Duration::from_secs(3600)));
    assert_eq!(trainer.take_data_wait(), Some(Duration::ZERO));
    drop(trainer);
    assert_eq!(Arc::strong_count(&set), 1);
}
