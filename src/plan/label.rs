//! Labels of dispatches, as they stand in plans, captures and profiles.
//!
//! ```text
//! step/D/pair/conv3.backward_weight.gemm_cols_broadcast#2
//! └─┬┘ │ └─┬┘ └─┬─┘ └──────┬──────┘ └────────┬────────┘ └┬┘
//! program  │  layer   direction           kernel      the second of this name
//!   network pass
//! ```
//!
//! A network's pass and layer may be missing (`step/D/adam`), and so may the direction (`step/data/z.noise`). The number of a layer is its
//! index in the state dict.

use crate::gpu::kernel::Dispatch;
use std::collections::HashMap;

/// Makes labels unique: the second dispatch of a name ends with `#2`.
pub(super) fn number<B>(dispatches: &mut [(String, Dispatch<B>)]) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (label, _) in dispatches {
        let count = seen.entry(label.clone()).or_default();
        *count += 1;
        if *count > 1 {
            *label = format!("{label}#{count}");
        }
    }
}

/// A label taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label<'a> {
    /// Program, network, pass and layer: `step/D/pair/conv3`.
    pub layer: &'a str,
    /// `forward`, `backward_weight`, ….
    pub direction: Option<&'a str>,
}

impl<'a> Label<'a> {
    /// Takes a label apart.
    pub fn parse(label: &'a str) -> Self {
        let label = label.split('#').next().unwrap_or(label);
        let mut parts = label.split('.');
        let layer = parts.next().unwrap_or(label);
        // The last part is the kernel.
        let direction = parts.next().filter(|_| parts.next().is_some());
        Label { layer, direction }
    }

    /// The phase of the step: the network's pass and its side (`step/D/pair.backward`), or what is no pass (`step/D/adam`, `step/data`).
    pub fn phase(&self) -> String {
        let side = self.direction.map(|direction| if direction == "forward" { "forward" } else { "backward" });
        let parts: Vec<&str> = self.layer.split('/').collect();
        match (parts.as_slice(), side) {
            ([program, network, pass, _, ..], Some(side)) => format!("{program}/{network}/{pass}.{side}"),
            // Running statistics are updated beside the forward pass.
            ([program, network, pass, _, ..], None) => format!("{program}/{network}/{pass}.forward"),
            ([program, shared @ ("data" | "stats"), ..], _) => format!("{program}/{shared}"),
            _ => self.layer.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_taken_apart() {
        for (label, layer, direction, phase) in [
            (
                "step/D/pair/conv3.backward_weight.gemm_cols_broadcast#2",
                "step/D/pair/conv3",
                Some("backward_weight"),
                "step/D/pair.backward",
            ),
            ("step/G/fake/linear0.forward.gemm_rows_plain", "step/G/fake/linear0", Some("forward"), "step/G/fake.forward"),
            ("step/G/fake/batch_norm1.running_stats", "step/G/fake/batch_norm1", None, "step/G/fake.forward"),
            ("step/D/loss.forward_backward.bce_with_logits", "step/D/loss", Some("forward_backward"), "step/D/loss"),
            ("step/D/grad_norm.tensor_norms#3", "step/D/grad_norm", None, "step/D/grad_norm"),
            ("step/G/ema#2", "step/G/ema", None, "step/G/ema"),
            ("step/D/accumulate", "step/D/accumulate", None, "step/D/accumulate"),
            ("step/data/z.noise", "step/data/z", None, "step/data"),
            ("step/stats/D_real.score_stats", "step/stats/D_real", None, "step/stats"),
        ] {
            let parsed = Label::parse(label);
            assert_eq!((parsed.layer, parsed.direction, parsed.phase().as_str()), (layer, direction, phase), "{label}");
        }
    }
}
