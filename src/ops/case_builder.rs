//! Builds a [`Case`] from what a lowering function pushes, so that cases test the lowering together with its kernels.

use super::case::{Case, CaseBuffer};
use crate::gpu::step::StepRow;
use crate::graph::lower::{BufferId, Caps, Lowering, Operand, Place};
use bytemuck::Zeroable;

/// A case under construction: declare buffers, lower onto their operands, finish.
#[derive(Debug)]
pub struct CaseBuilder {
    /// Takes the dispatches.
    pub lowering: Lowering,
    /// The step row that the case runs with.
    pub step: StepRow,
    buffers: Vec<CaseBuffer>,
}

impl CaseBuilder {
    /// An empty case for an adapter.
    pub fn new(caps: &Caps) -> Self {
        CaseBuilder { lowering: Lowering::new(caps.clone()), step: StepRow::zeroed(), buffers: Vec::new() }
    }

    /// A read-only buffer of f32 or u32 words.
    pub fn input<T: bytemuck::Pod>(&mut self, words: &[T]) -> Operand {
        let bytes: &[u8] = bytemuck::cast_slice(words);
        self.add(CaseBuffer::Input(bytes.to_vec()), bytes.len() / 4)
    }

    /// An f32 output and the values that are expected in it.
    pub fn output(&mut self, expected: Vec<f64>) -> Operand {
        let len = expected.len();
        self.add(CaseBuffer::Output(expected), len)
    }

    /// f32 state: values before, expected values after.
    pub fn state(&mut self, before: Vec<f32>, after: Vec<f64>) -> Operand {
        let len = before.len();
        self.add(CaseBuffer::State(before, after), len)
    }

    /// u32 words that are compared exactly: values before, expected values after.
    pub fn words(&mut self, before: Vec<u32>, after: Vec<u32>) -> Operand {
        let len = before.len();
        self.add(CaseBuffer::Words(before, after), len)
    }

    /// Sets what is expected of a [`CaseBuilder::state`] buffer that was declared before that was known.
    pub fn expect_state(&mut self, state: Operand, expected: Vec<f64>) {
        match self.buffer(state) {
            CaseBuffer::State(_, after) => *after = expected,
            other => unreachable!("only state has values before and after, not {other:?}"),
        }
    }

    /// Sets what is expected of a [`CaseBuilder::words`] buffer that was declared before that was known.
    pub fn expect_words(&mut self, words: Operand, expected: Vec<u32>) {
        match self.buffer(words) {
            CaseBuffer::Words(_, after) => *after = expected,
            other => unreachable!("only words are compared exactly, not {other:?}"),
        }
    }

    fn buffer(&mut self, operand: Operand) -> &mut CaseBuffer {
        match operand {
            Operand::Place(place) => &mut self.buffers[place.buffer.0],
            other => unreachable!("the builder hands out places, not {other:?}"),
        }
    }

    /// Puts a buffer of the case in the place of a scratch buffer that the lowering chose, so that it is compared.
    pub fn replace(&mut self, scratch: Operand, by: Operand) {
        for (_, dispatch) in &mut self.lowering.dispatches {
            for operand in dispatch.operands.iter_mut().filter(|o| **o == scratch) {
                *operand = by;
            }
        }
    }

    fn add(&mut self, buffer: CaseBuffer, len: usize) -> Operand {
        self.buffers.push(buffer);
        Operand::Place(Place { buffer: BufferId(self.buffers.len() - 1), offset: 0, len })
    }

    /// The case, with the default tolerance (rtol 1e-5, atol 1e-6); the lowering's scratch and constants become buffers of it.
    pub fn finish(self, name: impl Into<String>) -> Case {
        let CaseBuilder { lowering, step, mut buffers } = self;
        let scratch = buffers.len();
        buffers.extend(lowering.scratch.iter().map(|words| CaseBuffer::Scratch(*words)));
        let constants = buffers.len();
        buffers.extend(lowering.constants.into_iter().map(CaseBuffer::Input));
        let index = |operand| match operand {
            Operand::Place(place) => place.buffer.0,
            Operand::Scratch(i) => scratch + i,
            Operand::Constant(i) => constants + i,
            Operand::Node(node) => unreachable!("effects take no graph nodes in their cases, got {node:?}"),
        };
        let dispatches = lowering.dispatches.into_iter().map(|(_, dispatch)| dispatch.map(index)).collect();
        Case { name: name.into(), dispatches, buffers, step, rtol: 1e-5, atol: 1e-6 }
    }
}

