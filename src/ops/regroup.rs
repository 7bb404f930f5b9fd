//! Other splits of a tensor's rows into batch, height and width, which cost nothing.

use crate::error::{Error, Result};
use crate::graph::lower::{Lowering, Operand};
use crate::graph::op::{Application, Op};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, NodeId};

/// The same rows of channels, counted as another (N, H, W): pixel r of all pixels, in the order n, h, w, stays pixel r, with its channels.
///
/// It is PyTorch's `x.permute(0, 2, 3, 1).reshape(N', H', W', C).permute(0, 3, 1, 2)`. Memory holds rows of channels in just that order, so that
/// nothing moves: images of a batch become rows of a taller image (and axes that ops can reduce) for free. A reshape, in contrast, keeps the
/// logical order, in which the channels lie between batch and pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegroupRows {
    /// Output shape.
    pub shape: Shape,
}

impl Op for RegroupRows {
    fn name(&self) -> &'static str {
        "regroup_rows"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = super::expect_inputs(self.name(), inputs)?;
        if (x.channels(), x.rows()) != (self.shape.channels(), self.shape.rows()) {
            return Err(Error::internal(format!(
                "regroup_rows: {x} has {} rows of {} channels, and {} has {} of {}",
                x.rows(),
                x.channels(),
                self.shape,
                self.shape.rows(),
                self.shape.channels()
            )));
        }
        Ok(self.shape.clone())
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let shape = graph.shape(at.inputs[0]).clone();
        Ok(vec![Some(regroup_rows(graph, dy, &shape)?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let x = inputs[0];
        let ([_, c, h, w], [_, _, x_h, x_w]) = (output.nchw(), x.shape.nchw());
        Tensor::from_fn(output.clone(), |i| {
            let (n, j, pixel) = (i / (c * h * w), i / (h * w) % c, i % (h * w));
            let row = n * h * w + pixel;
            x.data[(row / (x_h * x_w) * c + j) * x_h * x_w + row % (x_h * x_w)]
        })
    }

    fn lower(&self, _: &mut Lowering, _: &[(Operand, Shape)], _: (Operand, Shape)) -> Result<()> {
        Err(Error::internal("regroup_rows moves nothing, so that there is nothing to compute"))
    }

    fn is_alias(&self, _: &[&Shape], _: &Shape) -> bool {
        true
    }
}

/// The rows of x as a tensor of another shape with as many channels and rows. Regroupings of regroupings are one, and none if the shape is what
/// it was.
///
/// # Errors
/// If channels or rows differ.
pub fn regroup_rows(g: &mut Graph, x: NodeId, shape: &Shape) -> Result<NodeId> {
    let x = if g.op::<RegroupRows>(x).is_some() { g.inputs(x)[0] } else { x };
    if g.shape(x) == shape { Ok(x) } else { g.apply(RegroupRows { shape: shape.clone() }, &[x]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient_check::check;
    use crate::ops::{new_graph, random, shape};

    #[test]
    fn rules_are_derivatives() {
        let x = [random(&shape(&[4, 3, 1, 2]), 1, -1.0, 1.0)];
        check("regroup_rows", &x, |g, x| regroup_rows(g, x[0], &shape(&[2, 3, 2, 2])));
    }

    /// What makes it free: the twin's result has the physical image of its input.
    #[test]
    fn memory_does_not_change() {
        for (from, to) in
            [(&[6, 5, 2, 3][..], &[2, 5, 3, 6][..]), (&[4, 3], &[1, 3, 2, 2]), (&[2, 8, 3, 1], &[6, 8]), (&[4, 1, 2, 2], &[16, 1])]
        {
            let x = random(&shape(from), 1, -1.0, 1.0);
            let mut g = new_graph();
            let leaf = g.leaf("x", x.shape.clone(), None).unwrap();
            let y = regroup_rows(&mut g, leaf, &shape(to)).unwrap();
            assert_eq!(g.storage(y), leaf);
            let result = g.evaluate(&[("x".to_string(), x.clone())].into(), &[y]).unwrap().remove(0);
            assert_eq!(result.pack_f64(), x.pack_f64(), "{from:?} to {to:?}");
            assert_eq!(regroup_rows(&mut g, y, &shape(from)).unwrap(), leaf, "there and back is nowhere");
        }
    }

    #[test]
    fn impossible_inputs_are_named() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[4, 3, 1, 2]), None).unwrap();
        let text = regroup_rows(&mut g, x, &shape(&[2, 6, 1, 2])).unwrap_err().to_string();
        assert!(text.contains("regroup_rows: (4, 3, 1, 2) has 8 rows of 3 channels, and (2, 6, 1, 2) has 4 of 6"), "{text}");
    }
}
