//! How the operands of products are stored.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How products read the values that they multiply. Sums are in f32 always, and so is everything that no product reads.
///
/// Bits depend on it, so a run keeps it in its settings and in its checkpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// As they are.
    #[default]
    F32,
    /// Activations and weights rounded to f16 (11 bits, largest 65504), gradients as they are.
    F16,
    /// The same, and products with both operands in f16 are computed by the adapter's matrix units.
    F16Matrix,
}

impl Precision {
    /// All of them, each one a fallback of the next.
    pub const ALL: [Precision; 3] = [Precision::F32, Precision::F16, Precision::F16Matrix];
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::F16Matrix => "f16-matrix",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_precisions_as_they_print() {
        for precision in Precision::ALL {
            assert_eq!(serde_json::to_string(&precision).expect("it is a word"), format!("\"{precision}\""));
        }
    }
}
