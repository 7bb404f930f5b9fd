//! Where the command meets the engine: data sets, trainers, samplers, adapters. Everything that a verb needs from below `run` comes
//! through here.

use super::args::DeviceArgs;
use crate::error::{Error, Result};
use crate::run::config::TrainConfig;
use crate::run::grid::Images;
use crate::run::state::{DataId, TrainState};
use crate::run::train::Engine;

/// A data set, read and ready.
pub trait Data {
    /// What identifies it in a checkpoint.
    fn id(&self) -> DataId;

    /// Short name for the run folder.
    fn name(&self) -> String;

    /// Number of images.
    fn len(&self) -> usize;

    /// A few lines for the start of a run: number of images, their shape, labels, what was converted.
    fn describe(&self) -> String;

    /// The first `n` images, or all if there are fewer.
    fn reals(&self, n: usize) -> Result<Images>;
}

/// Makes images from seeds.
pub trait Sampler {
    /// One image per seed, as [`Engine::sample`].
    fn sample(&mut self, seeds: &[u64]) -> Result<Images>;
}

/// A trainer that is ready to run.
pub struct Built {
    /// The trainer.
    pub engine: Box<dyn Engine>,
    /// The adapter that was chosen, with driver and, if it is a software one, a word on that.
    pub adapter: String,
}

/// Opens the data set of `config` as its preset needs it (size, channels), with the seed for built-in sets.
///
/// # Errors
/// [`Error::Input`] naming the file at fault.
pub fn open_data(_config: &TrainConfig) -> Result<Box<dyn Data>> {
    Err(not_wired())
}

/// The networks as a table (layer, output shape, parameters), then the totals.
pub fn networks(_config: &TrainConfig, _data: &dyn Data) -> Result<String> {
    Err(not_wired())
}

/// Chooses the adapter, compiles the plan, uploads data and initial weights.
///
/// # Errors
/// [`Error::Environment`] if there is no adapter, or too little memory on it.
pub fn build(_config: &TrainConfig, _data: &dyn Data) -> Result<Built> {
    Err(not_wired())
}

/// The averaged generator of a checkpoint. `origin` names the file in messages.
///
/// # Errors
/// [`Error::Input`] if the checkpoint does not fit its preset's networks, [`Error::Environment`] as for [`build`].
pub fn sampler(_state: &TrainState, _origin: &std::path::Path, _device: &DeviceArgs) -> Result<Box<dyn Sampler>> {
    Err(not_wired())
}

/// The adapters with their drivers, features and limits, as text.
pub fn devices() -> Result<String> {
    Err(not_wired())
}

/// Tests every kernel-table entry, and every specialisation that a preset uses, against its twin. `print` takes each line.
///
/// # Errors
/// [`Error::SelfTest`] if anything fails or has no case.
pub fn check(_device: &DeviceArgs, _print: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    Err(not_wired())
}

/// The compiled plan of a training step as text.
pub fn plan(_config: &TrainConfig, _data: &dyn Data) -> Result<String> {
    Err(not_wired())
}

fn not_wired() -> Error {
    Error::internal("not wired")
}
