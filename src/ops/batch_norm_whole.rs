//! Batch norm in one dispatch for each direction: the statistics and what is done with them, a column of channels per workgroup.
//!
//! [`crate::ops::batch_norm`] has the op itself, its twins, and the kernels that cut large tensors into more pieces than there are columns.

use super::activation::Activation;
use super::batch_norm::{Statistics, cpu};
use super::case::Case;
use super::case_builder::{CaseBuilder, widen};
use super::{random, running_stats, shape};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Feature, Kernel, grid};
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::part;
use bytemuck::{Pod, Zeroable};

/// Most rows, groups included, that one workgroup walks on a GPU. Beyond that a column takes longer than the dispatches that it saves.
const MOST_ROWS: usize = 65_536;

/// Fewest columns of two vec4 that are walked as such: with fewer workgroups, more threads would have none.
const LEAST_PAIRS: usize = 8;

/// Most groups that one workgroup walks on a GPU, one after another, with several barriers for each. Instance norm, with a group for each image, is
/// cut into pieces for more workgroups.
const MOST_GROUPS: usize = 8;

/// `batch_norm_forward`, any adapter.
pub static BATCH_NORM_FORWARD: Kernel = Kernel {
    name: "batch_norm_forward",
    variant: "shared",
    parts: &[part!("item_vec4"), part!("activations"), part!("gemm_a_vec4"), part!("tally_shared"), part!("batch_norm_forward")],
    bindings: &[Bind::Params, Bind::In, Bind::In, Bind::In, Bind::Out, Bind::Out, Bind::Out, Bind::InOut, Bind::InOut],
    workgroup: [256, 1, 1],
    features: &[],
};

/// `batch_norm_forward`, x from a texture, for software adapters.
pub static BATCH_NORM_FORWARD_TEXTURE: Kernel = Kernel {
    name: "batch_norm_forward",
    variant: "texture",
    parts: &[part!("item_vec4"), part!("activations"), part!("gemm_a_texture"), part!("tally_subgroup"), part!("batch_norm_forward")],
    bindings: &[Bind::Params, Bind::Texture, Bind::In, Bind::In, Bind::Out, Bind::Out, Bind::Out, Bind::InOut, Bind::InOut],
    workgroup: [8, 1, 1],
    features: &[Feature::Subgroup],
};

/// `batch_norm_forward`, as its texture form with two vec4 an item, which are stored as 64-bit words.
pub static BATCH_NORM_FORWARD_PAIRS: Kernel = Kernel {
    name: "batch_norm_forward",
    variant: "pairs",
    parts: &[part!("item_u64"), part!("activations"), part!("gemm_a_texture"), part!("tally_subgroup"), part!("batch_norm_forward")],
    bindings: &[Bind::Params, Bind::Texture, Bind::In, Bind::In, Bind::Out, Bind::Out, Bind::Out, Bind::InOut, Bind::InOut],
    workgroup: [8, 1, 1],
    features: &[Feature::Subgroup, Feature::Int64],
};

/// `batch_norm_backward`, any adapter.
pub static BATCH_NORM_BACKWARD: Kernel = Kernel {
    name: "batch_norm_backward",
    variant: "shared",
    parts: &[part!("gemm_a_vec4"), part!("gemm_b_vec4"), part!("tally_shared"), part!("batch_norm_backward")],
    bindings: &[Bind::Params, Bind::In, Bind::In, Bind::In, Bind::In, Bind::In, Bind::Out, Bind::Out, Bind::Out],
    workgroup: [256, 1, 1],
    features: &[],
};

/// `batch_norm_backward`, dy and x from textures, for software adapters.
pub static BATCH_NORM_BACKWARD_TEXTURE: Kernel = Kernel {
    name: "batch_norm_backward",
    variant: "texture",
    parts: &[part!("gemm_a_texture"), part!("gemm_b_texture"), part!("tally_subgroup"), part!("batch_norm_backward")],
    bindings: &[Bind::Params, Bind::Texture, Bind::Texture, Bind::In, Bind::In, Bind::In, Bind::Out, Bind::Out, Bind::Out],
    workgroup: [8, 1, 1],
    features: &[Feature::Subgroup],
};

/// The kernels of this file.
pub const KERNELS: &[&Kernel] =
    &[&BATCH_NORM_FORWARD, &BATCH_NORM_FORWARD_TEXTURE, &BATCH_NORM_FORWARD_PAIRS, &BATCH_NORM_BACKWARD, &BATCH_NORM_BACKWARD_TEXTURE];

/// `BatchNormForwardParams` of `batch_norm_forward.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct BatchNormForwardParams {
    columns: u32,
    channels: u32,
    rows: u32,
    groups: u32,
    slope: f32,
    eps: f32,
    tracked: u32,
    momentum: f32,
    keep: f32,
    unbias: f32,
    reserved0: u32,
    reserved1: u32,
}

