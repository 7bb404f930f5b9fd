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
/// -log sigmoid(l) = softplus(-l) for [`Target::Real`], -log(1 - sigmoid(l)) = softplus(l) for [`Target::Fake`]: exact for logits of any size.
/// With [`Target::Real`] on the logits of fakes it is the generator's non-saturating loss (Goodfellow et al. 2014).
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
