//! Matrix products and convolutions as subjects: named, lowered with any of their kernels, and validated by a sample of output elements.

use super::subject::{Check, Sample, Subject};
use crate::error::Result;
use crate::gpu::kernel::Kernel;
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::op::Op;
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, NodeId};
use crate::ops::activation::Activation;
use crate::ops::case::{Case, CaseBuffer};
use crate::ops::conv2d::{Conv2d, Conv2dBackwardInput, Conv2dBackwardWeight, Conv2dForward};
use crate::ops::gemm::Epilogue;
use crate::ops::matmul::Matmul;
use crate::ops::random;

/// Multiply-adds that a sample's twin may take.
const SAMPLE_WORK: usize = 8 << 20;
/// Most indices that are sampled along an axis.
const MOST_SAMPLED: usize = 9;
/// Half the spacing of f32 numbers at 1.
const ROUNDING: f64 = 6e-8;

/// A member of the family.
#[derive(Debug, Clone, Copy)]
pub enum Member {
    Matmul(Matmul),
    Forward(Conv2dForward),
    Input(Conv2dBackwardInput),
    Weight(Conv2dBackwardWeight),
}

/// Calls a method that all members have.
macro_rules! each {
    ($member:expr, $op:ident => $call:expr) => {
        match $member {
            Member::Matmul($op) => $call,
            Member::Forward($op) => $call,
            Member::Input($op) => $call,
            Member::Weight($op) => $call,
        }
    };
}

/// A product on shapes, with the epilogue that it is fused with.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The op.
    pub member: Member,
    /// Shapes of its inputs.
    pub inputs: [Shape; 2],
    /// Whether a bias is added.
    pub bias: bool,
    /// What is applied to the sum.
    pub activation: Activation,
    /// By whose derivative the result is multiplied.
    pub mask: Option<Activation>,
}

impl Problem {
    /// Without an epilogue.
    fn plain(member: Member, inputs: [Shape; 2]) -> Self {
        Problem { member, inputs, bias: false, activation: Activation::None, mask: None }
    }

    /// A square product of matrices as stored.
    pub fn square(n: usize) -> Result<Self> {
        let shape = Shape::new(&[n, n])?;
        Ok(Problem::plain(Member::Matmul(Matmul { transpose_a: false, transpose_b: false }), [shape.clone(), shape]))
    }

    /// A convolution of x (N, C, H, W) with a square kernel in its three directions: forward, input gradient, weight gradient.
    pub fn convolutions(x: [usize; 4], outputs: usize, kernel: usize, conv: Conv2d) -> Result<[Self; 3]> {
        let (input_hw, kernel_hw) = ([x[2], x[3]], [kernel; 2]);
        let (x, w) = (Shape::new(&x)?, Shape::new(&[outputs, x[1], kernel, kernel])?);
        let forward = Conv2dForward { conv, output_hw: None };
        let y = forward.shape(&[&x, &w])?;
        Ok([
            Problem::plain(Member::Forward(forward), [x.clone(), w.clone()]),
            Problem::plain(Member::Input(Conv2dBackwardInput { conv, input_hw }), [y.clone(), w]),
            Problem::plain(Member::Weight(Conv2dBackwardWeight { conv, kernel_hw }), [x, y]),
        ])
    }

    /// The product at a node of a graph, without an epilogue; `None` if the node is no product.
    pub fn at(graph: &Graph, node: NodeId) -> Option<Self> {
        let member = if let Some(op) = graph.op::<Matmul>(node) {
            Member::Matmul(*op)
        } else if let Some(op) = graph.op::<Conv2dForward>(node) {
            Member::Forward(*op)
        } else if let Some(op) = graph.op::<Conv2dBackwardInput>(node) {
            Member::Input(*op)
        } else {
            Member::Weight(*graph.op::<Conv2dBackwardWeight>(node)?)
        };
        let [a, b] = graph.inputs(node) else { return None };
        Some(Problem::plain(member, [graph.shape(*a).clone(), graph.shape(*b).clone()]))
    }

    fn shapes(&self) -> [&Shape; 2] {
        [&self.inputs[0], &self.inputs[1]]
    }

