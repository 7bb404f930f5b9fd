//! Constant tensors.

use super::elementwise::Affine;
use crate::error::{Error, Result};
use crate::graph::lower::{Lowering, Operand};
use crate::graph::op::{Application, Op};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, NodeId};

/// A tensor of one value everywhere; the seed of differentiation is one of ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Constant {
    /// Its shape.
    pub shape: Shape,
    /// Its value.
    pub value: f32,
}

impl Constant {
    /// Its physical image: a plan keeps it as a table, so that nothing computes it.
    pub fn image(&self) -> Vec<u8> {
        bytemuck::cast_slice(&Tensor::from_fn(self.shape.clone(), |_| self.value as f64).pack()).to_vec()
    }
}

impl Op for Constant {
    fn name(&self) -> &'static str {
        "constant"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        super::expect_inputs::<0>(self.name(), inputs)?;
        Ok(self.shape.clone())
    }

    fn gradient(&self, _: &mut Graph, _: &Application, _: NodeId, _: &[bool]) -> Result<Vec<Option<NodeId>>> {
        Err(Error::internal("a constant has no inputs to differentiate by"))
    }

    fn twin(&self, _: &[&Tensor], output: &Shape) -> Tensor {
        Tensor::from_fn(output.clone(), |_| self.value as f64)
    }

    fn lower(&self, lowering: &mut Lowering, _: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let table = lowering.constant(self.image());
        Affine { scale: 1.0, shift: 0.0 }.lower(lowering, &[(table, self.shape.clone())], output)
    }
}

/// Ones in the shape of `x`: the seed d(x)/d(x).
pub fn ones_like(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    let shape = g.shape(x).clone();
    g.apply(Constant { shape, value: 1.0 }, &[])
}
