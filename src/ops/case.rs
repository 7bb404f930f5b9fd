//! Kernel cases: dispatches with inputs and the outputs that the f64 twin expects. One table serves the tests, `ganymede check` and the benchmarks,
//! so that nothing is timed that was not just validated.

use crate::gpu::kernel::Dispatch;
use crate::gpu::step::StepRow;
use crate::graph::lower::{Lowering, Operand};
use crate::graph::tensor::Tensor;
use bytemuck::Zeroable;

/// A buffer of a case, numbered by its position in [`Case::buffers`].
#[derive(Debug, Clone)]
pub enum CaseBuffer {
    /// Read-only input, physical image in bytes.
    Input(Vec<u8>),
    /// Working memory between the case's dispatches, in 32-bit words; filled with NaN before the case runs.
    Scratch(usize),
    /// f32 output, filled with NaN before the case runs; the expected physical image includes the padding lanes.
    Output(Vec<f64>),
    /// f32 state updated in place: value before, expected value after.
    State(Vec<f32>, Vec<f64>),
    /// u32 output or state, compared exactly: value before, expected value after.
    Words(Vec<u32>, Vec<u32>),
}

impl CaseBuffer {
    /// A read-only input that holds `value`.
    pub fn input(value: &Tensor) -> Self {
        CaseBuffer::Input(bytemuck::cast_slice(&value.pack()).to_vec())
    }

    /// An output that must come out as `expected`.
    pub fn output(expected: &Tensor) -> Self {
        CaseBuffer::Output(expected.pack_f64())
    }
}

/// One validated use of one or more kernels.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is tested: `"group_sum (6, 5, 3, 2) groups 2"`.
    pub name: String,
    /// Dispatches over indices into `buffers`.
    pub dispatches: Vec<Dispatch<usize>>,
    /// The buffers.
    pub buffers: Vec<CaseBuffer>,
    /// The per-step row that [`crate::gpu::kernel::Bind::Step`] kernels see.
    pub step: crate::gpu::step::StepRow,
    /// Tolerance: an element passes if |got - expected| <= atol * max|expected| + rtol * |expected|. NaN never passes.
    pub rtol: f64,
    /// See `rtol`. Start at rtol 1e-5, atol 1e-6; a looser value needs a comment with its reason.
    pub atol: f64,
}

impl Case {
    /// The case that runs what `lowering` has collected, at the default tolerance and with an all-zero step row.
    ///
    /// `known` says what each operand outside the lowering is; scratch buffers and constant tables are taken from the lowering itself.
    ///
    /// # Panics
    /// If a dispatch names an operand that is neither in `known` nor in the lowering: the case is then written wrongly.
    pub fn from_lowering(name: impl Into<String>, lowering: Lowering, known: Vec<(Operand, CaseBuffer)>) -> Self {
        let name = name.into();
        let (mut operands, mut buffers): (Vec<Operand>, Vec<CaseBuffer>) = known.into_iter().unzip();
        for (i, &words) in lowering.scratch.iter().enumerate() {
            operands.push(Operand::Scratch(i));
            buffers.push(CaseBuffer::Scratch(words));
        }
        for (i, bytes) in lowering.constants.into_iter().enumerate() {
            operands.push(Operand::Constant(i));
            buffers.push(CaseBuffer::Input(bytes));
        }
        let index = |operand: Operand| {
            let found = operands.iter().position(|&o| o == operand);
            found.unwrap_or_else(|| panic!("case {name} does not say what {operand:?} is"))
        };
        let dispatches = lowering.dispatches.into_iter().map(|(_, dispatch)| dispatch.map(index)).collect();
        Case { name, dispatches, buffers, step: StepRow::zeroed(), rtol: 1e-5, atol: 1e-6 }
    }
}

/// The outcome of a case on an adapter.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Largest |got - expected| / max|expected| over all outputs.
    pub worst: f64,
    /// What is wrong, if anything: kernel, case, worst index, both values, the first five mismatches, a damaged guard word.
    pub failure: Option<String>,
}
