//! The whole state of a training run, as plain host tensors: what a checkpoint holds.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::config::Recipe;
use crate::error::{Error, Result};
pub use crate::nn::state::{HostData, HostTensor};

/// Tensors by name, in PyTorch's layouts: `G.<key>`, `D.<key>`, `G_ema.<key>` with PyTorch's state-dict keys, the optimisers' moments as
/// `adam.G.m.<key>` and `adam.G.v.<key>` (`sgd` and `rmsprop` likewise, what they keep), and whatever else the engine keeps (`stats.…`).
pub type Tensors = BTreeMap<String, HostTensor>;

/// Which data set a run was trained on, without its path: equal runs may keep their data in different places.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataId {
    /// `builtin:NAME`, or `files` for a data set read from files.
    pub source: String,
    /// Hash of the images and labels.
    pub fingerprint: String,
    /// Channels of the images that the networks work on: 1 for grey, 3 for RGB; the length of vectors.
    pub channels: u32,
    /// Their height in pixels; 0 for vectors.
    pub height: u32,
    /// Their width in pixels; 0 for vectors.
    pub width: u32,
    /// A name for each class, if a network takes the class of each sample; else empty, whatever labels the data has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
}

impl DataId {
    /// Shape of a sample of the data: `[C, H, W]` of images, `[F]` of vectors.
    pub fn sample(&self) -> Vec<usize> {
        let [channels, height, width] = [self.channels, self.height, self.width].map(|n| n as usize);
        if height == 0 { vec![channels] } else { vec![channels, height, width] }
    }

    /// Number of classes, if a network takes them.
    pub fn classes(&self) -> Option<usize> {
        Some(self.class_names.len()).filter(|&classes| classes > 0)
    }

    /// For messages: `images 1x28x28`, `points of 2 numbers`.
    pub fn describe(&self) -> String {
        match self.height {
            0 => format!("points of {} numbers", self.channels),
            _ => format!("images {}x{}x{}", self.channels, self.height, self.width),
        }
    }
}

/// Everything that a run needs to go on as if it had never stopped.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainState {
    /// All tensors.
    pub tensors: Tensors,
    /// Steps done.
    pub step: u64,
    /// Images seen: batch × steps, summed over the batch sizes of the runs that this one was forked from.
    pub images_seen: u64,
    /// The settings that shape training.
    pub recipe: Recipe,
    /// The data set.
    pub data: DataId,
    /// Anything else, by name. It must be equal between equal runs: no time, no path, no adapter.
    pub extra: BTreeMap<String, String>,
}

impl TrainState {
    /// Names of the classes that the generator takes; none if it takes no classes.
    pub fn class_names(&self) -> &[String] {
        if self.recipe.is_generator_conditional() { &self.data.class_names } else { &[] }
    }

    /// Checks that the tensors have the names, types and shapes of `expected`, which is the state of a freshly built engine.
    ///
    /// # Errors
    /// [`Error::Input`] naming `origin` (the file that the state was read from) and the tensor.
    pub fn check_tensors(&self, expected: &Tensors, origin: &dyn fmt::Display) -> Result<()> {
        let preset = &self.recipe.preset;
        for (name, want) in expected {
            let Some(have) = self.tensors.get(name) else {
                return Err(Error::input(format!(
                    "{origin}: tensor {name} is missing, which preset {preset} needs as {}",
                    want.describe()
                )));
            };
            if (have.data.dtype(), &have.shape) != (want.data.dtype(), &want.shape) {
                let (have, want) = (have.describe(), want.describe());
                return Err(Error::input(format!(
                    "{origin}: tensor {name} is {have}, but here it must be {want}; the checkpoint was made with other networks \
                     or another data set"
                )));
            }
        }
        match self.tensors.keys().find(|name| !expected.contains_key(*name)) {
            Some(name) => Err(Error::input(format!(
                "{origin}: tensor {name} has no place in preset {preset}; the checkpoint was made with other networks or another data set"
            ))),
            None => Ok(()),
        }
    }
}
