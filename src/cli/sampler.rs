//! Images from the averaged generator of a checkpoint.

use std::collections::HashMap;
use std::path::Path;

use super::args::DeviceArgs;
use super::wiring;
use crate::error::{Error, Result};
use crate::gan::range::ValueRange;
use crate::gan::sampler::{Images, Sampler as Generator};
use crate::gan::step::Z_STREAM;
use crate::gpu::Gpu;
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::ops::noise::{Distribution, Source, noise_twin};
use crate::run::classes::Cells;
use crate::run::state::TrainState;

/// Images that a sampler makes at once.
pub const SAMPLE_BATCH: usize = 64;

/// z of each seed, one row each: the same for a seed whatever the other seeds are.
pub(super) fn z_of(seeds: &[u64], z_dim: usize) -> Vec<f32> {
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
/// [`Error::Input`] if the checkpoint does not fit its preset's networks, [`Error::Environment`] as for [`wiring::build`].
pub fn sampler(state: &TrainState, origin: &Path, device: &DeviceArgs) -> Result<Sampler> {
    let gan = state.recipe.gan_config(&state.data.sample(), state.data.classes());
    let gpu = wiring::open_gpu(device.adapter.clone(), device.backend_name().as_deref(), device.checked)?;
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
