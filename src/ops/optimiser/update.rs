//! One update of a network's parameters.

use super::walk::Walk;
use super::{Clip, Optimiser, is_positive};
use crate::error::{Error, Result};
use crate::gpu::kernel::Bind::{In, InOut, Out, Params, Step, Texture};
use crate::gpu::kernel::{Cost, Dispatch, Kernel};
use crate::gpu::step::StepRow;
use crate::graph::lower::{Lowering, Operand};
use crate::ops::loaders::{Loaders, Loading, loaders};
use crate::part;
use bytemuck::{Pod, Zeroable};

/// Parameters that the kernels of all optimisers begin with.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct CommonParams {
    items: u32,
    slot: u32,
    blocks: u32,
    ema_slot: u32,
    limit: f32,
    weight_decay: f32,
    bound: f32,
}

/// Parameters of `adam`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct AdamParams {
    common: CommonParams,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    eps: f32,
}

/// Parameters of `sgd`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct SgdParams {
    common: CommonParams,
    momentum: f32,
}

/// Parameters of `rmsprop`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct RmsPropParams {
    common: CommonParams,
    momentum: f32,
    alpha: f32,
    one_minus_alpha: f32,
    eps: f32,
    reserved: u32,
}

/// The forms of an optimiser's kernel. Its state is read from textures that mirror the buffers it is written to. With items of eight floats
/// an invocation walks a block.
macro_rules! optimiser {
    ($name:literal, $textures:literal, $buffers:literal, $with_textures:expr, $with_buffers:expr) => {
        Loaders {
            vec4: Kernel {
                name: $name,
                variant: "vec4",
                parts: &[
                    part!("item_vec4"),
                    part!($buffers),
                    part!("squares_group"),
                    part!("squares_rule"),
                    part!("ema_rule"),
                    part!("update_rules"),
                    part!($name),
                ],
                bindings: $with_buffers,
                workgroup: [64, 1, 1],
                features: &[],
            },
            ..loaders!(
                $name,
                [$textures],
                [$buffers],
                ["squares_lane", "squares_rule", "ema_rule", "update_rules"],
                $with_textures,
                $with_buffers
            )
        }
    };
}

/// `adam`.
pub static ADAM: Loaders = optimiser!(
    "adam",
    "moments_textures",
    "moments_buffers",
    &[Params, Step, Texture, Texture, Texture, Texture, In, InOut, InOut, InOut, InOut, Out],
    &[Params, Step, In, In, InOut, InOut, InOut, InOut, Out]
);

/// `sgd`.
pub static SGD: Loaders = optimiser!(
    "sgd",
    "momentum_textures",
    "momentum_buffers",
    &[Params, Step, Texture, Texture, Texture, In, InOut, InOut, InOut, Out],
    &[Params, Step, In, In, InOut, InOut, InOut, Out]
);

/// `rmsprop`.
pub static RMSPROP: Loaders = optimiser!(
    "rmsprop",
    "moments_textures",
    "moments_buffers",
    &[Params, Step, Texture, Texture, Texture, Texture, In, InOut, InOut, InOut, InOut, Out],
    &[Params, Step, In, In, InOut, InOut, InOut, InOut, Out]
);

/// What happens to a network's parameters once their gradients are known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// The optimiser.
    pub optimiser: Optimiser,
    /// Clipping of the gradients, before weight decay and everything else.
    pub clip: Option<Clip>,
    /// Parameters are kept in [-weight_clip, weight_clip] (Arjovsky et al. 2017).
    pub weight_clip: Option<f64>,
}

/// What an update reads and writes: flat stores of one layout, or the same range of each.
#[derive(Debug, Clone, Copy)]
pub struct UpdateStores {
    /// Gradients, read.
    pub grads: Operand,
    /// Parameters, updated.
    pub values: Operand,
    /// First moments, updated; zero before the first update. There if [`Optimiser::moments`] says so.
    pub m: Option<Operand>,
    /// Second moments, as the first.
    pub v: Option<Operand>,
    /// Moving average of the parameters, if there is one: updated with the decay of the step row's slot [`StepRow::STEP`].
    pub averages: Option<Operand>,
    /// Sum of the gradients' squares in each block of [`BLOCK`] words, written; see [`crate::ops::stats::lower_step_stats`]. They are those of
    /// the gradients as they came, before clipping.
    pub squares: Operand,
    /// What [`super::lower_clip_factor`] has made of the gradients of the whole network; there with [`Clip::Norm`].
    pub factor: Option<Operand>,
}

/// Words of a block whose gradients are squared and added; tensors of a store start at multiples of it.
pub const BLOCK: usize = 64;

/// Checks a bound of weights, [`Update::weight_clip`], that a file calls `key`.
///
/// # Errors
/// [`Error::Input`] that begins with the key.
pub fn validate_weight_clip(bound: f64, key: &str) -> Result<()> {
    match is_positive(bound) {
        true => Ok(()),
        false => Err(Error::input(format!("{key}: got {bound}, expected a finite number above 0 (WGAN's is 0.01); leave it out for none"))),
    }
}

impl Update {
    /// An update by the optimiser alone.
    pub fn new(optimiser: Optimiser) -> Self {
        Update { optimiser, clip: None, weight_clip: None }
    }

