//! Cases of every kernel of the family: what the adapter can run, on shapes that are multiples of nothing.

use super::super::activation::Activation;
use super::super::case::{Case, CaseBuffer};
use super::super::conv2d::{Conv2d, Conv2dBackwardInput, Conv2dBackwardWeight, Conv2dForward};
use super::super::matmul::Matmul;
use super::super::{random, shape};
use super::half::{self, Value, from_f16, is_half, read_halves, to_f16};
use super::{Epilogue, kernels};
use crate::gpu::kernel::Kernel;
use crate::graph::NodeId;
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::op::Op;
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;

/// What the family's ops offer beyond [`Op`].
trait Member: Op {
    fn candidates(&self, caps: &Caps, inputs: &[&Shape]) -> Vec<&'static Kernel>;
    fn append(&self, lowering: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape), epilogue: &Epilogue, kernel: &Kernel);
}

macro_rules! member {
    ($op:ident) => {
        impl Member for $op {
            fn candidates(&self, caps: &Caps, inputs: &[&Shape]) -> Vec<&'static Kernel> {
                $op::candidates(self, caps, inputs).unwrap_or_else(|e| panic!("{self:?} on {inputs:?}: {e}"))
            }

            fn append(
                &self,
                lowering: &mut Lowering,
                inputs: &[(Operand, Shape)],
                output: (Operand, Shape),
                epilogue: &Epilogue,
                kernel: &Kernel,
            ) {
                let lowered = self.lower_variant(lowering, inputs, output, epilogue, Some(kernel));
                lowered.unwrap_or_else(|e| panic!("{self:?} on {inputs:?} with {}: {e}", kernel.label()));
            }
        }
    };
}

member!(Matmul);
member!(Conv2dForward);
member!(Conv2dBackwardInput);
member!(Conv2dBackwardWeight);

/// An epilogue before it has operands.
#[derive(Debug, Clone, Copy)]
struct Finish {
    bias: bool,
    activation: Activation,
    mask: Option<Activation>,
}

const PLAIN: Finish = Finish { bias: false, activation: Activation::None, mask: None };

/// Every part of an epilogue, alone and together.
const FINISHES: [Finish; 10] = [
    PLAIN,
    Finish { bias: true, ..PLAIN },
    Finish { activation: Activation::LeakyRelu(0.2), ..PLAIN },
    Finish { bias: true, activation: Activation::LeakyRelu(0.0), ..PLAIN },
    Finish { activation: Activation::Tanh, ..PLAIN },
    Finish { bias: true, activation: Activation::Sigmoid, ..PLAIN },
    Finish { mask: Some(Activation::LeakyRelu(0.2)), ..PLAIN },
    Finish { mask: Some(Activation::Tanh), ..PLAIN },
    Finish { mask: Some(Activation::Sigmoid), ..PLAIN },
    Finish { bias: true, activation: Activation::Sigmoid, mask: Some(Activation::LeakyRelu(0.5)) },
];

/// One epilogue for each set of pipeline overrides.
const SPECIALISATIONS: [Finish; 4] = [PLAIN, FINISHES[5], FINISHES[6], FINISHES[9]];

/// An op on input shapes.
struct Problem {
    op: Box<dyn Member>,
    inputs: [Vec<usize>; 2],
}

fn matmul(transpose_a: bool, transpose_b: bool, [m, k, n]: [usize; 3]) -> Problem {
    let a = if transpose_a { vec![k, m] } else { vec![m, k] };
    let b = if transpose_b { vec![n, k] } else { vec![k, n] };
    Problem { op: Box::new(Matmul { transpose_a, transpose_b }), inputs: [a, b] }
}

