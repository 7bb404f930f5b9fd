//! Settings of a run, in which nothing is left open: what `config.toml` in the run folder holds.
//!
//! [`super::layers::Layers`] makes them from what was given. `[run]` holds what may change when a run is resumed, and no checkpoint holds it;
//! everything else shapes training.

use std::fmt;

use serde::{Deserialize, Serialize};
use toml::Table;

use super::layers::Layers;
use super::optimizer::OptimizerConfig;
use super::toml_writer;
use crate::data::ImagePolicy;
use crate::data::policy::{Background, Colour, Labels, Resize};
use crate::error::{Error, Result};
use crate::gan::config::GanConfig;
use crate::gan::loss::{LossConfig, LossKind};
use crate::gan::range::ValueRange;
use crate::gan::schedule::Shape;
use crate::gpu::step::StepRow;
use crate::graph::precision::Precision;
use crate::graph::variants::Variants;
use crate::nn::layer::Layer;
use crate::nn::network::{InitScheme, Network};
use crate::ops::augment::AugmentConfig;
use crate::ops::minibatch_stddev::group_size;

/// Everything about a run, resolved. The contents of `config.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The preset that the settings began with (see `ganymede presets`).
    pub preset: String,
    /// One line on what is trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The data set.
    pub data: DataConfig,
    /// The network that makes samples from noise.
    pub generator: GeneratorConfig,
    /// The network that tells samples from data.
    pub discriminator: DiscriminatorConfig,
    /// What they learn from.
    pub loss: LossConfig,
    /// What is done to real images at random.
    #[serde(default)]
    pub augment: AugmentConfig,
    /// Everything else that decides the numbers.
    pub training: TrainingConfig,
    /// What may change when the run is resumed.
    pub run: RunConfig,
    /// Kernels in place of the built-in choice.
    #[serde(default, skip_serializing_if = "VariantsConfig::is_empty")]
    #[schemars(skip)]
    pub variants: VariantsConfig,
}

/// `[data]`: the data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// `builtin:NAME` or the path of a folder or file.
    pub source: String,
    /// Height and width of the images that the networks work on; absent for the data's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// How pictures of another size are brought to `size`; absent to refuse them, and to pad smaller arrays such as MNIST's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,
    /// Colour behind transparent pixels, and beside pictures that `resize = "fit"` does not fill, as RRGGBB.
    #[serde(default, skip_serializing_if = "is_default")]
    pub background: Background,
    /// Channels of the images.
    #[serde(default, skip_serializing_if = "is_default")]
    pub colour: Colour,
    /// Range of the values that the networks see: `signed` for [-1, 1], `unit` for [0, 1]. Points stay as they are.
    #[serde(default, skip_serializing_if = "is_default")]
    pub range: ValueRange,
    /// Where class labels come from.
    #[serde(default, skip_serializing_if = "is_default")]
    pub labels: Labels,
}

impl DataConfig {
    /// What is done to pictures.
    pub fn policy(&self) -> ImagePolicy {
        let DataConfig { size, resize, background, colour, labels, .. } = *self;
        ImagePolicy { resize, size, background, colour, labels }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// `[generator]`: maps z to samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeneratorConfig {
    /// Length of z.
    pub z: u32,
    /// How its parameters start.
    #[serde(default)]
    pub init: InitScheme,
    /// Its layers.
    pub layers: Vec<Layer>,
    /// How it learns.
    pub optimizer: OptimizerConfig,
}

/// `[discriminator]`: maps samples to what the loss takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscriminatorConfig {
    /// How its parameters start.
    #[serde(default)]
    pub init: InitScheme,
    /// Its layers.
    pub layers: Vec<Layer>,
    /// How it learns.
    pub optimizer: OptimizerConfig,
}

/// `[training]`: everything else that decides the numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Images in a batch.
    pub batch: u32,
    /// Images of a batch that are on the device at once, a divisor of `batch`: gradients are averaged over the micro-batches before the
    /// optimizer's step. Absent for the whole batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<u32>,
    /// Seed of initial weights, noise, batch order and built-in data; below 2^63, because TOML has no larger integers.
    pub seed: u64,
    /// Discriminator updates per generator update, at most 14.
    pub d_steps: u32,
    /// Half-life of the generator's exponential moving average, in thousands of images; absent for what suits the batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema_half_life_kimg: Option<f64>,
    /// The half-life is never more than this share of the images seen.
    pub ema_ramp: f64,
    /// How products read their operands: `f32`, `f16`, or `f16-matrix`, which has matrix units multiply two operands in f16 where the adapter has such.
    #[serde(default)]
    pub precision: Precision,
}

