//! Where the command meets the engine: data sets, trainers, samplers, adapters. Everything that a verb needs from below `run` comes through here.

use super::args::DeviceArgs;
use super::data::with_progress;
use crate::data::stream::Source as _;
use crate::data::{self, DataSet, LoadOptions, Loaded, MAX_BYTES, Pictures, Split};
use crate::error::{Error, Result};
use crate::gan::augment;
use crate::gan::config::GanConfig;
use crate::gan::precision;
use crate::gan::range::ValueRange;
use crate::gan::sampler::{Images, Sampler as Generator};
use crate::gan::step::{Inputs, Z_STREAM};
use crate::gan::trainer::{self, PendingStats, Trainer};
use crate::gpu::{Backend, CaptureTool, Gpu, GpuOptions, describe_devices};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::nn::summary;
use crate::ops::gather;
use crate::ops::noise::{Distribution, Source, noise_twin};
use crate::ops::stats::Stat;
use crate::profile::{self, Profile, Recorder};
use crate::run::classes::Cells;
use crate::run::config::{DataOn, TrainConfig, VariantsConfig};
use crate::run::progress::format_bytes;
use crate::run::self_test::{Line, self_test};
use crate::run::state::{DataId, Tensors, TrainState};
use crate::run::train::{Engine, TickStats};
use crate::run::view::View;
use crate::tune::file::VariantsFile;
use crate::tune::{self, Outcome};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Images that a sampler makes at once.
pub const SAMPLE_BATCH: usize = 64;

/// A data set as a run sees it: padded to the size of its preset.
pub struct Data {
    set: Set,
    name: String,
    id: DataId,
    padded_from: Option<(usize, usize)>,
}

/// Where it is. Shared with the thread that streams it, if it is streamed.
enum Set {
    Held(Arc<DataSet>),
    OnDisk(Arc<Pictures>),
}

impl Data {
    /// What identifies it in a checkpoint.
    pub fn id(&self) -> DataId {
        self.id.clone()
    }

    /// Shape of a sample: `[C, H, W]` of images, `[F]` of vectors.
    fn sample(&self) -> Vec<usize> {
        self.id.sample()
    }

    /// Short name for the run folder: `digits`, `fashion-mnist`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        match &self.set {
            Set::Held(set) => set.count,
            Set::OnDisk(pictures) => pictures.count(),
        }
    }

    /// A few lines for the start of a run: number of images, their shape, labels, what was converted.
    pub fn describe(&self) -> String {
        let padding = match self.padded_from {
            Some((h, w)) => {
                format!("\nImages of {h}x{w} are padded to {}x{} with black, which this preset needs", self.id.height, self.id.width)
            }
            None => String::new(),
        };
        let set = match &self.set {
            Set::Held(set) => set.describe(),
            Set::OnDisk(pictures) => pictures.describe(),
        };
        format!("Data: {set}{padding}")
    }

    /// The class of each image, if they have labels.
    fn labels(&self) -> Option<&[u32]> {
        match &self.set {
            Set::Held(set) => set.labels.as_deref(),
            Set::OnDisk(pictures) => pictures.labels.as_deref(),
        }
    }

    /// Number of classes, if the networks take them.
    fn classes(&self) -> Option<usize> {
        self.id.classes()
    }

    /// What the networks are trained with on it.
    fn gan_config(&self, config: &TrainConfig) -> GanConfig {
        config.recipe().gan_config(&self.sample(), self.classes())
    }

    /// How samples of a generator are shown beside it.
    pub fn view(&self, config: &TrainConfig) -> View {
        let conditional = config.recipe().is_generator_conditional();
        let view = match &self.set {
            Set::Held(set) => View::of(set),
            Set::OnDisk(_) => View::Grids,
        };
        view.with_classes(if conditional { &self.id.class_names } else { &[] })
    }

    /// Up to `n` real images, as the view shows them.
    ///
    /// # Errors
    /// As [`Data::reals_of`].
    pub fn shown(&self, view: &View, n: usize) -> Result<Images> {
        match view {
            View::Classes(sheet) => self.reals_of(&sheet.cells().classes),
            View::Grids | View::Plots(_) => self.reals(n),
        }
    }

    /// A real image of each class in the list: the first of its class where that comes for the first time, then the next. Black where a class has no
    /// more.
    ///
    /// # Errors
    /// [`Error::Internal`] if the data has no labels.
    pub fn reals_of(&self, classes: &[u32]) -> Result<Images> {
        let labels = self.labels().ok_or_else(|| Error::internal("images by class of data without labels"))?;
        let mut next: HashMap<u32, Box<dyn Iterator<Item = usize> + '_>> = HashMap::new();
        let mut images = Images { n: classes.len(), data: Vec::new(), ..self.reals(1)? };
        for &class in classes {
            let of_class = || -> Box<dyn Iterator<Item = usize> + '_> {
                Box::new(labels.iter().enumerate().filter(move |(_, label)| **label == class).map(|(index, _)| index))
            };
            match next.entry(class).or_insert_with(of_class).next() {
                Some(index) => images.data.extend(self.real(index)?),
                None => images.data.extend(vec![-1.0; images.c * images.h * images.w]),
            }
        }
        Ok(images)
    }

    /// Image `index`, channel by channel.
    fn real(&self, index: usize) -> Result<Vec<f32>> {
        match &self.set {
            Set::Held(set) => Ok(planar(set, index)),
            Set::OnDisk(pictures) => pictures.pick(index..index + 1).map(|set| planar(&set, 0)),
        }
    }

    /// The first `n` images, or all if there are fewer.
    pub fn reals(&self, n: usize) -> Result<Images> {
        let set = match &self.set {
            Set::Held(set) => set.clone(),
            Set::OnDisk(pictures) => Arc::new(pictures.pick(0..n.min(pictures.count()))?),
        };
        let (n, c, h, w) = (n.min(set.count), set.channels, set.height, set.width);
        Ok(Images { n, c, h, w, data: (0..n).flat_map(|index| planar(&set, index)).collect() })
    }
}

