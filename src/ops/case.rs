//! Kernel cases: dispatches with inputs and the outputs that the f64 twin expects. One table serves the tests, `ganymede check` and the benchmarks,
//! so that nothing is timed that was not just validated.

use crate::error::{Error, Result};
use crate::gpu::kernel::Dispatch;
use crate::gpu::step::StepRow;
use crate::gpu::{BufferRange, Gpu};
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
    pub step: StepRow,
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

/// Guard words in front of and behind every buffer: 1 KiB, so that the buffer proper starts at an aligned offset.
const GUARD_WORDS: usize = 256;
/// Guard words are a NaN of their own, so that a kernel that reads one shows it in its output.
const GUARD: u32 = 0x7fc0_6a7d;
/// What outputs and scratch hold before a case runs: a NaN, so that an element that is not written fails.
const UNWRITTEN: u32 = 0x7fc0_0000;

/// Runs a case and compares every output with what its twin expects.
///
/// The guard words behind a buffer are bound with it, because drivers that check bounds would hide a write past the end otherwise; a kernel
/// must take its sizes from its parameters, not from `arrayLength`.
///
/// # Errors
/// What [`Gpu::sequence`] and [`Gpu::submit`] return. A wrong result is not an error but [`Outcome::failure`].
pub fn run(gpu: &Gpu, case: &Case) -> Result<Outcome> {
    let guard = GUARD_WORDS as u64 * 4;
    let mut buffers = Vec::with_capacity(case.buffers.len());
    for (i, content) in case.buffers.iter().enumerate() {
        let words = content.initial()?;
        let all: Vec<u32> = [&[GUARD; GUARD_WORDS], words.as_slice(), &[GUARD; GUARD_WORDS]].concat();
        let buffer = gpu.buffer(&format!("{}: buffer {i}", case.name), all.len() as u64 * 4)?;
        gpu.write(&buffer, 0, bytemuck::cast_slice(&all))?;
        buffers.push(BufferRange { len: buffer.size() - guard, buffer, offset: guard });
    }
    let rows = gpu.uniform(&format!("{}: step row", case.name), StepRow::BYTES as u64)?;
    gpu.write(&rows, 0, bytemuck::bytes_of(&case.step))?;

    let mut dispatches = Vec::with_capacity(case.dispatches.len());
    for dispatch in &case.dispatches {
        if let Some(i) = dispatch.operands.iter().find(|i| **i >= buffers.len()) {
            return Err(Error::internal(format!("case '{}' names buffer {i} of {}", case.name, buffers.len())));
        }
        dispatches.push((dispatch.kernel.label(), dispatch.clone().map(|i| buffers[i].clone())));
    }
    let sequence = gpu.sequence(&case.name, dispatches, Some(&rows))?;
    gpu.submit(&sequence, 0..1)?;

    let mut outcome = Outcome { worst: 0.0, failure: None };
    let mut faults = Vec::new();
    let mut compared = 0;
    for (i, (content, range)) in case.buffers.iter().zip(&buffers).enumerate() {
        if matches!(content, CaseBuffer::Input(_)) {
            continue;
        }
        let all: Vec<u32> = bytemuck::pod_collect_to_vec(&gpu.read(&range.buffer, 0, range.buffer.size())?);
        let inner = GUARD_WORDS..all.len() - GUARD_WORDS;
        if let Some(at) = all.iter().enumerate().position(|(k, w)| !inner.contains(&k) && *w != GUARD) {
            let word = at as i64 - GUARD_WORDS as i64;
            faults.push(format!("buffer {i} of {} words: word {word}, outside it, was written ({:#010x})", inner.len(), all[at]));
        }
        let got = &all[inner];
        let fault = match content {
            CaseBuffer::Input(_) | CaseBuffer::Scratch(_) => None,
            CaseBuffer::Output(expected) | CaseBuffer::State(_, expected) => {
                compared += expected.len();
                let (worst, fault) = compare(got, expected, case.rtol, case.atol);
                outcome.worst = outcome.worst.max(worst);
                fault
            }
            CaseBuffer::Words(_, expected) => {
                compared += expected.len();
                compare_words(got, expected)
            }
        };
        faults.extend(fault.map(|f| format!("buffer {i}: {f}")));
    }
    if compared == 0 {
        faults.push("nothing is compared".to_string());
    }
    if !faults.is_empty() {
        let kernels: Vec<String> = case.dispatches.iter().map(|d| d.kernel.label()).collect();
        outcome.failure = Some(format!("{} [{}]: {}", case.name, kernels.join(", "), faults.join("; ")));
    }
    Ok(outcome)
}

