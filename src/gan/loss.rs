//! What the two networks learn from: the adversarial losses, and terms beside them.

use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId};
use crate::ops::batch::slice_batch;
use crate::ops::channels::slice_channels;
use crate::ops::elementwise::{affine, mul, sub};
use crate::ops::loss::{self, Target};
use crate::ops::reduce::{mean, mean_axes};
use crate::ops::reshape::{flatten, reshape};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The losses of a GAN: `[loss]` of a config file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// What the discriminator's outputs are, and what they are held against.
    pub kind: LossKind,
    /// What the generator minimises, where the kind leaves a choice.
    pub generator: GeneratorLoss,
    /// What the discriminator's output on reals is held against: below 1 for one-sided label smoothing (Salimans et al. 2016).
    pub real_label: f64,
    /// What the discriminator's output on fakes is held against: above 0 for two-sided smoothing.
    pub fake_label: f64,
    /// A term for the generator: the distance between the means of an inner layer of the discriminator over reals and over fakes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_matching: Option<FeatureMatching>,
    /// A term for the generator: the distance between fakes and reals, sample by sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconstruction: Option<Reconstruction>,
}

/// What the discriminator's outputs are, and what they are held against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// Logits (N, 1), binary cross-entropy (Goodfellow et al. 2014).
    #[default]
    Bce,
    /// Probabilities (N, 1), from a sigmoid at the discriminator's end: binary cross-entropy with logarithms of at least -100, as PyTorch's `BCELoss`.
    BceProbabilities,
    /// Logits (N, 2) of the classes *fake* and *real*: softmax cross-entropy.
    Softmax,
    /// Numbers (N, 1), squared distance to the labels (LSGAN, Mao et al. 2017).
    Mse,
    /// Numbers (N, 1): relu(1 - D(x)) and relu(1 + D(G(z))) for D, -D(G(z)) for G (Lim and Ye 2017).
    Hinge,
}

/// What the generator minimises.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GeneratorLoss {
    /// The discriminator's loss of fakes that are labelled real: -log D(G(z)) (Goodfellow et al. 2014, section 3).
    #[default]
    NonSaturating,
    /// The minimax game itself: log(1 - D(G(z))).
    Saturating,
}

/// Feature matching (Salimans et al. 2016).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureMatching {
    /// Name of a `tap` of the discriminator.
    pub tap: String,
    /// Factor of the squared distance, summed over features and divided by their number.
    pub weight: f64,
}

/// A distance between each fake and the real of the same place in the batch. It pulls fakes towards the mean of the data, or its median.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reconstruction {
    /// Which distance.
    pub kind: Distance,
    /// Its factor.
    pub weight: f64,
}

/// A distance between values, averaged over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Distance {
    /// Mean absolute difference.
    L1,
    /// Mean squared difference.
    L2,
}

/// Class of fakes in a softmax of two.
const FAKE_CLASS: usize = 0;
/// Class of reals.
const REAL_CLASS: usize = 1;

/// What D makes of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Score {
    /// Logits (N, 1): the statistics are of their sigmoid and of their sign.
    Logits(NodeId),
    /// A mean, (1, 1).
    Mean(NodeId),
}

impl FeatureMatching {
    /// The weighted squared distance between the means of features over reals and over fakes, a (1, 1) node.
    pub fn term(&self, g: &mut Graph, reals: NodeId, fakes: NodeId) -> Result<NodeId> {
        let [reals, fakes] = [reals, fakes].map(|features| {
            let rows = flatten(g, features)?;
            mean_axes(g, rows, &[0])
        });
        let difference = sub(g, fakes?, reals?)?;
        let squares = mul(g, difference, difference)?;
        let distance = mean(g, squares)?;
        affine(g, distance, self.weight, 0.0)
    }
}

impl Reconstruction {
    /// The weighted distance between fakes and reals, a (1, 1) node.
    pub fn term(&self, g: &mut Graph, reals: NodeId, fakes: NodeId) -> Result<NodeId> {
        let distance = match self.kind {
            Distance::L1 => loss::l1_between(g, fakes, reals)?,
            Distance::L2 => loss::mse_between(g, fakes, reals)?,
        };
        affine(g, distance, self.weight, 0.0)
    }
}

impl Default for LossConfig {
    fn default() -> Self {
        LossConfig {
            kind: LossKind::default(),
            generator: GeneratorLoss::default(),
            real_label: 1.0,
            fake_label: 0.0,
            feature_matching: None,
            reconstruction: None,
        }
    }
}

impl LossConfig {
    /// Outputs of the discriminator for each sample.
    pub fn outputs(&self) -> usize {
        if self.kind == LossKind::Softmax { 2 } else { 1 }
    }