/// `BatchNormBackwardParams` of `batch_norm_backward.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct BatchNormBackwardParams {
    columns: u32,
    rows: u32,
    groups: u32,
    scale: f32,
}

/// Running statistics that a forward pass moves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Running {
    /// Running mean (C).
    pub mean: Operand,
    /// Running variance (C), unbiased.
    pub var: Operand,
    /// Weight of the new statistics.
    pub momentum: f64,
}

/// What a forward pass computes with, besides x.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pass {
    /// Where the statistics go.
    pub statistics: Statistics,
    /// Added to the variance.
    pub eps: f32,
    /// Scale (C).
    pub weight: Operand,
    /// Shift (C).
    pub bias: Operand,
    /// Applied to the result.
    pub activation: Activation,
    /// Running statistics, if there are any.
    pub running: Option<Running>,
}

/// Where the gradients of a backward pass go: dx of x's shape, dweight and dbias (C); `None` leaves one out.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Gradients {
    /// Of x.
    pub dx: Option<Operand>,
    /// Of the scale.
    pub dweight: Option<Operand>,
    /// Of the shift.
    pub dbias: Option<Operand>,
}

fn reads_textures(caps: &Caps, shape: &Shape) -> bool {
    caps.software && caps.fixed_subgroup && 4 * shape.physical_len() as u64 <= Kernel::TEXTURE_BYTES
}

/// The kernel of a forward pass over x of a shape, and the vec4s of its items.
fn forward(caps: &Caps, shape: &Shape) -> (&'static Kernel, usize) {
    if !reads_textures(caps, shape) {
        (&BATCH_NORM_FORWARD, 1)
    } else if caps.int64 && shape.padded().is_multiple_of(8) && shape.padded() / 8 >= LEAST_PAIRS {
        (&BATCH_NORM_FORWARD_PAIRS, 2)
    } else {
        (&BATCH_NORM_FORWARD_TEXTURE, 1)
    }
}

/// Whether one dispatch for x of this shape in batch groups is the better choice on an adapter. It follows from the adapter, shape and groups alone.
pub fn is_whole(caps: &Caps, shape: &Shape, groups: usize) -> bool {
    // A lane of the kernels for textures walks its rows twice, and in pieces the first time.
    let is_walked = reads_textures(caps, shape) && caps.can_loop(3 * shape.rows().div_ceil(Kernel::LANES as usize));
    is_walked || shape.rows() <= MOST_ROWS && groups <= MOST_GROUPS
}

/// The forward pass: x (groups * n, C[, H, W]) to statistics and y, and the running statistics moved.
pub fn lower_forward(l: &mut Lowering, x: (Operand, Shape), pass: Pass, y: Operand) {
    let (x, shape) = x;
    let groups = pass.statistics.groups;
    let rows = shape.rows() / groups;
    let (kernel, width) = forward(&l.caps, &shape);
    let columns = shape.padded() / 4 / width;
    let momentum = pass.running.map_or(0.0, |r| r.momentum);
    let params = BatchNormForwardParams {
        columns: columns as u32,
        channels: shape.channels() as u32,
        rows: rows as u32,
        groups: groups as u32,
        slope: pass.activation.slope(),
        eps: pass.eps,
        tracked: u32::from(pass.running.is_some()),
        momentum: momentum as f32,
        keep: (1.0 - momentum) as f32,
        unbias: (rows as f64 / (rows as f64 - 1.0)) as f32,
        reserved0: 0,
        reserved1: 0,
    };
    let [running_mean, running_var] = match pass.running {
        Some(running) => [running.mean, running.var],
        None => [l.scratch(shape.padded()), l.scratch(shape.padded())],
    };
    let statistics = pass.statistics;
    l.push(Dispatch {
        kernel,
        overrides: vec![("ACTIVATION", f64::from(pass.activation.code()))],
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![x, pass.weight, pass.bias, y, statistics.mean, statistics.rstd, running_mean, running_var],
        workgroups: grid(columns, 1),
        cost: Cost { flops: 9 * shape.len() as u64, bytes: 8 * (shape.physical_len() + (groups + 3) * shape.padded()) as u64 },
    });
}