/// The three directions of one convolution, with all output pixels but the given numbers.
fn convolutions(conv: Conv2d, x: [usize; 4], w: [usize; 4], without: [usize; 2]) -> [Problem; 3] {
    let [input_hw, kernel_hw] = [[x[2], x[3]], [w[2], w[3]]];
    let [all_h, all_w] = conv.output_hw(input_hw, kernel_hw).expect("the cases' kernels fit");
    let [oh, ow] = [all_h - without[0], all_w - without[1]];
    let output_hw = (without != [0, 0]).then_some([oh, ow]);
    let (x, w, y) = (x.to_vec(), w.to_vec(), vec![x[0], w[0], oh, ow]);
    [
        Problem { op: Box::new(Conv2dForward { conv, output_hw }), inputs: [x.clone(), w.clone()] },
        Problem { op: Box::new(Conv2dBackwardInput { conv, input_hw }), inputs: [y.clone(), w] },
        Problem { op: Box::new(Conv2dBackwardWeight { conv, kernel_hw }), inputs: [x, y] },
    ]
}

fn problems(caps: &Caps) -> Vec<Problem> {
    let mut all = Vec::new();
    let sizes = [[1, 1, 1], [5, 7, 3], [33, 21, 70], [17, 40, 64], [40, 16, 136], [100, 100, 12], [9, 64, 1], [37, 24, 5], [3, 130, 8]];
    // Several tiles of every kernel, and sums long enough to be split.
    let sizes = sizes.into_iter().chain([[130, 300, 140], [6, 1500, 10], [21, 700, 3]]);
    for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
        all.extend(sizes.clone().map(|size| matmul(ta, tb, size)));
    }
    let conv = |stride, padding, dilation, groups| Conv2d { stride, padding, dilation, groups };
    let plain = Conv2d::default();
    for (conv, x, w) in [
        // One element; one pixel.
        (plain, [1, 1, 1, 1], [1, 1, 1, 1]),
        (plain, [2, 5, 1, 1], [6, 5, 1, 1]),
        // Nothing is a multiple of anything, and the axes differ in everything.
        (plain, [2, 5, 6, 7], [7, 5, 3, 2]),
        (conv([1, 1], [1, 2], [1, 1], 1), [3, 6, 5, 4], [70, 6, 3, 5]),
        (conv([2, 3], [1, 0], [1, 1], 1), [2, 3, 9, 8], [5, 3, 4, 3]),
        (conv([3, 2], [2, 1], [2, 1], 1), [2, 9, 10, 7], [10, 9, 3, 4]),
        (conv([1, 2], [2, 3], [1, 2], 1), [2, 10, 7, 9], [6, 10, 2, 3]),
        // A stride beyond the kernel: pixels that no tap reaches.
        (conv([3, 4], [0, 1], [1, 1], 1), [2, 4, 8, 11], [8, 4, 2, 1]),
        // A stride beyond the input.
        (conv([4, 4], [2, 2], [1, 1], 1), [2, 8, 3, 2], [8, 8, 4, 4]),
        // The layers of a DCGAN: several tiles.
        (conv([2, 2], [1, 1], [1, 1], 1), [3, 16, 8, 6], [72, 16, 4, 4]),
        (conv([2, 2], [1, 1], [1, 1], 1), [2, 8, 10, 12], [24, 8, 4, 4]),
        (conv([2, 2], [1, 1], [1, 1], 1), [3, 1, 8, 10], [16, 1, 4, 4]),
        (conv([2, 2], [1, 1], [1, 1], 1), [2, 3, 12, 8], [32, 3, 4, 4]),
        (conv([1, 1], [3, 3], [1, 1], 1), [2, 32, 6, 7], [3, 32, 7, 7]),
        // Several tiles of every kernel, in all directions; segments that are no multiple of a step; sums long enough to be split.
        (conv([2, 2], [1, 1], [1, 1], 1), [2, 20, 20, 18], [136, 20, 4, 4]),
        (conv([2, 1], [2, 2], [1, 1], 1), [3, 12, 15, 13], [70, 12, 5, 5]),
        (conv([2, 2], [1, 1], [1, 1], 1), [2, 66, 14, 14], [3, 66, 4, 4]),
        (conv([2, 2], [1, 1], [1, 1], 1), [2, 66, 14, 14], [40, 66, 4, 4]),
        // First and last layers: the kernel is the input, so that they are matrix products.
        (plain, [9, 20, 4, 3], [1, 20, 4, 3]),
        (plain, [5, 6, 3, 5], [100, 6, 3, 5]),
        // A dilated kernel of one column is still dense.
        (conv([1, 1], [0, 0], [1, 3], 1), [3, 6, 4, 1], [9, 6, 4, 1]),
        // A kernel that covers its input with gaps.
        (conv([1, 1], [0, 0], [2, 2], 1), [3, 6, 5, 3], [9, 6, 3, 2]),
        // Groups of fours, of eights, of neither, and depthwise.
        (conv([2, 1], [1, 1], [1, 1], 2), [2, 8, 6, 5], [24, 4, 3, 3]),
        (conv([2, 2], [1, 1], [1, 1], 2), [2, 16, 6, 7], [32, 8, 4, 4]),
        (conv([1, 2], [1, 0], [1, 2], 3), [2, 6, 6, 7], [9, 2, 3, 2]),
        (conv([2, 1], [1, 1], [1, 1], 2), [2, 8, 5, 6], [6, 4, 3, 2]),
        (conv([2, 2], [1, 1], [1, 1], 5), [2, 5, 6, 7], [10, 1, 3, 3]),
        // One dimension: rows of one pixel's height, with stride, padding, dilation, several tiles and groups; a whole row; a column.
        (conv([1, 2], [0, 1], [1, 1], 1), [3, 5, 1, 11], [6, 5, 1, 3]),
        (conv([1, 1], [0, 4], [1, 2], 1), [2, 8, 1, 10], [9, 8, 1, 5]),
        (conv([1, 3], [0, 2], [1, 1], 1), [3, 20, 1, 101], [72, 20, 1, 5]),
        (conv([1, 2], [0, 1], [1, 1], 2), [2, 8, 1, 9], [12, 4, 1, 4]),
        (plain, [4, 6, 1, 7], [9, 6, 1, 7]),
        (conv([2, 1], [1, 0], [1, 1], 1), [2, 6, 13, 1], [70, 6, 4, 1]),
        // One dimension with sums long enough to be split: in the weight gradient too, and with few columns in either direction.
        (conv([1, 1], [0, 2], [1, 1], 1), [3, 130, 1, 190], [40, 130, 1, 5]),
        (conv([1, 1], [0, 2], [1, 1], 1), [2, 420, 1, 9], [3, 420, 1, 5]),
        (conv([1, 1], [0, 2], [1, 1], 1), [2, 3, 1, 9], [420, 3, 1, 5]),
    ] {
        all.extend(convolutions(conv, x, w, [0, 0]));
    }
    // Fewer output pixels than fit, as under an output padding beyond the stride.
    all.extend(convolutions(conv([1, 2], [1, 0], [2, 3], 1), [2, 6, 7, 9], [5, 6, 3, 2], [1, 1]));
    // Weight gradients that are split as for software adapters: with a last part that is shorter, with groups, and with groups of three channels. And,
    // there alone, with more pixels than a loop may walk: elsewhere there are kernels that walk them.
    let groups = conv([1, 1], [0, 0], [1, 1], 2);
    let split = [(plain, [2, 3, 96, 90], [5, 3, 2, 2]), (groups, [2, 8, 96, 90], [8, 4, 2, 2]), (groups, [2, 6, 96, 90], [6, 3, 2, 2])];
    let long = [(plain, [5, 2, 230, 240], [3, 2, 2, 2]), (groups, [5, 6, 120, 121], [6, 3, 2, 2])];
    for (conv, x, w) in split.into_iter().chain(long.into_iter().filter(|_| caps.software)) {
        let [_, _, weight_gradient] = convolutions(conv, x, w, [0, 0]);
        all.push(weight_gradient);
    }
    all
}