    /// D's outputs on one sample, checked: (N, 1) for every kind but softmax, (N, 2) for that.
    ///
    /// # Errors
    /// [`Error::Input`] if the discriminator gives another number of outputs.
    pub fn outputs_of(&self, g: &mut Graph, output: NodeId) -> Result<NodeId> {
        let (shape, outputs) = (g.shape(output).clone(), self.outputs());
        let n = shape.dims()[0];
        if shape.len() != n * outputs {
            let each = if outputs == 1 { "one number a sample" } else { "two numbers a sample, for the classes fake and real" };
            return Err(Error::input(format!("the discriminator gives {shape}; this loss expects {each}")));
        }
        reshape(g, output, &crate::graph::shape::Shape::new(&[n, outputs])?)
    }

    /// D's loss on its outputs for reals, a (1, 1) node.
    pub fn on_reals(&self, g: &mut Graph, outputs: NodeId) -> Result<NodeId> {
        let label = self.real_label as f32;
        match self.kind {
            LossKind::Bce => loss::bce_with_logits_target_mean(g, outputs, label),
            LossKind::BceProbabilities => loss::bce_mean(g, outputs, label),
            // Smoothing by s leaves the class itself 1 - s / 2 of two.
            LossKind::Softmax => loss::cross_entropy_mean(g, outputs, REAL_CLASS, 2.0 * (1.0 - label)),
            LossKind::Mse => loss::mse_mean(g, outputs, label),
            LossKind::Hinge => loss::hinge_mean(g, outputs, Target::Real),
        }
    }

    /// D's loss on its outputs for fakes, a (1, 1) node.
    pub fn on_fakes(&self, g: &mut Graph, outputs: NodeId) -> Result<NodeId> {
        let label = self.fake_label as f32;
        match self.kind {
            LossKind::Bce => loss::bce_with_logits_target_mean(g, outputs, label),
            LossKind::BceProbabilities => loss::bce_mean(g, outputs, label),
            LossKind::Softmax => loss::cross_entropy_mean(g, outputs, FAKE_CLASS, 2.0 * label),
            LossKind::Mse => loss::mse_mean(g, outputs, label),
            LossKind::Hinge => loss::hinge_mean(g, outputs, Target::Fake),
        }
    }

    /// G's adversarial loss on D's outputs for fakes, a (1, 1) node.
    pub fn of_generator(&self, g: &mut Graph, outputs: NodeId) -> Result<NodeId> {
        match (self.kind, self.generator) {
            (LossKind::Bce, GeneratorLoss::NonSaturating) => loss::bce_with_logits_mean(g, outputs, Target::Real),
            (LossKind::Bce, GeneratorLoss::Saturating) => loss::saturating_mean(g, outputs),
            (LossKind::BceProbabilities, GeneratorLoss::NonSaturating) => loss::bce_mean(g, outputs, 1.0),
            (LossKind::BceProbabilities, GeneratorLoss::Saturating) => {
                let held = loss::bce_mean(g, outputs, 0.0)?;
                affine(g, held, -1.0, 0.0)
            }
            (LossKind::Softmax, GeneratorLoss::NonSaturating) => loss::cross_entropy_mean(g, outputs, REAL_CLASS, 0.0),
            (LossKind::Softmax, GeneratorLoss::Saturating) => {
                let held = loss::cross_entropy_mean(g, outputs, FAKE_CLASS, 0.0)?;
                affine(g, held, -1.0, 0.0)
            }
            (LossKind::Mse, _) => loss::mse_mean(g, outputs, self.real_label as f32),
            (LossKind::Hinge, _) => {
                let score = mean(g, outputs)?;
                affine(g, score, -1.0, 0.0)
            }
        }
    }

    /// What D makes of rows of samples, for the statistics.
    pub fn score(&self, g: &mut Graph, outputs: NodeId, rows: Range<usize>) -> Result<Score> {
        Ok(match self.kind {
            LossKind::Bce => Score::Logits(outputs),
            LossKind::Softmax => {
                let [real, fake] = [REAL_CLASS, FAKE_CLASS].map(|class| slice_channels(g, outputs, class, 1));
                Score::Logits(sub(g, real?, fake?)?)
            }
            LossKind::BceProbabilities | LossKind::Mse | LossKind::Hinge => {
                let whole = g.shape(outputs).dims()[0] == rows.len();
                let run = if whole { outputs } else { slice_batch(g, outputs, rows.start, rows.len())? };
                Score::Mean(mean(g, run)?)
            }
        })
    }

    /// Whether the generator's loss looks at reals too.
    pub fn needs_reals(&self) -> bool {
        self.feature_matching.is_some() || self.reconstruction.is_some()
    }

    /// Whether it is the plain game of logits, which fused kernels compute.
    pub fn is_plain(&self) -> bool {
        *self == LossConfig::default()
    }

