//! Settings of a run: what was given by flags and by a config file, and what that resolves to.
//!
//! Settings come in three layers, later ones winning: the preset's defaults (or, when a run is resumed or forked, what the checkpoint
//! says), a `--config` file, flags. [`Layers::resolve`] flattens them into a [`TrainConfig`], in which nothing is left open; that is what
//! `config.toml` in the run folder holds. The sections `[data]`, `[networks]`, `[training]` and `[variants]` shape training; `[run]` holds what may
//! change when a run is resumed, and no checkpoint holds it.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk::plain;
use super::toml_file::{parse, read};
use crate::error::{Error, Result};
use crate::gan::config::GanConfig;
use crate::gpu::step::StepRow;
use crate::graph::precision::Precision;
use crate::graph::variants::Variants;
use crate::nn::presets;
use crate::ops::optimiser::Adam;

/// Declares a section twice: as it is resolved (every field set) and as it is given (every field optional).
macro_rules! section {
    ($(#[$doc:meta])* $full:ident, $given:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $full { $($(#[$field_doc])* pub $field: $type,)* }

        #[doc = concat!("[`", stringify!($full), "`] as given by flags or by a file: what is not given is `None`.")]
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $given { $($(#[$field_doc])* pub $field: Option<$type>,)* }

        impl $given {
            /// These settings where given, else those of `under`.
            fn over(self, under: Self) -> Self {
                $given { $($field: self.$field.or(under.$field),)* }
            }
        }

        impl From<$full> for $given {
            fn from(full: $full) -> Self {
                $given { $($field: Some(full.$field),)* }
            }
        }
    };
}

section! {
    /// `[data]`: the data set.
    DataConfig, DataGiven {
        /// `builtin:NAME` or the path of a folder.
        source: String,
    }
}

section! {
    /// `[networks]`: generator and discriminator.
    NetworksConfig, NetworksGiven {
        /// One of [`crate::nn::presets::PRESETS`].
        preset: String,
    }
}

section! {
    /// `[training]`: everything else that decides the numbers.
    TrainingConfig, TrainingGiven {
        /// Images in a batch, at least 2 (batch norm needs two values).
        batch: u32,
        /// Images of a batch that are on the device at once, a divisor of `batch`: gradients are averaged over the micro-batches before the
        /// optimiser's step. Absent for the whole batch.
        micro_batch: Option<u32>,
        /// Seed of initial weights, noise, batch order and built-in data; below 2^63, because TOML has no larger integers.
        seed: u64,
        /// Adam's learning rate of the generator.
        lr_g: f64,
        /// Adam's learning rate of the discriminator.
        lr_d: f64,
        /// Thousands of images over which both learning rates fall linearly to zero; absent for constant rates. Separate from the run's
        /// length, so that a run can be made longer without changing the steps that it has done.
        lr_horizon_kimg: Option<f64>,
        /// Adam's decay of the first moment.
        beta1: f64,
        /// Adam's decay of the second moment.
        beta2: f64,
        /// Adam's epsilon.
        eps: f64,
        /// Discriminator updates per generator update, at most 14.
        d_steps: u32,
        /// Half-life of the generator's exponential moving average, in thousands of images.
        ema_half_life_kimg: f64,
        /// The half-life is never more than this share of the images seen.
        ema_ramp: f64,
        /// How products read their operands: `f32` or `f16`.
        #[serde(default)]
        precision: Precision,
    }
}

section! {
    /// `[run]`: what may change when a run is resumed, and is in no checkpoint.
    RunConfig, RunGiven {
        /// Run length in thousands of images, counted from the first step; exactly one of `kimg` and `steps` is set.
        kimg: Option<f64>,
        /// Run length in steps, counted from the first step.
        steps: Option<u64>,
        /// Thousands of images between two lines of statistics, rounded to whole steps.
        tick_kimg: f64,
        /// Ticks between two snapshots (pictures and checkpoint).
        snap_ticks: u32,
        /// Checkpoints that are kept; older ones are removed once a new one is safely on disk.
        keep: u32,
        /// Folder in which run folders are made.
        outdir: String,
        /// Free text, reduced to letters, digits, `_` and `-`, that ends the run folder's name; may be empty.
        desc: String,
        /// Index or part of the name of the adapter; absent for the best one.
        adapter: Option<String>,
        /// `vulkan`, `metal` or `dx12`; absent for any.
        backend: Option<String>,
        /// Device memory in MiB that training may take; absent for what the adapter says it has.
        memory_limit: Option<u32>,
        /// Compile shaders with all run-time checks.
        checked: bool,
        /// Write TensorBoard event files.
        tensorboard: bool,
        /// Most training steps in one submit; 0 lets the time of a step decide. The numbers do not depend on it.
        steps_per_submit: u32,
    }
}

/// Everything about a run, resolved. The contents of `config.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The data set.
    pub data: DataConfig,
    /// Generator and discriminator.
    pub networks: NetworksConfig,
    /// Everything else that decides the numbers.
    pub training: TrainingConfig,
    /// What may change when the run is resumed.
    pub run: RunConfig,
    /// Kernels in place of the built-in choice.
    #[serde(default, skip_serializing_if = "VariantsConfig::is_empty")]
    pub variants: VariantsConfig,
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
}

/// The part of a [`TrainConfig`] that shapes training, as checkpoints hold it. The data set is not here, because its path may differ
/// between equal runs: checkpoints identify it by [`super::state::DataId`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Generator and discriminator.
    pub networks: NetworksConfig,
    /// Everything else that decides the numbers.
    pub training: TrainingConfig,
    /// Kernels in place of the built-in choice. The adapter is not here: the choice alone decides the numbers.
    #[serde(default, skip_serializing_if = "Variants::is_empty")]
    pub variants: Variants,
}

/// Settings as given, by flags or by a file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Given {
    /// The data set.
    pub data: DataGiven,
    /// Generator and discriminator.
    pub networks: NetworksGiven,
    /// Everything else that decides the numbers.
    pub training: TrainingGiven,
    /// What may change when the run is resumed.
    pub run: RunGiven,
    /// Kernels in place of the built-in choice; an empty table asks for that choice.
    pub variants: Option<VariantsConfig>,
}

/// Settings read from a file.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigFile {
    /// Where it was read, for messages.
    pub path: PathBuf,
    /// What it says.
    pub given: Given,
}