/// Image `index`, channel by channel; data sets are stored pixel by pixel.
fn planar(set: &DataSet, index: usize) -> Vec<f32> {
    let (c, pixels) = (set.channels, set.height * set.width);
    let data = set.to_f32(index);
    (0..c * pixels).map(|i| data[i % pixels * c + i / pixels]).collect()
}

/// Opens the data set of `config` as its preset needs it (size, channels), with the seed for built-in sets.
///
/// # Errors
/// [`Error::Input`] naming the file at fault.
pub fn open_data(config: &TrainConfig) -> Result<Data> {
    let source = &config.data.source;
    let options = LoadOptions { seed: config.training.seed, split: Split::Train, pad_to: None };
    let most = match config.run.data_on {
        DataOn::Auto => MAX_BYTES,
        DataOn::Device | DataOn::Host => u64::MAX,
        DataOn::Disk => 0,
    };
    let set = match with_progress(|progress| data::load_or_leave(source, &options, &config.data.policy(), most, progress))? {
        Loaded::OnDisk(pictures) => return open_pictures(config, pictures),
        Loaded::Held(_) if config.run.data_on == DataOn::Disk => {
            return Err(Error::input(format!(
                "--data {source}: only folders and ZIPs of pictures can be read while training (--data-on disk, run.data_on), and this is neither; \
                 give --data-on host"
            )));
        }
        Loaded::Held(set) => set,
    };
    if set.vectors.is_some() {
        return open_vectors(config, set);
    }
    let size = (set.height, set.width);
    let side = config.data.size.map_or(size.0.max(size.1), |size| size as usize);
    if size.0 > side || size.1 > side {
        return Err(Error::input(format!(
            "--data {source}: images are {}x{}, and preset {} takes at most {side}x{side} (data.size); choose a larger preset (see `ganymede presets`)",
            size.0, size.1, config.preset
        )));
    }
    let (set, padded_from) = if size == (side, side) { (set, None) } else { (set.pad_to(side, side)?, Some(size)) };
    let id = DataId {
        source: id_source(source),
        fingerprint: set.fingerprint(),
        channels: set.channels as u32,
        height: set.height as u32,
        width: set.width as u32,
        class_names: class_names(config, set.labels.as_deref(), &set.class_names)?,
    };
    Ok(Data { name: short_name(source), set: Set::Held(Arc::new(set)), id, padded_from })
}

