//! Reshapes in logical (NCHW) element order: often the same memory, otherwise a copy.

use super::case::Case;
use super::{op_case, random, shape};
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel, grid};
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::op::{Application, Op};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, NodeId};
use crate::part;
use bytemuck::{Pod, Zeroable};

/// Copies between physical images of one logical order.
pub static RESHAPE: Kernel = Kernel {
    name: "reshape",
    variant: "",
    parts: &[part!("reshape")],
    bindings: &[Bind::Params, Bind::In, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// The kernels of this file.
pub const KERNELS: &[&Kernel] = &[&RESHAPE];

/// `ReshapeParams` of `reshape.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct ReshapeParams {
    count: u32,
    columns: u32,
    channels: u32,
    pixels: u32,
    x_channels: u32,
    x_pixels: u32,
    x_stride: u32,
    reserved0: u32,
}

/// Reshape in logical row-major order, as PyTorch's `reshape`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reshape {
    /// Output shape.
    pub shape: Shape,
}

/// Whether two shapes of one length have the same physical image.
///
/// Images are `[N][H * W][C4]`. They agree if N, C and H * W do; if both have one channel (each element fills a row, in logical order);
/// and if both have one pixel and no padding (memory is then in logical order).
fn same_image(a: &Shape, b: &Shape) -> bool {
    let [an, ac, ah, aw] = a.nchw();
    let [bn, bc, bh, bw] = b.nchw();
    let (ap, bp) = (ah * aw, bh * bw);
    (an, ac, ap) == (bn, bc, bp) || ac == 1 && bc == 1 || ap == 1 && bp == 1 && ac % 4 == 0 && bc % 4 == 0
}

impl Op for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = super::expect_inputs(self.name(), inputs)?;
        if x.len() != self.shape.len() {
            return Err(Error::internal(format!("reshape: {x} has {} elements, and {} has {}", x.len(), self.shape, self.shape.len())));
        }
        Ok(self.shape.clone())
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let shape = graph.shape(at.inputs[0]).clone();
        Ok(vec![Some(reshape(graph, dy, &shape)?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        Tensor::new(output.clone(), inputs[0].data.clone())
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let (x, from) = &inputs[0];
        let to = &output.1;
        let pixels = |s: &Shape| (s.nchw()[2] * s.nchw()[3]) as u32;
        let count = to.physical_len() / 4;
        let params = ReshapeParams {
            count: count as u32,
            columns: (to.padded() / 4) as u32,
            channels: to.channels() as u32,
            pixels: pixels(to),
            x_channels: from.channels() as u32,
            x_pixels: pixels(from),
            x_stride: from.padded() as u32,
            reserved0: 0,
        };
        l.push(Dispatch {
            kernel: &RESHAPE,
            overrides: Vec::new(),
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: vec![*x, output.0],
            workgroups: grid(count, 64),
            cost: Cost { flops: 0, bytes: 4 * (from.len() + to.physical_len()) as u64 },
        });
        Ok(())
    }

    fn is_alias(&self, inputs: &[&Shape], output: &Shape) -> bool {
        same_image(inputs[0], output)
    }
}

/// x in another shape of the same length, in logical order. Reshapes of reshapes are one, and none if the shape is what it was.
pub fn reshape(g: &mut Graph, x: NodeId, shape: &Shape) -> Result<NodeId> {
    let x = if g.op::<Reshape>(x).is_some() { g.inputs(x)[0] } else { x };
    if g.shape(x) == shape { Ok(x) } else { g.apply(Reshape { shape: shape.clone() }, &[x]) }
}

/// (N, C, H, W) or (N, C) as (N, C * H * W), in logical order.
pub fn flatten(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    let [n, c, h, w] = g.shape(x).nchw();
    let shape = Shape::new(&[n, c * h * w])?;
    reshape(g, x, &shape)
}

/// Validated uses of the kernels of this file.
pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    let pairs: [[&[usize]; 2]; 9] = [
        [&[2, 6, 3, 5], &[2, 90]],
        [&[2, 90], &[2, 6, 3, 5]],
        [&[3, 4, 2, 2], &[3, 16]],
        [&[1, 16], &[1, 4, 2, 2]],
        [&[6, 10], &[4, 15]],
        [&[7, 1, 2, 3], &[2, 21]],
        [&[5, 3, 1, 2], &[30]],
        [&[2, 3, 4, 5], &[5, 4, 3, 2]],
        [&[9], &[9, 1]],
    ];
    pairs.iter().map(|[from, to]| op_case(caps, &Reshape { shape: shape(to) }, &[random(&shape(from), 1, -1.0, 1.0)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient_check::check;
    use crate::ops::new_graph;

    #[test]
    fn rules_are_derivatives() {
        let x = [random(&shape(&[2, 3, 2, 2]), 1, -1.0, 1.0)];
        check("reshape", &x, |g, x| reshape(g, x[0], &shape(&[4, 6])));
        check("flatten", &x, |g, x| flatten(g, x[0]));
    }

    #[test]
    fn aliases_are_equal_images() {
        let extents = [1, 2, 3, 4, 8];
        let mut shapes = vec![shape(&[])];
        for a in extents {
            shapes.push(shape(&[a]));
            for b in extents {
                shapes.push(shape(&[a, b]));
                shapes.extend(extents.iter().flat_map(|&c| extents.map(|d| shape(&[a, b, c, d]))));
            }
        }
        let (mut aliases, mut copies) = (0, 0);
        for a in &shapes {
            for b in shapes.iter().filter(|b| b.len() == a.len()) {
                let equal = a.physical_len() == b.physical_len() && a.physical_indices().eq(b.physical_indices());
                assert_eq!(same_image(a, b), equal, "{a} and {b}");
                if equal { aliases += 1 } else { copies += 1 }
            }
        }
        assert!(aliases > 1000 && copies > 1000, "{aliases} aliases and {copies} copies");
    }

    #[test]
    fn element_order_is_logical() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[1, 2, 1, 3]), None).unwrap();
        let y = flatten(&mut g, x).unwrap();
        assert_eq!(*g.shape(y), shape(&[1, 6]));
        let values = [("x".to_string(), Tensor::from_fn(shape(&[1, 2, 1, 3]), |i| i as f64))].into();
        assert_eq!(g.evaluate(&values, &[y]).unwrap()[0].data, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(reshape(&mut g, y, &shape(&[1, 2, 1, 3])).unwrap(), x, "there and back is nowhere");
        let z = reshape(&mut g, y, &shape(&[3, 2])).unwrap();
        assert_eq!(g.inputs(z), [x], "one reshape of two");
        assert!(reshape(&mut g, x, &shape(&[5])).unwrap_err().to_string().contains("(1, 2, 1, 3) has 6 elements, and (5) has 5"));
    }
}
