//! Batch norm (Ioffe & Szegedy 2015) with separate statistics for each batch group: as primitives, which is what differentiation sees,
//! and as four fused kernels that compute the same subgraphs.
//!
//! A batch of real images followed by fakes is one tensor with two groups: each half is normalised by its own statistics, as if the
//! network had been called twice.

use super::activation::Activation;
use super::case::{Case, CaseBuffer};
use super::elementwise::{add, affine, mul, rsqrt, sub};
use super::loaders::{Loaders, Loading, NarrowLoaders, loaders, narrow_loaders};
use super::reduce::{Chunks, check_groups, group_broadcast, group_sum};
use super::reshape::reshape;
use super::{random, shape, widths};
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel, grid};
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, NodeId};
use bytemuck::{Pod, Zeroable};

/// Mean and squared deviations of chunks of rows.
pub static BATCH_NORM_MOMENTS_PARTIAL: Loaders = loaders!(
    "batch_norm_moments_partial",
    ["in1_texture"],
    ["in1_buffer"],
    [],
    &[Bind::Params, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::Out]
);

/// Combines the chunks into mean, variance and 1 / standard deviation.
pub static BATCH_NORM_MOMENTS_FINISH: NarrowLoaders = narrow_loaders!(
    "batch_norm_moments_finish",
    ["in1_texel"],
    ["in1_buffer"],
    &[Bind::Params, Bind::Texture, Bind::Out, Bind::Out, Bind::Out],
    &[Bind::Params, Bind::In, Bind::Out, Bind::Out, Bind::Out]
);

/// Normalises, scales, shifts and activates.
pub static BATCH_NORM_APPLY: Loaders = loaders!(
    "batch_norm_apply",
    ["in1_texture"],
    ["in1_buffer"],
    ["activations"],
    &[Bind::Params, Bind::Texture, Bind::In, Bind::In, Bind::In, Bind::In, Bind::Out],
    &[Bind::Params, Bind::In, Bind::In, Bind::In, Bind::In, Bind::In, Bind::Out]
);

/// Sums of dy and dy * xhat over chunks of rows.
pub static BATCH_NORM_BACKWARD_SUMS_PARTIAL: Loaders = loaders!(
    "batch_norm_backward_sums_partial",
    ["in1_texture", "in2_texture"],
    ["in1_buffer", "in2_buffer"],
    [],
    &[Bind::Params, Bind::Texture, Bind::Texture, Bind::In, Bind::In, Bind::Out],
    &[Bind::Params, Bind::In, Bind::In, Bind::In, Bind::In, Bind::Out]
);

/// Adds the chunks, and the groups into the gradients of weight and bias.
pub static BATCH_NORM_BACKWARD_SUMS_FINISH: NarrowLoaders = narrow_loaders!(
    "batch_norm_backward_sums_finish",
    ["in1_texel"],
    ["in1_buffer"],
    &[Bind::Params, Bind::Texture, Bind::Out, Bind::Out, Bind::Out, Bind::Out],
    &[Bind::Params, Bind::In, Bind::Out, Bind::Out, Bind::Out, Bind::Out]
);

/// Input gradient from the sums.
pub static BATCH_NORM_BACKWARD_APPLY: Loaders = loaders!(
    "batch_norm_backward_apply",
    ["in1_texture", "in2_texture"],
    ["in1_buffer", "in2_buffer"],
    [],
    &[Bind::Params, Bind::Texture, Bind::Texture, Bind::In, Bind::In, Bind::In, Bind::In, Bind::In, Bind::Out],
    &[Bind::Params, Bind::In, Bind::In, Bind::In, Bind::In, Bind::In, Bind::In, Bind::In, Bind::Out]
);

/// The kernels of this file.
pub const KERNELS: &[&Kernel] = &[
    &BATCH_NORM_MOMENTS_PARTIAL.texture,
    &BATCH_NORM_MOMENTS_PARTIAL.u64,
    &BATCH_NORM_MOMENTS_PARTIAL.vec4,
    &BATCH_NORM_MOMENTS_FINISH.texture,
    &BATCH_NORM_MOMENTS_FINISH.vec4,
    &BATCH_NORM_APPLY.texture,
    &BATCH_NORM_APPLY.u64,
    &BATCH_NORM_APPLY.vec4,
    &BATCH_NORM_BACKWARD_SUMS_PARTIAL.texture,
    &BATCH_NORM_BACKWARD_SUMS_PARTIAL.u64,
    &BATCH_NORM_BACKWARD_SUMS_PARTIAL.vec4,
    &BATCH_NORM_BACKWARD_SUMS_FINISH.texture,
    &BATCH_NORM_BACKWARD_SUMS_FINISH.vec4,
    &BATCH_NORM_BACKWARD_APPLY.texture,
    &BATCH_NORM_BACKWARD_APPLY.u64,
    &BATCH_NORM_BACKWARD_APPLY.vec4,
];