    /// The kernels that can run it on an adapter, best first.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn candidates(&self, caps: &Caps) -> Result<Vec<&'static Kernel>> {
        each!(&self.member, op => op.candidates(caps, &self.shapes()))
    }

    /// Stable name: `matmul MxKxN`, with `nt`, `tn` or `tt` where an operand is stored transposed; `conv2d_forward n64 c64 16x16 -> c128 k4 s2 p1`,
    /// and the same geometry for the gradients; then the epilogue.
    pub fn name(&self) -> Result<String> {
        let [a, b] = self.shapes();
        let mut name = match &self.member {
            Member::Matmul(op) => {
                let letter = |transposed| if transposed { 't' } else { 'n' };
                let [m, k] = if op.transpose_a { [a.dims()[1], a.dims()[0]] } else { [a.dims()[0], a.dims()[1]] };
                let n = b.dims()[usize::from(!op.transpose_b)];
                match (op.transpose_a, op.transpose_b) {
                    (false, false) => format!("matmul {m}x{k}x{n}"),
                    (ta, tb) => format!("matmul {m}x{k}x{n} {}{}", letter(ta), letter(tb)),
                }
            }
            Member::Forward(op) => geometry(op.name(), op.conv, a, b),
            Member::Input(op) => geometry(op.name(), op.conv, &self.output()?, b),
            Member::Weight(op) => geometry(op.name(), op.conv, a, &self.output()?),
        };
        if self.bias {
            name += " +bias";
        }
        name += match self.activation {
            Activation::None => "",
            Activation::LeakyRelu(0.0) => " relu",
            Activation::LeakyRelu(_) => " leaky_relu",
            Activation::Tanh => " tanh",
            Activation::Sigmoid => " sigmoid",
        };
        name += match self.mask {
            None | Some(Activation::None) => "",
            Some(Activation::LeakyRelu(0.0)) => " *relu'",
            Some(Activation::LeakyRelu(_)) => " *leaky_relu'",
            Some(Activation::Tanh) => " *tanh'",
            Some(Activation::Sigmoid) => " *sigmoid'",
        };
        Ok(name)
    }

    fn output(&self) -> Result<Shape> {
        each!(&self.member, op => op.shape(&self.shapes()))
    }

    fn twin(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        each!(&self.member, op => Ok(op.twin(&[a, b], &op.shape(&[&a.shape, &b.shape])?)))
    }

    /// For each input, the axis whose indices choose elements of the output, and the axis of the output that they choose along. Channel groups tie the
    /// axes together, so that grouped convolutions have none.
    fn sampled_axes(&self) -> Option<[(usize, usize); 2]> {
        let groups = match &self.member {
            Member::Matmul(op) => return Some([(usize::from(op.transpose_a), 0), (usize::from(!op.transpose_b), 1)]),
            Member::Forward(op) => op.conv.groups,
            Member::Input(op) => op.conv.groups,
            Member::Weight(op) => op.conv.groups,
        };
        (groups == 1).then_some(match &self.member {
            Member::Forward(_) => [(0, 0), (0, 1)],
            Member::Input(_) => [(0, 0), (1, 1)],
            _ => [(1, 1), (1, 0)],
        })
    }

    /// The subject: this product with one of its kernels, or with the adapter's own choice.
    ///
    /// # Errors
    /// If the shapes do not fit, or the kernel is not a candidate.
    pub fn subject(&self, caps: &Caps, kernel: Option<&'static Kernel>) -> Result<Subject> {
        let name = self.name()?;
        let (a, b) = (random(&self.inputs[0], 1, -1.0, 1.0), random(&self.inputs[1], 2, -1.0, 1.0));
        let output = self.output()?;
        let bias = random(&Shape::new(&[output.channels()])?, 3, -1.0, 1.0);
        let saved = self.mask.map(|_| random(&output, 4, -1.0, 1.0));

        let node = |i: usize| Operand::Node(NodeId(i));
        let epilogue = Epilogue {
            bias: self.bias.then_some(node(2)),
            activation: self.activation,
            mask: self.mask.map(|activation| (node(3), activation)),
        };
        let mut lowering = Lowering::new(caps.clone());
        let operands = [(node(0), self.inputs[0].clone()), (node(1), self.inputs[1].clone())];
        each!(&self.member, op => op.lower_variant(&mut lowering, &operands, (node(4), output.clone()), &epilogue, kernel))?;
        let mut known = vec![
            (node(0), CaseBuffer::input(&a)),
            (node(1), CaseBuffer::input(&b)),
            (node(4), CaseBuffer::Scratch(output.physical_len())),
            (node(2), CaseBuffer::input(&bias)),
        ];
        known.extend(saved.as_ref().map(|saved| (node(3), CaseBuffer::input(saved))));
        let case = Case::from_lowering(&name, lowering, known);
        let multiply_adds = case.dispatches.iter().map(|d| d.cost.flops / 2).sum::<u64>() as usize;

        let sample = self.sample(&a, &b, &output, multiply_adds)?;
        let largest_sum = largest(&sample.sums.data);
        let mut indices = Vec::new();
        let mut expected = Vec::new();
        let [_, channels, height, width] = sample.sums.shape.nchw();
        for (i, sum) in sample.sums.data.iter().enumerate() {
            let (image, channel, pixel) = (i / (channels * height * width), i / (height * width) % channels, i % (height * width));
            let (image, channel) = (sample.axis0[image], sample.axis1[channel]);
            let logical = (image * output.channels() + channel) * height * width + pixel;
            let mut value = *sum;
            if self.bias {
                value += bias.data[channel];
            }
            value = self.activation.apply(value);
            if let (Some(mask), Some(saved)) = (self.mask, &saved) {
                value *= mask.derivative_from_output(saved.data[logical]);
            }
            indices.push((image * height * width + pixel) * output.padded() + channel);
            expected.push(value);
        }
        for &image in &sample.axis0 {
            for pixel in 0..height * width {
                let row = (image * height * width + pixel) * output.padded();
                indices.extend(row + output.channels()..row + output.padded());
            }
        }
        expected.resize(indices.len(), 0.0);
        // Sums of many terms are as exact as the largest of them allows, and epilogues may squash that.
        let terms = multiply_adds as f64 / output.len() as f64;
        let squash = (largest_sum / largest(&expected)).max(1.0);
        let atol = (case.atol + ROUNDING * terms.sqrt()) * squash;
        Ok(Subject {
            name,
            case: Case { atol, ..case },
            check: Check::Samples(vec![Sample { buffer: 2, indices, expected }]),
            is_product: true,
        })
    }

    /// The sums at some indices of the output's first two axes, by the twin on the slices of the operands that they depend on.
    fn sample(&self, a: &Tensor, b: &Tensor, output: &Shape, multiply_adds: usize) -> Result<SampledSums> {
        let all = |axis: usize| (0..output.dims()[axis]).collect::<Vec<usize>>();
        let Some([(a_axis, a_out), (b_axis, b_out)]) = self.sampled_axes() else {
            return Ok(SampledSums { sums: self.twin(a, b)?, axis0: all(0), axis1: all(1) });
        };
        let (a_extent, b_extent) = (a.shape.dims()[a_axis], b.shape.dims()[b_axis]);
        let b_count = b_extent.min(MOST_SAMPLED);
        let each = (multiply_adds / (a_extent * b_extent)).max(1);
        let a_count = (SAMPLE_WORK / (each * b_count)).clamp(a_extent.min(2), a_extent.min(MOST_SAMPLED));
        let (from_a, from_b) = (spread(a_extent, a_count), spread(b_extent, b_count));
        let sums = self.twin(&sliced(a, a_axis, &from_a)?, &sliced(b, b_axis, &from_b)?)?;
        let mut axes = [all(0), all(1)];
        axes[a_out] = from_a;
        axes[b_out] = from_b;
        let [axis0, axis1] = axes;
        Ok(SampledSums { sums, axis0, axis1 })
    }
}

