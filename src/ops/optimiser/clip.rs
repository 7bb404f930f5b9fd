//! Clipping of gradients.

use super::is_positive;
use super::update::BLOCK;
use super::walk::Walk;
use crate::error::{Error, Result};
use crate::gpu::kernel::Bind::{In, Out, Params, Texture};
use crate::gpu::kernel::{Cost, Dispatch, Kernel};
use crate::graph::lower::{Lowering, Operand};
use crate::ops::loaders::{Loaders, loaders};
use crate::part;
use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How gradients are kept small. In files: `{ norm = 1.0 }` or `{ value = 0.5 }`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "ClipTable", into = "ClipTable")]
pub enum Clip {
    /// All gradients of a network times min(1, norm / (total L2 norm + 1e-6)): torch.nn.utils.clip_grad_norm_ (Pascanu et al. 2013).
    Norm(f64),
    /// Each gradient to [-value, value]: torch.nn.utils.clip_grad_value_.
    Value(f64),
}

/// A [`Clip`] as a file says it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table, { norm = 1.0 } or { value = 0.5 }")]
struct ClipTable {
    /// Largest L2 norm of all gradients of a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    norm: Option<f64>,
    /// Largest magnitude of each gradient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
}

impl TryFrom<ClipTable> for Clip {
    type Error = &'static str;

    fn try_from(table: ClipTable) -> Result<Self, &'static str> {
        match (table.norm, table.value) {
            (Some(limit), None) => Ok(Clip::Norm(limit)),
            (None, Some(limit)) => Ok(Clip::Value(limit)),
            (Some(_), Some(_)) => Err("gradients are clipped by norm or by value; both are given"),
            (None, None) => Err("gradients are clipped by norm or by value; neither is given"),
        }
    }
}

impl From<Clip> for ClipTable {
    fn from(clip: Clip) -> Self {
        match clip {
            Clip::Norm(limit) => ClipTable { norm: Some(limit), value: None },
            Clip::Value(limit) => ClipTable { norm: None, value: Some(limit) },
        }
    }
}

impl Clip {
    /// Checks what no type can. `section` is what a file calls this.
    ///
    /// # Errors
    /// [`Error::Input`] that begins with the key at fault: `clip_d.norm: got 0, expected …`.
    pub fn validate(&self, section: &str) -> Result<()> {
        let (key, limit) = match *self {
            Clip::Norm(limit) => ("norm", limit),
            Clip::Value(limit) => ("value", limit),
        };
        match is_positive(limit) {
            true => Ok(()),
            false => Err(Error::input(format!("{section}.{key}: got {limit}, expected a finite number above 0; leave it out for none"))),
        }
    }
}

impl fmt::Display for Clip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Clip::Norm(limit) => write!(f, "norm {limit}"),
            Clip::Value(limit) => write!(f, "value {limit}"),
        }
    }
}

/// Parameters of `grad_squares`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct GradSquaresParams {
    items: u32,
    blocks: u32,
    reserved: [u32; 2],
}

/// Parameters of `clip_factor`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct ClipFactorParams {
    blocks: u32,
    max_norm: f32,
    reserved: [u32; 2],
}

/// `grad_squares`. With items of eight floats an invocation walks a block.
pub static GRAD_SQUARES: Loaders = Loaders {
    vec4: Kernel {
        name: "grad_squares",
        variant: "vec4",
        parts: &[part!("item_vec4"), part!("in1_buffer"), part!("squares_group"), part!("squares_rule"), part!("grad_squares")],
        bindings: &[Params, In, Out],
        workgroup: [64, 1, 1],
        features: &[],
    },
    ..loaders!(
        "grad_squares",
        ["in1_texture"],
        ["in1_buffer"],
        ["squares_lane", "squares_rule"],
        &[Params, Texture, Out],
        &[Params, In, Out]
    )
};

/// `clip_factor`.
pub static CLIP_FACTOR: Kernel = Kernel {
    name: "clip_factor",
    variant: "",
    parts: &[part!("clip_factor")],
    bindings: &[Params, In, Out],
    workgroup: [256, 1, 1],
    features: &[],
};

