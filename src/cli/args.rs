//! Verbs and flags.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::data::{DataArgs, ResizeFlag};
use crate::error::Result;
use crate::gan::latent::Interpolation;
use crate::graph::precision;
use crate::profile;
use crate::run::config;
use crate::run::layers::Layers;
use crate::tune::file;

/// Trains GANs on any GPU: the whole training step runs in hand-written compute shaders
#[derive(Debug, Parser)]
#[command(name = "ganymede", version, max_term_width = 110)]
pub struct Ganymede {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a GAN; with no argument, a small DCGAN on built-in digits
    Train(Box<TrainArgs>),
    /// Make pictures with a trained generator
    Sample(Box<SampleArgs>),
    /// List the adapters with their drivers, features and limits
    Devices,
    /// Test every kernel on this machine's adapter; run this first on new hardware
    Check(SelfTestArgs),
    /// Print what a training step dispatches, and the memory it takes
    Plan(PlanArgs),
    /// Time the kernels of a training step on this adapter, and write the fastest ones to a file for --variants
    Tune(TuneArgs),
    /// Time every dispatch of a training step, and say what bounds it
    Profile(ProfileArgs),
    /// Print the networks: layers, output shapes, parameters, work and memory
    Summary(ModelArgs),
    /// List the presets, or print one as a config file
    Presets(PresetsArgs),
    /// Look at a data set, or convert it
    Data(DataArgs),
    /// Draw what augmentation makes of real images: a row each, the image itself first
    Augment(AugmentArgs),
    /// Measure kernels, training steps and overheads on this machine's adapter
    Bench(Box<BenchArgs>),
}

/// Which adapter to use, and how.
#[derive(Debug, Clone, Default, Args)]
pub struct DeviceArgs {
    /// Adapter, by index or by a part of its name (see `ganymede devices`)
    #[arg(long, value_name = "INDEX|NAME")]
    pub adapter: Option<String>,
    /// Graphics API
    #[arg(long)]
    pub backend: Option<Backend>,
    /// Compile shaders with all run-time checks (slower; the numbers are the same)
    #[arg(long)]
    pub checked: bool,
}

#[derive(Debug, Args)]
pub struct SelfTestArgs {
    /// Ask for matrix units too, and test the kernels of --precision f16-matrix
    #[arg(long)]
    pub matrix: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    Vulkan,
    Metal,
    Dx12,
}

