//! Where the command meets the engine: trainers and adapters.

use super::args::SelfTestArgs;
use super::dataset::{Data, Set};
use super::sampler::z_of;
use crate::data::stream::Source as _;
use crate::error::{Error, Result};
use crate::gan::augment;
use crate::gan::config::GanConfig;
use crate::gan::precision;
use crate::gan::sampler::Images;
use crate::gan::step::Inputs;
use crate::gan::trainer::{self, PendingStats, Trainer};
use crate::gpu::matrix::Fragments;
use crate::gpu::{Backend, CaptureTool, Gpu, GpuOptions, describe_devices};
use crate::graph::precision::Precision;
use crate::nn::summary;
use crate::ops::gather;
use crate::ops::stats::Stat;
use crate::profile::{self, Profile, Recorder};
use crate::run::config::{DataOn, TrainConfig, VariantsConfig};
use crate::run::progress::format_bytes;
use crate::run::self_test::{Line, self_test};
use crate::run::state::{Tensors, TrainState};
use crate::run::train::{Engine, TickStats};
use crate::tune::file::VariantsFile;
use crate::tune::{self, Outcome};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

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
    open_with(adapter, backend, GpuOptions { checked, ..GpuOptions::default() })
}

/// [`open_gpu`] with matrix units, if there are such.
///
/// # Errors
/// As [`Gpu::open`].
pub fn open_with_matrices(adapter: Option<String>, backend: Option<&str>, checked: bool) -> Result<Gpu> {
    open_with(adapter, backend, GpuOptions { checked, matrix: Some(Fragments::KERNELS), ..GpuOptions::default() })
}

/// What a run asks for. `debug` names everything for capture tools.
fn open_for(config: &TrainConfig, debug: bool) -> Result<Gpu> {
    let run = &config.run;
    let matrix = (config.training.precision == Precision::F16Matrix).then_some(Fragments::KERNELS);
    open_with(run.adapter.clone(), run.backend.as_deref(), GpuOptions { checked: run.checked, debug, matrix, ..GpuOptions::default() })
}

fn open_with(adapter: Option<String>, backend: Option<&str>, options: GpuOptions) -> Result<Gpu> {
    let backend = backend.map(str::parse::<Backend>).transpose()?;
    Gpu::open(&GpuOptions { adapter, backend, ..options })
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
    let variants = describe_variants(&config.variants, &gpu);
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
    let gpu = Arc::new(open_for(config, debug)?);
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
    let lines: Vec<String> = describe_variants(&config.variants, trainer.gpu()).into_iter().chain(precision).chain(streaming).collect();
    profile.variants = (!lines.is_empty()).then(|| lines.join("\n"));
    Ok(profile)
}

/// A line on the table of kernels in use, if there is one: where it is from, and whether it was made for this adapter.
pub fn describe_variants(VariantsConfig { adapter, kernels }: &VariantsConfig, gpu: &Gpu) -> Option<String> {
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

/// The adapters with their drivers, features and limits, as text.
pub fn devices() -> Result<String> {
    describe_devices(None)
}

/// Tests every kernel-table entry, and every specialisation that a preset uses, against its twin. `print` takes each line.
///
/// # Errors
/// [`Error::SelfTest`] if anything fails or has no case.
pub fn check(args: &SelfTestArgs, print: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let SelfTestArgs { matrix, device } = args;
    let open = if *matrix { open_with_matrices } else { open_gpu };
    let gpu = open(device.adapter.clone(), device.backend_name().as_deref(), device.checked)?;
    print(&gpu.adapter_summary())?;
    if let Some(fault) = gpu.matrix_fault().filter(|_| *matrix) {
        print(&format!("no matrix units to test: {fault}"))?;
    }
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
    let gpu = open_for(config, false)?;
    let precision = settle(&mut gan, &gpu)?.map(|line| line + "\n").unwrap_or_default();
    let (inputs, streaming) = place_data(config, &gan, data, &gpu)?;
    let streaming = streaming.map(|line| line + "\n").unwrap_or_default();
    let plan = trainer::plan(&gan, &inputs, &gpu.caps())?;
    let sampler = trainer::sampler_bytes(&gan, &gpu.caps())?;
    let total = plan.memory().total() + sampler;
    let variants = describe_variants(&config.variants, &gpu).map(|line| line + "\n").unwrap_or_default();
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