/// The nearest number that f16 holds as a normal one, or zero: some adapters have no others.
fn nearest_half(value: f64) -> f64 {
    if value.abs() < 2f64.powi(-14) { 0.0 } else { from_f16(to_f16(value)) }
}

/// A problem's inputs and what its twin makes of them, which all its cases share.
struct Solved<'a> {
    problem: &'a Problem,
    tensors: [Tensor; 2],
    product: Tensor,
}

impl<'a> Solved<'a> {
    fn new(problem: &'a Problem) -> Self {
        let inputs = [shape(&problem.inputs[0]), shape(&problem.inputs[1])];
        Self::of(problem, [random(&inputs[0], 1, -1.0, 1.0), random(&inputs[1], 2, -1.0, 1.0)])
    }

    /// With inputs that f16 holds.
    fn in_half(problem: &'a Problem) -> Self {
        let Solved { mut tensors, .. } = Solved::new(problem);
        tensors.iter_mut().flat_map(|tensor| &mut tensor.data).for_each(|value| *value = nearest_half(*value));
        Self::of(problem, tensors)
    }

    fn of(problem: &'a Problem, tensors: [Tensor; 2]) -> Self {
        let inputs = [&tensors[0].shape, &tensors[1].shape];
        let output = problem.op.shape(&inputs).unwrap_or_else(|e| panic!("{e}"));
        let product = problem.op.twin(&[&tensors[0], &tensors[1]], &output);
        Solved { problem, tensors, product }
    }
}