impl CaseBuffer {
    /// The words that the buffer holds before the case runs.
    pub(crate) fn initial(&self) -> Result<Vec<u32>> {
        let words = match self {
            CaseBuffer::Input(bytes) if bytes.len().is_multiple_of(4) => bytemuck::pod_collect_to_vec(bytes),
            CaseBuffer::Input(bytes) => {
                return Err(Error::internal(format!("a case's input has {} bytes, not whole words", bytes.len())));
            }
            CaseBuffer::Scratch(words) => vec![UNWRITTEN; *words],
            CaseBuffer::Output(expected) => vec![UNWRITTEN; expected.len()],
            CaseBuffer::State(before, after) if before.len() == after.len() => before.iter().map(|v| v.to_bits()).collect(),
            CaseBuffer::Words(before, after) if before.len() == after.len() => before.clone(),
            CaseBuffer::State(..) | CaseBuffer::Words(..) => {
                return Err(Error::internal("a case's state has different lengths before and after"));
            }
        };
        if words.is_empty() { Err(Error::internal("a case's buffer is empty")) } else { Ok(words) }
    }
}

/// Largest difference relative to the largest finite expected magnitude, and what is wrong.
pub(crate) fn compare(got: &[u32], expected: &[f64], rtol: f64, atol: f64) -> (f64, Option<String>) {
    let scale = expected.iter().filter(|e| e.is_finite()).fold(0.0, |m: f64, e| m.max(e.abs()));
    let mut worst = (0.0, 0);
    let mut wrong = Vec::new();
    for (i, (word, e)) in got.iter().zip(expected).enumerate() {
        let value = f64::from(f32::from_bits(*word));
        let difference = (value - e).abs();
        // Equal infinities differ by NaN, and pass; a NaN on either side passes neither comparison.
        let passes = value == *e || difference <= atol * scale + rtol * e.abs();
        let relative = match difference / if scale > 0.0 { scale } else { 1.0 } {
            _ if value == *e => 0.0,
            r if r.is_nan() => f64::INFINITY,
            r => r,
        };
        if relative > worst.0 {
            worst = (relative, i);
        }
        if !passes {
            wrong.push(i);
        }
    }
    if wrong.is_empty() {
        return (worst.0, None);
    }
    let show = |i: usize| {
        let unwritten = if got[i] == UNWRITTEN { " (not written)" } else { "" };
        format!("[{i}] got {:e}{unwritten}, expected {:e}", f32::from_bits(got[i]), expected[i])
    };
    let first: Vec<String> = wrong.iter().take(5).map(|i| show(*i)).collect();
    let text = format!(
        "{} of {} elements differ by more than {atol:e} * {scale:e} + {rtol:e} * |expected|; worst {}; first {}",
        wrong.len(),
        expected.len(),
        show(worst.1),
        first.join(", ")
    );
    (worst.0, Some(text))
}