/// Standard normal test data, the same for the same seed.
pub fn normals(seed: u64, len: usize) -> Vec<f32> {
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};
    let rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    Distribution::<f32>::sample_iter(StandardNormal, rng).take(len).collect()
}

/// f32 to f64, exactly.
pub fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

/// The adapters' capabilities that between them pick every variant of an op that this adapter can run.
pub fn variants(caps: &Caps) -> Vec<Caps> {
    let plain = Caps { int64: false, software: false, ..caps.clone() };
    // 64-bit words and textures are the default on software adapters only, but they are tested wherever they can run.
    vec![plain, Caps { software: true, ..caps.clone() }]
}

/// Fails unless every kernel is in a case, every case passes on the test GPU, and the fully checked shaders give the same bits.
#[cfg(test)]
pub fn assert_cases(kernels: &[&'static crate::gpu::kernel::Kernel], cases: impl Fn(&Caps) -> Vec<Case>) {
    use crate::gpu::{Gpu, GpuOptions, testing};
    use std::sync::OnceLock;

    static CHECKED: OnceLock<Gpu> = OnceLock::new();
    let Some(gpu) = testing::gpu() else { return };
    let checked = CHECKED.get_or_init(|| {
        let adapter = std::env::var("GANYMEDE_TEST_ADAPTER").ok();
        Gpu::open(&GpuOptions { adapter, checked: true, pipeline_cache: false, ..GpuOptions::default() }).unwrap()
    });
    let cases = cases(&gpu.caps());
    for kernel in kernels.iter().filter(|k| gpu.supports(k)) {
        let used = |case: &Case| case.dispatches.iter().any(|d| d.kernel.label() == kernel.label());
        assert!(cases.iter().any(used), "no case runs {}", kernel.label());
    }
    for case in &cases {
        for gpu in [gpu, checked] {
            let outcome = super::case::run(gpu, case).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            assert_eq!(outcome.failure, None);
        }
        assert_eq!(bits(gpu, case), bits(checked, case), "{}: checked shaders give other bits", case.name);
    }
}

/// What every buffer of a case holds after it ran.
#[cfg(test)]
pub(crate) fn bits(gpu: &crate::gpu::Gpu, case: &Case) -> Vec<Vec<u8>> {
    let buffers: Vec<_> = case
        .buffers
        .iter()
        .map(|content| {
            let bytes: Vec<u8> = match content {
                CaseBuffer::Input(bytes) => bytes.clone(),
                CaseBuffer::Scratch(words) => vec![0; words * 4],
                CaseBuffer::Output(expected) => vec![0; expected.len() * 4],
                CaseBuffer::State(before, _) => bytemuck::cast_slice(before).to_vec(),
                CaseBuffer::Words(before, _) => bytemuck::cast_slice(before).to_vec(),
            };
            let buffer = gpu.buffer(&case.name, bytes.len() as u64).unwrap();
            gpu.write(&buffer, 0, &bytes).unwrap();
            buffer
        })
        .collect();
    let rows = gpu.uniform(&case.name, StepRow::BYTES as u64).unwrap();
    gpu.write(&rows, 0, bytemuck::bytes_of(&case.step)).unwrap();
    let dispatches = case.dispatches.iter().map(|d| (d.kernel.label(), d.clone().map(|i| buffers[i].whole()))).collect();
    let sequence = gpu.sequence(&case.name, dispatches, Some(&rows)).unwrap();
    gpu.submit(&sequence, 0..1).unwrap();
    buffers.iter().map(|b| gpu.read(b, 0, b.size()).unwrap()).collect()
}
