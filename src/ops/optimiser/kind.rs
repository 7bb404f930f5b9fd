//! Which optimiser, and its constants.

use super::{is_finite_from, is_positive};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An optimiser with its constants, under PyTorch's names; the learning rate comes with each step.
///
/// In files it is a table: `{ kind = "adam", beta1 = 0.5 }`, with `kind` one of `sgd`, `adam`, `adamw` and `rmsprop`. What is left out has
/// PyTorch's default, except that `beta1` is 0.5, without which GANs tend to oscillate (Radford et al. 2015, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields, expecting = "a table, such as { kind = \"adam\" }")]
pub enum Optimiser {
    /// Stochastic gradient descent, torch.optim.SGD with dampening 0.
    Sgd {
        /// Decay of the momentum buffer, in [0, 1); 0 for no momentum.
        #[serde(default)]
        momentum: f64,
        /// Nesterov's form: the gradient looks one step of momentum ahead.
        #[serde(default)]
        nesterov: bool,
        /// Share of each weight that is added to its gradient.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Adam (Kingma and Ba, 2015), torch.optim.Adam without amsgrad.
    Adam {
        /// Decay of the first moment, in [0, 1).
        #[serde(default = "default_beta1")]
        beta1: f64,
        /// Decay of the second moment, in [0, 1).
        #[serde(default = "default_beta2")]
        beta2: f64,
        /// Added to the denominator.
        #[serde(default = "default_eps")]
        eps: f64,
        /// Share of each weight that is added to its gradient.
        #[serde(default)]
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019), torch.optim.AdamW without amsgrad.
    AdamW {
        /// Decay of the first moment, in [0, 1).
        #[serde(default = "default_beta1")]
        beta1: f64,
        /// Decay of the second moment, in [0, 1).
        #[serde(default = "default_beta2")]
        beta2: f64,
        /// Added to the denominator.
        #[serde(default = "default_eps")]
        eps: f64,
        /// Share of each weight, times the learning rate, that an update takes off it.
        #[serde(default = "default_adamw_decay")]
        weight_decay: f64,
    },
    /// RMSprop (Hinton, 2012), torch.optim.RMSprop, not centered.
    RmsProp {
        /// Decay of the second moment, in [0, 1).
        #[serde(default = "default_alpha")]
        alpha: f64,
        /// Added to the denominator.
        #[serde(default = "default_eps")]
        eps: f64,
        /// Decay of the momentum buffer, in [0, 1); 0 for no momentum.
        #[serde(default)]
        momentum: f64,
        /// Share of each weight that is added to its gradient.
        #[serde(default)]
        weight_decay: f64,
    },
}

fn default_beta1() -> f64 {
    0.5
}

fn default_beta2() -> f64 {
    0.999
}

fn default_eps() -> f64 {
    1e-8
}

fn default_adamw_decay() -> f64 {
    1e-2
}

fn default_alpha() -> f64 {
    0.99
}

/// The state that an optimiser keeps beside the parameters, each a store of their layout, zero before the first update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moments {
    /// First moments: Adam's exp_avg, the momentum buffer of the others.
    pub m: bool,
    /// Second moments: Adam's exp_avg_sq, RMSprop's square_avg.
    pub v: bool,
}

impl Optimiser {
    /// Adam with beta2 0.999, eps 1e-8 and no weight decay.
    pub fn adam(beta1: f64) -> Self {
        Optimiser::Adam { beta1, beta2: default_beta2(), eps: default_eps(), weight_decay: 0.0 }
    }