    /// The first key whose value makes no sense, what it is, and what was expected.
    pub fn fault(&self) -> Option<(&'static str, f64, &'static str)> {
        let is_label = |label: f64| self.kind == LossKind::Mse && label.is_finite() || (0.0..=1.0).contains(&label);
        let is_weight = |weight: f64| weight.is_finite() && weight >= 0.0;
        let weights = [
            ("feature_matching.weight", self.feature_matching.as_ref().map(|term| term.weight)),
            ("reconstruction.weight", self.reconstruction.as_ref().map(|term| term.weight)),
        ];
        let hinge = self.kind == LossKind::Hinge;
        let softmax = self.kind == LossKind::Softmax;
        [("real_label", self.real_label, 1.0f64), ("fake_label", self.fake_label, 0.0)]
            .into_iter()
            .find_map(|(key, label, plain)| match () {
                () if softmax && (label - plain).abs() > 0.5 => {
                    Some((key, label, "for softmax, at least 0.5 for reals and at most 0.5 for fakes"))
                }
                () if hinge && label != plain => Some((key, label, "no label, which hinge losses do not have")),
                () if !is_label(label) => Some((key, label, "a label from 0 to 1 (for mse, any number)")),
                () => None,
            })
            .or_else(|| {
                let bad = weights.into_iter().find(|(_, weight)| weight.is_some_and(|weight| !is_weight(weight)));
                bad.map(|(key, weight)| (key, weight.unwrap_or_default(), "a number of at least 0"))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tensor::Tensor;
    use crate::ops::{new_graph, shape};

    /// Losses on reals and fakes, and the generator's, of fixed outputs.
    fn values(loss: &LossConfig) -> [f64; 3] {
        let mut g = new_graph();
        let dims = [4, loss.outputs()];
        let outputs = g.leaf("d", shape(&dims), None).unwrap();
        let given: Vec<f64> = match loss.kind {
            LossKind::BceProbabilities => vec![0.1, 0.4, 0.6, 0.95],
            LossKind::Softmax => vec![0.5, -1.0, 0.0, 2.0, -0.25, 0.75, 1.0, 1.0],
            _ => vec![-2.0, -0.5, 0.25, 1.5],
        };
        let nodes =
            [loss.on_reals(&mut g, outputs), loss.on_fakes(&mut g, outputs), loss.of_generator(&mut g, outputs)].map(Result::unwrap);
        let leaves = [("d".to_string(), Tensor::new(shape(&dims), given))].into();
        let results = g.evaluate(&leaves, &nodes).unwrap();
        [0, 1, 2].map(|i| results[i].data[0])
    }

    fn near(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-6 * (1.0 + expected.abs()), "{got} {expected}");
    }

    #[test]
    fn softmax_of_two_is_the_cross_entropy_of_their_difference() {
        let softmax = LossConfig { kind: LossKind::Softmax, real_label: 0.9, fake_label: 0.2, ..LossConfig::default() };
        let differences = [-1.5, 2.0, 1.0, 0.0];
        let bce = |label: f64| {
            let each = differences.map(|l: f64| label * (-l).exp().ln_1p() + (1.0 - label) * l.exp().ln_1p());
            each.iter().sum::<f64>() / 4.0
        };
        let [real, fake, generator] = values(&softmax);
        near(real, bce(0.9));
        near(fake, bce(0.2));
        near(generator, bce(1.0));
        let [.., saturating] = values(&LossConfig { generator: GeneratorLoss::Saturating, ..softmax });
        near(saturating, -bce(0.0));
    }

    #[test]
    fn saturating_losses_are_minus_ds_loss_on_fakes() {
        for kind in [LossKind::Bce, LossKind::BceProbabilities, LossKind::Softmax] {
            let [_, fake, generator] = values(&LossConfig { kind, generator: GeneratorLoss::Saturating, ..LossConfig::default() });
            near(generator, -fake);
            let [real, _, generator] = values(&LossConfig { kind, ..LossConfig::default() });
            near(generator, real);
        }
    }

    #[test]
    fn squares_and_hinges() {
        let outputs = [-2.0, -0.5, 0.25, 1.5];
        let mean = |f: &dyn Fn(f64) -> f64| outputs.iter().map(|x| f(*x)).sum::<f64>() / 4.0;
        let [real, fake, generator] = values(&LossConfig { kind: LossKind::Mse, real_label: 0.9, ..LossConfig::default() });
        near(real, mean(&|x| (x - 0.9) * (x - 0.9)));
        near(fake, mean(&|x| x * x));
        near(generator, real);
        let [real, fake, generator] = values(&LossConfig { kind: LossKind::Hinge, ..LossConfig::default() });
        near(real, mean(&|x| (1.0 - x).max(0.0)));
        near(fake, mean(&|x| (1.0 + x).max(0.0)));
        near(generator, -mean(&|x| x));
    }
}
