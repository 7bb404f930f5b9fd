//! The row of per-step scalars: the only thing that a training step uploads, unless it streams its data.

use bytemuck::{Pod, Zeroable};

/// Host-computed scalars of one training step (512 bytes), bound as [`crate::gpu::kernel::Bind::Step`] with a dynamic offset.
///
/// WGSL declares it as
/// ```wgsl
/// struct StepRow { slots: array<vec4<u32>, 32> }
/// ```
/// and reads floats by `bitcast<f32>`. A kernel that uses it has the slot number in its parameters.
///
/// | slot | x | y | z | w |
/// |---|---|---|---|---|
/// | 0 | step, low 32 bits | step, high 32 bits | EMA decay (f32) | index of the micro-batch (u32) |
/// | 1 + 2u | lr (f32) | 1 / (1 - beta1^t) (f32) | 1 / (1 - beta2^t) (f32) | t, saturating (u32) |
/// | 2 + 2u | epoch (u32) | index of the batch's first image in the epoch (u32) | draw counter (u32) | images of the batch before this micro-batch (u32) |
/// | 31 | where this step's batches begin in the ring of a streamed data set, in images (u32) | | | |
///
/// Every float is computed in f64 and rounded once: 1 - beta^t in f32 would lose digits.
///
/// `u` counts the updates of a step: the discriminator's `d_steps` first, then the generator's. The draw counter differs between any two
/// draws of noise in a run: it is `step * (d_steps + 1) + u`, modulo 2^32.
///
/// Where a batch is done in several micro-batches, each has a row ([`StepRow::micro_batch`]).
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct StepRow {
    /// Slots as described above.
    pub slots: [[u32; 4]; 32],
}

impl StepRow {
    /// Size of a row in bytes; a multiple of every adapter's uniform offset alignment.
    pub const BYTES: usize = 512;
    /// Most discriminator updates that a row has room for.
    pub const MAX_D_STEPS: usize = 14;
    /// Slot of the step counter and the EMA decay.
    pub const STEP: u32 = 0;
    /// Slot of the place in the ring of a streamed data set.
    pub const RING: u32 = 31;

    /// The row of micro-batch `index`, which begins `first` images into each of the step's batches.
    pub fn micro_batch(&self, index: u32, first: u32) -> Self {
        let mut row = *self;
        row.slots[Self::STEP as usize][3] = index;
        for u in 0..=Self::MAX_D_STEPS {
            let [_, start, _, skipped] = &mut row.slots[Self::draw(u) as usize];
            // Positions count on into the next epoch.
            *start = start.wrapping_add(first);
            *skipped = first;
        }
        row
    }

    /// Slot of update `u`'s optimiser scalars.
    pub fn optimiser(u: usize) -> u32 {
        1 + 2 * u as u32
    }

    /// Slot of update `u`'s batch position and draw counter.
    pub fn draw(u: usize) -> u32 {
        2 + 2 * u as u32
    }
}