/// Flags that say what is trained, shared by `train`, `plan` and `profile`.
#[derive(Debug, Clone, Default, Args)]
pub struct ModelArgs {
    /// Data set: a folder, or builtin:NAME
    #[arg(long, value_name = "PATH|builtin:NAME")]
    pub data: Option<PathBuf>,
    /// Bring pictures of another size to that of the networks: whole with a border, cropped to the middle, or distorted [default: refuse them]
    #[arg(long)]
    pub resize: Option<ResizeFlag>,
    /// Height and width of the images [default: the preset's]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub size: Option<u32>,
    /// Networks and their usual settings (see `ganymede presets`)
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Read settings from a file; flags win over it. A run's config.toml reproduces the run
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Set any key of a config file, as in --set generator.optimizer.lr=1e-3; may be repeated, and wins over the file
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Images in a batch
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub batch: Option<u32>,
    /// Images of a batch that are on the device at once, a divisor of the batch: needs less memory and more time
    #[arg(long, value_name = "M", allow_negative_numbers = true)]
    pub micro_batch: Option<u32>,
    /// Mirror each real image with probability 0.5 (augment.mirror); other augmentations are keys of [augment] in config files
    #[arg(long)]
    pub mirror: bool,
    /// Device memory that training may take, for an adapter that is shared [default: what the adapter says it has]
    #[arg(long, value_name = "MIB", allow_negative_numbers = true)]
    pub memory_limit: Option<u32>,
    /// Where the data set is kept: on the device, or in host memory or (pictures) on disk, from where batches are streamed; the numbers
    /// are the same [default: auto, the first of them that has room]
    #[arg(long)]
    pub data_on: Option<DataOn>,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DataOn {
    Auto,
    Device,
    Host,
    Disk,
}

impl From<DataOn> for config::DataOn {
    fn from(given: DataOn) -> Self {
        match given {
            DataOn::Auto => Self::Auto,
            DataOn::Device => Self::Device,
            DataOn::Host => Self::Host,
            DataOn::Disk => Self::Disk,
        }
    }
}

/// Which kernels to use.
#[derive(Debug, Clone, Default, Args)]
pub struct VariantsArgs {
    /// Use the kernels of a file that `ganymede tune` wrote, which the run then keeps; `default` for the built-in choice
    #[arg(long, value_name = "FILE|default")]
    pub variants: Option<PathBuf>,
    /// How products read activations and weights: f16 halves what they move, and f16-matrix has the GPU's matrix units multiply two of them too,
    /// where there are such units; sums, gradients and all else stay in f32 [default: f32]
    #[arg(long)]
    pub precision: Option<Precision>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    F32,
    F16,
    F16Matrix,
}

impl From<Precision> for precision::Precision {
    fn from(given: Precision) -> Self {
        match given {
            Precision::F32 => Self::F32,
            Precision::F16 => Self::F16,
            Precision::F16Matrix => Self::F16Matrix,
        }
    }
}

#[derive(Debug, Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub variants: VariantsArgs,
    /// Folder in which run folders are made
    #[arg(long, value_name = "DIR")]
    pub outdir: Option<PathBuf>,
    /// Length of the run in thousands of images, counted from its first step
    #[arg(long, value_name = "N", allow_hyphen_values = true, conflicts_with = "steps")]
    pub kimg: Option<f64>,
    /// Length of the run in steps, counted from its first step
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub steps: Option<u64>,
    /// Seed of initial weights, noise, batch order and built-in data
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Learning rate of both networks
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub lr: Option<f64>,
    /// Thousands of images between two lines of statistics
    #[arg(long, value_name = "KIMG", allow_hyphen_values = true)]
    pub tick: Option<f64>,
    /// Ticks between two snapshots (pictures and checkpoint)
    #[arg(long, value_name = "TICKS", allow_negative_numbers = true)]
    pub snap: Option<u32>,
    /// Checkpoints that are kept
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub keep: Option<u32>,
    /// Go on with a run in its own folder, from its newest checkpoint or the one named
    #[arg(long, value_name = "latest|RUN|FILE", conflicts_with = "fork")]
    pub resume: Option<String>,
    /// Start a new run from a checkpoint, with any settings changed
    #[arg(long, value_name = "FILE")]
    pub fork: Option<String>,
    /// Stop with a checkpoint after this many steps, without shortening the run
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub stop_after: Option<u64>,
    /// Capture this step of the run, counted from 1, with the RenderDoc, PIX or Xcode that is attached (see docs/PROFILING.md)
    #[arg(long, value_name = "STEP", value_parser = clap::value_parser!(u64).range(1..))]
    pub capture_step: Option<u64>,
    /// Text that ends the run folder's name
    #[arg(long, value_name = "TEXT")]
    pub desc: Option<String>,
    /// Print what would be done, and stop
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct SampleArgs {
    /// Run (folder, name or number in runs/, `latest`) or checkpoint file
    #[arg(long, value_name = "RUN|FILE")]
    pub model: String,
    /// Seeds, one image each, as 0-63 or 1,5,9-12 [default: as many as the grid has cells, from 0; 1024 for points]
    #[arg(long, value_name = "LIST")]
    pub seeds: Option<Seeds>,
    /// Rows and columns of the grid [default: 8x8, or the most square one for the seeds]
    #[arg(long, value_name = "ROWSxCOLUMNS")]
    pub grid: Option<Grid>,
    /// Write that many images, of the seeds 0 to N-1: a folder or .zip of 000000.png and so on (for FID tools), or arrays as .npz
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000), conflicts_with_all = ["seeds", "grid"], requires = "out")]
    pub count: Option<u64>,
    /// Class of the images, by name or number; may be repeated. Of a conditional model, a .png has a row for each class, or with --grid, and in other files, the
    /// classes take turns from seed to seed [default: all classes]
    #[arg(long, value_name = "NAME|INDEX")]
    pub class: Vec<String>,
    /// That many images of each class, of the seeds 0 to N-1: a folder or .zip of CLASS/seed-000000.png that a classifier trains on as it is, arrays as .npz, or a sheet
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000), conflicts_with_all = ["seeds", "grid", "count", "interpolate", "film"])]
    pub per_class: Option<u64>,
    /// Animate the way from seed to seed and back to the first; with --grid, one walk a cell, which share the seeds evenly
    #[arg(long, value_name = "slerp|lerp", num_args = 0..=1, default_missing_value = "slerp", conflicts_with = "count")]
    pub interpolate: Option<Interpolate>,
    /// Frames from one seed to the next [default: 25]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), requires = "interpolate")]
    pub frames: Option<u32>,
    /// Animate the run's course: its own pictures, or seeds through every checkpoint that is kept
    #[arg(long, value_name = "pictures|checkpoints", num_args = 0..=1, default_missing_value = "pictures", conflicts_with_all = ["count", "interpolate"])]
    pub film: Option<Film>,
    /// Frames a second [default: 25, or 5 for --film]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=50), conflicts_with_all = ["count", "compare"])]
    pub fps: Option<u32>,
    /// A sheet with images of the run's data set on the left and generated ones on the right
    #[arg(long, conflicts_with_all = ["count", "interpolate", "film"])]
    pub compare: bool,
    /// Show each pixel as a square of N pixels, in grids and animations [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64), conflicts_with = "count")]
    pub scale: Option<u32>,
    /// A .png file for a grid (a plot where the model makes points), a folder or .zip for one .png per seed, .npz or .safetensors for z and images as numbers, .gif or .webp for an animation
    /// [default: samples.png, or samples.gif]
    #[arg(long, value_name = "FILE|DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Interpolate {
    Slerp,
    Lerp,
}