/// `[run]`: what may change when a run is resumed, and is in no checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Run length in thousands of images, counted from the first step; exactly one of `kimg` and `steps` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kimg: Option<f64>,
    /// Run length in steps, counted from the first step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Thousands of images between two lines of statistics, rounded to whole steps.
    pub tick_kimg: f64,
    /// Ticks between two snapshots (pictures and checkpoint).
    pub snap_ticks: u32,
    /// Checkpoints that are kept; older ones are removed once a new one is safely on disk.
    pub keep: u32,
    /// Folder in which run folders are made.
    pub outdir: String,
    /// Free text, reduced to letters, digits, `_` and `-`, that ends the run folder's name; may be empty.
    pub desc: String,
    /// Index or part of the name of the adapter; absent for the best one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// `vulkan`, `metal` or `dx12`; absent for any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Device memory in MiB that training may take; absent for what the adapter says it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u32>,
    /// Where the data set is kept while training: `auto`, `device`, `host` or `disk`. The numbers do not depend on it.
    #[serde(default)]
    pub data_on: DataOn,
    /// Compile shaders with all run-time checks.
    pub checked: bool,
    /// Write TensorBoard event files.
    pub tensorboard: bool,
    /// Most training steps in one submit; 0 lets the time of a step decide. The numbers do not depend on it.
    pub steps_per_submit: u32,
}

/// Where the data set is kept while training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DataOn {
    /// On the device if there is room for it, else on the host; pictures that would take more than 8 GiB there, on disk.
    #[default]
    Auto,
    /// On the device, as a whole.
    Device,
    /// In host memory: batches are put together ahead of the steps that train on them, and streamed to the device.
    Host,
    /// On disk: as `host`, but pictures are read and decoded each time that they are drawn.
    Disk,
}

impl fmt::Display for DataOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DataOn::Auto => "auto",
            DataOn::Device => "device",
            DataOn::Host => "host",
            DataOn::Disk => "disk",
        })
    }
}

/// `[variants]`: kernels in place of the built-in choice, as `ganymede tune` wrote them. Bits depend on them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariantsConfig {
    /// Name of the adapter that they were timed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// The kernels by product.
    #[serde(default)]
    pub kernels: Variants,
}

impl VariantsConfig {
    /// True if the built-in choice holds everywhere.
    pub fn is_empty(&self) -> bool {
        self.kernels.is_empty()
    }

    /// As a value of the key `variants`.
    ///
    /// # Errors
    /// [`Error::Internal`] if it has no TOML form.
    pub fn value(&self) -> Result<toml::Value> {
        toml::Value::try_from(self).map_err(|error| Error::internal(format!("a table of kernels has no TOML form: {error}")))
    }
}

/// The part of a [`TrainConfig`] that shapes training, as checkpoints hold it. The data set is not here, because its path may differ
/// between equal runs: checkpoints identify it by [`super::state::DataId`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The preset that the settings began with.
    pub preset: String,
    /// The network that makes samples from noise.
    pub generator: GeneratorConfig,
    /// The network that tells samples from data.
    pub discriminator: DiscriminatorConfig,
    /// Range of the values of images.
    #[serde(default, skip_serializing_if = "is_default")]
    pub range: ValueRange,
    /// What they learn from.
    pub loss: LossConfig,
    /// What is done to real images at random.
    #[serde(default)]
    pub augment: AugmentConfig,
    /// Everything else that decides the numbers.
    pub training: TrainingConfig,
    /// Kernels in place of the built-in choice. The adapter is not here: the choice alone decides the numbers.
    #[serde(default, skip_serializing_if = "Variants::is_empty")]
    pub variants: Variants,
}

impl Recipe {
    /// What a [`crate::gan::trainer::Trainer`] is built from, for samples of the given shape, `[C, H, W]`, and data of so many classes, if it has labels.
    pub fn gan_config(&self, sample: &[usize], classes: Option<usize>) -> GanConfig {
        let (generator, discriminator) = self.networks(sample, classes);
        let t = &self.training;
        let (g, d) = (&self.generator.optimizer, &self.discriminator.optimizer);
        let batch = t.batch as usize;
        GanConfig {
            batch,
            micro_batch: t.micro_batch.unwrap_or(t.batch) as usize,
            d_steps: t.d_steps as usize,
            lr_g: g.lr,
            lr_d: d.lr,
            optimiser_g: g.optimiser,
            optimiser_d: d.optimiser,
            clip_g: g.clip,
            clip_d: d.clip,
            weight_clip: d.weight_clip,
            ema_half_life_kimg: t.ema_half_life_kimg.unwrap_or(GanConfig::default_ema_half_life_kimg(batch)),
            ema_ramp: t.ema_ramp,
            seed: t.seed,
            variants: self.variants.clone(),
            precision: t.precision,
            range: self.range,
            loss: self.loss.clone(),
            augment: self.augment,
            ..GanConfig::new(generator, discriminator, batch)
        }
    }