/// The backward pass: dy and x (groups * n, C[, H, W]) to the gradients.
pub fn lower_backward(l: &mut Lowering, dy: Operand, x: (Operand, Shape), statistics: Statistics, weight: Operand, gradients: Gradients) {
    let (x, shape) = x;
    let groups = statistics.groups;
    let rows = shape.rows() / groups;
    let columns = shape.padded() / 4;
    let params =
        BatchNormBackwardParams { columns: columns as u32, rows: rows as u32, groups: groups as u32, scale: (1.0 / rows as f64) as f32 };
    let dx = gradients.dx.unwrap_or_else(|| l.scratch(shape.physical_len()));
    let [dweight, dbias] = [gradients.dweight, gradients.dbias].map(|o| o.unwrap_or_else(|| l.scratch(shape.padded())));
    l.push(Dispatch {
        kernel: if reads_textures(&l.caps, &shape) { &BATCH_NORM_BACKWARD_TEXTURE } else { &BATCH_NORM_BACKWARD },
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![dy, x, statistics.mean, statistics.rstd, weight, dx, dweight, dbias],
        workgroups: grid(columns, 1),
        cost: Cost { flops: 10 * shape.len() as u64, bytes: 4 * (3 * shape.physical_len() + (2 * groups + 3) * shape.padded()) as u64 },
    });
}

/// Validated uses of the kernels of this file.
pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    // One channel, C not a multiple of 4, fewer rows than lanes, no pixels, several chunks of a lane of which the last is short.
    let uses: [(&[usize], usize, Activation); 12] = [
        (&[3, 1, 1, 1], 1, Activation::None),
        (&[6, 5, 3, 2], 1, Activation::Sigmoid),
        (&[6, 5, 3, 2], 2, Activation::LeakyRelu(0.2)),
        (&[18, 12], 2, Activation::Tanh),
        (&[4, 8, 5, 5], 4, Activation::None),
        (&[4, 16, 33, 31], 2, Activation::LeakyRelu(0.0)),
        (&[7, 4, 25, 24], 1, Activation::None),
        (&[6, 300, 1, 1], 1, Activation::LeakyRelu(0.2)),
        // As instance norm: a group for each image.
        (&[5, 6, 3, 4], 5, Activation::LeakyRelu(0.2)),
        // Columns of two vec4: the fewest, with padding in the last, of several chunks and groups.
        (&[3, 64, 1, 1], 1, Activation::Sigmoid),
        (&[4, 69, 5, 3], 2, Activation::LeakyRelu(0.2)),
        (&[6, 66, 9, 7], 3, Activation::None),
    ];
    for caps in all(caps) {
        for (i, &(dims, groups, activation)) in uses.iter().enumerate() {
            let x = random(&shape(dims), i as u64, 4.0, 6.0);
            let what = format!("{} groups {groups} {activation:?}", x.shape);
            cases.push(forward_case(&caps, &what, &x, groups, activation, i % 2 == 0));
            cases.push(backward_case(&caps, &what, &x, groups));
        }
        // The first row of a chunk, from which deviations are taken, is far from the others.
        let mut outliers = random(&shape(&[2, 8, 64, 16]), 11, -1.0, 1.0);
        outliers.data.iter_mut().step_by(1024).for_each(|v| *v += 1000.0);
        cases.push(forward_case(&caps, "of outliers", &outliers, 1, Activation::None, true));
    }
    cases
}

/// Capabilities that between them pick all variants, as far as this adapter can run them.
fn all(caps: &Caps) -> Vec<Caps> {
    let shared = Caps { fixed_subgroup: false, ..caps.clone() };
    let texture = Caps { software: true, int64: false, ..caps.clone() };
    let pairs = Caps { int64: true, ..texture.clone() };
    std::iter::once(shared)
        .chain(caps.fixed_subgroup.then_some(texture))
        .chain((caps.fixed_subgroup && caps.int64).then_some(pairs))
        .collect()
}

const CHANNELS: &str = "a shape's channels are not empty";

fn forward_case(caps: &Caps, what: &str, x: &Tensor, groups: usize, activation: Activation, tracked: bool) -> Case {
    let (eps, momentum) = (1e-5, 0.1);
    let channels = Shape::new(&[x.shape.channels()]).expect(CHANNELS);
    let [weight, bias] = [(200, 0.5, 1.5), (300, -1.0, 1.0)].map(|(seed, low, high)| random(&channels, seed, low, high));
    let [mean, var, rstd] = cpu::batch_norm_moments(x, groups, eps);
    let y = cpu::batch_norm_apply(x, &mean, &rstd, &weight, &bias, activation);
    let before = [random(&channels, 400, -1.0, 1.0), random(&channels, 500, 0.5, 1.5)];
    let [mut running_mean, mut running_var] = before.clone();
    let count = x.shape.rows() / groups;
    running_stats::twin::running_stats(&mean.data, &var.data, &mut running_mean.data, &mut running_var.data, count, momentum);

    let mut b = CaseBuilder::new(caps);
    let [x_in, weight, bias] = [x, &weight, &bias].map(|t| b.input(&t.pack()));
    let [y, mean, rstd] = [y, mean, rstd].map(|t| b.output(t.pack_f64()));
    let running = tracked.then(|| Running {
        mean: b.state(before[0].pack(), running_mean.pack_f64()),
        var: b.state(before[1].pack(), running_var.pack_f64()),
        momentum,
    });
    let pass = Pass { statistics: Statistics { groups, mean, rstd }, eps, weight, bias, activation, running };
    lower_forward(&mut b.lowering, (x_in, x.shape.clone()), pass, y);
    b.finish(format!("batch_norm_forward {what}"))
}

