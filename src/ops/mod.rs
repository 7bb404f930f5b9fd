//! Ops: one file per family, with parameters, shape rule, gradient rule, f64 twin and kernel table entries.

pub mod activation;
pub mod augment;
pub mod batch;
pub mod batch_norm;
pub mod batch_norm_whole;
pub mod bce;
pub mod bce_probabilities;
pub mod case;
pub mod case_builder;
pub mod channel_groups;
pub mod channels;
pub mod column_sums;
pub mod constant;
pub mod conv2d;
pub mod curves;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod gather;
pub mod gemm;
#[cfg(test)]
pub(crate) mod gradient_check;
pub mod labels;
pub mod loaders;
pub mod loss;
pub mod matmul;
pub mod minibatch_stddev;
pub mod noise;
pub mod norms;
pub mod optimiser;
pub mod pixel_shuffle;
pub mod pool;
pub mod reduce;
pub mod regroup;
pub mod reshape;
pub mod running_stats;
pub mod softmax;
pub mod stats;
pub mod upsample;

use crate::error::{Error, Result};
use crate::gpu::kernel::Kernel;
use crate::graph::Graph;
use crate::graph::NodeId;
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::op::Op;
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use case::{Case, CaseBuffer};
use rand::{RngExt, SeedableRng};

/// An empty graph whose gradients are summed by [`elementwise::Add`].
pub fn new_graph() -> Graph {
    Graph::new(elementwise::add)
}

/// Every kernel of every family.
pub fn kernels() -> Vec<&'static Kernel> {
    [
        &gemm::kernels(),
        elementwise::KERNELS,
        reduce::KERNELS,
        reshape::KERNELS,
        batch::KERNELS,
        batch_norm::KERNELS,
        batch_norm_whole::KERNELS,
        bce::KERNELS,
        channel_groups::KERNELS,
        channels::KERNELS,
        column_sums::KERNELS,
        embedding::KERNELS,
        optimiser::KERNELS,
        softmax::KERNELS,
        noise::KERNELS,
        dropout::KERNELS,
        gather::KERNELS,
        labels::KERNELS,
        augment::KERNELS,
        stats::KERNELS,
        running_stats::KERNELS,
        pool::KERNELS,
        upsample::KERNELS,
        pixel_shuffle::KERNELS,
    ]
    .concat()
}

/// Every validated use of the kernels that an adapter with these capabilities can run, including variants that it would not pick by itself.
pub fn cases(caps: &Caps) -> Vec<Case> {
    [
        gemm::cases(caps),
        elementwise::cases(caps),
        curves::cases(caps),
        bce_probabilities::cases(caps),
        reduce::cases(caps),
        reshape::cases(caps),
        batch::cases(caps),
        batch_norm::cases(caps),
        batch_norm_whole::cases(caps),
        bce::cases(caps),
        channel_groups::cases(caps),
        channels::cases(caps),
        column_sums::cases(caps),
        embedding::cases(caps),
        optimiser::cases(caps),
        softmax::cases(caps),
        noise::cases(caps),
        dropout::cases(caps),
        gather::cases(caps),
        labels::cases(caps),
        augment::cases(caps),
        stats::cases(caps),
        running_stats::cases(caps),
        pool::cases(caps),
        upsample::cases(caps),
        pixel_shuffle::cases(caps),
    ]
    .concat()
}

/// The inputs of an op as an array, or an error that names it.
pub(crate) fn expect_inputs<'a, const N: usize>(name: &str, inputs: &[&'a Shape]) -> Result<[&'a Shape; N]> {
    inputs.try_into().map_err(|_| Error::internal(format!("{name} takes {N} inputs, got {}", inputs.len())))
}

/// A shape of a case or test.
///
/// # Panics
/// If it is not a shape.
pub(crate) fn shape(dims: &[usize]) -> Shape {
    Shape::new(dims).expect("the shapes of cases are written by hand")
}

/// Values of a case or test: uniform in [low, high), rounded to f32, the same for the same shape and seed.
pub(crate) fn random(shape: &Shape, seed: u64, low: f64, high: f64) -> Tensor {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    Tensor::from_fn(shape.clone(), |_| f64::from(rng.random_range(low..high) as f32))
}

