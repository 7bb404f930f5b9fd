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
    /// Its physical image.
    fn image(&self) -> Vec<u8> {
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

/// A (1, C) tensor of given values: a target distribution over classes, say.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its values, one a channel.
    pub values: Vec<f32>,
}

impl Row {
    fn tensor(&self, shape: &Shape) -> Tensor {
        Tensor::from_fn(shape.clone(), |i| self.values[i] as f64)
    }

    fn image(&self, shape: &Shape) -> Vec<u8> {
        bytemuck::cast_slice(&self.tensor(shape).pack()).to_vec()
    }
}

impl Op for Row {
    fn name(&self) -> &'static str {
        "row"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        super::expect_inputs::<0>(self.name(), inputs)?;
        Shape::new(&[1, self.values.len()])
    }

    fn gradient(&self, _: &mut Graph, _: &Application, _: NodeId, _: &[bool]) -> Result<Vec<Option<NodeId>>> {
        Err(Error::internal("a constant row has no inputs to differentiate by"))
    }

    fn twin(&self, _: &[&Tensor], output: &Shape) -> Tensor {
        self.tensor(output)
    }

    fn lower(&self, lowering: &mut Lowering, _: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let table = lowering.constant(self.image(&output.1));
        Affine { scale: 1.0, shift: 0.0 }.lower(lowering, &[(table, output.1.clone())], output)
    }
}

/// The physical image of a node that is constant: a plan keeps it as a table, so that nothing computes it.
pub fn image(g: &Graph, node: NodeId) -> Option<Vec<u8>> {
    match (g.op::<Constant>(node), g.op::<Row>(node)) {
        (Some(constant), _) => Some(constant.image()),
        (_, Some(row)) => Some(row.image(g.shape(node))),
        _ => None,
    }
}

/// Ones in the shape of `x`: the seed d(x)/d(x).
pub fn ones_like(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    let shape = g.shape(x).clone();
    g.apply(Constant { shape, value: 1.0 }, &[])
}