/// Words of what [`lower_clip_factor`] writes: the factor, the norm, and two zeros.
pub const FACTOR_WORDS: usize = 4;

/// Sums the squares of `words` gradients in blocks of [`BLOCK`], as an update will again: clipping by norm needs them before any parameter
/// of the network moves.
///
/// # Errors
/// [`Error::Internal`] if `words` is not a multiple of 4 or more than one binding holds.
pub fn lower_grad_squares(l: &mut Lowering, grads: Operand, squares: Operand, words: usize) -> Result<()> {
    let walk = Walk::new(&l.caps, "grad_squares", words)?;
    let blocks = words.div_ceil(BLOCK);
    let params = GradSquaresParams { items: walk.items as u32, blocks: blocks as u32, reserved: [0; 2] };
    l.push(Dispatch {
        kernel: GRAD_SQUARES.kernel(walk.loading),
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![grads, squares],
        workgroups: walk.block_workgroups(blocks),
        cost: Cost { flops: 2 * words as u64, bytes: 4 * (words + blocks) as u64 },
    });
    Ok(())
}

/// Makes the factor of [`Clip::Norm`] from the squares of all `blocks` blocks of a network's gradient: [`FACTOR_WORDS`] words in `factor`.
///
/// # Errors
/// [`Error::Internal`] if there are no blocks.
pub fn lower_clip_factor(l: &mut Lowering, squares: Operand, blocks: usize, max_norm: f64, factor: Operand) -> Result<()> {
    let count = u32::try_from(blocks).ok().filter(|&count| count > 0);
    let count = count.ok_or_else(|| Error::internal(format!("the norm of {blocks} blocks")))?;
    let params = ClipFactorParams { blocks: count, max_norm: max_norm as f32, reserved: [0; 2] };
    l.push(Dispatch {
        kernel: &CLIP_FACTOR,
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![squares, factor],
        workgroups: [1, 1, 1],
        cost: Cost { flops: blocks as u64, bytes: 4 * blocks as u64 },
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_checked_by_key() {
        for clip in [Clip::Norm(1.0), Clip::Value(0.01)] {
            clip.validate("clip_d").unwrap();
        }
        for (clip, start) in [
            (Clip::Norm(0.0), "clip_d.norm: got 0, expected a finite number above 0"),
            (Clip::Norm(f64::NAN), "clip_d.norm: got NaN,"),
            (Clip::Value(-1.0), "clip_d.value: got -1,"),
            (Clip::Value(1e39), "clip_d.value: got 1"),
        ] {
            let error = clip.validate("clip_d").expect_err(start);
            assert!(error.exit_code() == 2 && error.to_string().starts_with(start), "{error}");
        }
    }

    #[test]
    fn files_say_norm_or_value() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct File {
            clip_d: Clip,
        }
        for (text, clip) in [("clip_d = { norm = 5 }", Clip::Norm(5.0)), ("clip_d = { value = 0.5 }", Clip::Value(0.5))] {
            let file: File = toml::from_str(text).unwrap();
            assert_eq!(file, File { clip_d: clip });
            assert_eq!(toml::from_str::<File>(&toml::to_string(&file).unwrap()).unwrap(), file);
        }
        for (text, needle) in [
            ("clip_d = { max = 5 }", "unknown field `max`, expected `norm` or `value`"),
            ("clip_d = { norm = 1, value = 2 }", "clipped by norm or by value; both are given"),
            ("clip_d = {}", "clipped by norm or by value; neither is given"),
            ("clip_d = 5", "expected a table, { norm = 1.0 } or { value = 0.5 }"),
        ] {
            let error = toml::from_str::<File>(text).expect_err(text).to_string();
            assert!(error.contains(needle), "{text}: {error}");
        }
        assert_eq!([Clip::Norm(1.5), Clip::Value(0.5)].map(|clip| clip.to_string()), ["norm 1.5", "value 0.5"]);
    }
}