/// The case of one op on one set of inputs: what it lowers to, against its twin, under its name, parameters and shapes.
///
/// # Panics
/// If the op does not take the inputs.
pub(crate) fn op_case(caps: &Caps, op: &impl Op, inputs: &[Tensor]) -> Case {
    let shapes: Vec<&Shape> = inputs.iter().map(|x| &x.shape).collect();
    let y = op.shape(&shapes).expect("the inputs of cases are written by hand");
    let node = |i: usize| Operand::Node(NodeId(i));
    let operands: Vec<(Operand, Shape)> = inputs.iter().enumerate().map(|(i, x)| (node(i), x.shape.clone())).collect();
    let output = node(inputs.len());
    let mut lowering = Lowering::new(caps.clone());
    op.lower(&mut lowering, &operands, (output, y.clone())).expect("the inputs of cases are written by hand");
    let mut known: Vec<(Operand, CaseBuffer)> = inputs.iter().enumerate().map(|(i, x)| (node(i), CaseBuffer::input(x))).collect();
    known.push((output, CaseBuffer::output(&op.twin(&inputs.iter().collect::<Vec<_>>(), &y))));
    let texts: Vec<String> = shapes.iter().map(ToString::to_string).collect();
    Case::from_lowering(format!("{op:?} {} -> {y}", texts.join(", ")), lowering, known)
}