fn case(solved: &Solved, caps: &Caps, kernel: &'static Kernel, finish: Finish) -> Case {
    rounded_case(solved, caps, kernel, finish, [false; 2], false)
}

/// A case in which A, B or both are read in f16, or multiplied by matrix units.
fn rounded_case(solved: &Solved, caps: &Caps, kernel: &'static Kernel, finish: Finish, rounded: [bool; 2], by_matrix: bool) -> Case {
    let Solved { problem, tensors, product } = solved;
    let inputs = [tensors[0].shape.clone(), tensors[1].shape.clone()];
    let output = product.shape.clone();
    let bias = random(&shape(&[output.channels()]), 3, -1.0, 1.0);
    let saved = random(&output, 4, -1.0, 1.0);

    let mut expected = product.clone();
    let largest = |values: &[f64]| values.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    let largest_sum = largest(&expected.data);
    let [_, channels, h, w] = output.nchw();
    for (i, value) in expected.data.iter_mut().enumerate() {
        if finish.bias {
            *value += bias.data[i / (h * w) % channels];
        }
        *value = finish.activation.apply(*value);
        if let Some(mask) = finish.mask {
            *value *= mask.derivative_from_output(saved.data[i]);
        }
    }

    let node = |i: usize| Operand::Node(NodeId(i));
    let epilogue =
        Epilogue { bias: finish.bias.then_some(node(2)), activation: finish.activation, mask: finish.mask.map(|mask| (node(3), mask)) };
    let mut lowering = Lowering::new(caps.clone());
    let operands = [(node(0), inputs[0].clone()), (node(1), inputs[1].clone())];
    problem.op.append(&mut lowering, &operands, (node(4), output), &epilogue, kernel);
    if rounded != [false; 2] {
        let dispatches = std::mem::take(&mut lowering.dispatches);
        let may_be: Vec<Operand> = dispatches[0].1.operands.iter().zip(rounded).filter(|(_, rounded)| *rounded).map(|(o, _)| *o).collect();
        let may_round = |operand: Operand| {
            let (_, shape) = operands.iter().find(|(input, _)| *input == operand)?;
            may_be.contains(&operand).then_some(Value { operand, words: shape.physical_len() })
        };
        lowering.dispatches = read_halves(dispatches, &mut lowering, by_matrix, &may_round);
    }
    let known = vec![
        (node(0), CaseBuffer::input(&tensors[0])),
        (node(1), CaseBuffer::input(&tensors[1])),
        (node(2), CaseBuffer::input(&bias)),
        (node(3), CaseBuffer::input(&saved)),
        (node(4), CaseBuffer::output(&expected)),
    ];
    let label = lowering.dispatches.iter().map(|(_, d)| d.kernel).find(|k| is_half(k) && k.name != "to_f16").unwrap_or(kernel).label();
    let name = format!("{:?} {} {} {label} {finish:?}", problem.op, inputs[0], inputs[1]);
    // Sums are as exact as the largest of them allows, and epilogues may squash that: tanh makes a sum of 20 into 1.
    let squash = (largest_sum / largest(&expected.data)).max(1.0);
    let case = Case::from_lowering(name, lowering, known);
    // Matrix units truncate where others round (Fasi et al. 2021, "Numerical behavior of NVIDIA tensor cores"), at every fourth to sixteenth k: errors
    // of a sum do not cancel, but add up to 2^-23 of it each, 9e-6 in 75 fours. Sums in f16 would be off by a hundred times as much.
    let atol = if by_matrix { 1e-5 } else { case.atol };
    // Errors of very long sums grow like a random walk.
    let flops: u64 = case.dispatches.iter().map(|d| d.cost.flops).sum();
    let terms = flops as f64 / 2.0 / expected.data.len() as f64;
    let walked = if terms > 10_000.0 { (terms / 1000.0).sqrt() } else { 1.0 };
    Case { atol: atol * squash * walked, ..case }
}