/// `BatchNormMomentsFinishParams` of `batch_norm_moments_finish.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct BatchNormMomentsFinishParams {
    count: u32,
    columns: u32,
    channels: u32,
    rows: u32,
    chunks: u32,
    chunk: u32,
    eps: f32,
    reserved0: u32,
}

/// `BatchNormApplyParams` of `batch_norm_apply.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct BatchNormApplyParams {
    count: u32,
    columns: u32,
    channels: u32,
    rows: u32,
    runs: u32,
    run: u32,
    slope: f32,
    reserved0: u32,
}

/// `BatchNormBackwardSumsFinishParams` of `batch_norm_backward_sums_finish.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct BatchNormBackwardSumsFinishParams {
    columns: u32,
    groups: u32,
    chunks: u32,
    reserved0: u32,
}

/// `BatchNormBackwardApplyParams` of `batch_norm_backward_apply.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct BatchNormBackwardApplyParams {
    count: u32,
    columns: u32,
    rows: u32,
    runs: u32,
    run: u32,
    scale: f32,
    reserved0: u32,
    reserved1: u32,
}

/// The nodes of a batch norm over batch statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchNorm {
    /// Normalised, scaled and shifted: the shape of x.
    pub y: NodeId,
    /// Mean of each group and channel, (groups, C).
    pub mean: NodeId,
    /// Biased variance of each group and channel, (groups, C).
    pub var: NodeId,
    /// `1 / sqrt(var + eps)`, (groups, C).
    pub rstd: NodeId,
}

/// Batch norm with the statistics of each batch group, out of primitives.
///
/// # Shapes
/// x (groups * n, C[, H, W]); weight (C); bias (C).
///
/// # Errors
/// If the shapes disagree, or a channel has only one element in a group (its variance would be zero).
pub fn batch_norm(g: &mut Graph, x: NodeId, weight: NodeId, bias: NodeId, eps: f32, groups: usize) -> Result<BatchNorm> {
    let shape = g.shape(x).clone();
    check_groups("batch_norm", &shape, groups)?;
    let n = shape.rows() / groups;
    if n < 2 {
        return Err(Error::input(format!(
            "batch_norm: x of shape {shape} in {groups} groups has one value per channel and group; use a larger batch"
        )));
    }
    let weight = channel_row(g, "weight", weight, &shape)?;
    let bias = channel_row(g, "bias", bias, &shape)?;
    let scale = 1.0 / n as f64;

    let sum = group_sum(g, x, groups)?;
    let mean = affine(g, sum, scale, 0.0)?;
    let mean_everywhere = group_broadcast(g, mean, &shape)?;
    let xc = sub(g, x, mean_everywhere)?;
    let square = mul(g, xc, xc)?;
    let sum = group_sum(g, square, groups)?;
    let var = affine(g, sum, scale, 0.0)?;
    let shifted = affine(g, var, 1.0, eps)?;
    let rstd = rsqrt(g, shifted)?;
    let rstd_everywhere = group_broadcast(g, rstd, &shape)?;
    let xhat = mul(g, xc, rstd_everywhere)?;
    let y = scale_and_shift(g, xhat, weight, bias, &shape)?;
    Ok(BatchNorm { y, mean, var, rstd })
}