/// The capabilities of a GPU and of a software adapter with the features of `caps`: element-wise ops and sums pick other kernels on the
/// latter.
pub(crate) fn widths(caps: &Caps) -> [Caps; 2] {
    [false, true].map(|software| Caps { software, ..caps.clone() })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::gpu::{BufferRange, Gpu, GpuOptions, testing};
    use std::collections::{HashMap, HashSet};

    fn own_cases(caps: &Caps) -> Vec<Case> {
        [
            elementwise::cases(caps),
            curves::cases(caps),
            bce_probabilities::cases(caps),
            reduce::cases(caps),
            reshape::cases(caps),
            batch::cases(caps),
            batch_norm::cases(caps),
            bce::cases(caps),
            pool::cases(caps),
            upsample::cases(caps),
            pixel_shuffle::cases(caps),
            softmax::cases(caps),
        ]
        .concat()
    }

    #[test]
    fn kernels_match_their_twins() {
        let Some(gpu) = testing::gpu() else { return };
        let failures: Vec<String> = own_cases(&gpu.caps()).iter().filter_map(|case| case::run(gpu, case).unwrap().failure).collect();
        assert!(failures.is_empty(), "{} cases fail:\n{}", failures.len(), failures.join("\n"));
    }

    /// What a case writes, bit by bit.
    pub(crate) fn bits(gpu: &Gpu, case: &Case) -> Vec<Vec<u8>> {
        let mut buffers = Vec::new();
        for content in &case.buffers {
            let bytes = match content {
                CaseBuffer::Input(bytes) => bytes.clone(),
                CaseBuffer::Scratch(words) => vec![0xff; 4 * words],
                CaseBuffer::Output(expected) => vec![0xff; 4 * expected.len()],
                CaseBuffer::State(..) | CaseBuffer::Words(..) => unreachable!("no family here has state"),
            };
            let buffer = gpu.buffer(&case.name, bytes.len() as u64).unwrap();
            gpu.write(&buffer, 0, &bytes).unwrap();
            buffers.push(buffer);
        }
        let range = |i: usize| BufferRange { buffer: buffers[i].clone(), offset: 0, len: buffers[i].size() };
        let dispatches = case.dispatches.iter().map(|d| (d.kernel.label(), d.clone().map(range))).collect();
        let sequence = gpu.sequence(&case.name, dispatches, None).unwrap();
        gpu.submit(&sequence, 0..1).unwrap();
        buffers.iter().map(|buffer| gpu.read(buffer, 0, buffer.size()).unwrap()).collect()
    }

    #[test]
    fn checked_shaders_give_the_same_bits() {
        let Some(gpu) = testing::gpu() else { return };
        if !gpu.caps().software {
            // A GPU's compiler may contract multiply-adds in one form and not in the other.
            return;
        }
        let checked = Gpu::open(&GpuOptions { checked: true, pipeline_cache: false, ..GpuOptions::default() }).unwrap();
        for case in own_cases(&gpu.caps()) {
            assert!(bits(gpu, &case) == bits(&checked, &case), "{}: the checked kernels give other bits", case.name);
        }
    }

    /// A kernel's forms differ in how they load and store, not in what they compute.
    #[test]
    fn loaders_give_the_same_bits() {
        let Some(gpu) = testing::gpu() else { return };
        if !gpu.caps().software || !gpu.caps().int64 {
            return;
        }
        type Bytes = Vec<Vec<u8>>;
        let mut first: HashMap<(String, Bytes), (Vec<String>, Bytes)> = HashMap::new();
        let mut compared = HashSet::new();
        for case in own_cases(&gpu.caps()) {
            let inputs = case.buffers.iter().filter_map(|b| if let CaseBuffer::Input(bytes) = b { Some(bytes.clone()) } else { None });
            let key = (case.name.clone(), inputs.collect());
            let kernels: Vec<String> = case.dispatches.iter().map(|d| d.kernel.label()).collect();
            let got = bits(gpu, &case);
            let (others, expected) = first.entry(key).or_insert_with(|| (kernels.clone(), got.clone()));
            assert!(got == *expected, "{}: {kernels:?} and {others:?} give different bits", case.name);
            compared.extend(kernels.into_iter().zip(others.clone()).filter(|(a, b)| a != b));
        }
        for form in ["texture", "u64"] {
            let count = compared.iter().filter(|(a, _)| a.ends_with(form)).count();
            assert!(count >= 6, "{count} kernels were compared with their {form} form");
        }
    }

    /// What a GPU's activation and elementary functions make of values that are no numbers, or too large.
    #[test]
    fn non_finite_values_are_kept() {
        use elementwise::{Affine, Exp, LeakyRelu, Log, Rsqrt, Sigmoid, Softplus, Sqrt, Tanh};
        let Some(gpu) = testing::gpu() else { return };
        const NAN: f32 = f32::NAN;
        const INF: f32 = f32::INFINITY;
        let given = [NAN, INF, -INF, 1e30, -1e30, 50.0, -50.0, f32::from_bits(0xffc0_0001)];
        // Unary functions pick their kernel by the shape alone, so the case of any values serves.
        let x = random(&shape(&[2, 4]), 1, 1.0, 2.0);
        for caps in widths(&gpu.caps()) {
            let run = |op: &dyn Fn(&Caps, &[Tensor]) -> Case| -> Vec<f32> {
                let mut case = op(&caps, std::slice::from_ref(&x));
                case.buffers[0] = CaseBuffer::Input(bytemuck::cast_slice(&given).to_vec());
                bytemuck::pod_collect_to_vec(&bits(gpu, &case)[1])
            };
            let expect = |name: &str, got: Vec<f32>, expected: [f32; 8]| {
                for ((x, got), expected) in given.iter().zip(got).zip(expected) {
                    let close = got == expected || got.is_nan() && expected.is_nan() || (got - expected).abs() <= 1e-4 * expected.abs();
                    assert!(close, "{name}({x:e}) is {got:e}, expected {expected:e}");
                }
            };
            let affine = Affine { scale: 0.5, shift: 1.0 };
            expect("affine", run(&|c, x| op_case(c, &affine, x)), [NAN, INF, -INF, 5e29, -5e29, 26.0, -24.0, NAN]);
            let leaky = LeakyRelu { slope: 0.5 };
            expect("leaky_relu", run(&|c, x| op_case(c, &leaky, x)), [NAN, INF, -INF, 1e30, -5e29, 50.0, -25.0, NAN]);
            expect("tanh", run(&|c, x| op_case(c, &Tanh, x)), [NAN, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, NAN]);
            expect("softplus", run(&|c, x| op_case(c, &Softplus, x)), [NAN, INF, 0.0, 1e30, 0.0, 50.0, 1.928_75e-22, NAN]);
            expect("sigmoid", run(&|c, x| op_case(c, &Sigmoid, x)), [NAN, 1.0, 0.0, 1.0, 0.0, 1.0, 1.928_75e-22, NAN]);
            for (name, got) in [
                ("sqrt", run(&|c, x| op_case(c, &Sqrt, x))),
                ("rsqrt", run(&|c, x| op_case(c, &Rsqrt, x))),
                ("exp", run(&|c, x| op_case(c, &Exp, x))),
                ("log", run(&|c, x| op_case(c, &Log, x))),
            ] {
                assert!(got[0].is_nan() && got[7].is_nan(), "{name}(NaN) is {} and {}", got[0], got[7]);
            }
        }
    }

    #[test]
    fn every_kernel_has_a_case() {
        let caps = Caps { int64: true, ..Caps::minimal() };
        let cases = own_cases(&caps);
        let used: HashSet<String> = cases.iter().flat_map(|case| case.dispatches.iter().map(|d| d.kernel.label())).collect();
        let families = [
            elementwise::KERNELS,
            reduce::KERNELS,
            reshape::KERNELS,
            batch::KERNELS,
            batch_norm::KERNELS,
            bce::KERNELS,
            pool::KERNELS,
            upsample::KERNELS,
            pixel_shuffle::KERNELS,
            softmax::KERNELS,
        ];
        for kernel in families.concat() {
            assert!(used.contains(&kernel.label()), "no case uses {}", kernel.label());
        }
        let names: HashSet<(&str, Vec<String>)> =
            cases.iter().map(|case| (case.name.as_str(), case.dispatches.iter().map(|d| d.kernel.label()).collect())).collect();
        assert!(names.len() > 300, "{} different cases", names.len());
    }
}
