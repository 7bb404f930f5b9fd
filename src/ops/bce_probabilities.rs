//! Binary cross-entropy of probabilities, element by element, as torch.nn.functional.binary_cross_entropy bounds it.
//!
//! Composed of logarithms it would have no gradient at 0 and 1, where PyTorch has a large one; so it is an op of its own. Networks that
//! end in logits are better served by [`super::loss::bce_with_logits_mean`].

use super::case::Case;
use super::curves::{clamp, second};
use super::elementwise::{Binary, Unary, affine, binary_ops, mul, rsqrt, sub, unary_ops};
use super::{op_case, random, shape, widths};
use crate::error::{Error, Result};
use crate::graph::lower::Caps;
use crate::graph::op::Application;
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, NodeId};

/// Below this, p (1 - p) counts as this in gradients: PyTorch's bound.
const LEAST_SPREAD: f32 = 1e-12;

/// `-(target max(log p, -100) + (1 - target) max(log(1 - p), -100))` for probabilities p.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bce {
    /// Label of all elements, from 0 to 1.
    pub target: f32,
}

/// The input gradient of [`Bce`]: `dy * (p - target) / max(p (1 - p), 1e-12)`. Inputs p and dy, of one shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BceBackward {
    /// As [`Bce::target`].
    pub target: f32,
}

impl Unary for Bce {
    const NAME: &'static str = "bce";
    const FUNCTION: u32 = 14;

    fn params(&self) -> [f32; 2] {
        [self.target, 0.0]
    }

    fn check(&self) -> Result<()> {
        check_target(Self::NAME, self.target)
    }

    fn value(&self, p: f64) -> f64 {
        let target = self.target as f64;
        // What is no probability has no loss: `max` would turn NaN into the bound.
        let bounded = |log: f64| if log.is_nan() { log } else { log.max(-100.0) };
        -(target * bounded(p.ln()) + (1.0 - target) * bounded((-p).ln_1p()))
    }

    fn derivative(&self, g: &mut Graph, p: NodeId, _y: NodeId, dy: NodeId) -> Result<Option<NodeId>> {
        g.apply(BceBackward { target: self.target }, &[p, dy]).map(Some)
    }
}

impl Binary for BceBackward {
    const NAME: &'static str = "bce_backward";
    const FUNCTION: u32 = 9;
    const BROADCASTS: bool = false;

    fn params(&self) -> [f32; 2] {
        [self.target, 0.0]
    }

    fn check(&self) -> Result<()> {
        check_target(Self::NAME, self.target)
    }

    fn value(&self, p: f64, dy: f64) -> f64 {
        dy * (p - self.target as f64) / (p * (1.0 - p)).max(LEAST_SPREAD as f64)
    }

    fn derivative(&self, g: &mut Graph, at: &Application, ddp: NodeId, wanted: &[bool]) -> Result<[Option<NodeId>; 2]> {
        let target = self.target;
        let by_dy = if wanted[1] { Some(g.apply(BceBackward { target }, &[at.inputs[0], ddp])?) } else { None };
        Ok([second(g, at, ddp, wanted, |g, p| bce_curvature(g, p, target))?, by_dy])
    }
}

unary_ops!(Bce);
binary_ops!(BceBackward);

/// (p^2 - 2 p target + target) / (p (1 - p))^2.
fn bce_curvature(g: &mut Graph, p: NodeId, target: f32) -> Result<NodeId> {
    let square = mul(g, p, p)?;
    let spread = sub(g, p, square)?;
    let spread = clamp(g, spread, LEAST_SPREAD, f32::MAX)?;
    let root = rsqrt(g, spread)?;
    let inverse = mul(g, root, root)?;
    let twice = affine(g, p, 2.0 * target as f64, -target as f64)?;
    let numerator = sub(g, square, twice)?;
    let once = mul(g, numerator, inverse)?;
    mul(g, once, inverse)
}

fn check_target(name: &str, target: f32) -> Result<()> {
    if (0.0..=1.0).contains(&target) {
        return Ok(());
    }
    Err(Error::input(format!("{name}: the target is {target}, expected a number from 0 to 1")))
}

/// Binary cross-entropy of each probability against one label.
///
/// # Errors
/// If the target is not from 0 to 1.
pub fn bce(g: &mut Graph, probabilities: NodeId, target: f32) -> Result<NodeId> {
    g.apply(Bce { target }, &[probabilities])
}

/// Validated uses of the kernels with the functions of this file.
pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    for caps in widths(caps) {
        for (i, dims) in [&[5, 1][..], &[3, 8], &[2, 3, 4, 5], &[37, 13, 7, 5]].iter().enumerate() {
            let (shape, seed) = (shape(dims), i as u64);
            let dy = random(&shape, 100 + seed, -4.0, 4.0);
            let inner = random(&shape, seed, 0.01, 0.99);
            for target in [0.0, 0.9, 1.0] {
                cases.push(op_case(&caps, &Bce { target }, std::slice::from_ref(&inner)));
                cases.push(op_case(&caps, &BceBackward { target }, &[inner.clone(), dy.clone()]));
                // Certain, where the bounds apply; apart from that, as gradients dwarf all others there, such as f32 can tell from 0 but
                // not from 1.
                for ends in [[0.0, 1.0, 1e-30], [1.0 - f32::EPSILON, 1e-7, 9e-4]] {
                    let certain = Tensor::from_fn(shape.clone(), |i| f64::from(ends[i % 3]));
                    cases.push(op_case(&caps, &Bce { target }, std::slice::from_ref(&certain)));
                    cases.push(op_case(&caps, &BceBackward { target }, &[certain, dy.clone()]));
                }
            }
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient_check::check;
    use crate::ops::new_graph;

    #[test]
    fn rules_are_derivatives() {
        let p = [random(&shape(&[2, 3]), 1, 0.1, 0.9)];
        let pair = [p[0].clone(), random(&shape(&[2, 3]), 2, -1.0, 1.0)];
        for target in [0.0, 0.25, 1.0] {
            check("bce", &p, |g, p| bce(g, p[0], target));
            check("bce_backward", &pair, |g, x| g.apply(BceBackward { target }, x));
        }
    }

    #[test]
    fn certainty_costs_a_hundred() {
        assert_eq!(Bce { target: 1.0 }.value(0.0), 100.0);
        assert_eq!(Bce { target: 0.0 }.value(1.0), 100.0);
        assert_eq!(Bce { target: 1.0 }.value(1.0), 0.0);
        assert_eq!(BceBackward { target: 1.0 }.value(0.0, 1.0), -1.0 / f64::from(1e-12f32));
        assert_eq!(BceBackward { target: 1.0 }.value(1.0, 1.0), 0.0);
    }

    #[test]
    fn impossible_targets_are_named() {
        let mut g = new_graph();
        let p = g.leaf("p", shape(&[2, 1]), None).unwrap();
        let text = bce(&mut g, p, 1.5).unwrap_err().to_string();
        assert!(text.contains("bce: the target is 1.5, expected a number from 0 to 1"), "{text}");
        assert!(bce(&mut g, p, f32::NAN).is_err());
    }
}