/// Batch norm with running statistics, out of primitives: one scale and one shift per channel.
///
/// # Shapes
/// x (N, C[, H, W]); weight, bias, running_mean, running_var (C). Returns the shape of x.
///
/// # Errors
/// If the shapes disagree.
pub fn batch_norm_eval(
    g: &mut Graph,
    x: NodeId,
    weight: NodeId,
    bias: NodeId,
    running_mean: NodeId,
    running_var: NodeId,
    eps: f32,
) -> Result<NodeId> {
    let shape = g.shape(x).clone();
    check_groups("batch_norm_eval", &shape, 1)?;
    let weight = channel_row(g, "weight", weight, &shape)?;
    let bias = channel_row(g, "bias", bias, &shape)?;
    let mean = channel_row(g, "running_mean", running_mean, &shape)?;
    let var = channel_row(g, "running_var", running_var, &shape)?;

    let shifted = affine(g, var, 1.0, eps)?;
    let rstd = rsqrt(g, shifted)?;
    let scale = mul(g, weight, rstd)?;
    let scaled_mean = mul(g, mean, scale)?;
    let shift = sub(g, bias, scaled_mean)?;
    scale_and_shift(g, x, scale, shift, &shape)
}

/// A parameter (C) as (1, C).
fn channel_row(g: &mut Graph, name: &str, parameter: NodeId, x: &Shape) -> Result<NodeId> {
    let shape = g.shape(parameter);
    if shape.dims() != [x.channels()] {
        return Err(Error::internal(format!("batch_norm: {name} has shape {shape}, expected ({}) for x of shape {x}", x.channels())));
    }
    reshape(g, parameter, &Shape::new(&[1, x.channels()])?)
}

/// `x * scale + shift` with (1, C) vectors.
fn scale_and_shift(g: &mut Graph, x: NodeId, scale: NodeId, shift: NodeId, shape: &Shape) -> Result<NodeId> {
    let scale = group_broadcast(g, scale, shape)?;
    let shift = group_broadcast(g, shift, shape)?;
    let scaled = mul(g, x, scale)?;
    add(g, scaled, shift)
}

/// Statistics of a batch norm as operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// Batch groups.
    pub groups: usize,
    /// Mean, (groups, C).
    pub mean: Operand,
    /// `1 / sqrt(var + eps)`, (groups, C).
    pub rstd: Operand,
}

/// Sums over each group that the backward pass needs, as operands of shape (groups, C).
#[derive(Debug, Clone, Copy)]
pub struct BackwardSums {
    /// Sum of dy.
    pub dy: Operand,
    /// Sum of dy * xhat.
    pub dy_xhat: Operand,
}

/// Fused statistics: x (groups * n, C[, H, W]) to mean, biased variance and `1 / sqrt(var + eps)`, each (groups, C).
pub fn lower_moments(l: &mut Lowering, x: (Operand, Shape), groups: usize, eps: f32, mean: Operand, var: Operand, rstd: Operand) {
    let (x, shape) = x;
    let chunks = Chunks::new(&l.caps, &shape, groups);
    let partial = l.scratch(chunks.items() * 8);
    l.push(Dispatch {
        kernel: BATCH_NORM_MOMENTS_PARTIAL.kernel(chunks.loading),
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&chunks.params()).to_vec(),
        operands: vec![x, partial],
        workgroups: grid(chunks.invocations(), 64),
        cost: Cost { flops: 4 * shape.len() as u64, bytes: 4 * (shape.physical_len() + chunks.items() * 8) as u64 },
    });
    let count = groups * chunks.columns;
    let params = BatchNormMomentsFinishParams {
        count: count as u32,
        columns: chunks.columns as u32,
        channels: shape.channels() as u32,
        rows: chunks.rows as u32,
        chunks: chunks.chunks as u32,
        chunk: chunks.chunk as u32,
        eps,
        reserved0: 0,
    };
    l.push(Dispatch {
        kernel: BATCH_NORM_MOMENTS_FINISH.kernel(&l.caps, chunks.items() * 8),
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![partial, mean, var, rstd],
        workgroups: grid(count, 64),
        cost: Cost { flops: 24 * chunks.items() as u64, bytes: 4 * (chunks.items() * 8 + count * 12) as u64 },
    });
}

/// How the kernels that read per-channel vectors walk a tensor.
struct Runs {
    /// How tensors are loaded.
    loading: Loading,
    /// Items of a row.
    columns: usize,
    /// Rows of a group.
    rows: usize,
    /// Rows of a run: 1, or on a software adapter, where the loads of the vectors cost as much as any, 8 to 32 so that there are few.
    run: usize,
    /// Runs of a group.
    runs: usize,
    /// Invocations.
    count: usize,
}