impl From<Interpolate> for Interpolation {
    fn from(given: Interpolate) -> Self {
        match given {
            Interpolate::Slerp => Self::Slerp,
            Interpolate::Lerp => Self::Lerp,
        }
    }
}

/// What a film is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Film {
    Pictures,
    Checkpoints,
}

#[derive(Debug, Args)]
pub struct PresetsArgs {
    /// Print this preset, as a file to begin with for --config
    #[arg(long, value_name = "NAME", conflicts_with = "schema")]
    pub show: Option<String>,
    /// Print the JSON schema of config files, for editors that complete and check
    #[arg(long)]
    pub schema: bool,
}

#[derive(Debug, Args)]
pub struct AugmentArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Picture to write
    #[arg(long, value_name = "FILE.png", default_value = "augment.png")]
    pub out: PathBuf,
    /// Images, one a row, and columns: the image and augmentations of it
    #[arg(long, value_name = "ROWSxCOLUMNS", default_value = "6x9")]
    pub grid: Grid,
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub variants: VariantsArgs,
}

#[derive(Debug, Args)]
pub struct TuneArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// File to write
    #[arg(long, value_name = "FILE.toml", default_value = "variants.toml")]
    pub out: PathBuf,
    /// Seconds of measuring, without those that drivers compile in [default: 0.8, or 30 on a software adapter]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub seconds: Option<f64>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    /// What to measure [default: all]
    #[command(subcommand)]
    pub what: Option<BenchCommand>,
    #[command(flatten)]
    pub options: BenchOptions,
}

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Every kernel on the presets' shapes and some published ones, next to this adapter's ceilings
    Kernels(BenchOptions),
    /// Whole training steps of the presets on built-in data
    Step(BenchOptions),
    /// Empty dispatches, submits and readbacks
    Overhead(BenchOptions),
    /// From process start to the end of the first training step, with empty and with filled caches
    Start(StartArgs),
    /// All of these
    All(BenchOptions),
    /// Compare two reports; exit code 1 if a result is worse beyond its spread
    Compare(CompareArgs),
}

