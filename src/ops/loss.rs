//! Losses out of primitives.

use super::elementwise::{affine, softplus};
use super::reduce;
use crate::error::{Error, Result};
use crate::graph::{Graph, NodeId};

/// What logits are held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Label 1.
    Real,
    /// Label 0.
    Fake,
}

/// Mean binary cross-entropy of logits against one label, a (1, 1) node.
///
/// -log sigmoid(l) = softplus(-l) for [`Target::Real`], -log(1 - sigmoid(l)) = softplus(l) for [`Target::Fake`]: exact for logits of any
/// size. With [`Target::Real`] on the logits of fakes it is the generator's non-saturating loss (Goodfellow et al. 2014).
///
/// # Shapes
/// `logits` (N, 1).
pub fn bce_with_logits_mean(g: &mut Graph, logits: NodeId, target: Target) -> Result<NodeId> {
    let shape = g.shape(logits);
    if shape.rank() != 2 || shape.dims()[1] != 1 {
        return Err(Error::internal(format!("bce_with_logits_mean: the logits have shape {shape}, expected (N, 1)")));
    }
    let l = match target {
        Target::Real => affine(g, logits, -1.0, 0.0)?,
        Target::Fake => logits,
    };
    let each = softplus(g, l)?;
    reduce::mean(g, each)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tensor::Tensor;
    use crate::ops::gradient_check::check;
    use crate::ops::{new_graph, random, shape};

    #[test]
    fn it_is_minus_the_log_of_the_probability() {
        let logits = [-3.0, -0.5, 0.25, 2.0];
        let mut g = new_graph();
        let l = g.leaf("l", shape(&[4, 1]), None).unwrap();
        let nodes = [Target::Real, Target::Fake].map(|t| bce_with_logits_mean(&mut g, l, t).unwrap());
        let values = [("l".to_string(), Tensor::new(shape(&[4, 1]), logits.to_vec()))].into();
        let results = g.evaluate(&values, &nodes).unwrap();
        let p = logits.map(|l: f64| 1.0 / (1.0 + (-l).exp()));
        let real = -p.iter().map(|p| p.ln()).sum::<f64>() / 4.0;
        let fake = -p.iter().map(|p| (1.0 - p).ln()).sum::<f64>() / 4.0;
        assert_eq!(results[0].shape, shape(&[1, 1]));
        assert!((results[0].data[0] - real).abs() < 1e-12, "{} {real}", results[0].data[0]);
        assert!((results[1].data[0] - fake).abs() < 1e-12, "{} {fake}", results[1].data[0]);
    }

    #[test]
    fn it_stays_finite() {
        let mut g = new_graph();
        let l = g.leaf("l", shape(&[2, 1]), None).unwrap();
        let node = bce_with_logits_mean(&mut g, l, Target::Real).unwrap();
        let values = [("l".to_string(), Tensor::new(shape(&[2, 1]), vec![-1e4, 1e4]))].into();
        assert_eq!(g.evaluate(&values, &[node]).unwrap()[0].data, [5e3]);
    }

    #[test]
    fn rules_are_derivatives() {
        let logits = [random(&shape(&[4, 1]), 1, -2.0, 2.0)];
        for target in [Target::Real, Target::Fake] {
            check("bce_with_logits_mean", &logits, |g, x| bce_with_logits_mean(g, x[0], target));
        }
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[4, 2]), None).unwrap();
        assert!(bce_with_logits_mean(&mut g, x, Target::Real).unwrap_err().to_string().contains("expected (N, 1)"));
    }
}