impl Runs {
    fn new(caps: &Caps, shape: &Shape, groups: usize) -> Self {
        let loading = Loading::new(caps, shape.padded(), shape.physical_len());
        let columns = shape.padded() / 4 / loading.width();
        let rows = shape.rows() / groups;
        // Enough runs remain for all cores.
        let run = if caps.software { (shape.rows() * columns / 2048).clamp(8, 32) } else { 1 };
        let runs = rows.div_ceil(run);
        Runs { loading, columns, rows, run, runs, count: groups * runs * columns }
    }
}

/// Fused normalisation: `y = activation((x - mean) * rstd * weight + bias)`, y of x's shape.
pub fn lower_apply(
    l: &mut Lowering,
    x: (Operand, Shape),
    statistics: Statistics,
    weight: Operand,
    bias: Operand,
    activation: Activation,
    y: Operand,
) {
    let (x, shape) = x;
    let runs = Runs::new(&l.caps, &shape, statistics.groups);
    let params = BatchNormApplyParams {
        count: runs.count as u32,
        columns: runs.columns as u32,
        channels: shape.channels() as u32,
        rows: runs.rows as u32,
        runs: runs.runs as u32,
        run: runs.run as u32,
        slope: activation.slope(),
        reserved0: 0,
    };
    l.push(Dispatch {
        kernel: BATCH_NORM_APPLY.kernel(runs.loading),
        overrides: vec![("ACTIVATION", f64::from(activation.code()))],
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![x, statistics.mean, statistics.rstd, weight, bias, y],
        workgroups: grid(runs.count, 64),
        cost: Cost {
            flops: (4 + (activation != Activation::None) as u64) * shape.len() as u64,
            bytes: 8 * (shape.physical_len() + (statistics.groups + 1) * shape.padded()) as u64,
        },
    });
}

/// Fused sums of the backward pass: dy and x (groups * n, C[, H, W]) to the sums of each group, and to the gradients of weight and bias,
/// (C) each (left out where `None`).
pub fn lower_backward_sums(
    l: &mut Lowering,
    dy: Operand,
    x: (Operand, Shape),
    statistics: Statistics,
    sums: BackwardSums,
    dweight: Option<Operand>,
    dbias: Option<Operand>,
) {
    let (x, shape) = x;
    let groups = statistics.groups;
    let chunks = Chunks::new(&l.caps, &shape, groups);
    let partial = l.scratch(chunks.items() * 8);
    l.push(Dispatch {
        kernel: BATCH_NORM_BACKWARD_SUMS_PARTIAL.kernel(chunks.loading),
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&chunks.params()).to_vec(),
        operands: vec![dy, x, statistics.mean, statistics.rstd, partial],
        workgroups: grid(chunks.invocations(), 64),
        cost: Cost {
            flops: 4 * shape.len() as u64,
            bytes: 8 * (shape.physical_len() + groups * shape.padded() + chunks.items() * 4) as u64,
        },
    });
    let params = BatchNormBackwardSumsFinishParams {
        columns: chunks.columns as u32,
        groups: groups as u32,
        chunks: chunks.chunks as u32,
        reserved0: 0,
    };
    let dweight = dweight.unwrap_or_else(|| l.scratch(shape.padded()));
    let dbias = dbias.unwrap_or_else(|| l.scratch(shape.padded()));
    l.push(Dispatch {
        kernel: BATCH_NORM_BACKWARD_SUMS_FINISH.kernel(&l.caps, chunks.items() * 8),
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![partial, sums.dy, sums.dy_xhat, dweight, dbias],
        workgroups: grid(chunks.columns, 64),
        cost: Cost { flops: 8 * chunks.items() as u64, bytes: 8 * (chunks.items() * 4 + (groups + 1) * shape.padded()) as u64 },
    });
}

