//! The interface between a graph and its ops.

use super::{Graph, NodeId, lower::Lowering, lower::Operand, shape::Shape, tensor::Tensor};
use crate::error::Result;
use std::any::Any;
use std::fmt::Debug;

/// A differentiable operation with one output.
///
/// The `Debug` text of an op is its identity: two ops with equal text and equal inputs are the same node (the graph is hash-consed), so it must
/// show every parameter.
pub trait Op: Debug + Any + Send + Sync {
    /// Name of the op and of its twin: `"conv2d_forward"`.
    fn name(&self) -> &'static str;

    /// Output shape, or an error that names the op, what it got and what it expected.
    fn shape(&self, inputs: &[&Shape]) -> Result<Shape>;

    /// Gradient rule as graph nodes: for each input that `wanted` marks, the node of d(loss)/d(input), given `dy` = d(loss)/d(output).
    /// `None` stands for a gradient that is zero everywhere (the derivative of a mask, say).
    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, wanted: &[bool]) -> Result<Vec<Option<NodeId>>>;

    /// The f64 CPU twin: the formula in plain loops over logical tensors.
    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor;

    /// Appends the dispatches that compute the op on the device.
    fn lower(&self, lowering: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()>;

    /// True if the output is the input's memory unchanged (a reshape that moves nothing). Such an op is never lowered.
    fn is_alias(&self, _inputs: &[&Shape], _output: &Shape) -> bool {
        false
    }
}

/// An op applied in a graph: the node and its inputs.
#[derive(Debug, Clone)]
pub struct Application {
    /// The node that the op computes.
    pub node: NodeId,
    /// Its inputs.
    pub inputs: Vec<NodeId>,
}