    /// Its kernel, which also names its state in checkpoints: Adam and AdamW keep the same.
    pub fn kernel(&self) -> &'static str {
        match self {
            Optimiser::Sgd { .. } => "sgd",
            Optimiser::Adam { .. } | Optimiser::AdamW { .. } => "adam",
            Optimiser::RmsProp { .. } => "rmsprop",
        }
    }

    /// The state that it keeps.
    pub fn moments(&self) -> Moments {
        match *self {
            Optimiser::Sgd { momentum, .. } => Moments { m: momentum > 0.0, v: false },
            Optimiser::Adam { .. } | Optimiser::AdamW { .. } => Moments { m: true, v: true },
            Optimiser::RmsProp { momentum, .. } => Moments { m: momentum > 0.0, v: true },
        }
    }

    /// The step row's slot for the update number `t`, from 1, at learning rate `lr`: lr, the reciprocals of Adam's bias corrections (1 for
    /// the others), and t, all computed in f64 and rounded once.
    pub fn slot(&self, lr: f64, t: u64) -> [u32; 4] {
        let betas = match *self {
            Optimiser::Adam { beta1, beta2, .. } | Optimiser::AdamW { beta1, beta2, .. } => [beta1, beta2],
            Optimiser::Sgd { .. } | Optimiser::RmsProp { .. } => [0.0; 2],
        };
        let [inverse1, inverse2] = betas.map(|beta| ((1.0 / (1.0 - beta.powf(t as f64))) as f32).to_bits());
        [(lr as f32).to_bits(), inverse1, inverse2, u32::try_from(t).unwrap_or(u32::MAX)]
    }

    /// Checks what no type can. `section` is what a file calls this.
    ///
    /// # Errors
    /// [`Error::Input`] that begins with the key at fault: `optimiser_g.beta1: got 1, expected …`.
    pub fn validate(&self, section: &str) -> Result<()> {
        let decay = |key: &str, value: f64| match (0.0..1.0).contains(&value) && (value as f32) < 1.0 {
            true => Ok(()),
            false => Err(Error::input(format!("{section}.{key}: got {value}, expected a number from 0 up to but not including 1"))),
        };
        let eps = |value: f64| match is_positive(value) {
            true => Ok(()),
            false => Err(Error::input(format!("{section}.eps: got {value}, expected a finite number above 0 (usual: 1e-8)"))),
        };
        let share = |value: f64| match is_finite_from(0.0, value) {
            true => Ok(()),
            false => {
                Err(Error::input(format!("{section}.weight_decay: got {value}, expected a finite number, 0 or more (usual: 0 to 1e-2)")))
            }
        };
        match *self {
            Optimiser::Sgd { momentum, nesterov, weight_decay } => {
                decay("momentum", momentum)?;
                if nesterov && momentum == 0.0 {
                    return Err(Error::input(format!(
                        "{section}.nesterov: got true with momentum 0, expected a momentum above 0 (usual: 0.9)"
                    )));
                }
                share(weight_decay)
            }
            Optimiser::Adam { beta1, beta2, eps: e, weight_decay } | Optimiser::AdamW { beta1, beta2, eps: e, weight_decay } => {
                decay("beta1", beta1)?;
                decay("beta2", beta2)?;
                eps(e)?;
                share(weight_decay)
            }
            Optimiser::RmsProp { alpha, eps: e, momentum, weight_decay } => {
                decay("alpha", alpha)?;
                eps(e)?;
                decay("momentum", momentum)?;
                share(weight_decay)
            }
        }
    }
}

