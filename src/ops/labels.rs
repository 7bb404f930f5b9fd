//! Classes of a batch of the resident data set, as a column of indices that [`super::embedding`] takes.

use super::gather::half_bits;
use super::noise::seed_key;
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel, grid};
use crate::gpu::step::StepRow;
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::ops::case::Case;
use crate::ops::case_builder::CaseBuilder;
use crate::part;
use bytemuck::{Pod, Zeroable};

/// `DrawLabelsParams` of `draw_labels.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct DrawLabelsParams {
    slot: u32,
    rows: u32,
    copies: u32,
    images: u32,
    half_bits: u32,
    seed: [u32; 2],
    reserved: u32,
}

/// `draw_labels`.
pub static DRAW_LABELS: Kernel = Kernel {
    name: "draw_labels",
    variant: "",
    parts: &[part!("threefry"), part!("batch_order"), part!("draw_labels")],
    bindings: &[Bind::Params, Bind::Step, Bind::In, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// Kernels of this file.
pub static KERNELS: &[&Kernel] = &[&DRAW_LABELS];

/// The labels of a data set on the device.
#[derive(Debug, Clone, Copy)]
pub struct ResidentLabels {
    /// One u32 an image.
    pub labels: Operand,
    /// Number of images.
    pub images: usize,
}

/// Gathers the labels of the batch of `rows` images at the epoch and position of the step row's slot `slot`, those of
/// [`super::gather::lower_draw_batch`]: `output`, (copies · rows, 1) numbers in f32, holds them `copies` times one after the other.
///
/// # Errors
/// [`Error::Input`] if there are no images, or more than the 32-bit positions can count.
pub fn lower_draw_labels(
    l: &mut Lowering,
    data: ResidentLabels,
    seed: u64,
    slot: u32,
    (rows, copies): (usize, usize),
    output: Operand,
) -> Result<()> {
    if data.images == 0 || rows.checked_add(data.images).is_none_or(|n| n > u32::MAX as usize) {
        return Err(Error::input(format!(
            "a batch of {rows} from a data set of {} labels: both must be at least 1, and together below 2^32",
            data.images
        )));
    }
    let params = DrawLabelsParams {
        slot,
        rows: rows as u32,
        copies: copies as u32,
        images: data.images as u32,
        half_bits: half_bits(data.images as u32),
        seed: seed_key(seed),
        reserved: 0,
    };
    l.push(Dispatch {
        kernel: &DRAW_LABELS,
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![data.labels, output],
        workgroups: grid(rows, 64),
        cost: Cost { flops: 0, bytes: (4 * rows + 16 * rows * copies) as u64 },
    });
    Ok(())
}

/// f64 twins of the kernels that have no public host function.
pub mod twin {
    use crate::ops::gather::batch_index;

    /// The labels of the `rows` images that come from position `start` of epoch `epoch` on.
    pub fn draw_labels(labels: &[u32], seed: u64, [epoch, start]: [u32; 2], rows: usize) -> Vec<f64> {
        (0..rows as u32).map(|r| f64::from(labels[batch_index(seed, epoch, labels.len() as u32, start + r) as usize])).collect()
    }
}

/// Cases of this file's kernels.
pub fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    // (images, rows, copies, position of the first row): one image, across an epoch's end, across several, more than a workgroup.
    for (images, rows, copies, start) in [(1, 3, 1, 0), (5, 4, 2, 3), (3, 65, 2, 2), (1000, 64, 2, 0), (60_000, 130, 3, 59_990)] {
        let labels: Vec<u32> = (0..images as u32).map(|i| i.wrapping_mul(2_654_435_761) % 65_536).collect();
        let (seed, epoch) = (0xdead_beef_0123_4567, 11);
        let expected = twin::draw_labels(&labels, seed, [epoch, start], rows).repeat(copies);
        let mut b = CaseBuilder::new(caps);
        let slot = StepRow::draw(1);
        b.step.slots[slot as usize] = [epoch, start, 99, 2];
        let data = ResidentLabels { labels: b.input(&labels), images };
        let output = b.output(expected.into_iter().flat_map(|label| [label, 0.0, 0.0, 0.0]).collect());
        let lowered = lower_draw_labels(&mut b.lowering, data, seed, slot, (rows, copies), output);
        lowered.expect("case sizes are valid");
        cases.push(b.finish(format!("draw_labels {copies} times {rows} from position {start} of {images} images")));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::case_builder::assert_cases;

    #[test]
    fn kernels_equal_their_twins() {
        assert_cases(KERNELS, cases);
    }

    #[test]
    fn batches_that_positions_cannot_count_are_refused() {
        let lower = |images, rows| {
            let data = ResidentLabels { labels: Operand::Scratch(0), images };
            lower_draw_labels(&mut Lowering::new(Caps::minimal()), data, 0, 2, (rows, 2), Operand::Scratch(1))
        };
        lower(10, 4).unwrap();
        for (images, rows) in [(0, 4), (u32::MAX as usize, 1)] {
            assert!(matches!(lower(images, rows), Err(Error::Input(_))), "{images} {rows}");
        }
    }
}