/// What is measured, and for how long.
#[derive(Debug, Clone, Default, Args)]
pub struct BenchOptions {
    /// Write the results as JSON to a file, or to standard output for `-` (the table then goes to standard error)
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
    /// Only this preset, and of the kernels only its shapes
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Images in a batch [default: the preset's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    pub batch: Option<u32>,
    /// Seconds for each result [default: 0.4 for a kernel, 10 for a training step, 1 for an overhead]
    #[arg(long, value_name = "S", value_parser = seconds, allow_hyphen_values = true)]
    pub seconds: Option<f64>,
    /// Samples of each result [default: as the seconds allow; 3 for `start`]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000), allow_negative_numbers = true)]
    pub runs: Option<u32>,
    /// Only results whose name or kernel contains this text
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Every kernel that can run a product, not only the one that this adapter gets by default
    #[arg(long)]
    pub all_variants: bool,
    /// Use the kernels of a file that `ganymede tune` wrote for this preset and batch; `default` for the built-in choice
    #[arg(long, value_name = "FILE|default")]
    pub variants: Option<PathBuf>,
    /// How products of training steps read activations and weights [default: f32]
    #[arg(long)]
    pub precision: Option<Precision>,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(Debug, Args)]
pub struct StartArgs {
    #[command(flatten)]
    pub options: BenchOptions,
    /// Be the process that is measured
    #[arg(long, hide = true, requires = "preset")]
    pub child: bool,
}

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Report to compare with
    #[arg(value_name = "OLD.json")]
    pub old: PathBuf,
    /// Report that is judged
    #[arg(value_name = "NEW.json")]
    pub new: PathBuf,
}

/// A positive number of seconds, up to an hour.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(seconds),
        _ => Err("expected seconds above 0, up to 3600".to_string()),
    }
}

#[derive(Debug, Args)]
pub struct ProfileArgs {
    /// Networks, as --preset
    #[arg(value_name = "PRESET", conflicts_with = "preset")]
    pub name: Option<String>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub variants: VariantsArgs,
    /// Steps that are timed, after a warm-up
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub steps: u32,
    /// Write the host's and the device's work as a Chrome trace, which ui.perfetto.dev opens
    #[arg(long, value_name = "FILE.json")]
    pub trace: Option<PathBuf>,
    /// What the lines of the table stand for
    #[arg(long, value_enum, default_value_t = By::Kernel)]
    pub by: By,
    /// Time nothing, but capture this step, counted from 1, with the RenderDoc, PIX or Xcode that is attached (see docs/PROFILING.md)
    #[arg(long, value_name = "STEP", conflicts_with_all = ["steps", "trace", "by"], value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub capture_step: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    Kernel,
    Layer,
    Phase,
    Dispatch,
}

impl From<By> for profile::By {
    fn from(by: By) -> Self {
        match by {
            By::Kernel => profile::By::Kernel,
            By::Layer => profile::By::Layer,
            By::Phase => profile::By::Phase,
            By::Dispatch => profile::By::Dispatch,
        }
    }
}

/// A list of seeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeds(pub Vec<u64>);

/// Rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    pub rows: usize,
    pub columns: usize,
}

/// Most images in one call of `sample`.
const MOST_SEEDS: u64 = 100_000;

impl std::str::FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            |part: &str| part.trim().parse::<u64>().map_err(|_| format!("{part:?} is no seed; expected a list like 0-63 or 1,5,9-12"));
        let mut seeds = Vec::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(format!("{part:?} runs backwards"));
            }
            if last - first >= MOST_SEEDS - seeds.len() as u64 {
                return Err(format!("more than {MOST_SEEDS} images at a time"));
            }
            seeds.extend(first..=last);
        }
        Ok(Seeds(seeds))
    }
}

