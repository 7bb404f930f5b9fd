//! Softmax and its logarithm over the channel axis. One fused forward kernel; the gradients are primitives, so that they can be
//! differentiated as often as wanted.

use super::case::Case;
use super::elementwise::{exp, mul, sub};
use super::loaders::{NarrowLoaders, narrow_loaders};
use super::reduce::sum_axes;
use super::{op_case, random, shape, widths};
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel, grid};
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::op::{Application, Op};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, NodeId};
use bytemuck::{Pod, Zeroable};

/// Softmax of every row of channels, or its logarithm.
pub static SOFTMAX: NarrowLoaders = narrow_loaders!(
    "softmax",
    ["in1_texel"],
    ["in1_buffer"],
    &[Bind::Params, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::Out]
);

/// The kernels of this file.
pub const KERNELS: &[&Kernel] = &[&SOFTMAX.texture, &SOFTMAX.vec4];

/// `SoftmaxParams` of `softmax.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct SoftmaxParams {
    rows: u32,
    columns: u32,
    channels: u32,
    reserved0: u32,
}

/// `exp(x) / sum exp(x)` over the channels (axis 1) of (N, C) or (N, C, H, W).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Softmax;

/// `x - log sum exp(x)` over the channels (axis 1) of (N, C) or (N, C, H, W).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSoftmax;

impl Softmax {
    /// Of one row of channels.
    fn value(row: &[f64]) -> Vec<f64> {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|x| (x - most).exp()).sum();
        row.iter().map(|x| (x - most).exp() / sum).collect()
    }
}

impl LogSoftmax {
    /// Of one row of channels.
    fn value(row: &[f64]) -> Vec<f64> {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|x| (x - most).exp()).sum();
        row.iter().map(|x| x - most - sum.ln()).collect()
    }
}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        row_shape(self.name(), inputs)
    }

    fn gradient(&self, g: &mut Graph, at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        // y (dy - sum(y dy))
        let weighted = mul(g, dy, at.node)?;
        let mean = sum_axes(g, weighted, &[1])?;
        let off = sub(g, dy, mean)?;
        Ok(vec![Some(mul(g, off, at.node)?)])
    }

    fn twin(&self, inputs: &[&Tensor], _output: &Shape) -> Tensor {
        by_row(inputs[0], Softmax::value)
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        lower_softmax(l, false, inputs[0].0, output)
    }
}

impl Op for LogSoftmax {
    fn name(&self) -> &'static str {
        "log_softmax"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        row_shape(self.name(), inputs)
    }

    fn gradient(&self, g: &mut Graph, at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        // dy - exp(y) sum(dy)
        let sum = sum_axes(g, dy, &[1])?;
        let share = exp(g, at.node)?;
        let pull = mul(g, share, sum)?;
        Ok(vec![Some(sub(g, dy, pull)?)])
    }

    fn twin(&self, inputs: &[&Tensor], _output: &Shape) -> Tensor {
        by_row(inputs[0], LogSoftmax::value)
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        lower_softmax(l, true, inputs[0].0, output)
    }
}

fn row_shape(name: &str, inputs: &[&Shape]) -> Result<Shape> {
    let [x] = super::expect_inputs(name, inputs)?;
    if x.rank() < 2 {
        return Err(Error::input(format!("{name}: the input has shape {x}, expected (N, C) or (N, C, H, W)")));
    }
    Ok(x.clone())
}

/// Applies a function to the channels of each pixel of each image.
fn by_row(x: &Tensor, value: impl Fn(&[f64]) -> Vec<f64>) -> Tensor {
    let [n, c, h, w] = x.shape.nchw();
    let mut y = Tensor::zeros(x.shape.clone());
    for i in 0..n {
        for pixel in 0..h * w {
            let at = |j: usize| (i * c + j) * h * w + pixel;
            let row: Vec<f64> = (0..c).map(|j| x.data[at(j)]).collect();
            for (j, v) in value(&row).into_iter().enumerate() {
                y.data[at(j)] = v;
            }
        }
    }
    y
}

fn lower_softmax(l: &mut Lowering, log: bool, x: Operand, y: (Operand, Shape)) -> Result<()> {
    let shape = y.1;
    let params =
        SoftmaxParams { rows: shape.rows() as u32, columns: (shape.padded() / 4) as u32, channels: shape.channels() as u32, reserved0: 0 };
    let kernel = SOFTMAX.kernel(&l.caps, shape.physical_len());
    l.check_loops(kernel, 3 * shape.padded() / 4)?;
    l.push(Dispatch {
        kernel,
        overrides: vec![("LOG", log as u32 as f64)],
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![x, y.0],
        workgroups: grid(shape.rows(), 64),
        // A maximum, two exponentials with their differences, and a quotient.
        cost: Cost { flops: 7 * shape.len() as u64, bytes: 16 * shape.physical_len() as u64 },
    });
    Ok(())
}