/// The settings that a command gives, before they are resolved.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layers {
    /// Flags.
    pub flags: Given,
    /// `--config`.
    pub file: Option<ConfigFile>,
}

/// Flags by the key that they set.
const FLAGS: &[(&str, &str)] = &[
    ("data.source", "--data"),
    ("networks.preset", "--preset"),
    ("training.batch", "--batch"),
    ("training.micro_batch", "--micro-batch"),
    ("training.seed", "--seed"),
    ("training.lr_g", "--lr"),
    ("training.lr_d", "--lr"),
    ("training.precision", "--precision"),
    ("run.kimg", "--kimg"),
    ("run.steps", "--steps"),
    ("run.tick_kimg", "--tick"),
    ("run.snap_ticks", "--snap"),
    ("run.keep", "--keep"),
    ("run.outdir", "--outdir"),
    ("run.desc", "--desc"),
    ("run.adapter", "--adapter"),
    ("run.backend", "--backend"),
    ("run.memory_limit", "--memory-limit"),
    ("run.checked", "--checked"),
    ("variants", "--variants"),
];

impl Recipe {
    /// What a [`crate::gan::trainer::Trainer`] for images of `channels` channels is built from.
    ///
    /// # Errors
    /// [`Error::Input`] if there is no such preset.
    pub fn gan_config(&self, channels: usize) -> Result<GanConfig> {
        let preset = presets::preset(&self.networks.preset)?;
        let (generator, discriminator) = preset.networks(channels);
        let t = &self.training;
        Ok(GanConfig {
            generator,
            discriminator,
            z_dim: preset.z_dim,
            batch: t.batch as usize,
            micro_batch: t.micro_batch.unwrap_or(t.batch) as usize,
            d_steps: t.d_steps as usize,
            lr_g: t.lr_g,
            lr_d: t.lr_d,
            adam: Adam { beta1: t.beta1, beta2: t.beta2, eps: t.eps },
            lr_horizon_kimg: t.lr_horizon_kimg,
            ema_half_life_kimg: t.ema_half_life_kimg,
            ema_ramp: t.ema_ramp,
            seed: t.seed,
            variants: self.variants.clone(),
            precision: t.precision,
        })
    }
}

impl TrainConfig {
    /// The part that shapes training.
    pub fn recipe(&self) -> Recipe {
        Recipe { networks: self.networks.clone(), training: self.training.clone(), variants: self.variants.kernels.clone() }
    }