    /// Generator and discriminator for samples of the given shape, and data of so many classes, if it has labels.
    pub fn networks(&self, sample: &[usize], classes: Option<usize>) -> (Network, Network) {
        let network = |name: &str, input: Vec<usize>, layers: &[Layer], init| Network {
            name: name.into(),
            input,
            data: sample.to_vec(),
            layers: layers.to_vec(),
            init,
            classes,
        };
        let (g, d) = (&self.generator, &self.discriminator);
        (network("G", vec![g.z as usize], &g.layers, g.init), network("D", sample.to_vec(), &d.layers, d.init))
    }
}

/// The first layer that takes the class of each sample, for messages: `generator layer 0 (ClassConcat 16)`.
fn class_layer(generator: &[Layer], discriminator: &[Layer]) -> Option<String> {
    [("generator", generator), ("discriminator", discriminator)].into_iter().find_map(|(name, layers)| {
        let takes = |layer: &&Layer| layer.all().iter().any(|inner| inner.takes_classes());
        let (index, layer) = layers.iter().enumerate().find(|(_, layer)| takes(layer))?;
        Some(format!("{name} layer {index} ({layer})"))
    })
}

impl Recipe {
    /// Whether the generator takes the class of each sample.
    pub fn is_generator_conditional(&self) -> bool {
        class_layer(&self.generator.layers, &[]).is_some()
    }
}

impl TrainConfig {
    /// The first layer that takes the class of each sample, for messages: `generator layer 0 (ClassConcat 16)`. `None` if there is none, and the
    /// data needs no labels.
    pub fn class_layer(&self) -> Option<String> {
        class_layer(&self.generator.layers, &self.discriminator.layers)
    }

    /// The part that shapes training.
    pub fn recipe(&self) -> Recipe {
        Recipe {
            preset: self.preset.clone(),
            generator: self.generator.clone(),
            discriminator: self.discriminator.clone(),
            range: self.data.range,
            loss: self.loss.clone(),
            augment: self.augment,
            training: self.training.clone(),
            variants: self.variants.kernels.clone(),
        }
    }

    /// These settings with what a checkpoint says of training.
    pub fn with_recipe(self, recipe: Recipe) -> Self {
        let Recipe { preset, generator, discriminator, range, loss, augment, training, variants } = recipe;
        TrainConfig {
            preset,
            data: DataConfig { range, ..self.data },
            generator,
            discriminator,
            loss,
            augment,
            training,
            variants: VariantsConfig { kernels: variants, ..self.variants },
            ..self
        }
    }

    /// As a TOML table; what is not set is not in it.
    pub fn table(&self) -> Result<Table> {
        Table::try_from(self).map_err(|error| Error::internal(format!("settings have no TOML form: {error}")))
    }

    /// The text of `config.toml`.
    pub fn to_toml(&self) -> Result<String> {
        Ok(format!(
            "# Every setting of this run; `ganymede train --config` on this file reproduces it.\n\
             # Only [run] may change when the run is resumed.\n\n{}",
            toml_writer::write(&self.table()?)
        ))
    }

    /// Checks what can only be checked against the data set: a batch must fit into it.
    ///
    /// # Errors
    /// [`Error::Input`].
    pub fn check_data(&self, images: usize) -> Result<()> {
        let batch = self.training.batch;
        if batch as usize > images {
            return Err(Error::input(format!(
                "--batch (training.batch) is {batch}, but {} has only {images} images; give --batch {} or less, or more data",
                self.data.source, images
            )));
        }
        Ok(())
    }

    /// Steps between two ticks: `tick_kimg` rounded to whole batches, at least one.
    pub fn tick_steps(&self) -> u64 {
        ((self.run.tick_kimg * 1000.0 / f64::from(self.training.batch)).round() as u64).max(1)
    }

