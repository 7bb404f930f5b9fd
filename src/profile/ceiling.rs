//! What the adapter can do at best, measured beside the profile: the ceilings that kernels are held against.

use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel};
use crate::gpu::{BufferRange, Gpu};
use crate::graph::lower::Lowering;
use crate::graph::op::Op;
use crate::graph::shape::Shape;
use crate::ops::elementwise::Affine;

/// The ceilings of an adapter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceiling {
    /// Multiply-adds in registers, counted as two floating-point operations, in operations per second.
    pub flops_per_s: f64,
    /// Copying between large buffers, read and written bytes per second.
    pub bytes_per_s: f64,
    /// A dispatch that does next to nothing, in nanoseconds.
    pub dispatch_ns: f64,
}

impl Ceiling {
    /// Nanoseconds that this much work takes at least: (arithmetic, memory).
    pub fn least_ns(&self, cost: Cost) -> (f64, f64) {
        (cost.flops as f64 / self.flops_per_s * 1e9, cost.bytes as f64 / self.bytes_per_s * 1e9)
    }
}

/// Multiply-adds on eight independent vectors: enough of them to hide the latency of one.
const MULTIPLY_ADD_TEXT: &str = "
    struct Params { rounds: u32, reserved0: u32, reserved1: u32, reserved2: u32 }
    @group(0) @binding(0) var<uniform> params: Params;
    @group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
    @compute @workgroup_size(64)
    fn ceiling_multiply_add(@builtin(global_invocation_id) id: vec3<u32>) {
        let m = vec4<f32>(0.999, 0.998, 0.997, 0.996);
        let c = vec4<f32>(0.001, 0.002, 0.003, 0.004);
        var a0 = vec4<f32>(f32(id.x));
        var a1 = a0 + c; var a2 = a1 + c; var a3 = a2 + c; var a4 = a3 + c; var a5 = a4 + c; var a6 = a5 + c; var a7 = a6 + c;
        for (var i = 0u; i < params.rounds; i++) {
            a0 = a0 * m + c; a1 = a1 * m + c; a2 = a2 * m + c; a3 = a3 * m + c;
            a4 = a4 * m + c; a5 = a5 * m + c; a6 = a6 * m + c; a7 = a7 * m + c;
            a0 = a0 * m + c; a1 = a1 * m + c; a2 = a2 * m + c; a3 = a3 * m + c;
            a4 = a4 * m + c; a5 = a5 * m + c; a6 = a6 * m + c; a7 = a7 * m + c;
        }
        y[id.x] = ((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7));
    }";

static MULTIPLY_ADD: Kernel = Kernel {
    name: "ceiling_multiply_add",
    variant: "",
    parts: &[("ceiling_multiply_add", MULTIPLY_ADD_TEXT)],
    bindings: &[Bind::Params, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// Workgroups of the multiply-add kernel: enough for the largest GPUs.
const GROUPS: u32 = 4096;
/// Floating-point operations of a round of one invocation: 16 vectors, multiplied and added.
const ROUND_FLOPS: u64 = 16 * 4 * 2;
/// Rounds are doubled until a dispatch takes as long as this, so that starting and ending it do not count.
const LONG_NS: f64 = 4e6;
/// Words of the copied buffer on a GPU: 128 MiB is more than any cache in use.
const COPY_WORDS: usize = 32 << 20;
/// Words of the copied buffer on a software adapter, whose step works in buffers of this size at most.
const COPY_WORDS_SOFTWARE: usize = 4 << 20;
/// Measurements of which the best counts.
const REPEATS: usize = 7;

/// Measures the ceilings of an adapter: the best of several runs each. Takes about a second on a software adapter.
///
/// # Errors
/// As [`Gpu::submit`].
pub fn measure(gpu: &Gpu) -> Result<Ceiling> {
    let mut rounds = 16;
    let multiply_add_ns = loop {
        let ns = best_ns(gpu, || multiply_add(gpu, rounds))?;
        if ns >= LONG_NS || rounds >= 1 << 16 {
            break ns;
        }
        rounds *= 2;
    };
    let words = if gpu.caps().software { COPY_WORDS_SOFTWARE } else { COPY_WORDS };
    let words = words.min(gpu.caps().max_binding as usize / 4);
    let copy_ns = best_ns(gpu, || copy(gpu, words))?;
    let flops = u64::from(rounds) * u64::from(GROUPS) * 64 * ROUND_FLOPS;
    Ok(Ceiling {
        flops_per_s: flops as f64 / multiply_add_ns * 1e9,
        bytes_per_s: (2 * 4 * words) as f64 / copy_ns * 1e9,
        dispatch_ns: best_ns(gpu, || copy(gpu, 64))?,
    })
}

/// Best time of a dispatch in repeated runs.
fn best_ns(gpu: &Gpu, make: impl Fn() -> Result<Dispatch<BufferRange>>) -> Result<f64> {
    let dispatch = make()?;
    let list = (0..REPEATS).map(|i| (format!("ceiling/{}#{i}", dispatch.kernel.name), dispatch.clone())).collect();
    let sequence = gpu.sequence("ceiling", list, None)?;
    // The first run of a kernel may compile it.
    gpu.submit(&sequence, 0..1)?;
    let spans = gpu.submit_traced(&sequence, 0, gpu.clock())?.spans;
    let best = spans.iter().filter_map(|span| span.ns).min_by(f64::total_cmp);
    best.ok_or_else(|| Error::environment(format!("the timestamps of {} make no sense, so nothing can be measured", gpu.adapter_summary())))
}

fn multiply_add(gpu: &Gpu, rounds: u32) -> Result<Dispatch<BufferRange>> {
    Ok(Dispatch {
        kernel: &MULTIPLY_ADD,
        overrides: Vec::new(),
        params: [rounds, 0, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect(),
        operands: vec![gpu.buffer("ceiling/multiply_add", u64::from(GROUPS) * 64 * 16)?.whole()],
        workgroups: [GROUPS, 1, 1],
        cost: Cost::default(),
    })
}

/// The step's own copy, in the variant that the kernel table chooses for the adapter.
fn copy(gpu: &Gpu, words: usize) -> Result<Dispatch<BufferRange>> {
    let shape = Shape::new(&[words / 64, 64])?;
    let mut lowering = Lowering::new(gpu.caps());
    let [from, to] = [lowering.scratch(words), lowering.scratch(words)];
    Affine { scale: 1.0, shift: 0.0 }.lower(&mut lowering, &[(from, shape.clone())], (to, shape))?;
    let (_, dispatch) = lowering.dispatches.pop().ok_or_else(|| Error::internal("a copy without a dispatch"))?;
    let buffers = [gpu.buffer("ceiling/from", words as u64 * 4)?.whole(), gpu.buffer("ceiling/to", words as u64 * 4)?.whole()];
    Ok(dispatch.map(|operand| buffers[usize::from(operand == to)].clone()))
}
