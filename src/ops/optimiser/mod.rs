//! Optimisers, clipping and weight averages: in-place updates of flat parameter stores.
//!
//! A store is a flat run of f32 words in which each tensor's physical image starts at a multiple of 64 words; the words between tensors are
//! zero in every store and stay zero. An update is one dispatch per segment of a store.

mod average;
mod cases;
mod clip;
mod kind;
pub mod twin;
mod update;
mod walk;

pub use average::{ACCUMULATE, EMA, lower_accumulate, lower_ema};
pub use cases::cases;
pub(crate) use cases::cases_of_size;
pub use clip::{CLIP_FACTOR, Clip, FACTOR_WORDS, GRAD_SQUARES, lower_clip_factor, lower_grad_squares};
pub use kind::{Moments, Optimiser};
pub use update::{ADAM, BLOCK, RMSPROP, SGD, Update, UpdateStores, validate_weight_clip};

use crate::gpu::kernel::Kernel;

/// Kernels of this family.
pub static KERNELS: &[&Kernel] = &[
    &ADAM.texture,
    &ADAM.u64,
    &ADAM.vec4,
    &SGD.texture,
    &SGD.u64,
    &SGD.vec4,
    &RMSPROP.texture,
    &RMSPROP.u64,
    &RMSPROP.vec4,
    &GRAD_SQUARES.texture,
    &GRAD_SQUARES.u64,
    &GRAD_SQUARES.vec4,
    &CLIP_FACTOR,
    &EMA.texture,
    &EMA.u64,
    &EMA.vec4,
    &ACCUMULATE.texture,
    &ACCUMULATE.u64,
    &ACCUMULATE.vec4,
];

/// A number that shaders, which compute in f32, take as a finite one from `low` on.
fn is_finite_from(low: f64, value: f64) -> bool {
    value >= low && (value as f32).is_finite()
}

/// A number that shaders take as a finite one above zero, and not as a subnormal, which adapters may flush to zero.
fn is_positive(value: f64) -> bool {
    value > 0.0 && (value as f32).is_normal()
}
