//! Batch norm (Ioffe & Szegedy 2015) with separate statistics for each batch group: as primitives, which is what differentiation sees, and as
//! four fused kernels that compute the same subgraphs.
//!
//! A batch of real images followed by fakes is one tensor with two groups: each half is normalised by its own statistics, as if the network had
//! been called twice.

use super::elementwise::{Activation, add, affine, mul, rsqrt, sub, wide};
use super::reduce::{Chunks, check_groups, group_broadcast, group_sum};
use super::reshape::reshape;
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Feature, Kernel, grid};
use crate::graph::lower::{Lowering, Operand};
use crate::graph::shape::Shape;
use crate::graph::{Graph, NodeId};
use crate::part;
use bytemuck::{Pod, Zeroable};

/// Mean and squared deviations of chunks of rows.
pub static BATCH_NORM_MOMENTS_PARTIAL: Kernel = Kernel {
    name: "batch_norm_moments_partial",
    variant: "",
    parts: &[part!("batch_norm_moments_partial")],
    bindings: &[Bind::Params, Bind::In, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// Combines the chunks into mean, variance and 1 / standard deviation.
pub static BATCH_NORM_MOMENTS_FINISH: Kernel = Kernel {
    name: "batch_norm_moments_finish",
    variant: "",
    parts: &[part!("batch_norm_moments_finish")],
    bindings: &[Bind::Params, Bind::In, Bind::Out, Bind::Out, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

const APPLY_BINDINGS: &[Bind] = &[Bind::Params, Bind::In, Bind::In, Bind::In, Bind::In, Bind::In, Bind::Out];

/// Normalises, scales, shifts and activates.
pub static BATCH_NORM_APPLY: Kernel = Kernel {
    name: "batch_norm_apply",
    variant: "vec4",
    parts: &[part!("item_vec4"), part!("activations"), part!("batch_norm_apply")],
    bindings: APPLY_BINDINGS,
    workgroup: [64, 1, 1],
    features: &[],
};

/// [`BATCH_NORM_APPLY`], eight floats an invocation.
pub static BATCH_NORM_APPLY_U64: Kernel = Kernel {
    name: "batch_norm_apply",
    variant: "u64",
    parts: &[part!("item_u64"), part!("activations"), part!("batch_norm_apply")],
    bindings: APPLY_BINDINGS,
    workgroup: [64, 1, 1],
    features: &[Feature::Int64],
};

/// Sums of dy and dy * xhat over chunks of rows.
pub static BATCH_NORM_BACKWARD_SUMS_PARTIAL: Kernel = Kernel {
    name: "batch_norm_backward_sums_partial",
    variant: "",
    parts: &[part!("batch_norm_backward_sums_partial")],
    bindings: &[Bind::Params, Bind::In, Bind::In, Bind::In, Bind::In, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// Adds the chunks, and the groups into the gradients of weight and bias.
pub static BATCH_NORM_BACKWARD_SUMS_FINISH: Kernel = Kernel {
    name: "batch_norm_backward_sums_finish",
    variant: "",
    parts: &[part!("batch_norm_backward_sums_finish")],
    bindings: &[Bind::Params, Bind::In, Bind::Out, Bind::Out, Bind::Out, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

const BACKWARD_APPLY_BINDINGS: &[Bind] =
    &[Bind::Params, Bind::In, Bind::In, Bind::In, Bind::In, Bind::In, Bind::In, Bind::In, Bind::Out];

/// Input gradient from the sums.
pub static BATCH_NORM_BACKWARD_APPLY: Kernel = Kernel {
    name: "batch_norm_backward_apply",
    variant: "vec4",
    parts: &[part!("item_vec4"), part!("batch_norm_backward_apply")],
    bindings: BACKWARD_APPLY_BINDINGS,
    workgroup: [64, 1, 1],
    features: &[],
};

/// [`BATCH_NORM_BACKWARD_APPLY`], eight floats an invocation.
pub static BATCH_NORM_BACKWARD_APPLY_U64: Kernel = Kernel {
    name: "batch_norm_backward_apply",
    variant: "u64",
    parts: &[part!("item_u64"), part!("batch_norm_backward_apply")],
    bindings: BACKWARD_APPLY_BINDINGS,
    workgroup: [64, 1, 1],
    features: &[Feature::Int64],
};

/// The kernels of this file.
pub const KERNELS: &[&Kernel] = &[
    &BATCH_NORM_MOMENTS_PARTIAL,
    &BATCH_NORM_MOMENTS_FINISH,
    &BATCH_NORM_APPLY,
    &BATCH_NORM_APPLY_U64,
    &BATCH_NORM_BACKWARD_SUMS_PARTIAL,
    &BATCH_NORM_BACKWARD_SUMS_FINISH,
    &BATCH_NORM_BACKWARD_APPLY,
    &BATCH_NORM_BACKWARD_APPLY_U64,
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
    group_items: u32,
    activation: u32,
    slope: f32,
    reserved0: u32,
    reserved1: u32,
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
    group_items: u32,
    scale: f32,
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
            "batch_norm: x of shape {shape} in {groups} groups has one value per channel and group; its variance is zero, so use a larger batch"
        )));
    }
    let weight = channel_row(g, "weight", weight, &shape)?;
    let bias = channel_row(g, "bias", bias, &shape)?;
    let scale = (1.0 / n as f64) as f32;

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
#[derive(Debug, Clone, Copy)]
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
    let chunks = Chunks::new(&shape, groups);
    let partial = l.scratch(chunks.invocations() * 8);
    l.push(Dispatch {
        kernel: &BATCH_NORM_MOMENTS_PARTIAL,
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&chunks.params()).to_vec(),
        operands: vec![x, partial],
        workgroups: grid(chunks.invocations(), 64),
        cost: Cost { flops: 4 * shape.len() as u64, bytes: 4 * (shape.physical_len() + chunks.invocations() * 8) as u64 },
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
        kernel: &BATCH_NORM_MOMENTS_FINISH,
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![partial, mean, var, rstd],
        workgroups: grid(count, 64),
        cost: Cost { flops: 24 * chunks.invocations() as u64, bytes: 4 * (chunks.invocations() * 8 + count * 12) as u64 },
    });
}

/// Items of a tensor for kernels that read per-channel vectors: whether eight floats each, how many, and how many a row and a group.
fn items(l: &Lowering, shape: &Shape, groups: usize) -> (bool, usize, usize, usize) {
    let wide = wide(&l.caps, shape.padded());
    let floats = if wide { 8 } else { 4 };
    let count = shape.physical_len() / floats;
    (wide, count, shape.padded() / floats, count / groups)
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
    let (wide, count, columns, group_items) = items(l, &shape, statistics.groups);
    let params = BatchNormApplyParams {
        count: count as u32,
        columns: columns as u32,
        channels: shape.channels() as u32,
        group_items: group_items as u32,
        activation: activation.code(),
        slope: activation.slope(),
        reserved0: 0,
        reserved1: 0,
    };
    l.push(Dispatch {
        kernel: if wide { &BATCH_NORM_APPLY_U64 } else { &BATCH_NORM_APPLY },
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![x, statistics.mean, statistics.rstd, weight, bias, y],
        workgroups: grid(count, 64),
        cost: Cost {
            flops: (4 + (activation != Activation::None) as u64) * shape.len() as u64,
            bytes: 8 * (shape.physical_len() + (statistics.groups + 1) * shape.padded()) as u64,
        },
    });
}

/// Fused sums of the backward pass: dy and x (groups * n, C[, H, W]) to the sums of each group, and to the gradients of weight and bias, (C) each
/// (left out where `None`).
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
    let chunks = Chunks::new(&shape, groups);
    let partial = l.scratch(chunks.invocations() * 8);
    l.push(Dispatch {
        kernel: &BATCH_NORM_BACKWARD_SUMS_PARTIAL,
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&chunks.params()).to_vec(),
        operands: vec![dy, x, statistics.mean, statistics.rstd, partial],
        workgroups: grid(chunks.invocations(), 64),
        cost: Cost {
            flops: 4 * shape.len() as u64,
            bytes: 8 * (shape.physical_len() + groups * shape.padded() + chunks.invocations() * 4) as u64,
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
        kernel: &BATCH_NORM_BACKWARD_SUMS_FINISH,
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![partial, sums.dy, sums.dy_xhat, dweight, dbias],
        workgroups: grid(chunks.columns, 64),
        cost: Cost {
            flops: 8 * chunks.invocations() as u64,
            bytes: 8 * (chunks.invocations() * 4 + (groups + 1) * shape.padded()) as u64,
        },
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
    let (wide, count, columns, group_items) = items(l, &shape, groups);
    let params = BatchNormBackwardApplyParams {
        count: count as u32,
        columns: columns as u32,
        group_items: group_items as u32,
        scale: (1.0 / (shape.rows() / groups) as f64) as f32,
    };
    l.push(Dispatch {
        kernel: if wide { &BATCH_NORM_BACKWARD_APPLY_U64 } else { &BATCH_NORM_BACKWARD_APPLY },
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![dy, x, statistics.mean, statistics.rstd, weight, sums.dy, sums.dy_xhat, dx],
        workgroups: grid(count, 64),
        cost: Cost {
            flops: 6 * shape.len() as u64,
            bytes: 4 * (3 * shape.physical_len() + (4 * groups + 1) * shape.padded()) as u64,
        },
    });
}

/// The f64 twins of the fused kernels.
pub mod cpu {
    use super::super::elementwise::Activation;
    use crate::graph::shape::Shape;
    use crate::graph::tensor::Tensor;

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
            y.data[i] = activation.value((x.data[i] - mean.data[at]) * rstd.data[at] * weight.data[at % c] + bias.data[at % c]);
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