    /// The switches of `shaders/update_rules.wgsl` and of the kernels, without those that are off.
    fn overrides(&self) -> Vec<(&'static str, f64)> {
        let clip = match self.clip {
            None => 0,
            Some(Clip::Norm(_)) => 1,
            Some(Clip::Value(_)) => 2,
        };
        let (decay, momentum) = match self.optimiser {
            Optimiser::Sgd { momentum, nesterov, weight_decay } => {
                (u8::from(weight_decay > 0.0), if nesterov { 2 } else { u8::from(momentum > 0.0) })
            }
            Optimiser::Adam { weight_decay, .. } => (u8::from(weight_decay > 0.0), 0),
            Optimiser::AdamW { weight_decay, .. } => (if weight_decay > 0.0 { 2 } else { 0 }, 0),
            Optimiser::RmsProp { momentum, weight_decay, .. } => (u8::from(weight_decay > 0.0), u8::from(momentum > 0.0)),
        };
        let bound = u8::from(self.weight_clip.is_some());
        let all = [("BOUND", bound), ("CLIP", clip), ("DECAY", decay), ("MOMENTUM", momentum)];
        all.into_iter().filter(|(_, value)| *value != 0).map(|(name, value)| (name, f64::from(value))).collect()
    }

    /// Appends the update of `words` words, in place. `slot` is the step row's slot of this update's scalars ([`StepRow::optimiser`]).
    ///
    /// # Errors
    /// [`Error::Internal`] if `words` is not a multiple of 4 or more than one binding holds, or a store is missing.
    pub fn lower(&self, l: &mut Lowering, stores: UpdateStores, words: usize, slot: u32) -> Result<()> {
        let name = self.optimiser.kernel();
        let moments = self.optimiser.moments();
        let by_norm = matches!(self.clip, Some(Clip::Norm(_)));
        if (stores.m.is_some(), stores.v.is_some(), stores.factor.is_some()) != (moments.m, moments.v, by_norm) {
            return Err(Error::internal(format!("{self:?} with stores {stores:?}")));
        }
        let walk = Walk::new(&l.caps, name, words)?;
        let blocks = words.div_ceil(BLOCK);
        let limit = match self.clip {
            Some(Clip::Value(limit)) => limit,
            _ => 0.0,
        };
        let common = |weight_decay: f64| CommonParams {
            items: walk.items as u32,
            slot,
            blocks: blocks as u32,
            ema_slot: stores.averages.map_or(u32::MAX, |_| StepRow::STEP),
            limit: limit as f32,
            weight_decay: weight_decay as f32,
            bound: self.weight_clip.unwrap_or(0.0) as f32,
        };
        // 1 - beta in f64 first: 1 - 0.999 in f32 is off by 1e-5 of itself.
        let (kernel, params, flops) = match self.optimiser {
            Optimiser::Adam { beta1, beta2, eps, weight_decay } | Optimiser::AdamW { beta1, beta2, eps, weight_decay } => {
                let params = AdamParams {
                    common: common(weight_decay),
                    beta1: beta1 as f32,
                    one_minus_beta1: (1.0 - beta1) as f32,
                    beta2: beta2 as f32,
                    one_minus_beta2: (1.0 - beta2) as f32,
                    eps: eps as f32,
                };
                (&ADAM, bytemuck::bytes_of(&params).to_vec(), 17)
            }
            Optimiser::Sgd { momentum, nesterov, weight_decay } => {
                let params = SgdParams { common: common(weight_decay), momentum: momentum as f32 };
                let flops = 4 + if momentum > 0.0 { 2 } else { 0 } + if nesterov { 2 } else { 0 };
                (&SGD, bytemuck::bytes_of(&params).to_vec(), flops)
            }
            Optimiser::RmsProp { alpha, eps, momentum, weight_decay } => {
                let params = RmsPropParams {
                    common: common(weight_decay),
                    momentum: momentum as f32,
                    alpha: alpha as f32,
                    one_minus_alpha: (1.0 - alpha) as f32,
                    eps: eps as f32,
                    reserved: 0,
                };
                (&RMSPROP, bytemuck::bytes_of(&params).to_vec(), if momentum > 0.0 { 13 } else { 11 })
            }
        };
        // Gradients and values, each moment and the average: read, and all but the gradients written.
        let kept = [true, moments.m, moments.v, stores.averages.is_some()].into_iter().filter(|there| *there).count() as u64;
        let flops = flops + if stores.averages.is_some() { 3 } else { 0 };
        let cost = Cost { flops: flops * words as u64, bytes: 4 * (1 + 2 * kept) * words as u64 };

        // What is not there is bound all the same: as an input to the gradients, as state to a little scratch.
        let mut state = vec![stores.values];
        let mut mirrored = vec![stores.values];
        let wanted: &[Option<Operand>] = if name == "sgd" { &[stores.m] } else { &[stores.m, stores.v] };
        for moment in wanted {
            mirrored.push(moment.unwrap_or(stores.grads));
            state.push(moment.unwrap_or_else(|| l.scratch(8)));
        }
        state.extend([stores.averages.unwrap_or_else(|| l.scratch(8)), stores.squares]);
        let mirrors: &[Operand] = if walk.loading == Loading::Texture { &mirrored } else { &[] };
        l.push(Dispatch {
            kernel: kernel.kernel(walk.loading),
            overrides: self.overrides(),
            params,
            operands: [&[stores.grads], mirrors, &[stores.factor.unwrap_or(stores.grads)], &state].concat(),
            workgroups: walk.block_workgroups(blocks),
            cost,
        });
        Ok(())
    }
}