/// Pictures that stay on disk come as the networks take them: nothing pads them.
fn open_pictures(config: &TrainConfig, pictures: Pictures) -> Result<Data> {
    let source = &config.data.source;
    let (height, width) = pictures.size;
    if height != width {
        return Err(Error::input(format!(
            "--data {source}: pictures of {height}x{width} that stay on disk are not padded to squares; give data.size and data.resize, as in \
             --set data.size=64 --set data.resize=crop, or keep them in memory with --data-on host"
        )));
    }
    let id = DataId {
        source: id_source(source),
        fingerprint: pictures.fingerprint().to_string(),
        channels: pictures.channels as u32,
        height: height as u32,
        width: width as u32,
        class_names: class_names(config, pictures.labels.as_deref(), &pictures.class_names)?,
    };
    Ok(Data { name: short_name(source), set: Set::OnDisk(Arc::new(pictures)), id, padded_from: None })
}

/// The names of the classes, if the networks take them.
///
/// # Errors
/// [`Error::Input`] if they do and the data has no labels.
fn class_names(config: &TrainConfig, labels: Option<&[u32]>, names: &[String]) -> Result<Vec<String>> {
    match config.class_layer() {
        None => Ok(Vec::new()),
        Some(_) if labels.is_some() => Ok(names.to_vec()),
        Some(layer) => Err(Error::input(format!(
            "--data {}: it has no labels (data.labels is {}), and {layer} takes the class of each sample; for pictures in a folder a class give --set \
             data.labels=folders, or choose data that carries its labels, or networks without class_concat",
            config.data.source,
            config.data.labels.name()
        ))),
    }
}

/// Vectors have no size in pixels, so `data.size` is not for them; but the networks must be.
fn open_vectors(config: &TrainConfig, set: DataSet) -> Result<Data> {
    let source = &config.data.source;
    if config.augment.is_on() {
        return Err(Error::input(format!(
            "--data {source}: these are points of {} numbers, and only images can be augmented; leave [augment] and --mirror out, or choose a \
             data set of images",
            set.channels
        )));
    }
    let class_names = class_names(config, set.labels.as_deref(), &set.class_names)?;
    let classes = Some(class_names.len()).filter(|&classes| classes > 0);
    let (generator, discriminator) = config.recipe().networks(&[set.channels], classes);
    generator.tensors().and(discriminator.tensors()).map_err(|error| {
        Error::input(format!(
            "--data {source}: these are points of {} numbers, which the networks cannot take ({error}); choose a data set of images, or give \
             networks for points in a --config file",
            set.channels
        ))
    })?;
    let id = DataId {
        source: id_source(source),
        fingerprint: set.fingerprint(),
        channels: set.channels as u32,
        height: 0,
        width: 0,
        class_names,
    };
    Ok(Data { name: short_name(source), set: Set::Held(Arc::new(set)), id, padded_from: None })
}

/// How a checkpoint calls the data set: files may be moved.
fn id_source(source: &str) -> String {
    if source.starts_with("builtin:") { source.to_string() } else { "files".to_string() }
}

