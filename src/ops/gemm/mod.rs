//! The one inner product behind matrix products and convolutions, in all directions.
//!
//! Two cores: `rows` for operands A whose k is contiguous (`matmul` nn and nt, `conv2d_forward`, `conv2d_backward_input`) and `cols` for
//! operands A whose m is contiguous (`matmul` tn, `conv2d_backward_weight`). Each exists in variants, and which one runs follows from the
//! adapter and the shape alone, so that a run's bits cannot depend on timing.
//!
//! | variant | default on | why |
//! |---|---|---|
//! | `narrow` | software adapters with eight lanes, at most 8 columns | the 32 columns of a `broadcast` tile would idle |
//! | `broadcast` | software adapters with eight lanes | 5 to 70 times faster there than anything with shared memory or without broadcasts |
//! | `quad` | software adapters with four lanes, more than 8 columns | two to three times as fast there as `plain` |
//! | `tile_large` | GPUs, products of many tiles | 128 x 128 in shared memory, 8 x 8 an invocation: 16 multiply-adds for each vec4 that is read |
//! | `tile_small` | GPUs, other products | 64 x 64, 8 x 4 an invocation: four times as many workgroups |
//! | `tile_small` split | GPUs, few tiles and long sums (weight gradients) | parts of k at once, then `gemm_split_finish` in a fixed order |
//! | `reduce`, also split | GPUs, at most 8 columns (last layers) | lanes divide k, which no tile's columns would fill |
//! | `plain` | GPUs, at most 8 rows or a weight gradient of 8 columns; else the fallback | register blocks, no shared memory, no optional feature |
//! | `scalar` | only what vec4 cannot address | groups whose channels are not a multiple of four, products of two transposed matrices |
//!
//! The thresholds of GPUs are in `choice`. What compiled code must look like, and does on AMD's compiler of Mesa 22.3 (GFX8 to GFX10): a step of
//! `tile_large` has 256 fused multiply-adds for 16 shared loads in its inner loop, no register is spilled (at most 120 are used), and no load from
//! memory is waited for before that arithmetic. The last is easily lost: whatever touches the loaded registers, or merges them behind a branch, waits.
//!
//! Tiles and `reduce` also exist with operands in f16, which a plan may ask for (`half`), and `matrix` in place of the tiles of the rows core where both
//! operands are and the device was opened with matrix units: 64 x 64, two by two fragments of 16 x 16 a subgroup.
//!
//! For eight lanes, `narrow` and `broadcast` exist with two loaders. Software adapters read buffers by a loop over lanes and components, so that loads, not
//! arithmetic, decide. `texture` has the operands copied to textures, which are read by whole vectors; `vec4` reads buffers and serves operands
//! that are too large for a texture: 25 to 31 GFLOP/s a core against 4, on lavapipe 22.3 without AVX-512 (`benches/RESULTS.md`). Eight floats a load, as
//! four 64-bit integers, never won.

mod cases;
mod choice;
pub(super) mod cols;
#[cfg(test)]
mod fragments;
mod half;
mod kernels;
pub(super) mod rows;
mod split;

pub use cases::{cases, half_cases};
pub use half::{Value, is_half, read_halves};
pub use kernels::kernels;

use super::activation::Activation;
use crate::error::{Error, Result};
use crate::gpu::kernel::{Cost, Kernel};
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::shape::Shape;
use cols::Cols;
use rows::Rows;

/// What a gemm kernel does to its sums before it stores them: `activation(sum + bias) * derivative`, in this order. The default does nothing.
#[derive(Debug, Clone, Copy)]
pub struct Epilogue {
    /// Added per output channel: a tensor (O) for O output channels.
    pub bias: Option<Operand>,
    /// Applied to the sum.
    pub activation: Activation,
    /// A saved activation output, shaped as the result, and the activation: the result is multiplied by the activation's derivative there.
    pub mask: Option<(Operand, Activation)>,
}

impl Default for Epilogue {
    fn default() -> Self {
        Epilogue { bias: None, activation: Activation::None, mask: None }
    }
}

impl Epilogue {
    /// True if it does nothing.
    pub fn is_none(&self) -> bool {
        self.bias.is_none() && self.activation == Activation::None && self.mask.is_none()
    }

    /// The pipeline overrides of `shaders/gemm_epilogue.wgsl`.
    fn overrides(&self) -> Vec<(&'static str, f64)> {
        let mask = self.mask.map(|(_, activation)| activation);
        let is_smooth = |a: Activation| matches!(a, Activation::Tanh | Activation::Sigmoid);
        vec![("MASKED", f64::from(mask.is_some())), ("SMOOTH", f64::from(is_smooth(self.activation)))]
    }
}

/// What an op comes down to: a core's product, and which of the op's inputs are its A and B.
#[derive(Debug)]
pub(super) struct Product {
    pub core: Core,
    pub operands: [usize; 2],
}

#[derive(Debug)]
pub(super) enum Core {
    Rows(Rows),
    Cols(Cols),
}

/// What a product costs, and the bytes of its largest operand, on which the choice of loaders depends.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Size {
    pub cost: Cost,
    pub largest: u64,
}

impl Size {
    /// Of a product of `multiply_adds` over these tensors.
    pub fn new(multiply_adds: u64, tensors: [&Shape; 3]) -> Self {
        let bytes = tensors.map(|shape| 4 * shape.physical_len() as u64);
        let cost = Cost { flops: 2 * multiply_adds, bytes: bytes.iter().sum() };
        Size { cost, largest: bytes.into_iter().max().unwrap_or(0) }
    }
}