/// Softmax over the channels (axis 1) of (N, C) or (N, C, H, W): torch.softmax(x, 1).
pub fn softmax(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    g.apply(Softmax, &[x])
}

/// Logarithm of the softmax over the channels (axis 1) of (N, C) or (N, C, H, W), exact where the softmax itself vanishes:
/// torch.log_softmax(x, 1).
pub fn log_softmax(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    g.apply(LogSoftmax, &[x])
}

/// Validated uses of the kernels of this file.
pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    // One class, two, whole columns, padding of each size, many classes, many rows, a tensor that is worth a texture.
    let shapes: [&[usize]; 9] = [&[1, 1], &[5, 2], &[66, 3], &[3, 4], &[7, 9], &[2, 1001], &[2, 6, 3, 5], &[3, 8, 9, 11], &[5, 7, 33, 31]];
    let mut cases = Vec::new();
    for caps in widths(caps) {
        for (i, dims) in shapes.iter().enumerate() {
            let (shape, seed) = (shape(dims), i as u64);
            // Logits around 0; all far below 0, where padding of zeros would win; and such that all but one vanish.
            for (low, high) in [(-3.0, 3.0), (-1010.0, -1000.0), (-500.0, 500.0)] {
                let x = [random(&shape, seed, low, high)];
                cases.push(op_case(&caps, &Softmax, &x));
                cases.push(op_case(&caps, &LogSoftmax, &x));
            }
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing;
    use crate::ops::case::CaseBuffer;
    use crate::ops::gradient_check::check;
    use crate::ops::new_graph;

    #[test]
    fn rules_are_derivatives() {
        for dims in [&[3, 4][..], &[2, 1], &[2, 3, 1, 2]] {
            let x = [random(&shape(dims), 1, -2.0, 2.0)];
            check("softmax", &x, |g, x| softmax(g, x[0]));
            check("log_softmax", &x, |g, x| log_softmax(g, x[0]));
        }
    }

    #[test]
    fn twins_are_shares_of_each_row() {
        let y = Softmax.twin(&[&Tensor::new(shape(&[1, 2, 1, 2]), vec![0.0, 800.0, 3.0f64.ln(), 0.0])], &shape(&[1, 2, 1, 2]));
        let expected = [0.25, 1.0, 0.75, 0.0];
        assert!(y.data.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{y:?}");
        let y = LogSoftmax.twin(&[&Tensor::new(shape(&[1, 2]), vec![0.0, 800.0])], &shape(&[1, 2]));
        assert_eq!(y.data, [-800.0, 0.0]);
    }

    #[test]
    fn a_vector_has_no_rows() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[3]), None).unwrap();
        for text in [softmax(&mut g, x), log_softmax(&mut g, x)].map(|r| r.unwrap_err().to_string()) {
            assert!(text.contains("softmax: the input has shape (3), expected (N, C) or (N, C, H, W)"), "{text}");
        }
    }

    /// A class that is ruled out has no share; a value that is no number spoils its row, and no other.
    #[test]
    fn rows_with_values_that_are_no_numbers() {
        let Some(gpu) = testing::gpu() else { return };
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let given = [[0.0, -inf, 0.0, 0.0], [0.0, nan, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]];
        for caps in widths(&gpu.caps()) {
            let mut case = op_case(&caps, &Softmax, &[random(&shape(&[3, 3]), 1, -1.0, 1.0)]);
            case.buffers[0] = CaseBuffer::Input(bytemuck::cast_slice(&given).to_vec());
            let got: Vec<f32> = bytemuck::pod_collect_to_vec(&crate::ops::tests::bits(gpu, &case)[1]);
            assert_eq!(got[..4], [0.5, 0.0, 0.5, 0.0]);
            assert!(got[4..7].iter().all(|v| v.is_nan()), "{got:?}");
            assert!(got[8..11].iter().all(|v| (v - 1.0 / 3.0).abs() < 1e-6), "{got:?}");
            assert_eq!([got[7], got[11]], [0.0, 0.0], "padding");
        }
    }
}