    /// The text of `config.toml`.
    pub fn to_toml(&self) -> Result<String> {
        let body = toml::to_string(self).map_err(|error| Error::internal(format!("settings have no TOML form: {error}")))?;
        Ok(format!(
            "# Every setting of this run; `ganymede train --config` on this file reproduces it.\n\
             # Only [run] may change when the run is resumed.\n\n{body}"
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
}

impl Given {
    /// These settings where given, else those of `under`.
    fn over(self, mut under: Given) -> Given {
        // The run has one length: a layer that gives either form hides both forms of the layer below.
        if self.run.kimg.flatten().is_some() || self.run.steps.flatten().is_some() {
            (under.run.kimg, under.run.steps) = (None, None);
        }
        Given {
            data: self.data.over(under.data),
            networks: self.networks.over(under.networks),
            training: self.training.over(under.training),
            run: self.run.over(under.run),
            // As a whole: two tables mixed would be neither.
            variants: self.variants.or(under.variants),
        }
    }

    /// Whether `section.key`, or the table of variants, is given.
    fn has(&self, key: &str) -> bool {
        if key == "variants" {
            return self.variants.is_some();
        }
        let (section, field) = key.split_once('.').unwrap_or((key, ""));
        // Integers that TOML cannot hold are refused later; here they must not hide that they were given.
        let mut given = self.clone();
        given.training.seed = given.training.seed.map(|seed| seed.min(i64::MAX as u64));
        given.run.steps = given.run.steps.map(|steps| steps.map(|steps| steps.min(i64::MAX as u64)));
        table(&given).get(section).and_then(|section| section.get(field)).is_some()
    }
}

impl From<TrainConfig> for Given {
    fn from(full: TrainConfig) -> Self {
        Given {
            data: full.data.into(),
            networks: full.networks.into(),
            training: full.training.into(),
            run: full.run.into(),
            variants: (!full.variants.is_empty()).then_some(full.variants),
        }
    }
}

impl ConfigFile {
    /// Reads a config file. Every key is optional.
    ///
    /// # Errors
    /// [`Error::Input`] naming the file, and for what is wrong inside it the line, the column, the key and the nearest valid key.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read(path, "config file", "a run's settings are in its config.toml")?;
        let mut given: Given = parse(&text, path)?;
        if let Some(variants) = &mut given.variants {
            variants.kernels.origin = path.display().to_string();
        }
        Ok(ConfigFile { path: path.to_path_buf(), given })
    }

    /// The settings of a file in which nothing is left open, as `config.toml` of a run folder.
    ///
    /// # Errors
    /// [`Error::Input`] as for [`Layers::resolve`].
    pub fn resolve(self) -> Result<TrainConfig> {
        Layers { flags: Given::default(), file: Some(self) }.resolve(None)
    }
}

impl Layers {
    /// Flattens the layers, over `base` if there is one (what a checkpoint says), else over the preset's defaults, and checks every
    /// value.
    ///
    /// # Errors
    /// [`Error::Input`] naming the flag, or the file and key, with what was got, what was expected and what to do.
    pub fn resolve(&self, base: Option<&TrainConfig>) -> Result<TrainConfig> {
        let mut given = base.cloned().map(Given::from).unwrap_or_default();
        for layer in [self.file.as_ref().map(|file| &file.given), Some(&self.flags)].into_iter().flatten() {
            if layer.run.kimg.flatten().is_some() && layer.run.steps.flatten().is_some() {
                return Err(Error::input(format!(
                    "{} and {} are both given; a run has one length",
                    self.label("run.kimg"),
                    self.label("run.steps")
                )));
            }
            given = layer.clone().over(given);
        }

        let preset = given.networks.preset.unwrap_or_else(|| presets::DEFAULT_PRESET.to_string());
        let defaults = presets::preset(&preset).map_err(|error| Error::input(format!("{}: {error}", self.label("networks.preset"))))?;
        let (data, training, run) = (given.data, given.training, given.run);
        let batch = training.batch.unwrap_or(defaults.batch as u32);
        let steps = run.steps.flatten();
        let config = TrainConfig {
            data: DataConfig { source: resolve_source(data.source.unwrap_or_else(|| defaults.data.to_string()))? },
            networks: NetworksConfig { preset },
            training: TrainingConfig {
                batch,
                micro_batch: training.micro_batch.flatten().filter(|&m| m != batch),
                seed: training.seed.unwrap_or(0),
                lr_g: training.lr_g.unwrap_or(defaults.lr),
                lr_d: training.lr_d.unwrap_or(defaults.lr),
                lr_horizon_kimg: training.lr_horizon_kimg.flatten(),
                beta1: training.beta1.unwrap_or(defaults.beta1),
                beta2: training.beta2.unwrap_or(0.999),
                eps: training.eps.unwrap_or(1e-8),
                d_steps: training.d_steps.unwrap_or(1),
                ema_half_life_kimg: training.ema_half_life_kimg.unwrap_or(GanConfig::default_ema_half_life_kimg(batch as usize)),
                ema_ramp: training.ema_ramp.unwrap_or(GanConfig::DEFAULT_EMA_RAMP),
                precision: training.precision.unwrap_or_default(),
            },
            run: RunConfig {
                kimg: if steps.is_some() { None } else { Some(run.kimg.flatten().unwrap_or(defaults.kimg)) },
                steps,
                tick_kimg: run.tick_kimg.unwrap_or(3.2),
                snap_ticks: run.snap_ticks.unwrap_or(10),
                keep: run.keep.unwrap_or(3),
                outdir: run.outdir.unwrap_or_else(|| "runs".to_string()),
                desc: slug(&run.desc.unwrap_or_default()),
                adapter: run.adapter.flatten(),
                backend: run.backend.flatten(),
                memory_limit: run.memory_limit.flatten(),
                checked: run.checked.unwrap_or(false),
                tensorboard: run.tensorboard.unwrap_or(true),
                steps_per_submit: run.steps_per_submit.unwrap_or(0),
            },
            variants: given.variants.filter(|variants| !variants.is_empty()).unwrap_or_default(),
        };
        self.check(&config)?;
        Ok(config)
    }

    /// Refuses settings that shape training and differ from what a run was trained with. `run` says which run, and `checkpoint` is the
    /// file that a fork would start from.
    ///
    /// # Errors
    /// [`Error::Input`] naming the flag, both values and `--fork`.
    pub fn check_unchanged(&self, resolved: &TrainConfig, stored: &TrainConfig, run: &Path, checkpoint: Option<&Path>) -> Result<()> {
        let (new, old) = (table(resolved), table(stored));
        for section in ["networks", "training"] {
            let (Some(new), Some(old)) = (new.get(section).and_then(|v| v.as_table()), old.get(section).and_then(|v| v.as_table())) else {
                continue;
            };
            let keys: std::collections::BTreeSet<&String> = new.keys().chain(old.keys()).collect();
            for key in keys {
                if new.get(key) != old.get(key) {
                    let show = |value: Option<&toml::Value>| value.map_or("nothing".to_string(), |value| value.to_string());
                    return Err(self.changed(&format!("{section}.{key}"), &show(new.get(key)), &show(old.get(key)), run, checkpoint));
                }
            }
        }
        let (new, old) = (&resolved.variants.kernels.kernels, &stored.variants.kernels.kernels);
        if let Some(product) = new.keys().chain(old.keys()).find(|product| new.get(*product) != old.get(*product)) {
            let show = |kernel: Option<&String>| format!("{} for {product:?}", kernel.map_or("the built-in choice", String::as_str));
            return Err(self.changed("variants", &show(new.get(product)), &show(old.get(product)), run, checkpoint));
        }
        let builtin = |source: &str| source.starts_with("builtin:");
        let (new, old) = (&resolved.data.source, &stored.data.source);
        // Two paths may hold the same data; their fingerprints decide once they are read.
        if new != old && (builtin(new) || builtin(old)) {
            return Err(self.changed("data.source", new, old, run, checkpoint));
        }
        Ok(())
    }

    fn changed(&self, key: &str, new: &str, old: &str, run: &Path, checkpoint: Option<&Path>) -> Error {
        let fork = match checkpoint {
            Some(file) => format!("`--fork {}`", file.display()),
            None => "`--fork FILE` with a checkpoint".to_string(),
        };
        Error::input(format!(
            "{} is {new}, but {} was trained with {old}; a resumed run continues exactly as it began, so leave it out, or start \
             a new run from the checkpoint with {fork} instead of --resume",
            self.label(key),
            run.display(),
        ))
    }

    /// How to name a setting in a message: by the flag if it was given as one, by file and key if it comes from there.
    pub fn label(&self, key: &str) -> String {
        let flag = FLAGS.iter().find(|(k, _)| *k == key).map(|(_, flag)| *flag);
        let (in_flags, in_file) = (self.flags.has(key), self.file.as_ref().filter(|file| file.given.has(key)));
        match (flag, in_file) {
            (Some(flag), _) if in_flags => flag.to_string(),
            (_, Some(file)) => format!("{}: {key}", file.path.display()),
            (Some(flag), None) => format!("{flag} ({key})"),
            (None, None) => key.to_string(),
        }
    }

    fn check(&self, config: &TrainConfig) -> Result<()> {
        let bad = |key: &str, got: &dyn fmt::Display, expected: &str| -> Result<()> {
            Err(Error::input(format!("{}: got {got}, expected {expected}", self.label(key))))
        };
        let t = &config.training;
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
            let preset = presets::preset(&config.networks.preset)?;
            let (generator, discriminator) = preset.networks(1);
            if micro == 1 && (generator.has_norm() || discriminator.has_norm()) {
                bad("training.micro_batch", &micro, &format!("at least 2 images, because preset {} has batch norm", preset.name))?;
            }
        }
        if t.seed > i64::MAX as u64 {
            bad("training.seed", &t.seed, "a number below 2^63, which is as far as TOML counts")?;
        }
        for (key, lr) in [("training.lr_g", t.lr_g), ("training.lr_d", t.lr_d)] {
            // Shaders compute in f32, so it must also be a finite number above zero there.
            if !(lr.is_finite() && (lr as f32).is_finite() && lr as f32 > 0.0) {
                bad(
                    key,
                    &lr,
                    "a finite number above 0; most GANs train with 1e-5 to 1e-3, and the preset's own is used when none is given",
                )?;
            }
        }
        for (key, beta) in [("training.beta1", t.beta1), ("training.beta2", t.beta2)] {
            if !((0.0..1.0).contains(&beta) && (beta as f32) < 1.0) {
                bad(key, &beta, "a number from 0 up to but not including 1 (usual: beta1 0.5, beta2 0.999)")?;
            }
        }
        if !(t.eps.is_finite() && (t.eps as f32).is_normal() && t.eps > 0.0) {
            bad("training.eps", &t.eps, "a finite number above 0 (usual: 1e-8)")?;
        }
        if !(1..=StepRow::MAX_D_STEPS as u32).contains(&t.d_steps) {
            bad("training.d_steps", &t.d_steps, &format!("1 to {}", StepRow::MAX_D_STEPS))?;
        }
        if !(t.ema_half_life_kimg.is_finite() && t.ema_half_life_kimg >= 0.0) {
            bad("training.ema_half_life_kimg", &t.ema_half_life_kimg, "thousands of images, 0 or more (0: no averaging)")?;
        }
        if !(t.ema_ramp.is_finite() && t.ema_ramp > 0.0) {
            bad("training.ema_ramp", &t.ema_ramp, "a share above 0 (usual: 0.05)")?;
        }
        if let Some(kimg) = t.lr_horizon_kimg
            && !is_length(kimg)
        {
            bad("training.lr_horizon_kimg", &kimg, "thousands of images, above 0")?;
        }

        let r = &config.run;
        if let Some(kimg) = r.kimg
            && !is_length(kimg)
        {
            bad("run.kimg", &kimg, "thousands of images, above 0")?;
        }
        if let Some(steps) = r.steps
            && !(1..=1 << 53).contains(&steps)
        {
            bad("run.steps", &steps, "at least 1 step")?;
        }
        if !is_length(r.tick_kimg) {
            bad("run.tick_kimg", &r.tick_kimg, "thousands of images, above 0")?;
        }
        if r.snap_ticks == 0 {
            bad("run.snap_ticks", &r.snap_ticks, "at least 1 tick")?;
        }
        if r.keep == 0 {
            bad("run.keep", &r.keep, "at least 1 checkpoint")?;
        }
        if r.outdir.is_empty() {
            bad("run.outdir", &"an empty path", "a folder")?;
        }
        if r.memory_limit == Some(0) {
            bad("run.memory_limit", &0, "MiB of device memory, at least 1")?;
        }
        if let Some(backend) = &r.backend
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
    let path = std::path::absolute(&source).map_err(|error| Error::input(format!("--data: {source}: {}", plain(&error))))?;
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

/// Settings as a TOML table; what is not set is not in it.
fn table(settings: &impl Serialize) -> toml::Table {
    // Every field is a number, a string, a flag or an option of one, all of which have a TOML form once integers are in range.
    toml::Table::try_from(settings).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<TrainConfig> {
        let path = Path::new("some/config.toml");
        ConfigFile { path: path.into(), given: parse(text, path)? }.resolve()
    }

    fn refused(text: &str) -> String {
        let error = resolve(text).expect_err(text);
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    }

    fn table(entries: &[(&str, &str)]) -> VariantsConfig {
        let kernels = entries.iter().map(|(product, label)| (product.to_string(), label.to_string())).collect();
        VariantsConfig { adapter: Some("a \"GPU\"".into()), kernels: Variants { kernels, origin: "v.toml".into() } }
    }

    #[test]
    fn a_table_of_kernels_is_replaced_as_a_whole_and_pinned() {
        let flags = |variants| Layers { flags: Given { variants, ..Given::default() }, file: None };
        let [one, other] = [table(&[("a", "x"), ("b", "y")]), table(&[("b", "y")])];
        let stored = flags(Some(one.clone())).resolve(None).unwrap();
        assert_eq!(stored.recipe().variants, one.kernels);
        assert_eq!(flags(None).resolve(Some(&stored)).unwrap(), stored, "a resumed run keeps it");
        assert_eq!(flags(Some(other.clone())).resolve(Some(&stored)).unwrap().variants, other);
        assert!(flags(Some(VariantsConfig::default())).resolve(Some(&stored)).unwrap().variants.is_empty());

        let run = Path::new("runs/00000-digits");
        let check = |variants: Option<VariantsConfig>, stored: &TrainConfig| {
            let layers = flags(variants);
            layers.check_unchanged(&layers.resolve(Some(stored)).unwrap(), stored, run, None).map_err(|error| error.to_string())
        };
        check(None, &stored).unwrap();
        let elsewhere = VariantsConfig { adapter: Some("another".into()), ..one.clone() };
        check(Some(elsewhere), &stored).unwrap();
        let text = check(Some(other), &stored).unwrap_err();
        assert!(
            text.starts_with("--variants is the built-in choice for \"a\", but runs/00000-digits was trained with x for \"a\""),
            "{text}"
        );
        let text = check(Some(one), &resolve("").unwrap()).unwrap_err();
        assert!(text.contains("--variants is x for \"a\"") && text.contains("trained with the built-in choice"), "{text}");
    }

    #[test]
    fn the_default_run_is_1200_steps_of_the_small_dcgan() {
        let config = resolve("").unwrap();
        assert_eq!((config.networks.preset.as_str(), config.data.source.as_str()), ("dcgan-28-small", "builtin:digits"));
        assert_eq!((config.training.batch, config.training.lr_g, config.training.beta1), (32, 2e-4, 0.5));
        assert_eq!(config.last_step(0, 0), 1200);
        assert_eq!(config.last_step(700, 700 * 32), 1200, "the length counts from the first step, wherever the run stands");
        assert_eq!(config.tick_steps(), 100);
    }

    #[test]
    fn every_preset_resolves_and_survives_its_own_toml() {
        for preset in presets::PRESETS.iter().map(|p| p.name) {
            let mut config = resolve(&format!("[networks]\npreset = \"{preset}\"\n")).unwrap();
            config.training.lr_g = 0.1 + 0.2; // needs all 17 digits
            config.training.lr_horizon_kimg = Some(1.0 / 3.0);
            config.run.adapter = Some("llvm \"pipe\"".into());
            config.variants = table(&[("matmul_nn 8x16 16x12", "gemm_rows_plain/n")]);
            let text = config.to_toml().unwrap();
            assert_eq!(resolve(&text).unwrap(), config, "{text}");
        }
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_preset() {
        let path = Path::new("c.toml");
        let file = parse("[training]\nbatch = 32\nlr_g = 0.01\n[run]\nkimg = 5\n", path).unwrap();
        let mut flags = Given::default();
        flags.training.batch = Some(16);
        flags.run.steps = Some(Some(7));
        let config = Layers { flags, file: Some(ConfigFile { path: path.into(), given: file }) }.resolve(None).unwrap();
        assert_eq!((config.training.batch, config.training.lr_g, config.training.lr_d), (16, 0.01, 2e-4));
        assert_eq!((config.run.kimg, config.run.steps), (None, Some(7)), "a length given by flag hides the file's other form");
        assert_eq!(config.last_step(0, 0), 7);
    }

    #[test]
    fn mistakes_in_a_file_are_located() {
        let text = refused("# settings\n[training]\n  bacth = 3\n");
        assert!(
            text.starts_with(
                "some/config.toml:3:3: unknown key bacth in [training]; did you mean batch? keys here are batch, micro_batch, seed,"
            ),
            "{text}"
        );
        let text = refused("[trianing]\nbatch = 3\n");
        assert!(text.contains("some/config.toml:1:2: unknown key trianing; did you mean training?"), "{text}");
        let text = refused("[training]\nbatch = \"many\"\n");
        assert!(text.contains(":2:9: training.batch: invalid type: string \"many\", expected a whole number, 0 or more"), "{text}");
        let text = refused("[training]\nbatch = -3\n");
        assert!(text.contains("training.batch") && text.contains("-3"), "{text}");
        let text = refused("[training\n");
        assert!(text.contains("some/config.toml:1:"), "{text}");
    }

    #[test]
    fn bad_values_name_the_file_the_key_and_what_was_expected() {
        for (text, needles) in [
            ("[training]\nlr_g = nan", &["some/config.toml: training.lr_g: got NaN", "finite number above 0"][..]),
            ("[training]\nlr_d = inf", &["training.lr_d: got inf"]),
            ("[training]\nlr_g = 0", &["training.lr_g: got 0,"]),
            ("[training]\nlr_g = -1e-4", &["got -0.0001"]),
            ("[training]\nlr_g = 1e-60", &["training.lr_g", "above 0"]),
            ("[training]\nbatch = 0", &["training.batch: got 0", "at least 2"]),
            ("[training]\nbatch = 1", &["training.batch: got 1", "batch norm"]),
            ("[training]\nmicro_batch = 0", &["training.micro_batch: got 0, expected a divisor of the batch of 32"]),
            ("[training]\nmicro_batch = 12", &["training.micro_batch: got 12, expected a divisor of the batch of 32"]),
            ("[training]\nmicro_batch = 64", &["training.micro_batch: got 64, expected a divisor of the batch of 32"]),
            ("[training]\nmicro_batch = 1", &["training.micro_batch: got 1", "batch norm"]),
            ("[training]\nbeta1 = 1.0", &["training.beta1: got 1,"]),
            ("[training]\nbeta2 = 0.9999999999", &["training.beta2: got 0.9999999999,"]),
            ("[training]\neps = 0", &["training.eps: got 0,"]),
            ("[training]\nd_steps = 0", &["training.d_steps: got 0, expected 1 to 14"]),
            ("[training]\nema_half_life_kimg = -1", &["training.ema_half_life_kimg: got -1"]),
            ("[training]\nema_ramp = 0", &["training.ema_ramp: got 0"]),
            ("[training]\nlr_horizon_kimg = 0", &["training.lr_horizon_kimg: got 0"]),
            ("[run]\nkimg = 0", &["run.kimg: got 0, expected thousands of images, above 0"]),
            ("[run]\nkimg = nan", &["run.kimg: got NaN"]),
            ("[run]\nsteps = 0", &["run.steps: got 0"]),
            ("[run]\nkimg = 1\nsteps = 1", &["run.kimg", "run.steps", "both given"]),
            ("[run]\ntick_kimg = -1", &["run.tick_kimg: got -1"]),
            ("[run]\nsnap_ticks = 0", &["run.snap_ticks: got 0"]),
            ("[run]\nkeep = 0", &["run.keep: got 0"]),
            ("[run]\nmemory_limit = 0", &["run.memory_limit: got 0, expected MiB of device memory"]),
            ("[run]\nbackend = \"cuda\"", &["run.backend: got \"cuda\", expected vulkan, metal or dx12"]),
            (
                "[networks]\npreset = \"dcgan28\"",
                &["networks.preset", "no preset \"dcgan28\"; did you mean dcgan-28?", "mlp, dcgan-28-small"],
            ),
        ] {
            let message = refused(text);
            for needle in needles {
                assert!(message.contains(needle), "{text:?} gave: {message}");
            }
        }
    }

    #[test]
    fn a_flag_is_named_as_a_flag() {
        let mut flags = Given::default();
        (flags.training.lr_g, flags.training.lr_d) = (Some(f64::NAN), Some(f64::NAN));
        let message = Layers { flags, file: None }.resolve(None).unwrap_err().to_string();
        assert!(message.starts_with("--lr: got NaN, expected a finite number above 0"), "{message}");
    }

    #[test]
    fn settings_of_before_there_was_a_precision_are_of_f32() {
        let stored = resolve("").unwrap();
        assert_eq!(stored.training.precision, Precision::F32);
        let older = stored.to_toml().unwrap().replace("precision = \"f32\"\n", "");
        assert!(!older.contains("precision"));
        let older: TrainConfig = toml::from_str(&older).unwrap();
        assert_eq!(older, stored);
        assert_eq!(resolve("[training]\nprecision = \"f16\"").unwrap().recipe().gan_config(1).unwrap().precision, Precision::F16);
        let message = refused("[training]\nprecision = \"f8\"");
        assert!(message.contains("precision") && message.contains("f32") && message.contains("f16"), "{message}");
    }

    #[test]
    fn a_batch_must_fit_into_the_data() {
        let config = resolve("").unwrap();
        config.check_data(32).unwrap();
        let message = config.check_data(31).unwrap_err().to_string();
        assert!(message.contains("--batch") && message.contains("32") && message.contains("only 31 images"), "{message}");
    }

    #[test]
    fn a_micro_batch_of_the_whole_batch_is_none() {
        assert_eq!(resolve("[training]\nmicro_batch = 32").unwrap(), resolve("").unwrap());
        let split = resolve("[training]\nmicro_batch = 8").unwrap();
        let gan = split.recipe().gan_config(1).unwrap();
        assert_eq!((gan.batch, gan.micro_batch, gan.micro_batches()), (32, 8, 4));
        assert_eq!(resolve(&split.to_toml().unwrap()).unwrap(), split);
        // A dense network has no norm.
        resolve("[networks]\npreset = \"mlp\"\n[training]\nmicro_batch = 1").unwrap();
    }

    #[test]
    fn resuming_refuses_changes_that_shape_training_and_takes_the_others() {
        let stored = resolve("").unwrap();
        let run = Path::new("runs/00000-digits");
        let check = |set: &dyn Fn(&mut Given)| {
            let mut flags = Given::default();
            set(&mut flags);
            let layers = Layers { flags, file: None };
            let resolved = layers.resolve(Some(&stored)).unwrap();
            layers.check_unchanged(&resolved, &stored, run, Some(Path::new("x.safetensors")))
        };
        check(&|_| ()).unwrap();
        check(&|f| f.training.batch = Some(32)).unwrap();
        check(&|f| {
            (f.run.kimg, f.run.tick_kimg, f.run.snap_ticks, f.run.keep) = (Some(Some(500.0)), Some(1.0), Some(2), Some(9));
            (f.run.outdir, f.run.adapter, f.run.checked) = (Some("elsewhere".into()), Some(Some("0".into())), Some(true));
        })
        .unwrap();
        let text = check(&|f| f.training.batch = Some(64)).unwrap_err().to_string();
        assert!(
            text.contains("--batch is 64, but runs/00000-digits was trained with 32") && text.contains("--fork x.safetensors"),
            "{text}"
        );
        let text = check(&|f| f.training.micro_batch = Some(Some(8))).unwrap_err().to_string();
        assert!(text.contains("--micro-batch is 8") && text.contains("trained with nothing"), "{text}");
        let text = check(&|f| f.training.lr_d = Some(1e-3)).unwrap_err().to_string();
        assert!(text.contains("--lr is 0.001") && text.contains("0.0002"), "{text}");
        let text = check(&|f| f.training.lr_horizon_kimg = Some(Some(9.0))).unwrap_err().to_string();
        assert!(text.contains("training.lr_horizon_kimg is 9.0") && text.contains("trained with nothing"), "{text}");
        let text = check(&|f| f.data.source = Some("builtin:shapes".into())).unwrap_err().to_string();
        assert!(text.contains("--data is builtin:shapes") && text.contains("builtin:digits"), "{text}");
    }

    #[test]
    fn slugs() {
        assert_eq!(slug("a b/c..d"), "a-b-c-d");
        assert_eq!(slug("../../etc"), "etc");
        assert_eq!(slug("ünï_x"), "n-_x");
        assert_eq!(slug(&"x".repeat(200)).len(), 64);
    }
}
