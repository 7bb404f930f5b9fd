//! What the two networks learn from: the adversarial losses, and terms beside them.

use serde::{Deserialize, Serialize};

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
        [("real_label", self.real_label, 1.0), ("fake_label", self.fake_label, 0.0)]
            .into_iter()
            .find_map(|(key, label, plain)| match () {
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
