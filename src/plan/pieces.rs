//! A program cut into the pieces that kernels compute, each lowered by itself: what benchmarks validate and time one by one.

use super::compile::covers;
use super::cover::Cover;
use super::program::{Item, Program};
use crate::error::Result;
use crate::graph::NodeId;
use crate::graph::lower::{Caps, Lowering};
use crate::graph::variants::Variants;
use crate::ops::activation::Activation;
use crate::ops::conv2d::Conv2dBackwardWeight;
use std::sync::Arc;

/// What a part computes.
#[derive(Debug, Clone)]
pub enum Work {
    /// A matrix product or convolution and its epilogue.
    Product {
        /// The node of the bare product.
        product: NodeId,
        /// The node that the kernel computes.
        output: NodeId,
        /// Added per channel.
        bias: Option<NodeId>,
        /// Applied to the sum.
        activation: Activation,
        /// A saved activation output, and the activation by whose derivative there the result is multiplied.
        mask: Option<(NodeId, Activation)>,
    },
    /// Nodes from other nodes: whatever lies between them in the graph is what the kernels compute.
    Values {
        /// Nodes whose values must exist.
        reads: Vec<NodeId>,
        /// Nodes that are computed.
        writes: Vec<NodeId>,
    },
    /// State that is updated in place, or an input that is filled.
    Effect,
}

/// A piece of a program.
#[derive(Debug)]
pub struct Piece {
    /// What it computes.
    pub work: Work,
    /// Its dispatches, scratch buffers and constant tables.
    pub lowering: Lowering,
}

/// The pieces of a program as [`super::compile_with`] chooses them, values first, in order of use. Differentiation may add nodes to the graph, which
/// the pieces refer to.
///
/// # Errors
/// As [`super::compile_with`].
pub fn pieces(program: &mut Program, caps: &Caps, variants: &Variants) -> Result<Vec<Piece>> {
    let covers = covers(program, caps, variants)?;
    let variants = Arc::new(variants.clone());
    let mut pieces = Vec::with_capacity(covers.len());
    for mut cover in covers {
        // A piece has no state: the running statistics stay.
        if let Cover::Norm { running, .. } = &mut cover {
            *running = None;
        }
        let mut lowering = Lowering::with_variants(caps.clone(), variants.clone());
        cover.lower(&program.graph, &mut lowering)?;
        let work = match cover {
            Cover::Product { node, product, bias, activation, mask } => Work::Product { product, output: node, bias, activation, mask },
            Cover::Op(node) if program.graph.op::<Conv2dBackwardWeight>(node).is_some() => {
                Work::Product { product: node, output: node, bias: None, activation: Activation::None, mask: None }
            }
            _ => Work::Values { reads: cover.reads(&program.graph), writes: cover.writes() },
        };
        pieces.push(Piece { work, lowering });
    }
    for item in &program.items {
        if let Item::Effect { lower, .. } = item {
            let mut lowering = Lowering::new(caps.clone());
            lower(&mut lowering)?;
            pieces.push(Piece { work: Work::Effect, lowering });
        }
    }
    Ok(pieces)
}
