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
    /// Channels of the images that the networks work on: 1 for grey, 3 for RGB.
    pub channels: u32,
    /// Their height in pixels.
    pub height: u32,
    /// Their width in pixels.
    pub width: u32,
}

impl DataId {
    /// Shape of an image: (C, H, W).
    pub fn sample(&self) -> [usize; 3] {
        [self.channels, self.height, self.width].map(|n| n as usize)
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