    /// The step at which the run ends, for a run that is at `step` with `images_seen` images seen. A length in kimg is rounded up to
    /// whole steps.
    pub fn last_step(&self, step: u64, images_seen: u64) -> u64 {
        match (self.run.steps, self.run.kimg) {
            (Some(steps), _) => steps,
            (None, Some(kimg)) => {
                // A product like 76.8 * 1000 may come out a few ulp high; that must not become another step.
                let steps = (kimg * 1000.0 - images_seen as f64) / f64::from(self.training.batch);
                step + (steps - 1e-6).ceil().max(0.0) as u64
            }
            (None, None) => step,
        }
    }

    /// Settles what depends on other settings, and checks every value.
    pub(super) fn settled(mut self, layers: &Layers) -> Result<Self> {
        self.data.source = resolve_source(self.data.source)?;
        self.training.micro_batch = self.training.micro_batch.filter(|&m| m != self.training.batch);
        self.training.ema_half_life_kimg.get_or_insert(GanConfig::default_ema_half_life_kimg(self.training.batch as usize));
        self.run.desc = slug(&self.run.desc);
        self.check(layers)?;
        Ok(self)
    }

    fn check(&self, layers: &Layers) -> Result<()> {
        let bad = |key: &str, got: &dyn fmt::Display, expected: &str| -> Result<()> {
            Err(Error::input(format!("{}: got {got}, expected {expected}", layers.label(key))))
        };
        let has_norm = [&self.generator.layers, &self.discriminator.layers]
            .into_iter()
            .flatten()
            .flat_map(Layer::all)
            .any(|layer| matches!(layer, Layer::BatchNorm {}));
        let t = &self.training;
        if t.batch == 0 {
            bad("training.batch", &t.batch, "at least 2 images")?;
        }
        if t.batch == 1 {
            bad("training.batch", &t.batch, "at least 2 images, because batch norm has no variance over one")?;
        }
        if t.batch > 1 << 20 {
            bad("training.batch", &t.batch, "at most 1048576 images")?;
        }
        if let Some(micro) = t.micro_batch {
            if micro == 0 || !t.batch.is_multiple_of(micro) {
                bad("training.micro_batch", &micro, &format!("a divisor of the batch of {}", t.batch))?;
            }
            if micro == 1 && has_norm {
                bad("training.micro_batch", &micro, "at least 2 images, because batch norm has no variance over one")?;
            }
        }
        for (section, layers) in [("generator", &self.generator.layers), ("discriminator", &self.discriminator.layers)] {
            if layers.is_empty() {
                bad(&format!("{section}.layers"), &"no layers", "at least one")?;
            }
        }
        if self.generator.z == 0 || self.generator.z > 1 << 16 {
            bad("generator.z", &self.generator.z, "1 to 65536 numbers")?;
        }
        if self.data.size.is_some_and(|size| size == 0 || size > 4096) {
            bad("data.size", &self.data.size.unwrap_or(0), "1 to 4096 pixels")?;
        }
        for (section, optimizer) in [("generator", &self.generator.optimizer), ("discriminator", &self.discriminator.optimizer)] {
            optimizer.validate(&format!("{section}.optimizer")).map_err(|error| layers.relabel(error))?;
            // A rate that is 0 throughout would silently train nothing.
            if (optimizer.lr.start as f32) == 0.0 && optimizer.lr.shape == Shape::Constant {
                bad(&format!("{section}.optimizer.lr"), &optimizer.lr.start, "a finite number above 0")?;
            }
        }
        if self.generator.optimizer.weight_clip.is_some() {
            bad("generator.optimizer.weight_clip", &"a bound", "none: only discriminators have their weights clipped")?;
        }
        self.augment.validate("augment").map_err(|error| layers.relabel(error))?;
        if let Some((key, got, expected)) = self.loss.fault() {
            bad(&format!("loss.{key}"), &got, expected)?;
        }
        self.check_discriminator(&bad)?;
        if t.d_steps == 0 || t.d_steps as usize > StepRow::MAX_D_STEPS {
            bad("training.d_steps", &t.d_steps, &format!("1 to {}", StepRow::MAX_D_STEPS))?;
        }
        let half_life = t.ema_half_life_kimg.unwrap_or(0.0);
        if !(half_life.is_finite() && half_life >= 0.0) {
            bad("training.ema_half_life_kimg", &half_life, "thousands of images, 0 or more")?;
        }
        if !(t.ema_ramp.is_finite() && t.ema_ramp > 0.0) {
            bad("training.ema_ramp", &t.ema_ramp, "a share of the images seen, above 0")?;
        }
        self.run.check(&bad)
    }