/// Bare sums of a product at some indices of the output's first two axes.
struct SampledSums {
    sums: Tensor,
    axis0: Vec<usize>,
    axis1: Vec<usize>,
}

fn geometry(op: &str, conv: Conv2d, x: &Shape, w: &Shape) -> String {
    let ([n, c, h, width], [o, _, kh, kw]) = (x.nchw(), w.nchw());
    let pair = |[a, b]: [usize; 2]| if a == b { a.to_string() } else { format!("{a}x{b}") };
    let mut name = format!("{op} n{n} c{c} {h}x{width} -> c{o} k{} s{} p{}", pair([kh, kw]), pair(conv.stride), pair(conv.padding));
    if conv.dilation != [1, 1] {
        name += &format!(" d{}", pair(conv.dilation));
    }
    if conv.groups != 1 {
        name += &format!(" g{}", conv.groups);
    }
    name
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()))
}

/// `count` of `extent` indices, at most all: the first, the last, and between them steps that fall on all remainders by the sizes of blocks.
fn spread(extent: usize, count: usize) -> Vec<usize> {
    let even = |i: usize| if count > 1 { i * (extent - 1) / (count - 1) } else { 0 };
    // Evenly spread indices of a power of two would all have the same remainder.
    let shifted = |i: usize| if i + 1 < count { (even(i) + i % 4).min(even(i + 1) - 1) } else { even(i) };
    (0..count).map(shifted).collect()
}