fn backward_case(caps: &Caps, what: &str, x: &Tensor, groups: usize) -> Case {
    let channels = Shape::new(&[x.shape.channels()]).expect(CHANNELS);
    let dy = random(&x.shape, 100, -1.0, 1.0);
    let weight = random(&channels, 200, 0.5, 1.5);
    // The kernel sees f32, so the twin is given what f32 holds.
    let round = |t: Tensor| Tensor::new(t.shape, widen(&t.data.iter().map(|v| *v as f32).collect::<Vec<_>>()));
    let [mean, _, rstd] = cpu::batch_norm_moments(x, groups, 1e-5).map(round);
    let [sum_dy, sum_dy_xhat, dweight, dbias] = cpu::batch_norm_backward_sums(&dy, x, &mean, &rstd);
    let dx = cpu::batch_norm_backward_apply(&dy, x, [&mean, &rstd], &weight, [&sum_dy, &sum_dy_xhat]);

    let mut b = CaseBuilder::new(caps);
    let [dy, x_in, mean, rstd, weight] = [&dy, x, &mean, &rstd, &weight].map(|t| b.input(&t.pack()));
    let [dx, dweight, dbias] = [dx, dweight, dbias].map(|t| Some(b.output(t.pack_f64())));
    let gradients = Gradients { dx, dweight, dbias };
    lower_backward(&mut b.lowering, dy, (x_in, x.shape.clone()), Statistics { groups, mean, rstd }, weight, gradients);
    b.finish(format!("batch_norm_backward {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing;
    use crate::ops::case_builder::{assert_cases, bits};

    #[test]
    fn kernels_equal_their_twins() {
        assert_cases(KERNELS, cases);
    }

    /// A texture serves software adapters with eight lanes at any size that it can hold; elsewhere only small tensors are one dispatch.
    #[test]
    fn the_choice_follows_adapter_and_shape() {
        let gpu = Caps::minimal();
        let software = Caps { software: true, fixed_subgroup: true, ..Caps::minimal() };
        let (small, large, huge) = (shape(&[128, 128, 16, 16]), shape(&[128, 64, 32, 32]), shape(&[128, 64, 64, 128]));
        assert_eq!([&small, &large, &huge].map(|s| is_whole(&gpu, s, 2)), [true, false, false]);
        assert_eq!([&small, &large, &huge].map(|s| is_whole(&software, s, 2)), [true, true, false]);
        assert_eq!([&gpu, &software].map(|caps| is_whole(caps, &small, 128)), [false, true]);
        // What a texture holds may still be more than a loop may walk.
        let long = shape(&[256, 4, 64, 64]);
        assert!(reads_textures(&software, &long) && !is_whole(&software, &long, 1));
        // Two vec4 a column, where there are words to store them by, and columns enough.
        let wide = Caps { int64: true, ..software.clone() };
        let variant = |caps: &Caps, dims: &[usize]| forward(caps, &shape(dims)).0.variant;
        assert_eq!([&gpu, &software, &wide].map(|caps| variant(caps, &[64, 64, 16, 16])), ["shared", "texture", "pairs"]);
        assert_eq!([56, 60, 68].map(|channels| variant(&wide, &[64, channels, 16, 16])), ["texture", "texture", "texture"]);
    }

    /// The forms of software adapters differ in what they load and store at once, not in what they compute.
    #[test]
    fn pairs_give_the_bits_of_single_columns() {
        let Some(gpu) = testing::gpu().filter(|gpu| gpu.caps().fixed_subgroup && gpu.caps().int64) else { return };
        let forms = [false, true].map(|int64| Caps { software: true, int64, ..gpu.caps() });
        for dims in [&[3, 64, 1, 1][..], &[4, 69, 5, 3], &[6, 72, 19, 17]] {
            let x = random(&shape(dims), 5, 4.0, 6.0);
            for (tracked, activation) in [(true, Activation::Tanh), (false, Activation::LeakyRelu(0.2))] {
                let [single, pairs] = forms.each_ref().map(|caps| forward_case(caps, "bits", &x, 1, activation, tracked));
                assert_ne!(single.dispatches[0].kernel.variant, pairs.dispatches[0].kernel.variant);
                assert!(bits(gpu, &single) == bits(gpu, &pairs), "forward {} {activation:?}", x.shape);
            }
        }
    }
}