/// Cases of all kernels that can run on an adapter: every problem with every kernel, and every epilogue with every kernel.
pub fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut finished: Vec<String> = Vec::new();
    for (i, problem) in problems(caps).iter().enumerate() {
        let shapes = [shape(&problem.inputs[0]), shape(&problem.inputs[1])];
        let solved = Solved::new(problem);
        for (j, kernel) in problem.op.candidates(caps, &[&shapes[0], &shapes[1]]).into_iter().enumerate() {
            let has_epilogue = kernel.name.starts_with("gemm_rows");
            if !has_epilogue {
                cases.push(case(&solved, caps, kernel, PLAIN));
            } else if shapes[0].len() > 64 && !finished.contains(&kernel.label()) {
                finished.push(kernel.label());
                cases.extend(FINISHES.map(|finish| case(&solved, caps, kernel, finish)));
            } else {
                cases.push(case(&solved, caps, kernel, FINISHES[(i + j) % FINISHES.len()]));
            }
        }
    }
    cases.extend(half_cases(caps, &|_| true));
    cases
}

/// Cases of the kernels that read f16 and of the conversion, as far as the adapter can run them and `wanted` asks for them: for each, small
/// products of every op that it serves, with every specialisation of the epilogue.
pub fn half_cases(caps: &Caps, wanted: &dyn Fn(&Kernel) -> bool) -> Vec<Case> {
    let mut cases = half::conversion_cases(caps);
    if !caps.float16 {
        return cases;
    }
    let mut served: Vec<(&str, String)> = Vec::new();
    for problem in problems(caps) {
        let shapes = [shape(&problem.inputs[0]), shape(&problem.inputs[1])];
        // Some rows and columns, so that the places of all numbers of a load are seen.
        if shapes.iter().any(|s| s.len() < 100) {
            continue;
        }
        let mut solved = None;
        let candidates = problem.op.candidates(caps, &[&shapes[0], &shapes[1]]);
        for forms in kernels::half_forms().filter(|forms| candidates.iter().any(|k| std::ptr::eq(*k, forms.f32))) {
            let matrix = forms.matrix.filter(|_| caps.matrix).map(|matrix| matrix.kernel);
            for (kernel, rounded, by_matrix) in [
                (matrix, [true, true], true),
                (forms.ab, [true, true], false),
                (forms.b, [false, true], false),
                (forms.a, [true, false], false),
            ] {
                let Some(kernel) = kernel.filter(|k| wanted(k)) else { continue };
                // A kernel of matrix units stands in for several.
                let service = (problem.op.name(), format!("{} for {}", kernel.label(), forms.f32.label()));
                if served.contains(&service) {
                    continue;
                }
                let solved = solved.get_or_insert_with(|| Solved::in_half(&problem));
                let [n, channels, h, w] = solved.product.shape.nchw();
                if by_matrix && (n * h * w <= 64 || channels <= 64) {
                    // Every fragment of a tile is to have numbers in it.
                    continue;
                }
                let is_first = served.iter().all(|(_, label)| *label != service.1);
                let finishes = match kernel.name.starts_with("gemm_rows") {
                    true if is_first => &SPECIALISATIONS[..],
                    true => &SPECIALISATIONS[3..],
                    false => &SPECIALISATIONS[..1],
                };
                cases.extend(finishes.iter().map(|finish| rounded_case(solved, caps, forms.f32, *finish, rounded, by_matrix)));
                served.push(service);
            }
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing;
    use crate::gpu::{Gpu, GpuOptions};
    use crate::ops::case::run;

    #[test]
    fn products_that_would_loop_longer_than_software_adapters_allow_are_refused() {
        let lower = |k: usize, software: bool| {
            let mut lowering = Lowering::new(Caps { software, ..Caps::minimal() });
            lowering.label = "step/D/linear1.forward".into();
            let [a, b, y] = [0, 1, 2].map(|i| Operand::Node(NodeId(i)));
            // Only the kernel of single numbers multiplies two transposed matrices.
            let op = Matmul { transpose_a: true, transpose_b: true };
            op.lower(&mut lowering, &[(a, shape(&[k, 4])), (b, shape(&[4, k]))], (y, shape(&[4, 4])))
        };
        lower(60_000, true).unwrap();
        lower(70_000, false).unwrap();
        let refusal = lower(70_000, true).unwrap_err();
        assert_eq!(refusal.exit_code(), 2);
        let text = refusal.to_string();
        assert!(text.starts_with("step/D/linear1.forward: gemm_rows_scalar would run 70001 iterations"), "{text}");
        assert!(text.contains("make the batch or the images smaller"), "{text}");
    }

    /// Tables of variants tell products apart by their names.
    #[test]
    fn products_have_names_of_their_own() {
        let conv = Conv2dForward { conv: Conv2d::square(2, 1), output_hw: None };
        let name = |op: &dyn Member, inputs: [&[usize]; 2]| {
            let [a, b] = inputs.map(shape);
            let y = op.shape(&[&a, &b]).unwrap();
            let mut lowering = Lowering::new(Caps::minimal());
            let [x, w, out] = [0, 1, 2].map(|i| Operand::Node(NodeId(i)));
            op.lower(&mut lowering, &[(x, a), (w, b)], (out, y)).unwrap();
            let choice = lowering.choices.pop().unwrap();
            assert_eq!(choice.kernel.label(), choice.candidates[0].label());
            choice.product
        };
        assert_eq!(name(&conv, [&[64, 3, 16, 16], &[8, 3, 4, 4]]), "conv2d_forward 64x3x16x16 8x3x4x4 s2 p1");
        assert_eq!(name(&Matmul { transpose_a: false, transpose_b: true }, [&[2, 3], &[5, 3]]), "matmul_nt 2x3 5x3");
        let mut names: Vec<(String, String)> = problems(&Caps::minimal())
            .iter()
            .map(|p| (name(p.op.as_ref(), [&p.inputs[0], &p.inputs[1]]), format!("{:?} {:?}", p.op, p.inputs)))
            .collect();
        names.sort();
        names.dedup();
        for pair in names.windows(2) {
            assert_ne!(pair[0].0, pair[1].0, "{} and {}", pair[0].1, pair[1].1);
        }
    }

    fn failures(gpu: &Gpu) -> Vec<String> {
        let cases = cases(&gpu.caps());
        assert!(cases.len() > 100, "{} cases", cases.len());
        cases.iter().filter_map(|case| run(gpu, case).unwrap_or_else(|e| panic!("{}: {e}", case.name)).failure).collect()
    }

    #[test]
    fn every_kernel_agrees_with_the_twin() {
        let Some(gpu) = testing::gpu() else { return };
        let failures = failures(gpu);
        assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    }

    #[test]
    fn every_kernel_agrees_with_the_twin_when_checked() {
        if testing::gpu().is_none() {
            return;
        }
        let options = GpuOptions {
            adapter: std::env::var("GANYMEDE_TEST_ADAPTER").ok(),
            checked: true,
            pipeline_cache: false,
            ..GpuOptions::default()
        };
        let gpu = Gpu::open(&options).expect("the adapter opened before");
        let failures = failures(&gpu);
        assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    }
}