/// The tensor at some indices of one axis.
fn sliced(x: &Tensor, axis: usize, indices: &[usize]) -> Result<Tensor> {
    let mut dims = x.shape.dims().to_vec();
    let inner: usize = dims[axis + 1..].iter().product();
    let outer: usize = dims[..axis].iter().product();
    let extent = dims[axis];
    dims[axis] = indices.len();
    let data = (0..outer).flat_map(|o| indices.iter().map(move |i| (o * extent + i) * inner)).flat_map(|at| &x.data[at..at + inner]);
    Ok(Tensor::new(Shape::new(&dims)?, data.copied().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stable() {
        let name = |p: &Problem| p.name().unwrap();
        assert_eq!(name(&Problem::square(512).unwrap()), "matmul 512x512x512");
        let all = Problem::convolutions([64, 64, 16, 16], 128, 4, Conv2d::square(2, 1)).unwrap();
        assert_eq!(
            [0, 1, 2].map(|i| name(&all[i])),
            [
                "conv2d_forward n64 c64 16x16 -> c128 k4 s2 p1",
                "conv2d_backward_input n64 c64 16x16 -> c128 k4 s2 p1",
                "conv2d_backward_weight n64 c64 16x16 -> c128 k4 s2 p1"
            ]
        );
        let shapes = [Shape::new(&[64, 100]).unwrap(), Shape::new(&[256, 100]).unwrap()];
        let linear = Problem {
            bias: true,
            activation: Activation::LeakyRelu(0.2),
            ..Problem::plain(Member::Matmul(Matmul { transpose_a: false, transpose_b: true }), shapes)
        };
        assert_eq!(name(&linear), "matmul 64x100x256 nt +bias leaky_relu");
    }

    #[test]
    fn indices_are_spread_over_all_remainders() {
        assert_eq!(spread(1, 1), [0]);
        assert_eq!(spread(5, 5), [0, 1, 2, 3, 4]);
        assert_eq!(spread(7, 2), [0, 6]);
        let of_64 = spread(64, 9);
        assert_eq!((of_64[0], of_64[of_64.len() - 1]), (0, 63));
        assert!(of_64.is_sorted_by(|a, b| a < b), "{of_64:?}");
        assert!((0..4).all(|r| of_64.iter().any(|i| i % 4 == r)), "{of_64:?}");
    }

    /// The sampled sums are the whole twin's, element by element.
    #[test]
    fn samples_are_elements_of_the_whole() {
        let conv = Conv2d { stride: [2, 1], padding: [1, 0], dilation: [1, 2], groups: 1 };
        let grouped = Conv2d { groups: 2, ..conv };
        let mut problems = Problem::convolutions([12, 10, 6, 7], 11, 3, conv).unwrap().to_vec();
        let (x, w) = (Shape::new(&[2, 4, 6, 7]).unwrap(), Shape::new(&[6, 2, 3, 3]).unwrap());
        problems.push(Problem::plain(Member::Forward(Conv2dForward { conv: grouped, output_hw: None }), [x, w]));
        for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
            let shape = |rows: usize, columns: usize, t: bool| Shape::new(&if t { [columns, rows] } else { [rows, columns] }).unwrap();
            let member = Member::Matmul(Matmul { transpose_a: ta, transpose_b: tb });
            problems.push(Problem::plain(member, [shape(13, 7, ta), shape(7, 14, tb)]));
        }
        for problem in problems {
            let (a, b) = (random(&problem.inputs[0], 1, -1.0, 1.0), random(&problem.inputs[1], 2, -1.0, 1.0));
            let output = problem.output().unwrap();
            let whole = problem.twin(&a, &b).unwrap();
            // So much work that only the fewest rows are sampled.
            let sampled = problem.sample(&a, &b, &output, usize::MAX).unwrap();
            let of_axis0 = sliced(&whole, 0, &sampled.axis0).unwrap();
            assert_eq!(sliced(&of_axis0, 1, &sampled.axis1).unwrap(), sampled.sums, "{}", problem.name().unwrap());
            let is_grouped = problem.sampled_axes().is_none();
            assert_eq!(sampled.sums.data.len() < whole.data.len(), !is_grouped, "{}", problem.name().unwrap());
        }
    }
}
