//! The presets: config files that are part of the program. `ganymede presets --show NAME` prints one; a file of one's own looks alike.

use std::sync::LazyLock;

use toml::Table;

use super::config::TrainConfig;
use super::layers::Layers;
use crate::data::{self, LoadOptions};
use crate::error::{Error, Result};
use crate::gan::config::GanConfig;
use crate::nn::network::Network;
use crate::suggest::nearest;

/// A config file that is part of the program.
#[derive(Debug)]
pub struct Preset {
    /// Name on the command line.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
    /// What it resolves to.
    pub config: TrainConfig,
}

/// The files in order of cost.
const FILES: [(&str, &str); 15] = [
    ("linear", include_str!("presets/linear.toml")),
    ("linear-quadratic", include_str!("presets/linear-quadratic.toml")),
    ("ring", include_str!("presets/ring.toml")),
    ("grid", include_str!("presets/grid.toml")),
    ("dense", include_str!("presets/dense.toml")),
    ("mlp", include_str!("presets/mlp.toml")),
    ("dcgan-28-small", include_str!("presets/dcgan-28-small.toml")),
    ("cgan-28", include_str!("presets/cgan-28.toml")),
    ("dcgan-bn", include_str!("presets/dcgan-bn.toml")),
    ("cnn-sigmoid", include_str!("presets/cnn-sigmoid.toml")),
    ("mlp-cnn", include_str!("presets/mlp-cnn.toml")),
    ("dcgan-28", include_str!("presets/dcgan-28.toml")),
    ("dcgan-32", include_str!("presets/dcgan-32.toml")),
    ("conv-pool-lsgan", include_str!("presets/conv-pool-lsgan.toml")),
    ("dcgan-64", include_str!("presets/dcgan-64.toml")),
];

/// The presets in order of cost.
pub static PRESETS: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    FILES
        .into_iter()
        .map(|(name, text)| {
            let mut layers = Layers::default();
            layers.flag("preset", "preset", Some(name));
            let resolved = layers.resolve(None);
            Preset {
                name,
                text,
                config: resolved.unwrap_or_else(|error| panic!("preset {name}, which a test of this crate reads, is wrong: {error}")),
            }
        })
        .collect()
});

/// The preset that `train` runs when none is named.
pub const DEFAULT_PRESET: &str = "dcgan-28-small";

fn table(text: &str) -> Table {
    // Whether they are TOML is seen by the tests.
    toml::from_str(text).unwrap_or_default()
}

/// The settings of the preset of that name.
///
/// # Errors
/// As [`preset`].
pub(super) fn settings(name: &str) -> Result<Table> {
    let known = FILES.iter().find(|(known, _)| *known == name);
    known.map(|(_, text)| table(text)).ok_or_else(|| {
        let names = FILES.map(|(name, _)| name);
        let hint = nearest(name, names).map(|near| format!("did you mean {near}? ")).unwrap_or_default();
        Error::input(format!("there is no preset {name:?}; {hint}presets are {}", names.join(", ")))
    })
}

/// The preset of that name.
///
/// # Errors
/// [`Error::Input`] if there is none, with the nearest name and the list.
pub fn preset(name: &str) -> Result<&'static Preset> {
    settings(name)?;
    PRESETS.iter().find(|p| p.name == name).ok_or_else(|| Error::internal(format!("preset {name} is not in the list")))
}

impl Preset {
    /// One line for `ganymede presets`.
    pub fn summary(&self) -> &str {
        self.config.summary.as_deref().unwrap_or_default()
    }

    /// Data set that it trains on when none is named.
    pub fn data(&self) -> &str {
        &self.config.data.source
    }

    /// Height and width of its images; 0 for points.
    pub fn image(&self) -> usize {
        self.config.data.size.unwrap_or(0) as usize
    }

    /// Shape of a sample with `channels` channels: (C, H, W), or (C) where samples are points of so many numbers.
    pub fn sample(&self, channels: usize) -> Vec<usize> {
        if self.image() == 0 { vec![channels] } else { vec![channels, self.image(), self.image()] }
    }

    /// Classes that its networks are for where they take classes: those of its own data set.
    pub fn classes(&self) -> Option<usize> {
        self.config.class_layer()?;
        // A built-in set has all its classes, however few its images.
        let set = data::load(&format!("{}?n=1", self.data()), &LoadOptions::default()).ok()?;
        Some(set.classes()).filter(|&classes| classes > 0)
    }

    /// Default batch size.
    pub fn batch(&self) -> usize {
        self.config.training.batch as usize
    }

    /// Generator and discriminator for images of `channels` channels.
    pub fn networks(&self, channels: usize) -> (Network, Network) {
        self.config.recipe().networks(&self.sample(channels), self.classes())
    }

    /// What a trainer is built from, for images of `channels` channels and batches of `batch`.
    pub fn gan_config(&self, channels: usize, batch: usize) -> GanConfig {
        let mut recipe = self.config.recipe();
        recipe.training.batch = batch as u32;
        recipe.training.ema_half_life_kimg = None;
        recipe.gan_config(&self.sample(channels), self.classes())
    }
}
