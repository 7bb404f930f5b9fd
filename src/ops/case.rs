//! Kernel cases: dispatches with inputs and the outputs that the f64 twin expects. One table serves the tests, `ganymede check` and the benchmarks,
//! so that nothing is timed that was not just validated.

use crate::gpu::kernel::Dispatch;

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

/// The outcome of a case on an adapter.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Largest |got - expected| / max|expected| over all outputs.
    pub worst: f64,
    /// What is wrong, if anything: kernel, case, worst index, both values, the first five mismatches, a damaged guard word.
    pub failure: Option<String>,
}