/// Fused input gradient: `dx = weight * rstd * (dy - sum_dy / n - xhat * sum_dy_xhat / n)`, all but the vectors of x's shape.
pub fn lower_backward_apply(
    l: &mut Lowering,
    dy: Operand,
    x: (Operand, Shape),
    statistics: Statistics,
    weight: Operand,
    sums: BackwardSums,
    dx: Operand,
) {
    let (x, shape) = x;
    let groups = statistics.groups;
    let runs = Runs::new(&l.caps, &shape, groups);
    let params = BatchNormBackwardApplyParams {
        count: runs.count as u32,
        columns: runs.columns as u32,
        rows: runs.rows as u32,
        runs: runs.runs as u32,
        run: runs.run as u32,
        scale: (1.0 / runs.rows as f64) as f32,
        reserved0: 0,
        reserved1: 0,
    };
    l.push(Dispatch {
        kernel: BATCH_NORM_BACKWARD_APPLY.kernel(runs.loading),
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![dy, x, statistics.mean, statistics.rstd, weight, sums.dy, sums.dy_xhat, dx],
        workgroups: grid(runs.count, 64),
        cost: Cost { flops: 6 * shape.len() as u64, bytes: 4 * (3 * shape.physical_len() + (4 * groups + 1) * shape.padded()) as u64 },
    });
}

/// The f64 twins of the fused kernels.
pub mod cpu {
    use crate::graph::shape::Shape;
    use crate::graph::tensor::Tensor;
    use crate::ops::activation::Activation;

    /// Calls `f(element, group * C + channel)` for every element of (N, C[, H, W]) in `groups` batch groups.
    fn each(shape: &Shape, groups: usize, mut f: impl FnMut(usize, usize)) {
        let [n, c, h, w] = shape.nchw();
        for i in 0..n {
            for j in 0..c {
                for k in 0..h * w {
                    f((i * c + j) * h * w + k, i * groups / n * c + j);
                }
            }
        }
    }

    fn vector(shape: &Shape, groups: usize) -> Tensor {
        Tensor::zeros(Shape::new(&[groups, shape.channels()]).expect("a tensor's groups and channels are not empty"))
    }

    /// Mean, biased variance and `1 / sqrt(var + eps)` of each group and channel, (groups, C).
    pub fn batch_norm_moments(x: &Tensor, groups: usize, eps: f32) -> [Tensor; 3] {
        let n = (x.shape.rows() / groups) as f64;
        let (mut mean, mut var) = (vector(&x.shape, groups), vector(&x.shape, groups));
        each(&x.shape, groups, |i, at| mean.data[at] += x.data[i] / n);
        each(&x.shape, groups, |i, at| var.data[at] += (x.data[i] - mean.data[at]).powi(2) / n);
        let rstd = Tensor::from_fn(var.shape.clone(), |at| 1.0 / (var.data[at] + eps as f64).sqrt());
        [mean, var, rstd]
    }

    /// `activation((x - mean) * rstd * weight + bias)`.
    pub fn batch_norm_apply(x: &Tensor, mean: &Tensor, rstd: &Tensor, weight: &Tensor, bias: &Tensor, activation: Activation) -> Tensor {
        let c = x.shape.channels();
        let mut y = Tensor::zeros(x.shape.clone());
        each(&x.shape, mean.shape.dims()[0], |i, at| {
            y.data[i] = activation.apply((x.data[i] - mean.data[at]) * rstd.data[at] * weight.data[at % c] + bias.data[at % c]);
        });
        y
    }

    /// Sum of dy and of dy * xhat for each group and channel, (groups, C), then their sums over groups: dweight and dbias, (C).
    pub fn batch_norm_backward_sums(dy: &Tensor, x: &Tensor, mean: &Tensor, rstd: &Tensor) -> [Tensor; 4] {
        let (groups, c) = (mean.shape.dims()[0], x.shape.channels());
        let (mut sum_dy, mut sum_dy_xhat) = (vector(&x.shape, groups), vector(&x.shape, groups));
        let channels = Shape::new(&[c]).expect("a tensor's channels are not empty");
        let (mut dweight, mut dbias) = (Tensor::zeros(channels.clone()), Tensor::zeros(channels));
        each(&x.shape, groups, |i, at| {
            let term = dy.data[i] * (x.data[i] - mean.data[at]) * rstd.data[at];
            sum_dy.data[at] += dy.data[i];
            sum_dy_xhat.data[at] += term;
            dweight.data[at % c] += term;
            dbias.data[at % c] += dy.data[i];
        });
        [sum_dy, sum_dy_xhat, dweight, dbias]
    }

