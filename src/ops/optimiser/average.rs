//! Averages over stores: the moving average of parameters, and gradients over the micro-batches of a batch.

use super::walk::Walk;
use crate::error::Result;
use crate::gpu::kernel::Bind::{In, InOut, Params, Step, Texture};
use crate::gpu::kernel::{Cost, Dispatch};
use crate::gpu::step::StepRow;
use crate::graph::lower::{Lowering, Operand};
use crate::ops::loaders::{Loaders, Loading, loaders};
use bytemuck::{Pod, Zeroable};

/// Parameters of `ema`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct EmaParams {
    items: u32,
    slot: u32,
    reserved: [u32; 2],
}

/// Parameters of `accumulate`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct AccumulateParams {
    items: u32,
    slot: u32,
    scale: f32,
    reserved: u32,
}

/// `ema`. With textures, its state is read from those that mirror the buffers it is written to.
pub static EMA: Loaders =
    loaders!("ema", ["ema_textures"], ["ema_buffers"], ["ema_rule"], &[Params, Step, Texture, Texture, InOut], &[Params, Step, In, InOut]);

/// `accumulate`, as [`EMA`].
pub static ACCUMULATE: Loaders = loaders!(
    "accumulate",
    ["accumulate_textures"],
    ["accumulate_buffers"],
    [],
    &[Params, Step, Texture, Texture, InOut],
    &[Params, Step, In, InOut]
);

/// Appends a walk that reads `input` and updates `state` in place.
fn push(l: &mut Lowering, kernel: &'static Loaders, walk: Walk, params: &[u8], [input, state]: [Operand; 2], cost: Cost) {
    // With textures, state is read from its mirror and written to its buffer.
    let operands = if walk.loading == Loading::Texture { vec![input, state, state] } else { vec![input, state] };
    l.push(Dispatch {
        kernel: kernel.kernel(walk.loading),
        overrides: Vec::new(),
        params: params.to_vec(),
        operands,
        workgroups: walk.workgroups(),
        cost,
    });
}

/// One step of the moving average `averages` of `values`, `words` words, with the decay of the step row's slot [`StepRow::STEP`].
///
/// # Errors
/// [`crate::error::Error::Internal`] if `words` is not a multiple of 4 or more than one binding holds.
pub fn lower_ema(l: &mut Lowering, values: Operand, averages: Operand, words: usize) -> Result<()> {
    let walk = Walk::new(&l.caps, "ema", words)?;
    let params = EmaParams { items: walk.items as u32, slot: StepRow::STEP, reserved: [0; 2] };
    let cost = Cost { flops: 3 * words as u64, bytes: 12 * words as u64 };
    push(l, &EMA, walk, bytemuck::bytes_of(&params), [values, averages], cost);
    Ok(())
}

/// Adds `scale` times the gradients of a micro-batch to `sums`, `words` words; the first micro-batch of a step (w of the step row's slot
/// [`StepRow::STEP`] is 0) starts them anew.
///
/// # Errors
/// As [`lower_ema`].
pub fn lower_accumulate(l: &mut Lowering, grads: Operand, sums: Operand, words: usize, scale: f64) -> Result<()> {
    let walk = Walk::new(&l.caps, "accumulate", words)?;
    let params = AccumulateParams { items: walk.items as u32, slot: StepRow::STEP, scale: scale as f32, reserved: 0 };
    let cost = Cost { flops: 2 * words as u64, bytes: 12 * words as u64 };
    push(l, &ACCUMULATE, walk, bytemuck::bytes_of(&params), [grads, sums], cost);
    Ok(())
}
