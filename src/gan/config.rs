//! What a training step depends on.

use super::loss::LossConfig;
use super::range::ValueRange;
use super::schedule::Schedule;
use super::step::Which;
use crate::error::{Error, Result};
use crate::gpu::step::StepRow;
use crate::graph::precision::Precision;
use crate::graph::variants::Variants;
use crate::nn::network::Network;
use crate::ops::augment::{AugmentConfig, Fill};
use crate::ops::gather::Storage;
use crate::ops::optimiser::{self, Clip, Optimiser, Update};

/// Everything that shapes a training step. Two runs with equal configurations and data compute the same bits on one adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct GanConfig {
    /// Maps z (N, z_dim) to images (N, C, H, W), or to vectors (N, F).
    pub generator: Network,
    /// Maps images or vectors to logits: (N, 1) or (N, 1, 1, 1).
    pub discriminator: Network,
    /// Length of z.
    pub z_dim: usize,
    /// Images a batch.
    pub batch: usize,
    /// Images that are on the device at once: a divisor of `batch`, or `batch` itself. The gradients of an update's micro-batches are averaged;
    /// batch norm sees each alone.
    pub micro_batch: usize,
    /// Discriminator updates a step.
    pub d_steps: usize,
    /// Range of the values of images.
    pub range: ValueRange,
    /// What the networks learn from.
    pub loss: LossConfig,
    /// What is done to real images before the discriminator sees them; its fill is a shade, see [`GanConfig::augmentation`].
    pub augment: AugmentConfig,
    /// Learning rate of the generator.
    pub lr_g: Schedule,
    /// Learning rate of the discriminator.
    pub lr_d: Schedule,
    /// Optimiser of the generator.
    pub optimiser_g: Optimiser,
    /// Optimiser of the discriminator.
    pub optimiser_d: Optimiser,
    /// Clipping of the generator's gradients; of the whole batch, where it is done in micro-batches.
    pub clip_g: Option<Clip>,
    /// Clipping of the discriminator's gradients.
    pub clip_d: Option<Clip>,
    /// Every parameter of the discriminator is kept in [-weight_clip, weight_clip] after each of its updates, as WGAN asks for (Arjovsky et al.
    /// 2017, algorithm 1).
    pub weight_clip: Option<f64>,
    /// Half-life of the generator's moving average in thousands of images.
    pub ema_half_life_kimg: f64,
    /// The half-life is never more than this share of the images seen, so that early averages forget the first, meaningless weights (the
    /// ramp-up of StyleGAN2-ADA, Karras et al. 2020).
    pub ema_ramp: f64,
    /// Seed of parameters, noise and data order.
    pub seed: u64,
    /// Kernels of the training step in place of the built-in choice. Samplers, which have other shapes, take no part.
    pub variants: Variants,
    /// How products of the training step read their operands, on adapters that can convert; see [`super::precision::settle`]. Samplers read f32.
    pub precision: Precision,
}

impl GanConfig {
    /// Half-life of the generator's average when none is asked for, in thousands of images, as StyleGAN2-ADA scales it with the batch.
    pub fn default_ema_half_life_kimg(batch: usize) -> f64 {
        batch as f64 * 10.0 / 32.0
    }

    /// Share of the images seen that the half-life never passes when none is asked for (StyleGAN2-ADA).
    pub const DEFAULT_EMA_RAMP: f64 = 0.05;

    /// The recipe of the DCGAN paper (Radford et al. 2015: learning rate 2e-4, beta1 0.5) for any two networks, with the generator's average,
    /// whole batches, seed 0 and the built-in kernels in f32.
    pub fn new(generator: Network, discriminator: Network, batch: usize) -> Self {
        GanConfig {
            z_dim: generator.input.iter().product(),
            generator,
            discriminator,
            batch,
            micro_batch: batch,
            d_steps: 1,
            range: ValueRange::default(),
            loss: LossConfig::default(),
            augment: AugmentConfig::default(),
            lr_g: 2e-4.into(),
            lr_d: 2e-4.into(),
            optimiser_g: Optimiser::adam(0.5),
            optimiser_d: Optimiser::adam(0.5),
            clip_g: None,
            clip_d: None,
            weight_clip: None,
            ema_half_life_kimg: Self::default_ema_half_life_kimg(batch),
            ema_ramp: Self::DEFAULT_EMA_RAMP,
            seed: 0,
            variants: Variants::default(),
            precision: Precision::default(),
        }
    }

    /// Checks what no type can.
    pub fn validate(&self) -> Result<()> {
        if self.batch == 0 || self.batch == 1 && self.has_norm() {
            return Err(Error::input(format!("batch is {}; batch norm needs at least 2 images", self.batch)));
        }
        if self.micro_batch == 0 || !self.batch.is_multiple_of(self.micro_batch) {
            return Err(Error::input(format!(
                "micro_batch is {}, which does not divide the batch of {}; expected one of {}",
                self.micro_batch,
                self.batch,
                self.possible_micro_batches().map(|m| m.to_string()).collect::<Vec<_>>().join(", ")
            )));
        }
        if self.micro_batch == 1 && self.has_norm() {
            return Err(Error::input("micro_batch is 1; batch norm needs at least 2 images"));
        }
        if self.d_steps == 0 || self.d_steps > StepRow::MAX_D_STEPS {
            return Err(Error::input(format!("d_steps is {}; expected 1 to {}", self.d_steps, StepRow::MAX_D_STEPS)));
        }
        self.augment.validate("augment")?;
        self.augment.check_sample(&self.discriminator.input, "augment")?;
        self.lr_g.validate("lr_g")?;
        self.lr_d.validate("lr_d")?;
        self.optimiser_g.validate("optimiser_g")?;
        self.optimiser_d.validate("optimiser_d")?;
        self.clip_g.map_or(Ok(()), |clip| clip.validate("clip_g"))?;
        self.clip_d.map_or(Ok(()), |clip| clip.validate("clip_d"))?;
        self.weight_clip.map_or(Ok(()), |bound| optimiser::validate_weight_clip(bound, "weight_clip"))
    }

