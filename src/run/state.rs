//! The whole state of a training run, as plain host tensors: what a checkpoint holds.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::config::Recipe;
use crate::error::{Error, Result};

/// Tensors by name, in PyTorch's layouts: `G.<key>`, `D.<key>`, `G_ema.<key>` with PyTorch's state-dict keys, Adam's moments as
/// `adam.G.m.<key>` and `adam.G.v.<key>`, and whatever else the engine keeps (`stats.…`).
pub type Tensors = BTreeMap<String, HostTensor>;

/// A tensor in host memory, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Sizes; empty for a scalar.
    pub shape: Vec<usize>,
    /// As many values as the shape says.
    pub data: HostData,
}

/// The values of a [`HostTensor`].
#[derive(Debug, Clone, PartialEq)]
pub enum HostData {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 32-bit unsigned integers.
    U32(Vec<u32>),
}

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

impl HostTensor {
    /// A tensor of floats.
    ///
    /// # Panics
    /// If `data` does not fill `shape`.
    pub fn f32(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Self {
        Self::new(shape.into(), HostData::F32(data))
    }

    /// A tensor of unsigned integers.
    ///
    /// # Panics
    /// If `data` does not fill `shape`.
    pub fn u32(shape: impl Into<Vec<usize>>, data: Vec<u32>) -> Self {
        Self::new(shape.into(), HostData::U32(data))
    }

    fn new(shape: Vec<usize>, data: HostData) -> Self {
        let tensor = HostTensor { shape, data };
        let expected: usize = tensor.shape.iter().product();
        assert_eq!(tensor.data.len(), expected, "tensor data does not fill shape {:?}", tensor.shape);
        tensor
    }

    /// The values as floats, if that is what they are.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            HostData::F32(values) => Some(values),
            HostData::U32(_) => None,
        }
    }

    /// The values as unsigned integers, if that is what they are.
    pub fn as_u32(&self) -> Option<&[u32]> {
        match &self.data {
            HostData::F32(_) => None,
            HostData::U32(values) => Some(values),
        }
    }

    /// Index and value of the first infinite or NaN element.
    pub fn first_non_finite(&self) -> Option<(usize, f32)> {
        self.as_f32()?.iter().copied().enumerate().find(|(_, value)| !value.is_finite())
    }

    /// Type and shape, as `F32 (64, 1, 4, 4)`.
    pub fn describe(&self) -> String {
        format!("{} {}", self.data.dtype(), Sizes(&self.shape))
    }
}

impl HostData {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            HostData::F32(values) => values.len(),
            HostData::U32(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name that safetensors files give the type.
    pub fn dtype(&self) -> &'static str {
        match self {
            HostData::F32(_) => "F32",
            HostData::U32(_) => "U32",
        }
    }
}

impl TrainState {
    /// Checks that the tensors have the names, types and shapes of `expected`, which is the state of a freshly built engine.
    ///
    /// # Errors
    /// [`Error::Input`] naming `origin` (the file that the state was read from) and the tensor.
    pub fn check_tensors(&self, expected: &Tensors, origin: &dyn fmt::Display) -> Result<()> {
        let preset = &self.recipe.networks.preset;
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

/// Prints sizes as `(64, 1, 4, 4)`.
struct Sizes<'a>(&'a [usize]);

impl fmt::Display for Sizes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<String> = self.0.iter().map(usize::to_string).collect();
        write!(f, "({})", sizes.join(", "))
    }
}
