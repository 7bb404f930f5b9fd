//! One training step, as src/gan/step.rs of the main crate has it: D on reals and detached fakes, then G through the updated D.

use crate::hashed;
use crate::networks::{self, Network, Z_DIM};
use burn::module::Module;
use burn::nn::loss::{BinaryCrossEntropyLoss, BinaryCrossEntropyLossConfig};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Distribution, Int, Tensor};

const LEARNING_RATE: f64 = 2e-4;
/// Batches in the resident data set of a timed step.
const RESIDENT_BATCHES: usize = 16;
/// Bound of uniform numbers with variance 1.
const Z_BOUND: f32 = 1.732_050_8;

/// Both networks with their optimisers.
pub struct Trainer {
    generator: Network,
    discriminator: Network,
    optimiser_g: ModuleOptimizer,
    optimiser_d: ModuleOptimizer,
    loss: BinaryCrossEntropyLoss,
    batch: usize,
    side: usize,
    images: Tensor<4>,
    done: usize,
    device: Device,
}

impl Trainer {
    /// A preset at its initial values; `None` for a preset that is not known.
    pub fn new(preset: &str, batch: usize, device: &Device) -> Option<Self> {
        let device = device.clone().autodiff();
        let (generator, discriminator, side) = networks::preset(preset, &device)?;
        let adam = || AdamConfig::new().with_beta_1(0.5).with_beta_2(0.999).with_epsilon(1e-8).init();
        Some(Trainer {
            generator,
            discriminator,
            optimiser_g: adam(),
            optimiser_d: adam(),
            loss: BinaryCrossEntropyLossConfig::new().with_logits(true).init(&device),
            batch,
            side,
            images: hashed::tensor([RESIDENT_BATCHES * batch, 1, side, side], 1000, 1.0, &device),
            done: 0,
            device,
        })
    }

    /// Number of parameters of G and of D.
    pub fn parameters(&self) -> [usize; 2] {
        [self.generator.parameters(), self.discriminator.parameters()]
    }

    /// A step on the next batch of the resident data set, with z drawn on the device.
    pub fn step(&mut self) {
        self.done += 1;
        let first = self.done % RESIDENT_BATCHES * self.batch;
        let real = self.images.clone().slice([first..first + self.batch]);
        let z = Tensor::random([self.batch, Z_DIM, 1, 1], Distribution::Normal(0.0, 1.0), &self.device);
        self.update(real, z);
    }

    /// A step on hashed values: D's and G's loss, equal in every peer.
    pub fn hashed_step(&mut self, step: u64) -> [f32; 2] {
        let real = hashed::tensor([self.batch, 1, self.side, self.side], 1000 + 2 * step, 1.0, &self.device);
        let z = hashed::tensor([self.batch, Z_DIM, 1, 1], 1001 + 2 * step, Z_BOUND, &self.device);
        self.update(real, z).map(|loss| loss.into_scalar::<f32>())
    }

    fn update(&mut self, real: Tensor<4>, z: Tensor<4>) -> [Tensor<1>; 2] {
        let fake = self.generator.forward(z);
        let scores = |network: &Network, images| network.forward(images).flatten::<1>(0, 3);
        let ones: Tensor<1, Int> = Tensor::ones([self.batch], &self.device);
        let zeros: Tensor<1, Int> = Tensor::zeros([self.batch], &self.device);

        let loss_d = self.loss.forward(scores(&self.discriminator, real), ones.clone())
            + self.loss.forward(scores(&self.discriminator, fake.clone().detach()), zeros);
        let grads = GradientsParams::from_grads(loss_d.backward(), &self.discriminator);
        self.discriminator = self.optimiser_d.step(LEARNING_RATE, self.discriminator.clone(), grads);

        // G's update looks through D. `freeze` would also switch D's norms to their running statistics; without gradients alone, burn leaves the
        // gradients of D's weights out and its norms as they are.
        let fixed = self.discriminator.clone().no_grad();
        let loss_g = self.loss.forward(scores(&fixed, fake), ones);
        let grads = GradientsParams::from_grads(loss_g.backward(), &self.generator);
        self.generator = self.optimiser_g.step(LEARNING_RATE, self.generator.clone(), grads);
        [loss_d.detach(), loss_g.detach()]
    }
}