/// What is wrong, compared exactly.
pub(crate) fn compare_words(got: &[u32], expected: &[u32]) -> Option<String> {
    let wrong: Vec<usize> = (0..expected.len()).filter(|i| got[*i] != expected[*i]).collect();
    let first: Vec<String> =
        wrong.iter().take(5).map(|i| format!("[{i}] got {} ({:#010x}), expected {}", got[*i], got[*i], expected[*i])).collect();
    (!wrong.is_empty()).then(|| format!("{} of {} words differ; first {}", wrong.len(), expected.len(), first.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::kernel::{Bind, Cost, Kernel};
    use crate::gpu::testing;

    /// y = scale * x + step, over n words; three overrides plant faults.
    const TEXT: &str = "
        struct P { n: u32, scale: f32, reserved0: u32, reserved1: u32 }
        struct StepRow { slots: array<vec4<u32>, 32> }
        override skip: i32 = -1;
        override spoil: i32 = -1;
        override beyond: u32 = 0u;
        @group(0) @binding(0) var<uniform> params: P;
        @group(0) @binding(1) var<uniform> row: StepRow;
        @group(0) @binding(2) var<storage, read> x: array<f32>;
        @group(0) @binding(3) var<storage, read_write> y: array<f32>;
        @group(0) @binding(4) var<storage, read_write> count: array<u32>;
        @compute @workgroup_size(64)
        fn case_probe(@builtin(global_invocation_id) id: vec3<u32>) {
            let p = params;
            let i = id.x;
            if i >= p.n + beyond { return; }
            var v = p.scale * x[min(i, p.n - 1u)] + f32(row.slots[0].x);
            if i32(i) == spoil { v += 0.01; }
            if i32(i) != skip { y[i] = v; }
            if i < p.n { count[i] += 1u; }
        }";

    static PROBE: Kernel = Kernel {
        name: "case_probe",
        variant: "",
        parts: &[("case_probe", TEXT)],
        bindings: &[Bind::Params, Bind::Step, Bind::In, Bind::Out, Bind::InOut],
        workgroup: [64, 1, 1],
        features: &[],
    };

    fn probe(overrides: &[(&'static str, f64)]) -> Case {
        let n = 100usize;
        let x: Vec<f32> = (0..n).map(|i| i as f32 / 8.0).collect();
        let mut step: StepRow = bytemuck::Zeroable::zeroed();
        step.slots[0][0] = 3;
        Case {
            name: "probe".to_string(),
            dispatches: vec![Dispatch {
                kernel: &PROBE,
                overrides: overrides.to_vec(),
                params: bytemuck::cast_slice(&[n as u32, 2.0f32.to_bits(), 0, 0]).to_vec(),
                operands: vec![0, 1, 2],
                workgroups: [2, 1, 1],
                cost: Cost::default(),
            }],
            buffers: vec![
                CaseBuffer::Input(bytemuck::cast_slice(&x).to_vec()),
                CaseBuffer::Output(x.iter().map(|v| 2.0 * f64::from(*v) + 3.0).collect()),
                CaseBuffer::Words((0..n as u32).collect(), (1..=n as u32).collect()),
            ],
            step,
            rtol: 1e-5,
            atol: 1e-6,
        }
    }

    /// The failure text of a probe with a planted fault.
    fn failure(gpu: &Gpu, case: &Case) -> String {
        run(gpu, case).unwrap().failure.expect("the planted fault was not found")
    }

    #[test]
    fn a_right_kernel_passes() {
        let Some(gpu) = testing::gpu() else { return };
        let outcome = run(gpu, &probe(&[])).unwrap();
        assert_eq!(outcome.failure, None);
        assert!(outcome.worst < 1e-6, "{}", outcome.worst);
    }

    #[test]
    fn planted_faults_are_found_and_named() {
        let Some(gpu) = testing::gpu() else { return };
        let text = failure(gpu, &probe(&[("skip", 37.0)]));
        assert!(text.contains("case_probe") && text.contains("1 of 100") && text.contains("[37] got NaN (not written)"), "{text}");
        let text = failure(gpu, &probe(&[("spoil", 99.0)]));
        assert!(text.contains("1 of 100") && text.contains("[99] got 2.776e1"), "{text}");
        let text = failure(gpu, &probe(&[("beyond", 1.0)]));
        assert!(text.contains("buffer 1 of 100 words: word 100, outside it, was written"), "{text}");
        let mut case = probe(&[]);
        if let CaseBuffer::Words(before, _) = &mut case.buffers[2] {
            before[5] += 1;
        }
        let text = failure(gpu, &case);
        assert!(text.contains("[5] got 7 (0x00000007), expected 6"), "{text}");
    }

    #[test]
    fn a_case_without_outputs_fails() {
        let Some(gpu) = testing::gpu() else { return };
        let mut case = probe(&[]);
        case.buffers[1] = CaseBuffer::Scratch(100);
        case.buffers[2] = CaseBuffer::Scratch(100);
        assert!(failure(gpu, &case).contains("nothing is compared"));
    }

    #[test]
    fn comparison_is_nan_safe() {
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert!(compare(&bits(&[1.0, f32::NAN]), &[1.0, 2.0], 1.0, 1.0).1.is_some());
        assert!(compare(&bits(&[1.0, 2.0]), &[1.0, f64::NAN], 1.0, 1.0).1.is_some());
        assert!(compare(&bits(&[1.0, f32::INFINITY]), &[1.0, f64::INFINITY], 0.0, 0.0).1.is_none());
        assert!(compare(&bits(&[5.0, f32::INFINITY]), &[1.0, f64::INFINITY], 1e-5, 1e-6).1.is_some());
        assert!(compare(&bits(&[0.0, -0.0]), &[0.0, 0.0], 0.0, 0.0).1.is_none());
        assert_eq!(compare(&bits(&[1.0, 3.0]), &[1.0, 4.0], 0.0, 0.25).0, 0.25);
        assert!(compare(&bits(&[1.0, 3.0]), &[1.0, 4.0], 0.0, 0.25).1.is_none());
        assert!(compare(&bits(&[1.0, 3.0]), &[1.0, 4.0], 0.0, 0.24).1.is_some());
    }
}