    /// `weight * rstd * (dy - sum_dy / n - xhat * sum_dy_xhat / n)`.
    pub fn batch_norm_backward_apply(
        dy: &Tensor,
        x: &Tensor,
        [mean, rstd]: [&Tensor; 2],
        weight: &Tensor,
        [sum_dy, sum_dy_xhat]: [&Tensor; 2],
    ) -> Tensor {
        let (groups, c) = (mean.shape.dims()[0], x.shape.channels());
        let n = (x.shape.rows() / groups) as f64;
        let mut dx = Tensor::zeros(x.shape.clone());
        each(&x.shape, groups, |i, at| {
            let xhat = (x.data[i] - mean.data[at]) * rstd.data[at];
            dx.data[i] = weight.data[at % c] * rstd.data[at] * (dy.data[i] - sum_dy.data[at] / n - xhat * sum_dy_xhat.data[at] / n);
        });
        dx
    }
}

/// Validated uses of the kernels of this file.
pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    // One channel, C not a multiple of 4, wide rows, no pixels, several chunks of which the last is short, many columns.
    let uses: [(&[usize], usize); 9] = [
        (&[3, 1, 1, 1], 1),
        (&[6, 5, 3, 2], 1),
        (&[6, 5, 3, 2], 2),
        (&[8, 1, 7, 3], 2),
        (&[18, 12], 2),
        (&[4, 8, 5, 5], 2),
        (&[4, 16, 33, 31], 2),
        (&[6, 300, 1, 1], 1),
        // As instance norm: a group for each image.
        (&[5, 6, 3, 4], 5),
    ];
    for (i, (dims, groups)) in uses.into_iter().enumerate() {
        for caps in widths(caps) {
            cases.extend(use_of_all(&caps, &shape(dims), groups, i as u64));
        }
    }
    for caps in widths(caps) {
        cases.push(outlier_case(&caps));
    }
    cases
}

/// The moments of chunks whose first row, from which deviations are taken, is far from the others.
fn outlier_case(caps: &Caps) -> Case {
    let (shape, eps) = (shape(&[2, 8, 16, 16]), 1e-5);
    let mut x = random(&shape, 11, -1.0, 1.0);
    x.data.iter_mut().step_by(256).for_each(|v| *v += 1000.0);
    let node = |i: usize| Operand::Node(NodeId(i));
    let mut l = Lowering::new(caps.clone());
    lower_moments(&mut l, (node(0), shape), 1, eps, node(1), node(2), node(3));
    let mut known = vec![(node(0), CaseBuffer::input(&x))];
    known.extend(cpu::batch_norm_moments(&x, 1, eps).iter().enumerate().map(|(i, t)| (node(i + 1), CaseBuffer::output(t))));
    Case::from_lowering("batch_norm_moments with outliers", l, known)
}