impl std::str::FromStr for Grid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sides = text.split_once('x').and_then(|(rows, columns)| Some((rows.parse().ok()?, columns.parse().ok()?)));
        match sides {
            Some((rows @ 1..=256, columns @ 1..=256)) => Ok(Grid { rows, columns }),
            _ => Err("expected ROWSxCOLUMNS, each from 1 to 256, like 8x8".to_string()),
        }
    }
}

impl Backend {
    fn name(self) -> String {
        match self {
            Backend::Vulkan => "vulkan",
            Backend::Metal => "metal",
            Backend::Dx12 => "dx12",
        }
        .to_string()
    }
}

impl DeviceArgs {
    /// As settings.
    pub fn backend_name(&self) -> Option<String> {
        self.backend.map(Backend::name)
    }
}

impl ModelArgs {
    /// The settings that the `--config` file and these flags give.
    pub fn layers(&self) -> Result<Layers> {
        let mut layers = Layers::default();
        if let Some(path) = &self.config {
            layers.file(path)?;
        }
        for assignment in &self.set {
            layers.set(assignment)?;
        }
        layers.flag("--data", "data.source", self.data.as_deref().map(utf8).transpose()?);
        layers.flag("--resize", "data.resize", self.resize.and_then(|how| how.to_possible_value()).map(|how| how.get_name().to_string()));
        layers.flag("--size", "data.size", self.size);
        layers.flag("--preset", "preset", self.preset.clone());
        layers.flag("--batch", "training.batch", self.batch);
        layers.flag("--micro-batch", "training.micro_batch", self.micro_batch);
        layers.flag("--mirror", "augment.mirror", self.mirror.then_some(0.5));
        layers.flag("--adapter", "run.adapter", self.device.adapter.clone());
        layers.flag("--backend", "run.backend", self.device.backend_name());
        layers.flag("--memory-limit", "run.memory_limit", self.memory_limit);
        layers.flag("--data-on", "run.data_on", self.data_on.map(|data_on| config::DataOn::from(data_on).to_string()));
        layers.flag("--checked", "run.checked", self.device.checked.then_some(true));
        Ok(layers)
    }
}

impl ProfileArgs {
    /// The settings that the `--config` file and the flags give.
    pub fn layers(&self) -> Result<Layers> {
        let mut layers = self.variants.onto(self.model.layers()?)?;
        layers.flag("PRESET", "preset", self.name.clone());
        Ok(layers)
    }
}

impl VariantsArgs {
    /// `layers` with the table and the precision that the flags give.
    fn onto(&self, mut layers: Layers) -> Result<Layers> {
        if let Some(path) = &self.variants {
            layers.kernels(file::setting(path)?)?;
        }
        layers.flag("--precision", "training.precision", self.precision.map(|precision| precision::Precision::from(precision).to_string()));
        Ok(layers)
    }
}

impl PlanArgs {
    /// The settings that the `--config` file and the flags give.
    pub fn layers(&self) -> Result<Layers> {
        self.variants.onto(self.model.layers()?)
    }
}

impl TrainArgs {
    /// The settings that the `--config` file and the flags give.
    pub fn layers(&self) -> Result<Layers> {
        let mut layers = self.variants.onto(self.model.layers()?)?;
        layers.flag("--seed", "training.seed", self.seed.map(|seed| whole("--seed", seed)).transpose()?);
        for network in ["generator", "discriminator"] {
            layers.flag("--lr", &format!("{network}.optimizer.lr"), self.lr);
        }
        layers.flag("--outdir", "run.outdir", self.outdir.as_deref().map(utf8).transpose()?);
        layers.flag("--kimg", "run.kimg", self.kimg);
        layers.flag("--steps", "run.steps", self.steps.map(|steps| whole("--steps", steps)).transpose()?);
        layers.flag("--tick", "run.tick_kimg", self.tick);
        layers.flag("--snap", "run.snap_ticks", self.snap);
        layers.flag("--keep", "run.keep", self.keep);
        layers.flag("--desc", "run.desc", self.desc.clone());
        Ok(layers)
    }
}

