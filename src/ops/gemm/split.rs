//! The second dispatch of a split product: parts of k are summed apart, to slabs of scratch, and added here in an order that follows from the
//! shape alone. Float atomics would save it, at the price of other bits in every run.

use super::{Epilogue, kernels};
use crate::gpu::kernel::{Cost, Dispatch, grid};
use crate::graph::lower::{Lowering, Operand};
use bytemuck::{Pod, Zeroable};

/// `GemmSplitFinishParams` of `shaders/gemm_split_finish.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct GemmSplitFinishParams {
    count: u32,
    splits: u32,
    pixel: u32,
    period: u32,
    channels: u32,
    bias: u32,
    activation: u32,
    slope: f32,
    mask: u32,
    mask_slope: f32,
    reserved0: u32,
    reserved1: u32,
}

/// The slabs of a split product.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slabs {
    /// Where they are, one behind the other.
    pub partials: Operand,
    /// How many there are.
    pub splits: usize,
    /// Floats of one, which are those of C; a multiple of four.
    pub floats: usize,
    /// Floats of a pixel of C.
    pub pixel: usize,
    /// Floats of a pixel after which channels start anew, and how many of them are not padding.
    pub period: usize,
    pub channels: usize,
}

impl Slabs {
    /// Appends the dispatch that adds the slabs to C.
    pub fn finish(&self, lowering: &mut Lowering, epilogue: &Epilogue, out: Operand) {
        let mask = epilogue.mask.map(|(_, activation)| activation);
        let params = GemmSplitFinishParams {
            count: (self.floats / 4) as u32,
            splits: self.splits as u32,
            pixel: self.pixel as u32,
            period: self.period as u32,
            channels: self.channels as u32,
            bias: u32::from(epilogue.bias.is_some()),
            activation: epilogue.activation.code(),
            slope: epilogue.activation.slope(),
            mask: mask.map_or(0, |m| m.code()),
            mask_slope: mask.map_or(0.0, |m| m.slope()),
            reserved0: 0,
            reserved1: 0,
        };
        // A binding that is not read still needs a buffer.
        let bias = epilogue.bias.unwrap_or(self.partials);
        let saved = epilogue.mask.map_or(self.partials, |(saved, _)| saved);
        lowering.push(Dispatch {
            kernel: &kernels::SPLIT_FINISH,
            overrides: Vec::new(),
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: vec![self.partials, bias, saved, out],
            workgroups: grid(self.floats / 4, 8),
            // What the mathematics asks for is counted with the product.
            cost: Cost { flops: 0, bytes: 4 * self.floats as u64 * (self.splits as u64 + 1) },
        });
    }
}