/// One case per fused kernel on x of one shape.
fn use_of_all(caps: &Caps, shape: &Shape, groups: usize, seed: u64) -> [Case; 6] {
    let eps = 1e-5;
    let channels = Shape::new(&[shape.channels()]).expect("a shape's channels are not empty");
    // The mean is ten times the deviation: what squares less the square of the mean would lose digits on.
    let x = random(shape, seed, 4.0, 6.0);
    let dy = random(shape, 100 + seed, -1.0, 1.0);
    let weight = random(&channels, 200 + seed, 0.5, 1.5);
    let bias = random(&channels, 300 + seed, -1.0, 1.0);
    // Later kernels see f32, so their twins are given what f32 holds.
    let round = |t: Tensor| Tensor::new(t.shape, t.data.into_iter().map(|v| f64::from(v as f32)).collect());
    let exact = cpu::batch_norm_moments(&x, groups, eps);
    let [mean, _, rstd] = exact.clone().map(round);
    let exact_sums = cpu::batch_norm_backward_sums(&dy, &x, &mean, &rstd);
    let [sum_dy, sum_dy_xhat, ..] = exact_sums.clone().map(round);

    let node = |i: usize| Operand::Node(NodeId(i));
    let statistics = Statistics { groups, mean: node(1), rstd: node(2) };
    let sums = BackwardSums { dy: node(6), dy_xhat: node(7) };
    let lowering = || Lowering::new(caps.clone());
    let given = |tensors: &[(usize, &Tensor)]| -> Vec<(Operand, CaseBuffer)> {
        tensors.iter().map(|(i, t)| (node(*i), CaseBuffer::input(t))).collect()
    };
    let expected = |tensors: &[(usize, &Tensor)]| -> Vec<(Operand, CaseBuffer)> {
        tensors.iter().map(|(i, t)| (node(*i), CaseBuffer::output(t))).collect()
    };
    let case = |what: &str, l: Lowering, inputs: Vec<_>, outputs: Vec<_>| {
        Case::from_lowering(format!("{what} {shape} groups {groups}"), l, [inputs, outputs].concat())
    };

    let mut l = lowering();
    lower_moments(&mut l, (node(0), shape.clone()), groups, eps, node(1), node(2), node(3));
    let moments = case("batch_norm_moments", l, given(&[(0, &x)]), expected(&[(1, &exact[0]), (2, &exact[1]), (3, &exact[2])]));

    let apply = [Activation::None, Activation::LeakyRelu(0.2), Activation::Sigmoid].map(|activation| {
        let mut l = lowering();
        lower_apply(&mut l, (node(0), shape.clone()), statistics, node(3), node(4), activation, node(5));
        let inputs = given(&[(0, &x), (1, &mean), (2, &rstd), (3, &weight), (4, &bias)]);
        let y = cpu::batch_norm_apply(&x, &mean, &rstd, &weight, &bias, activation);
        case(&format!("batch_norm_apply {activation:?}"), l, inputs, expected(&[(5, &y)]))
    });

    let mut l = lowering();
    lower_backward_sums(&mut l, node(8), (node(0), shape.clone()), statistics, sums, Some(node(9)), Some(node(10)));
    let inputs = given(&[(0, &x), (1, &mean), (2, &rstd), (8, &dy)]);
    let outputs = expected(&[(6, &exact_sums[0]), (7, &exact_sums[1]), (9, &exact_sums[2]), (10, &exact_sums[3])]);
    let backward_sums = case("batch_norm_backward_sums", l, inputs, outputs);

    let mut l = lowering();
    lower_backward_apply(&mut l, node(8), (node(0), shape.clone()), statistics, node(3), sums, node(11));
    let inputs = given(&[(0, &x), (1, &mean), (2, &rstd), (3, &weight), (6, &sum_dy), (7, &sum_dy_xhat), (8, &dy)]);
    let dx = cpu::batch_norm_backward_apply(&dy, &x, [&mean, &rstd], &weight, [&sum_dy, &sum_dy_xhat]);
    let backward_apply = case("batch_norm_backward_apply", l, inputs, expected(&[(11, &dx)]));

    let [plain, leaky, sigmoid] = apply;
    [moments, plain, leaky, sigmoid, backward_sums, backward_apply]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient_check::check;
    use crate::ops::new_graph;
    use std::collections::HashMap;

    fn assert_close(what: &str, got: &Tensor, expected: &Tensor) {
        assert_eq!(got.shape, expected.shape, "{what}");
        for (i, (a, b)) in got.data.iter().zip(&expected.data).enumerate() {
            assert!((a - b).abs() <= 1e-10 * (1.0 + b.abs()), "{what}: element {i} is {a}, expected {b}");
        }
    }

    /// The fused twins compute what the primitives and their gradients compute.
    #[test]
    fn fused_twins_equal_the_primitives() {
        for (dims, groups) in [(&[4, 3, 2, 2][..], 1), (&[6, 3, 1, 5], 2), (&[10, 5], 2), (&[7, 5], 1)] {
            let mut g = new_graph();
            let inputs = [
                ("x", random(&shape(dims), 1, -1.0, 3.0)),
                ("weight", random(&shape(&dims[1..2]), 2, 0.5, 1.5)),
                ("bias", random(&shape(&dims[1..2]), 3, -1.0, 1.0)),
                ("dy", random(&shape(dims), 4, -1.0, 1.0)),
            ];
            let leaves = inputs.each_ref().map(|(name, value)| g.leaf(name, value.shape.clone(), None).unwrap());
            let values: HashMap<String, Tensor> = inputs.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
            let bn = batch_norm(&mut g, leaves[0], leaves[1], leaves[2], 1e-3, groups).unwrap();
            let gradients = g.gradients(&[(bn.y, leaves[3])], &leaves[..3]).unwrap();
            let [dx, dweight, dbias] = [0, 1, 2].map(|i| gradients[i].unwrap());
            let primitive = g.evaluate(&values, &[bn.mean, bn.var, bn.rstd, bn.y, dx, dweight, dbias]).unwrap();

            let [(_, x), (_, weight), (_, bias), (_, dy)] = &inputs;
            let [mean, var, rstd] = cpu::batch_norm_moments(x, groups, 1e-3);
            let y = cpu::batch_norm_apply(x, &mean, &rstd, weight, bias, Activation::None);
            let [sum_dy, sum_dy_xhat, dweight, dbias] = cpu::batch_norm_backward_sums(dy, x, &mean, &rstd);
            let dx = cpu::batch_norm_backward_apply(dy, x, [&mean, &rstd], weight, [&sum_dy, &sum_dy_xhat]);
            let fused = [mean, var, rstd, y, dx, dweight, dbias];
            for ((name, a), b) in ["mean", "var", "rstd", "y", "dx", "dweight", "dbias"].iter().zip(&primitive).zip(&fused) {
                assert_close(&format!("{name} of {dims:?}, {groups} groups"), a, b);
            }
        }
    }

    /// Two groups are two calls.
    #[test]
    fn groups_are_separate_batches() {
        let whole = random(&shape(&[4, 3, 1, 2]), 1, -1.0, 1.0);
        let half = |i: usize| Tensor::new(shape(&[2, 3, 1, 2]), whole.data[12 * i..12 * (i + 1)].to_vec());
        let together = cpu::batch_norm_moments(&whole, 2, 1e-5);
        for i in 0..2 {
            for (both, one) in together.iter().zip(cpu::batch_norm_moments(&half(i), 1, 1e-5)) {
                assert_eq!(both.data[3 * i..3 * (i + 1)], one.data);
            }
        }
    }

    #[test]
    fn rules_are_derivatives() {
        let inputs = [
            random(&shape(&[4, 2, 1, 2]), 1, -1.0, 1.0),
            random(&shape(&[2]), 2, 0.5, 1.5),
            random(&shape(&[2]), 3, -1.0, 1.0),
            random(&shape(&[2]), 4, -1.0, 1.0),
            random(&shape(&[2]), 5, 0.5, 1.5),
        ];
        for groups in [1, 2] {
            check("batch_norm", &inputs[..3], |g, x| Ok(batch_norm(g, x[0], x[1], x[2], 1e-2, groups)?.y));
        }
        check("batch_norm_eval", &inputs, |g, x| batch_norm_eval(g, x[0], x[1], x[2], x[3], x[4], 1e-2));
    }

    /// With the batch's own statistics in place of running ones, evaluation is training.
    #[test]
    fn eval_is_batch_norm_with_given_statistics() {
        let mut g = new_graph();
        let inputs = [
            ("x", random(&shape(&[4, 3, 2, 2]), 1, -1.0, 3.0)),
            ("weight", random(&shape(&[3]), 2, 0.5, 1.5)),
            ("bias", random(&shape(&[3]), 3, -1.0, 1.0)),
        ];
        let [x, weight, bias] = inputs.each_ref().map(|(name, value)| g.leaf(name, value.shape.clone(), None).unwrap());
        let values: HashMap<String, Tensor> = inputs.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        let bn = batch_norm(&mut g, x, weight, bias, 1e-3, 1).unwrap();
        let [mean, var] = [bn.mean, bn.var].map(|node| reshape(&mut g, node, &shape(&[3])).unwrap());
        let eval = batch_norm_eval(&mut g, x, weight, bias, mean, var, 1e-3).unwrap();
        let [trained, evaluated] = &g.evaluate(&values, &[bn.y, eval]).unwrap()[..] else { unreachable!() };
        assert_close("y", evaluated, trained);
    }

    #[test]
    fn impossible_inputs_are_named() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[4, 3]), None).unwrap();
        let w = g.leaf("w", shape(&[3]), None).unwrap();
        let v = g.leaf("v", shape(&[4]), None).unwrap();
        let text = batch_norm(&mut g, x, v, w, 1e-5, 1).unwrap_err().to_string();
        assert!(text.starts_with("batch_norm: weight has shape (4), expected (3) for x of shape (4, 3)"), "{text}");
        assert!(batch_norm(&mut g, x, w, w, 1e-5, 3).is_err());
        let text = batch_norm(&mut g, x, w, w, 1e-5, 4).unwrap_err().to_string();
        assert!(text.contains("one value per channel and group"), "{text}");
    }
}