/// A number as config files hold it.
fn whole(flag: &str, number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_| {
        crate::error::Error::input(format!("{flag}: got {number}, expected at most {}, the largest integer of config.toml", i64::MAX))
    })
}

fn utf8(path: &std::path::Path) -> Result<String> {
    let text = path.to_str().map(str::to_string);
    text.ok_or_else(|| crate::error::Error::input(format!("the path {} is not UTF-8, which config.toml must be", path.display())))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_are_consistent() {
        Ganymede::command().debug_assert();
    }

    #[test]
    fn seeds() {
        assert_eq!("0-3".parse(), Ok(Seeds(vec![0, 1, 2, 3])));
        assert_eq!("1,5,9-11".parse(), Ok(Seeds(vec![1, 5, 9, 10, 11])));
        assert_eq!("18446744073709551615".parse(), Ok(Seeds(vec![u64::MAX])));
        for bad in ["", "a", "3-1", "1-", "-1", "0-18446744073709551615", "0-99999,0"] {
            assert!(bad.parse::<Seeds>().is_err(), "{bad}");
        }
        assert_eq!("0-99999".parse::<Seeds>().unwrap().0.len(), 100_000);
    }

    #[test]
    fn grids() {
        assert_eq!("4x8".parse(), Ok(Grid { rows: 4, columns: 8 }));
        for bad in ["", "8", "0x8", "8x", "8x8x8", "257x1"] {
            assert!(bad.parse::<Grid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_flag_of_train_reaches_the_settings() {
        let line = "ganymede train --data builtin:shapes --preset mlp --outdir o --kimg 5 --batch 8 --micro-batch 4 --seed 3 --mirror --lr 0.001 --tick 1 --snap 2 \
                    --keep 4 --desc d --adapter llvm --backend vulkan --memory-limit 900 --data-on host --precision f16 --checked";
        let Command::Train(args) = Ganymede::try_parse_from(line.split_whitespace()).unwrap().command else { panic!() };
        let config = args.layers().unwrap().resolve(None).unwrap();
        assert_eq!((config.data.source.as_str(), config.preset.as_str()), ("builtin:shapes", "mlp"));
        let t = &config.training;
        let lr = [config.generator.optimizer.lr, config.discriminator.optimizer.lr];
        assert_eq!((t.batch, t.micro_batch, t.seed, lr), (8, Some(4), 3, [0.001.into(); 2]));
        let r = &config.run;
        assert_eq!((r.kimg, r.tick_kimg, r.snap_ticks, r.keep, r.outdir.as_str(), r.desc.as_str()), (Some(5.0), 1.0, 2, 4, "o", "d"));
        assert_eq!((r.adapter.as_deref(), r.backend.as_deref(), r.checked), (Some("llvm"), Some("vulkan"), true));
        assert_eq!((r.memory_limit, r.data_on), (Some(900), config::DataOn::Host));
        assert_eq!(t.precision, precision::Precision::F16);
        assert_eq!((config.augment.mirror, config.augment.flip), (0.5, 0.0));
    }

    #[test]
    fn profile_takes_the_preset_by_position_or_by_flag() {
        for line in ["ganymede profile mlp --batch 8", "ganymede profile --preset mlp --batch 8"] {
            let Command::Profile(args) = Ganymede::try_parse_from(line.split_whitespace()).unwrap().command else { panic!() };
            let config = args.layers().unwrap().resolve(None).unwrap();
            assert_eq!((config.preset.as_str(), config.training.batch, args.steps), ("mlp", 8, 10), "{line}");
        }
    }
}