/// What a data set is called in a run folder's name: a built-in set without its settings, else the folder or file's own name.
fn short_name(source: &str) -> String {
    if let Some(builtin) = source.strip_prefix("builtin:") {
        return builtin.split('?').next().unwrap_or(builtin).to_string();
    }
    // `.` and `..` have no name of their own.
    let path = std::fs::canonicalize(source).unwrap_or_else(|_| source.into());
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Up to `n` real images, each followed by `draws` augmentations of it.
///
/// # Errors
/// [`Error::Input`] if nothing is to be augmented, [`Error::Environment`] if there is no adapter.
pub fn augmentations(config: &TrainConfig, data: &Data, n: usize, draws: usize) -> Result<Images> {
    let gpu = open_gpu(config.run.adapter.clone(), config.run.backend.as_deref(), config.run.checked)?;
    augment::preview(&gpu, &config.augment, config.training.seed, &data.reals(n)?, draws)
}

/// The networks as a table (layer, output shape, parameters), then the totals.
pub fn networks(config: &TrainConfig, data: &Data) -> Result<String> {
    let (generator, discriminator) = config.recipe().networks(&data.sample(), data.classes());
    Ok(format!("{}\n{}", summary::table(&generator)?, summary::table(&discriminator)?))
}

/// What to know about micro-batches, where there are any: how they change the numbers.
pub fn micro_batches(config: &TrainConfig, data: &Data) -> Result<Option<String>> {
    let gan = data.gan_config(config);
    let (m, batch) = (gan.micro_batch, gan.batch);
    Ok(match (gan.micro_batches(), gan.has_norm()) {
        (1, _) => None,
        (n, true) => Some(format!(
            "Micro-batches: {n} of {m} images an update. Batch norm takes its statistics from {m} images instead of {batch}, so this is not the \
             training that --batch {batch} alone would be"
        )),
        (n, false) => {
            Some(format!("Micro-batches: {n} of {m} images an update; but for rounding, the same training as with the whole batch"))
        }
    })
}

/// The adapter that the flags name, opened.
///
/// # Errors
/// As [`Gpu::open`].
pub fn open_gpu(adapter: Option<String>, backend: Option<&str>, checked: bool) -> Result<Gpu> {
    open_with(adapter, backend, checked, false)
}

/// `debug` names everything for capture tools.
fn open_with(adapter: Option<String>, backend: Option<&str>, checked: bool, debug: bool) -> Result<Gpu> {
    let backend = backend.map(str::parse::<Backend>).transpose()?;
    Gpu::open(&GpuOptions { adapter, backend, checked, debug, ..GpuOptions::default() })
}

/// A trainer that is ready to run.
pub struct Built {
    /// The trainer.
    pub engine: Box<dyn Engine>,
    /// The adapter that was chosen, with driver and, if it is a software one, a word on that.
    pub adapter: String,
    /// Whose choice of kernels is used, if not the built-in one.
    pub variants: Option<String>,
    /// What became of a precision that was asked for, if one was.
    pub precision: Option<String>,
    /// Why the data set is streamed, if it is.
    pub streaming: Option<String>,
}

/// Chooses the adapter, compiles the plan, uploads data and initial weights. `capture_step` is a step to capture, counted from 1.
///
/// # Errors
/// [`Error::Environment`] if there is no adapter, too little memory on it, or no tool to capture with.
pub fn build(config: &TrainConfig, data: &Data, capture_step: Option<u64>) -> Result<Built> {
    let (trainer, Notes { precision, streaming }) = trainer(config, data, capture_step.is_some())?;
    let capture = capture_step.map(|step| CaptureTool::find().map(|tool| (step, tool))).transpose()?;
    let gpu = trainer.gpu().clone();
    let variants = describe_variants(config, &gpu);
    let adapter = gpu.adapter_summary();
    Ok(Built { adapter, variants, precision, streaming, engine: Box::new(Training { trainer, gpu, tick: None, capture, notice: None }) })
}

/// What to say of choices that were made.
struct Notes {
    precision: Option<String>,
    streaming: Option<String>,
}

/// A trainer with its data. `debug` names everything for capture tools.
fn trainer(config: &TrainConfig, data: &Data, debug: bool) -> Result<(Trainer, Notes)> {
    let run = &config.run;
    let gpu = Arc::new(open_with(run.adapter.clone(), run.backend.as_deref(), run.checked, debug)?);
    let mut gan = data.gan_config(config);
    let precision = settle(&mut gan, &gpu)?;
    let (inputs, streaming) = place_data(config, &gan, data, &gpu)?;
    check_memory(config, &gan, &inputs, &gpu, None)?;
    let mut trainer = Trainer::new(gpu.clone(), gan, &inputs)?;
    trainer.set_steps_per_submit((config.run.steps_per_submit > 0).then_some(config.run.steps_per_submit));
    match (&data.set, &inputs) {
        (Set::OnDisk(pictures), _) => trainer.stream_data(pictures.clone())?,
        (Set::Held(set), Inputs::Stream { .. }) => trainer.stream_data(set.clone())?,
        (Set::Held(set), _) => match &set.vectors {
            Some(vectors) => trainer.upload_vectors(&vectors.values)?,
            None => trainer.upload_data(&set.images)?,
        },
    }
    data.labels().map_or(Ok(()), |labels| trainer.upload_labels(labels))?;
    Ok((trainer, Notes { precision, streaming }))
}

/// Decides where the data set is during training, and what to say about it if it is streamed.
fn place_data(config: &TrainConfig, gan: &GanConfig, data: &Data, gpu: &Gpu) -> Result<(Inputs, Option<String>)> {
    let images = data.len();
    let (resident, streamed) = (Inputs::Device { images }, Inputs::Stream { images });
    if let Set::OnDisk(pictures) = &data.set {
        let bytes = format_bytes(images as u64 * pictures.item_len() as u64);
        let why = if config.run.data_on == DataOn::Disk { "as --data-on (run.data_on) asks" } else { "too much for host memory" };
        return Ok((streamed, Some(format!("Streaming the data set from disk, {bytes} of pixels: {why}"))));
    }
    let note = |why: &str| Some(format!("Streaming the data set from host memory: {why}"));
    match config.run.data_on {
        DataOn::Device => return Ok((resident, None)),
        DataOn::Host => return Ok((streamed, note("as --data-on (run.data_on) asks"))),
        DataOn::Auto | DataOn::Disk => {}
    }
    let bytes = data.sample().iter().product::<usize>() * gan.storage().bytes();
    if gather::per_segment(images, bytes, gpu.caps().max_binding).is_err() {
        return Ok((streamed, note(&format!("its {images} images of {bytes} bytes are more than the adapter binds"))));
    }
    let Some((available, source)) = memory_available(config, gpu) else { return Ok((resident, None)) };
    let needs = training_bytes(gan, &resident, gpu)?;
    // A data set may be smaller than the batches of a submit.
    if needs <= available || training_bytes(gan, &streamed, gpu).map_or(true, |bytes| bytes >= needs) {
        return Ok((resident, None));
    }
    let why = format!("with all of it on the device, training needs {}, and {} {source}", format_bytes(needs), format_bytes(available));
    Ok((streamed, note(&why)))
}

/// Device memory that training may take, if that is known, and the words for where the number is from.
fn memory_available(config: &TrainConfig, gpu: &Gpu) -> Option<(u64, &'static str)> {
    let limit = config.run.memory_limit.map(|mib| (u64::from(mib) << 20, "--memory-limit allows"));
    limit.or_else(|| gpu.memory_available().map(|bytes| (bytes, "is available")))
}

/// Gives the step the precision that it can have, and returns what to say about it.
fn settle(gan: &mut GanConfig, gpu: &Gpu) -> Result<Option<String>> {
    // How many images there are, and where, changes no product.
    let settled = precision::settle(gpu, gan, &Inputs::Device { images: 1 })?;
    gan.precision = settled.precision;
    Ok(settled.note)
}

/// Runs to a step, counted from 1, and captures it; says where the capture went.
///
/// # Errors
/// As for [`build`].
pub fn capture(config: &TrainConfig, data: &Data, step: u64) -> Result<String> {
    let mut built = build(config, data, Some(step))?;
    for _ in 0..step {
        built.engine.run_steps(1)?;
    }
    built.engine.notice().ok_or_else(|| Error::internal("the step to capture was run without a capture"))
}

/// Times the dispatches of a training step, over `steps` steps. `recorder` holds what was done before.
///
/// # Errors
/// [`Error::Environment`] if there is no adapter, or too little memory on it.
pub fn profile(config: &TrainConfig, data: &Data, steps: u32, mut recorder: Recorder) -> Result<Profile> {
    let (mut trainer, Notes { precision, streaming }) = recorder.time("build", || trainer(config, data, false))?.0;
    let mut profile = profile::profile(&mut trainer, steps, recorder)?;
    let lines: Vec<String> = describe_variants(config, trainer.gpu()).into_iter().chain(precision).chain(streaming).collect();
    profile.variants = (!lines.is_empty()).then(|| lines.join("\n"));
    Ok(profile)
}

/// A line on the table of kernels in use, if there is one: where it is from, and whether it was made for this adapter.
fn describe_variants(config: &TrainConfig, gpu: &Gpu) -> Option<String> {
    let VariantsConfig { adapter, kernels } = &config.variants;
    let here = gpu.adapter_name();
    let stranger = match adapter {
        Some(adapter) if adapter != here => format!("; they were timed on {adapter}, and may not be the fastest ones on {here}"),
        _ => String::new(),
    };
    let count = kernels.kernels.len();
    (count > 0).then(|| format!("Kernels: {count} products as {} chooses{stranger}", kernels.origin))
}

/// Device memory that training with these settings takes.
fn training_bytes(gan: &GanConfig, inputs: &Inputs, gpu: &Gpu) -> Result<u64> {
    let plan = trainer::plan(gan, inputs, &gpu.caps())?;
    Ok(plan.memory().total() + trainer::sampler_bytes(gan, &gpu.caps())?)
}

/// Refuses what does not fit on the adapter, with what would. `needs` is what it takes, if that has been planned already.
fn check_memory(config: &TrainConfig, gan: &GanConfig, inputs: &Inputs, gpu: &Gpu, needs: Option<u64>) -> Result<()> {
    let Some((available, source)) = memory_available(config, gpu) else { return Ok(()) };
    let needs = needs.map_or_else(|| training_bytes(gan, inputs, gpu), Ok)?;
    if needs <= available {
        return Ok(());
    }
    let streamed = match *inputs {
        Inputs::Device { images } => training_bytes(gan, &Inputs::Stream { images }, gpu).ok(),
        _ => None,
    };
    let mut least = needs;
    let mut fitting = None;
    for micro_batch in gan.possible_micro_batches().filter(|&m| m < gan.micro_batch) {
        least = training_bytes(&GanConfig { micro_batch, ..gan.clone() }, inputs, gpu)?;
        if least <= available {
            fitting = Some(micro_batch);
            break;
        }
    }
    let advice = match (streamed.filter(|&bytes| bytes <= available), fitting) {
        (Some(bytes), _) => {
            format!("Give --data-on host, which keeps the data set in host memory, streams its batches, and needs {}", format_bytes(bytes))
        }
        (None, Some(m)) => format!(
            "Give --micro-batch {m}, which does the same batch in parts of {m} images and needs {}; or use a smaller --batch (--batch {m} fits)",
            format_bytes(least)
        ),
        (None, None) => format!(
            "The smallest --micro-batch would still need {}: use a smaller --preset{}",
            format_bytes(least),
            if streamed.is_some_and(|bytes| bytes < needs) { ", or --data-on host, because all images are kept on the device" } else { "" }
        ),
    };
    Err(Error::environment(format!(
        "training needs {} of device memory on {}, and {} {source}. {advice}; or choose another adapter with --adapter (see `ganymede devices`)",
        format_bytes(needs),
        gpu.adapter_summary(),
        format_bytes(available)
    )))
}

struct Training {
    trainer: Trainer,
    gpu: Arc<Gpu>,
    /// A tick that has ended, and whose statistics nobody has taken yet.
    tick: Option<PendingStats>,
    /// A step that is to be captured, and the tool for it.
    capture: Option<(u64, CaptureTool)>,
    notice: Option<String>,
}

impl Drop for Training {
    fn drop(&mut self) {
        self.gpu.save_pipeline_cache();
    }
}

impl Engine for Training {
    fn run_steps(&mut self, n: u32) -> Result<()> {
        let done = self.trainer.position().step;
        let Some((step, mut tool)) = self.capture.take_if(|(step, _)| *step > done && *step - done <= u64::from(n)) else {
            return self.trainer.run_steps(n);
        };
        let before = (step - done - 1) as u32;
        self.trainer.run_steps(before)?;
        let place = self.gpu.capture(&mut tool, || self.trainer.run_steps(1))?;
        self.notice = Some(format!("Captured step {step}. {place}"));
        self.trainer.run_steps(n - before - 1)
    }

    fn device(&self) -> String {
        self.gpu.adapter_summary()
    }

    fn notice(&mut self) -> Option<String> {
        self.notice.take()
    }

    fn step(&self) -> u64 {
        self.trainer.position().step
    }

    fn check_finite(&mut self) -> Result<()> {
        self.trainer.check_finite()
    }

    fn end_tick(&mut self) -> Result<()> {
        self.tick = Some(self.trainer.end_tick()?);
        Ok(())
    }

    fn take_data_wait(&mut self) -> Option<Duration> {
        self.trainer.take_data_wait()
    }

    fn tick_stats(&mut self, wait: bool) -> Result<Option<TickStats>> {
        let Some(mut pending) = self.tick.take() else { return Ok(None) };
        if !wait && !self.trainer.is_tick_ready(&mut pending)? {
            self.tick = Some(pending);
            return Ok(None);
        }
        let stats: HashMap<Stat, _> = self.trainer.finish_tick(pending)?.into_iter().collect();
        let mean = |stat| stats.get(&stat).map_or(0.0, |s| s.mean);
        let (loss_d_real, loss_d_fake) = (mean(Stat::LossDReal), mean(Stat::LossDFake));
        Ok(Some(TickStats {
            // Once a step, into however many micro-batches it was split.
            steps: stats.get(&Stat::GradNormG).map_or(0, |s| s.count),
            loss_d: loss_d_real + loss_d_fake,
            loss_d_real,
            loss_d_fake,
            loss_g: mean(Stat::LossG),
            d_x: mean(Stat::DX),
            d_g_z1: mean(Stat::DGZ1),
            d_g_z2: mean(Stat::DGZ2),
            grad_norm_d: mean(Stat::GradNormD),
            grad_norm_g: mean(Stat::GradNormG),
        }))
    }

    fn state(&mut self) -> Result<Tensors> {
        self.trainer.tensors()
    }

    fn load(&mut self, state: &TrainState) -> Result<()> {
        self.trainer.load_tensors(trainer::Position { step: state.step, images_seen: state.images_seen }, &state.tensors)
    }

    fn sample(&mut self, seeds: &[u64], classes: &[u32]) -> Result<Images> {
        self.trainer.sample_classes(&z_of(seeds, self.trainer.config().z_dim), classes)
    }

    fn memory(&self) -> u64 {
        // Not what the driver's allocator has at this moment: with statistics and uploads on their way, equal runs would report different numbers.
        self.trainer.memory()
    }
}

/// z of each seed, one row each: the same for a seed whatever the other seeds are.
fn z_of(seeds: &[u64], z_dim: usize) -> Vec<f32> {
    let row = |&seed: &u64| noise_twin(Source { seed, stream: Z_STREAM }, Distribution::Normal, 0, z_dim);
    seeds.iter().flat_map(row).map(|v| v as f32).collect()
}

/// Makes images from seeds.
pub struct Sampler {
    gpu: Gpu,
    generator: Generator,
    z_dim: usize,
    range: ValueRange,
}

impl Sampler {
    /// One image per seed, as [`Engine::sample`].
    pub fn sample(&self, cells: &Cells) -> Result<Images> {
        self.sample_z(&self.z(&cells.seeds), &cells.classes)
    }

    /// One image per row of z; `classes` as for [`Engine::sample`].
    pub fn sample_z(&self, z: &[f32], classes: &[u32]) -> Result<Images> {
        let mut images = self.generator.run_classes(&self.gpu, z, classes)?;
        self.range.to_signed(&mut images.data);
        Ok(images)
    }

    /// The values of images as the generator made them.
    pub fn raw(&self, mut images: Images) -> Images {
        self.range.from_signed(&mut images.data);
        images
    }

    /// Takes the weights of another checkpoint of the same networks. `origin` names its file in messages.
    ///
    /// # Errors
    /// [`Error::Input`] if they do not fit.
    pub fn load(&mut self, state: &TrainState, origin: &Path) -> Result<()> {
        load_averaged(&self.gpu, &self.generator, state, origin)
    }

    /// Length of the vectors that it makes; `None` if it makes images.
    pub fn features(&self) -> Option<usize> {
        self.generator.features()
    }

    /// z of each seed, one row each.
    pub fn z(&self, seeds: &[u64]) -> Vec<f32> {
        z_of(seeds, self.z_dim)
    }

    /// Length of z.
    pub fn z_dim(&self) -> usize {
        self.z_dim
    }
}

/// The averaged generator of a checkpoint. `origin` names the file in messages.
///
/// # Errors
/// [`Error::Input`] if the checkpoint does not fit its preset's networks, [`Error::Environment`] as for [`build`].
pub fn sampler(state: &TrainState, origin: &Path, device: &DeviceArgs) -> Result<Sampler> {
    let gan = state.recipe.gan_config(&state.data.sample(), state.data.classes());
    let gpu = open_gpu(device.adapter.clone(), device.backend_name().as_deref(), device.checked)?;
    let generator = Generator::new(&gpu, &gan.generator, SAMPLE_BATCH, &HashMap::new())?;
    load_averaged(&gpu, &generator, state, origin)?;
    Ok(Sampler { gpu, generator, z_dim: gan.z_dim, range: gan.image_range() })
}

/// Uploads the averaged generator of a checkpoint.
fn load_averaged(gpu: &Gpu, generator: &Generator, state: &TrainState, origin: &Path) -> Result<()> {
    let mut weights = HashMap::new();
    for (name, _) in generator.tensors() {
        let key = format!("G_ema.{name}");
        let tensor = state.tensors.get(&key).ok_or_else(|| Error::input(format!("{}: tensor {key} is missing", origin.display())))?;
        let values = tensor.as_f32().ok_or_else(|| Error::input(format!("{}: tensor {key} should hold floats", origin.display())))?;
        let shape = Shape::new(&tensor.shape).map_err(|e| Error::input(format!("{}: tensor {key}: {e}", origin.display())))?;
        weights.insert(name, Tensor::new(shape, values.iter().map(|&v| f64::from(v)).collect()));
    }
    generator.load(gpu, &weights).map_err(|e| Error::input(format!("{}: {e}", origin.display())))
}

/// The adapters with their drivers, features and limits, as text.
pub fn devices() -> Result<String> {
    describe_devices(None)
}

/// Tests every kernel-table entry, and every specialisation that a preset uses, against its twin. `print` takes each line.
///
/// # Errors
/// [`Error::SelfTest`] if anything fails or has no case.
pub fn check(device: &DeviceArgs, print: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let gpu = open_gpu(device.adapter.clone(), device.backend_name().as_deref(), device.checked)?;
    print(&gpu.adapter_summary())?;
    let mut printed = Ok(());
    let summary = self_test(&gpu, |line| {
        if printed.is_ok() {
            printed = print(&match line {
                Line::Passed { case, worst } => format!("pass  {worst:.1e}  {case}"),
                Line::Failed { case, worst, failure } => format!("FAIL  {worst:.1e}  {case}\n      {failure}"),
                Line::Uncovered(what) => format!("FAIL  no case covers {what}"),
                Line::Unsupported(kernel) => {
                    format!("skip           {kernel}: this adapter lacks an optional feature that it needs; others do its work")
                }
            });
        }
    })?;
    printed?;
    let text = format!(
        "{} cases passed, {} failed; {} kernels or specialisations without a case; {} kernels not supported by this adapter",
        summary.passed, summary.failed, summary.uncovered, summary.unsupported
    );
    print(&text)?;
    if summary.failed + summary.uncovered > 0 {
        return Err(Error::SelfTest(format!(
            "{text}; training on this adapter would compute wrong numbers. Update the driver, or choose another adapter with --adapter (see \
             `ganymede devices`), and report the lines above"
        )));
    }
    Ok(())
}

/// Prints the compiled plan of a training step.
///
/// # Errors
/// [`Error::Environment`] if the adapter has too little memory for it; the plan has been printed then.
pub fn plan(config: &TrainConfig, data: &Data, print: &dyn Fn(&str) -> Result<()>) -> Result<()> {
    let mut gan = data.gan_config(config);
    let gpu = open_gpu(config.run.adapter.clone(), config.run.backend.as_deref(), config.run.checked)?;
    let precision = settle(&mut gan, &gpu)?.map(|line| line + "\n").unwrap_or_default();
    let (inputs, streaming) = place_data(config, &gan, data, &gpu)?;
    let streaming = streaming.map(|line| line + "\n").unwrap_or_default();
    let plan = trainer::plan(&gan, &inputs, &gpu.caps())?;
    let sampler = trainer::sampler_bytes(&gan, &gpu.caps())?;
    let total = plan.memory().total() + sampler;
    let variants = describe_variants(config, &gpu).map(|line| line + "\n").unwrap_or_default();
    print(&format!(
        "{}\n{variants}{precision}{streaming}Training takes {:.1} MB of device memory: {:.1} MB for the step below, and {:.1} MB for pictures\n{plan}",
        gpu.adapter_summary(),
        total as f64 / 1e6,
        plan.memory().total() as f64 / 1e6,
        sampler as f64 / 1e6
    ))?;
    check_memory(config, &gan, &inputs, &gpu, Some(total))
}

/// Times the kernels of a training step. `seconds` says how long, for a software adapter or another; `print` takes lines as they come.
pub fn tune(
    config: &TrainConfig,
    data: &Data,
    seconds: &dyn Fn(bool) -> f64,
    print: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<(VariantsFile, Outcome)> {
    let gan = data.gan_config(config);
    let gpu = open_gpu(config.run.adapter.clone(), config.run.backend.as_deref(), config.run.checked)?;
    print(&gpu.adapter_summary())?;
    let (inputs, _) = place_data(config, &gan, data, &gpu)?;
    let sites = trainer::step_products(&gan, &inputs, &gpu.caps())?;
    let outcome = tune::tune(&gpu, sites, seconds(gpu.caps().software), print)?;
    gpu.save_pipeline_cache();
    Ok((VariantsFile::new(&gpu, &config.preset, config.training.batch, &outcome), outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_of_data_sets() {
        for (source, name) in [
            ("builtin:digits", "digits"),
            ("builtin:digits?n=500&seed=7", "digits"),
            ("builtin:shapes-64", "shapes-64"),
            ("/no/such/fashion-mnist", "fashion-mnist"),
            ("/no/such/folder/", "folder"),
        ] {
            assert_eq!(short_name(source), name, "{source}");
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("mnist/below")).unwrap();
        assert_eq!(short_name(&dir.path().join("mnist/below/..").display().to_string()), "mnist");
    }
}