impl Product {
    pub fn candidates(&self, caps: &Caps) -> Vec<&'static Kernel> {
        match &self.core {
            Core::Rows(rows) => rows.candidates(caps),
            Core::Cols(cols) => cols.candidates(caps),
        }
    }

    pub fn lower(
        &self,
        lowering: &mut Lowering,
        inputs: &[(Operand, Shape)],
        output: Operand,
        epilogue: &Epilogue,
        kernel: Option<&Kernel>,
    ) -> Result<()> {
        let [a, b] = self.operands.map(|i| inputs[i].0);
        match &self.core {
            Core::Rows(rows) => rows.lower(lowering, [a, b, output], epilogue, kernel),
            Core::Cols(_) if !epilogue.is_none() => Err(Error::internal("an epilogue on a weight gradient, which has none")),
            Core::Cols(cols) => cols.lower(lowering, [a, b, output], kernel),
        }
    }
}

/// Gives an op that has a `product` of its input shapes what all members of the family offer.
macro_rules! gemm_op {
    ($op:ident) => {
        impl $op {
            /// The kernels that can run this op on an adapter, best first.
            ///
            /// # Errors
            /// If the shapes do not fit.
            pub fn candidates(
                &self,
                caps: &$crate::graph::lower::Caps,
                inputs: &[&$crate::graph::shape::Shape],
            ) -> $crate::error::Result<Vec<&'static $crate::gpu::kernel::Kernel>> {
                Ok(self.product(inputs)?.candidates(caps))
            }

            /// Appends the dispatch, with an epilogue over the output channels.
            ///
            /// # Errors
            /// If the shapes do not fit, or the op is a weight gradient (a product with a transposed A) and there is an epilogue.
            pub fn lower_fused(
                &self,
                lowering: &mut $crate::graph::lower::Lowering,
                inputs: &[($crate::graph::lower::Operand, $crate::graph::shape::Shape)],
                output: ($crate::graph::lower::Operand, $crate::graph::shape::Shape),
                epilogue: &$crate::ops::gemm::Epilogue,
            ) -> $crate::error::Result<()> {
                self.lower_variant(lowering, inputs, output, epilogue, None)
            }

            /// `lower_fused` with one of the `candidates` instead of the best.
            ///
            /// # Errors
            /// As `lower_fused`; also if the kernel is not a candidate.
            pub fn lower_variant(
                &self,
                lowering: &mut $crate::graph::lower::Lowering,
                inputs: &[($crate::graph::lower::Operand, $crate::graph::shape::Shape)],
                output: ($crate::graph::lower::Operand, $crate::graph::shape::Shape),
                epilogue: &$crate::ops::gemm::Epilogue,
                kernel: Option<&$crate::gpu::kernel::Kernel>,
            ) -> $crate::error::Result<()> {
                let shapes: Vec<&$crate::graph::shape::Shape> = inputs.iter().map(|(_, shape)| shape).collect();
                let product = self.product(&shapes)?;
                let kernel = match kernel {
                    Some(kernel) => kernel,
                    None => lowering.choose(self.key(&shapes), product.candidates(&lowering.caps))?,
                };
                product.lower(lowering, inputs, output.0, epilogue, Some(kernel))
            }
        }
    };
}
pub(super) use gemm_op;

/// Moves the first of the kernels that is a candidate to the front.
fn prefer(candidates: &mut [&'static Kernel], kernels: [&'static Kernel; 2]) {
    let place = |kernel: &&'static Kernel| candidates.iter().position(|c| std::ptr::eq(*c, *kernel));
    if let Some(at) = kernels.iter().find_map(place) {
        candidates[..=at].rotate_right(1);
    }
}

/// Drops the kernels whose loops an adapter would end, as long as others are left.
fn drop_those_that_loop_too_long(candidates: &mut Vec<&'static Kernel>, caps: &Caps, iterations: impl Fn(&Kernel) -> usize) {
    let can = |kernel: &&'static Kernel| caps.can_loop(iterations(kernel));
    if candidates.iter().any(can) {
        candidates.retain(can);
    }
}

/// How tables of variants name a product: its op, the shapes of its inputs, and what else decides what is summed.
pub(super) fn key(op: &str, inputs: &[&Shape], geometry: &str) -> String {
    let by = |dims: &[usize]| dims.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
    let shapes: Vec<String> = inputs.iter().map(|shape| by(shape.dims())).collect();
    format!("{op} {}{geometry}", shapes.join(" "))
}

/// The kernel to use: the forced one if it is a candidate, else the first.
fn choose(candidates: &[&'static Kernel], forced: Option<&Kernel>) -> Result<&'static Kernel> {
    let chosen = match forced {
        None => candidates.first(),
        Some(forced) => candidates.iter().find(|k| k.label() == forced.label()),
    };
    chosen.copied().ok_or_else(|| {
        let wanted = forced.map_or("any kernel".to_string(), Kernel::label);
        let labels: Vec<String> = candidates.iter().map(|k| k.label()).collect();
        Error::internal(format!("{wanted} cannot run this product on this adapter; these can: {}", labels.join(", ")))
    })
}

/// Kernels count floats in 32-bit signed integers.
pub(super) fn check_len(op: &str, shape: &Shape) -> Result<()> {
    if shape.physical_len() > i32::MAX as usize {
        return Err(Error::input(format!(
            "{op}: a tensor of shape {shape} takes {} floats; at most 2^31 - 1 are supported: make the batch or the layer smaller",
            shape.physical_len()
        )));
    }
    Ok(())
}