/// Kind and constants: `adam (beta1 0.5, beta2 0.999, eps 1e-8)`. Weight decay and momentum are left out where there are none.
impl fmt::Display for Optimiser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, constants, weight_decay) = match *self {
            Optimiser::Sgd { momentum, nesterov, weight_decay } => {
                let kind = if nesterov { "Nesterov momentum" } else { "momentum" };
                ("sgd", Vec::from_iter((momentum > 0.0).then(|| format!("{kind} {momentum}"))), weight_decay)
            }
            Optimiser::Adam { beta1, beta2, eps, weight_decay } | Optimiser::AdamW { beta1, beta2, eps, weight_decay } => {
                let name = if matches!(self, Optimiser::Adam { .. }) { "adam" } else { "adamw" };
                (name, vec![format!("beta1 {beta1}"), format!("beta2 {beta2}"), format!("eps {eps:e}")], weight_decay)
            }
            Optimiser::RmsProp { alpha, eps, momentum, weight_decay } => {
                let mut constants = vec![format!("alpha {alpha}"), format!("eps {eps:e}")];
                constants.extend((momentum > 0.0).then(|| format!("momentum {momentum}")));
                ("rmsprop", constants, weight_decay)
            }
        };
        let decay = (weight_decay > 0.0).then(|| format!("weight decay {weight_decay}"));
        let constants: Vec<String> = constants.into_iter().chain(decay).collect();
        if constants.is_empty() { f.write_str(name) } else { write!(f, "{name} ({})", constants.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::toml_file;
    use std::path::Path;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        optimiser_d: Optimiser,
        batch: u32,
    }

    fn read(text: &str) -> Result<Optimiser> {
        let file: File = toml_file::parse(&format!("batch = 4\noptimiser_d = {text}\n"), Path::new("c.toml"))?;
        Ok(file.optimiser_d)
    }

    #[test]
    fn defaults_are_pytorchs_but_for_beta1() {
        for (text, expected) in [
            ("{ kind = \"sgd\" }", Optimiser::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 }),
            ("{ kind = \"adam\" }", Optimiser::Adam { beta1: 0.5, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }),
            ("{ kind = \"adamw\" }", Optimiser::AdamW { beta1: 0.5, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 }),
            ("{ kind = \"rmsprop\" }", Optimiser::RmsProp { alpha: 0.99, eps: 1e-8, momentum: 0.0, weight_decay: 0.0 }),
            // Whole numbers are numbers.
            ("{ kind = \"adam\", beta1 = 0, beta2 = 0.9 }", Optimiser::Adam { beta1: 0.0, beta2: 0.9, eps: 1e-8, weight_decay: 0.0 }),
        ] {
            let optimiser = read(text).unwrap();
            assert_eq!(optimiser, expected);
            optimiser.validate("o").unwrap();
            let file = File { optimiser_d: optimiser, batch: 3 };
            let again = toml::to_string(&file).unwrap();
            assert_eq!(toml::from_str::<File>(&again).unwrap(), file, "{again}");
        }
        assert_eq!(Optimiser::adam(0.5), read("{ kind = \"adam\" }").unwrap());
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named() {
        for (text, needles) in [
            ("{ kind = \"adam\", beta3 = 1 }", &["c.toml:2:", "unknown key beta3", "did you mean beta1", "weight_decay"][..]),
            ("{ kind = \"sgd\", beta1 = 0.5 }", &["c.toml:2:", "unknown key beta1", "momentum, nesterov, weight_decay"]),
            ("{ kind = \"adan\" }", &["c.toml:2:", "adan", "sgd", "adam", "adamw", "rmsprop"]),
            ("{ beta1 = 0.5 }", &["c.toml:2:", "missing field", "kind"]),
            ("{ kind = \"sgd\", momentum = \"much\" }", &["c.toml:2:", "much", "a number"]),
            ("\"adam\"", &["c.toml:2:15: ", "string \"adam\", expected a table, such as { kind = \"adam\" }"]),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(needles.iter().all(|needle| error.contains(needle)), "{text}: {error}");
        }
    }

    #[test]
    fn values_out_of_range_are_refused_by_key() {
        let sgd = |momentum, nesterov, weight_decay| Optimiser::Sgd { momentum, nesterov, weight_decay };
        let adam = |beta1, beta2, eps| Optimiser::Adam { beta1, beta2, eps, weight_decay: 0.0 };
        let adamw = |weight_decay| Optimiser::AdamW { beta1: 0.5, beta2: 0.9, eps: 1e-8, weight_decay };
        let rmsprop = |alpha, eps, momentum| Optimiser::RmsProp { alpha, eps, momentum, weight_decay: 0.0 };
        for (optimiser, start) in [
            (sgd(1.0, false, 0.0), "momentum: got 1, expected a number from 0 up"),
            (sgd(f64::NAN, false, 0.0), "momentum: got NaN"),
            (sgd(0.0, true, 0.0), "nesterov: got true with momentum 0, expected a momentum above 0"),
            (sgd(0.9, true, -1.0), "weight_decay: got -1, expected a finite number"),
            (adam(1.0, 0.9, 1e-8), "beta1: got 1,"),
            // Below 1, but not in f32.
            (adam(0.5, 1.0 - 1e-12, 1e-8), "beta2: got 0.999999999999,"),
            (adam(0.5, 0.9, 0.0), "eps: got 0,"),
            (adam(0.5, 0.9, 1e-50), "eps: got 0.00000000000000000000000000000000000000000000000001,"),
            (adamw(f64::INFINITY), "weight_decay: got inf,"),
            (adamw(1e39), "weight_decay: got 1"),
            (rmsprop(-0.1, 1e-8, 0.0), "alpha: got -0.1,"),
            (rmsprop(0.9, f64::NAN, 0.0), "eps: got NaN,"),
            (rmsprop(0.9, 1e-8, 2.0), "momentum: got 2,"),
        ] {
            let error = optimiser.validate("optimiser_d").expect_err(start);
            assert!(error.exit_code() == 2 && error.to_string().starts_with(&format!("optimiser_d.{start}")), "{error}");
        }
    }

    #[test]
    fn slots_hold_the_reciprocal_bias_corrections() {
        let adam = Optimiser::adam(0.5);
        let floats = |t| adam.slot(2e-4, t).map(f32::from_bits);
        // 1 - 0.999 in f32 would be off in the fifth digit.
        assert_eq!(floats(1)[..3], [2e-4, 2.0, 1000.0]);
        assert_eq!(floats(2)[..3], [2e-4, (1.0f64 / 0.75) as f32, (1.0f64 / (1.0 - 0.998001)) as f32]);
        assert_eq!(floats(u64::MAX)[..3], [2e-4, 1.0, 1.0]);
        assert_eq!([adam.slot(0.1, 7)[3], adam.slot(0.1, u64::MAX)[3]], [7, u32::MAX]);
        let sgd = Optimiser::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 };
        assert_eq!(sgd.slot(0.25, 3), [0.25f32.to_bits(), 1f32.to_bits(), 1f32.to_bits(), 3]);
    }

    #[test]
    fn they_say_what_they_are() {
        for (optimiser, expected) in [
            (Optimiser::adam(0.5), "adam (beta1 0.5, beta2 0.999, eps 1e-8)"),
            (
                Optimiser::AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-6, weight_decay: 0.01 },
                "adamw (beta1 0.9, beta2 0.99, eps 1e-6, weight decay 0.01)",
            ),
            (Optimiser::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 }, "sgd"),
            (Optimiser::Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.0 }, "sgd (Nesterov momentum 0.9)"),
            (Optimiser::RmsProp { alpha: 0.9, eps: 1e-8, momentum: 0.5, weight_decay: 0.0 }, "rmsprop (alpha 0.9, eps 1e-8, momentum 0.5)"),
        ] {
            assert_eq!(optimiser.to_string(), expected);
        }
    }
}