    /// What an update does to a network's parameters.
    pub fn update(&self, which: Which) -> Update {
        match which {
            Which::Generator => Update { optimiser: self.optimiser_g, clip: self.clip_g, weight_clip: None },
            Which::Discriminator => Update { optimiser: self.optimiser_d, clip: self.clip_d, weight_clip: self.weight_clip },
        }
    }

    /// Whether either network takes the class of each sample.
    pub fn is_conditional(&self) -> bool {
        self.generator.is_conditional() || self.discriminator.is_conditional()
    }

    /// Whether either network has a batch norm.
    pub fn has_norm(&self) -> bool {
        self.generator.has_norm() || self.discriminator.has_norm()
    }

    /// Micro-batches of a batch.
    pub fn micro_batches(&self) -> usize {
        self.batch / self.micro_batch
    }

    /// What `micro_batch` may be, from the largest down.
    pub fn possible_micro_batches(&self) -> impl Iterator<Item = usize> {
        let (batch, least) = (self.batch, if self.has_norm() { 2 } else { 1 });
        (least..=batch).rev().filter(move |m| batch.is_multiple_of(*m))
    }

    /// (C, H, W) of an image; vectors of length F are (F, 1, 1).
    ///
    /// # Errors
    /// [`Error::Input`] if the discriminator takes neither.
    pub fn image(&self) -> Result<[usize; 3]> {
        match self.discriminator.input[..] {
            [c, h, w] => Ok([c, h, w]),
            [features] => Ok([features, 1, 1]),
            ref other => Err(Error::input(format!(
                "the discriminator takes inputs of shape {other:?}; expected channels, height, width, or one number: the length of vectors"
            ))),
        }
    }

    /// Range of what the generator makes, if that is images; points are what they are.
    pub fn image_range(&self) -> ValueRange {
        match self.storage() {
            Storage::U8 => self.range,
            Storage::F32 => ValueRange::Signed,
        }
    }

    /// What is done to real images, with the shade of the fill (-1 black, 1 white) as a value of the networks' range.
    pub fn augmentation(&self) -> AugmentConfig {
        let (scale, shift) = self.normalisation();
        match self.augment.fill {
            Fill::Constant(shade) => AugmentConfig { fill: Fill::Constant(scale * 127.5 * (shade + 1.0) + shift), ..self.augment },
            Fill::Edge => self.augment,
        }
    }

    /// Scale and shift that bring stored data into the range of the networks: bytes into that of images, floats as they are.
    pub fn normalisation(&self) -> (f64, f64) {
        match self.storage() {
            Storage::U8 => self.range.of_bytes(),
            Storage::F32 => (1.0, 0.0),
        }
    }

    /// How the data set is stored on the device: images as bytes, and vectors, which a discriminator with inputs of one axis takes, as f32.
    pub fn storage(&self) -> Storage {
        if self.discriminator.input.len() == 1 { Storage::F32 } else { Storage::U8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::layer::Layer;
    use crate::nn::network::InitScheme;

    #[test]
    fn settings_of_the_optimisers_are_refused_by_key() {
        let network = |name: &str| Network {
            name: name.into(),
            input: vec![2],
            data: vec![2],
            layers: vec![Layer::linear(2)],
            init: InitScheme::PyTorch,
            classes: None,
        };
        let config = GanConfig::new(network("G"), network("D"), 8);
        config.validate().expect("the defaults are valid");
        let one = Optimiser::adam(1.0);
        for (config, start) in [
            (GanConfig { lr_g: (-1.0).into(), ..config.clone() }, "lr_g: got -1,"),
            (GanConfig { lr_d: Schedule::linear(1.0, 0.0, -1.0), ..config.clone() }, "lr_d.over_kimg: got -1,"),
            (GanConfig { optimiser_g: one, ..config.clone() }, "optimiser_g.beta1: got 1,"),
            (GanConfig { optimiser_d: one, ..config.clone() }, "optimiser_d.beta1: got 1,"),
            (GanConfig { clip_g: Some(Clip::Norm(0.0)), ..config.clone() }, "clip_g.norm: got 0,"),
            (GanConfig { clip_d: Some(Clip::Value(f64::NAN)), ..config.clone() }, "clip_d.value: got NaN,"),
            (GanConfig { weight_clip: Some(-0.01), ..config.clone() }, "weight_clip: got -0.01,"),
            (GanConfig { augment: AugmentConfig { flip: 2.0, ..AugmentConfig::default() }, ..config.clone() }, "augment.flip: got 2,"),
            (
                GanConfig { augment: AugmentConfig { flip: 0.5, ..AugmentConfig::default() }, ..config.clone() },
                "augment: got data of shape [2],",
            ),
        ] {
            let error = config.validate().expect_err(start);
            assert!(error.exit_code() == 2 && error.to_string().starts_with(start), "{error}");
        }
    }
}