    /// Mistakes that would train, but nothing useful.
    fn check_discriminator(&self, bad: &dyn Fn(&str, &dyn fmt::Display, &str) -> Result<()>) -> Result<()> {
        let layers = &self.discriminator.layers;
        let ends_in_sigmoid = matches!(layers.iter().rfind(|layer| !layer.keeps_values()), Some(Layer::Sigmoid {}));
        match self.loss.kind {
            LossKind::BceProbabilities if !ends_in_sigmoid => {
                let expected = "bce, for a discriminator that does not end in a sigmoid";
                bad("loss.kind", &"bce_probabilities", expected)?;
            }
            LossKind::Bce if ends_in_sigmoid => {
                let expected =
                    "bce_probabilities, for a discriminator that ends in a sigmoid (or leave the sigmoid out: bce has one of its own)";
                bad("loss.kind", &"bce", expected)?;
            }
            _ => {}
        }
        let rows = self.training.micro_batch.unwrap_or(self.training.batch) as usize;
        for group in layers.iter().flat_map(Layer::all).filter_map(|layer| match layer {
            Layer::MinibatchStddev { group } => Some(*group),
            _ => None,
        }) {
            if group_size(rows, group) < 2 {
                let expected = format!("batches that minibatch_stddev can split into groups of 2 to {group}, or a larger group");
                bad("training.batch", &format!("batches of {rows}"), &expected)?;
            }
        }
        Ok(())
    }
}

impl RunConfig {
    fn check(&self, bad: &dyn Fn(&str, &dyn fmt::Display, &str) -> Result<()>) -> Result<()> {
        if let Some(kimg) = self.kimg
            && !is_length(kimg)
        {
            bad("run.kimg", &kimg, "thousands of images, above 0")?;
        }
        if let Some(steps) = self.steps
            && !(1..=1 << 53).contains(&steps)
        {
            bad("run.steps", &steps, "at least 1 step")?;
        }
        if self.kimg.is_none() && self.steps.is_none() {
            bad("run.kimg", &"nothing", "the run's length, in thousands of images, or run.steps")?;
        }
        if !is_length(self.tick_kimg) {
            bad("run.tick_kimg", &self.tick_kimg, "thousands of images, above 0")?;
        }
        if self.snap_ticks == 0 {
            bad("run.snap_ticks", &self.snap_ticks, "at least 1 tick")?;
        }
        if self.keep == 0 {
            bad("run.keep", &self.keep, "at least 1 checkpoint")?;
        }
        if self.outdir.is_empty() {
            bad("run.outdir", &"an empty path", "a folder")?;
        }
        if self.memory_limit == Some(0) {
            bad("run.memory_limit", &0, "MiB of device memory, at least 1")?;
        }
        if let Some(backend) = &self.backend
            && !["vulkan", "metal", "dx12"].contains(&backend.as_str())
        {
            bad("run.backend", &format!("{backend:?}"), "vulkan, metal or dx12")?;
        }
        Ok(())
    }
}

/// A length in thousands of images: finite, above zero, and countable in steps.
fn is_length(kimg: f64) -> bool {
    kimg > 0.0 && kimg <= 1e12
}

/// Built-in names stay as they are; a path is made absolute, so that `config.toml` works from any folder.
fn resolve_source(source: String) -> Result<String> {
    if source.starts_with("builtin:") {
        return Ok(source);
    }
    if source.is_empty() {
        return Err(Error::input("--data: got an empty path, expected a folder or builtin:NAME"));
    }
    let path = std::path::absolute(&source).map_err(|error| Error::input(format!("--data: {source}: {}", super::disk::plain(&error))))?;
    path.into_os_string()
        .into_string()
        .map_err(|path| Error::input(format!("--data: {} is not UTF-8, which config.toml must be", path.display())))
}

/// `text` reduced to letters, digits, `_` and `-`, at most 64 of them: what a folder name may hold on every system.
pub fn slug(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let c = if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        if c != '-' || !out.ends_with('-') {
            out.push(c);
        }
    }
    let out: String = out.trim_matches('-').chars().take(64).collect();
    out.trim_end_matches('-').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs() {
        assert_eq!(slug("a b/c..d"), "a-b-c-d");
        assert_eq!(slug("../../etc"), "etc");
        assert_eq!(slug("ünï_x"), "n-_x");
        assert_eq!(slug(&"x".repeat(200)).len(), 64);
    }
}
