//! Sums and their adjoints: over batch groups (bias gradients, batch norm) and over any axes.
//!
//! Every sum runs in two barrier-free stages, chunks and then chunk order, with chunk lengths that follow from the shape alone: equal shapes sum in
//! equal order on every adapter.

use super::elementwise::{affine, broadcast_strides};
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel, grid};
use crate::graph::lower::{Lowering, Operand};
use crate::graph::op::{Application, Op};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, NodeId};
use crate::part;
use bytemuck::{Pod, Zeroable};

/// Column sums of chunks of rows.
pub static GROUP_SUM_PARTIAL: Kernel = Kernel {
    name: "group_sum_partial",
    variant: "",
    parts: &[part!("group_sum_partial")],
    bindings: &[Bind::Params, Bind::In, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// Adds the partial sums of each output.
pub static GROUP_SUM_FINISH: Kernel = Kernel {
    name: "group_sum_finish",
    variant: "",
    parts: &[part!("group_sum_finish")],
    bindings: &[Bind::Params, Bind::In, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// Gives every row of a group the group's row.
pub static GROUP_BROADCAST: Kernel = Kernel {
    name: "group_broadcast",
    variant: "",
    parts: &[part!("group_broadcast")],
    bindings: &[Bind::Params, Bind::In, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// Sum over any axes, or its first stage.
pub static SUM_AXES: Kernel = Kernel {
    name: "sum_axes",
    variant: "",
    parts: &[part!("sum_axes")],
    bindings: &[Bind::Params, Bind::In, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// Expands axes of extent 1.
pub static BROADCAST_AXES: Kernel = Kernel {
    name: "broadcast_axes",
    variant: "",
    parts: &[part!("broadcast_axes")],
    bindings: &[Bind::Params, Bind::In, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// The kernels of this file.
pub const KERNELS: &[&Kernel] = &[&GROUP_SUM_PARTIAL, &GROUP_SUM_FINISH, &GROUP_BROADCAST, &SUM_AXES, &BROADCAST_AXES];

/// `GroupSumPartialParams` of `group_sum_partial.wgsl`, and of the two batch-norm kernels that walk chunks in the same way.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct GroupSumPartialParams {
    pub(super) count: u32,
    pub(super) columns: u32,
    pub(super) rows: u32,
    pub(super) chunks: u32,
    pub(super) chunk: u32,
    pub(super) reserved0: u32,
    pub(super) reserved1: u32,
    pub(super) reserved2: u32,
}

/// `GroupSumFinishParams` of `group_sum_finish.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct GroupSumFinishParams {
    count: u32,
    columns: u32,
    chunks: u32,
    reserved0: u32,
}

/// `GroupBroadcastParams` of `group_broadcast.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct GroupBroadcastParams {
    count: u32,
    columns: u32,
    group_items: u32,
    reserved0: u32,
}

/// `SumAxesParams` of `sum_axes.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct SumAxesParams {
    count: u32,
    columns: u32,
    chunks: u32,
    chunk: u32,
    terms: u32,
    height: u32,
    width: u32,
    term_h: u32,
    term_w: u32,
    term_c: u32,
    stride_n: u32,
    stride_h: u32,
    stride_w: u32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

/// `BroadcastAxesParams` of `broadcast_axes.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct BroadcastAxesParams {
    count: u32,
    columns: u32,
    channels: u32,
    height: u32,
    width: u32,
    splat: u32,
    stride_n: u32,
    stride_h: u32,
    stride_w: u32,
    stride_c: u32,
    reserved0: u32,
    reserved1: u32,
}

/// How a sum over `terms` items for each of `outputs` items is cut: (items of a chunk, chunks).
///
/// Aims at 2,048 invocations, in chunks of 16 to `longest` items.
fn chunking(outputs: usize, terms: usize, longest: usize) -> (usize, usize) {
    const INVOCATIONS: usize = 2048;
    let chunk = terms.div_ceil(INVOCATIONS.div_ceil(outputs)).clamp(16, longest).min(terms);
    (chunk, terms.div_ceil(chunk))
}

/// The rows of a tensor as batch groups, cut into chunks: what the first stage of a sum over groups works on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunks {
    /// Batch groups.
    pub groups: usize,
    /// Rows of a group.
    pub rows: usize,
    /// vec4 columns of a row.
    pub columns: usize,
    /// Rows of a chunk; the last of a group may be shorter.
    pub chunk: usize,
    /// Chunks of a group.
    pub chunks: usize,
}

impl Chunks {
    /// Cuts a tensor of the given shape.
    pub fn new(shape: &Shape, groups: usize) -> Self {
        let rows = shape.rows() / groups;
        let columns = shape.padded() / 4;
        let (chunk, chunks) = chunking(groups * columns, rows, 256);
        Chunks { groups, rows, columns, chunk, chunks }
    }

    /// Parameters of a kernel that walks one vec4 column of one chunk per invocation.
    pub fn params(&self) -> GroupSumPartialParams {
        GroupSumPartialParams {
            count: self.invocations() as u32,
            columns: self.columns as u32,
            rows: self.rows as u32,
            chunks: self.chunks as u32,
            chunk: self.chunk as u32,
            reserved0: 0,
            reserved1: 0,
            reserved2: 0,
        }
    }

    /// Its invocations.
    pub fn invocations(&self) -> usize {
        self.groups * self.chunks * self.columns
    }
}

/// Checks that a tensor has a batch axis that divides into groups.
pub(super) fn check_groups(name: &str, x: &Shape, groups: usize) -> Result<()> {
    if x.rank() < 2 {
        return Err(Error::internal(format!("{name}: the tensor has shape {x}, expected a batch (N, C) or (N, C, H, W)")));
    }
    let n = x.dims()[0];
    if groups == 0 || !n.is_multiple_of(groups) {
        return Err(Error::internal(format!("{name}: a batch of {n} does not divide into {groups} groups")));
    }
    Ok(())
}

/// Sum over the images and pixels of each batch group: (groups * n, C[, H, W]) to (groups, C).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSum {
    /// Equal runs of the batch that are summed apart (real and fake, say).
    pub groups: usize,
}

/// The adjoint of [`GroupSum`]: (groups, C) to `shape` = (groups * n, C[, H, W]). From (1, C) it serves any batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupBroadcast {
    /// Output shape.
    pub shape: Shape,
}

/// Sum over axes, which keep extent 1. Axes are in increasing order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SumAxes {
    /// Axes of the logical shape.
    pub axes: Vec<usize>,
}

/// Expands extents of 1 to those of `shape`: the adjoint of [`SumAxes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroadcastAxes {
    /// Output shape.
    pub shape: Shape,
}

impl Op for GroupSum {
    fn name(&self) -> &'static str {
        "group_sum"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = super::expect_inputs(self.name(), inputs)?;
        check_groups(self.name(), x, self.groups)?;
        Shape::new(&[self.groups, x.channels()])
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let shape = graph.shape(at.inputs[0]).clone();
        Ok(vec![Some(group_broadcast(graph, dy, &shape)?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let x = inputs[0];
        let [n, c, h, w] = x.shape.nchw();
        let mut y = Tensor::zeros(output.clone());
        for i in 0..n {
            let group = i / (n / self.groups);
            for j in 0..c {
                for k in 0..h * w {
                    y.data[group * c + j] += x.data[(i * c + j) * h * w + k];
                }
            }
        }
        y
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let (x, shape) = &inputs[0];
        let chunks = Chunks::new(shape, self.groups);
        let partial = if chunks.chunks == 1 { output.0 } else { l.scratch(chunks.invocations() * 4) };
        l.push(Dispatch {
            kernel: &GROUP_SUM_PARTIAL,
            overrides: Vec::new(),
            params: bytemuck::bytes_of(&chunks.params()).to_vec(),
            operands: vec![*x, partial],
            workgroups: grid(chunks.invocations(), 64),
            cost: Cost { flops: shape.len() as u64, bytes: 4 * (shape.physical_len() + chunks.invocations() * 4) as u64 },
        });
        if chunks.chunks > 1 {
            lower_finish(l, partial, output.0, self.groups * chunks.columns, chunks.columns, chunks.chunks, false);
        }
        Ok(())
    }
}

fn lower_finish(l: &mut Lowering, partial: Operand, sum: Operand, count: usize, columns: usize, chunks: usize, lanes: bool) {
    let params = GroupSumFinishParams { count: count as u32, columns: columns as u32, chunks: chunks as u32, reserved0: 0 };
    l.push(Dispatch {
        kernel: &GROUP_SUM_FINISH,
        overrides: vec![("LANES", lanes as u32 as f64)],
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![partial, sum],
        workgroups: grid(count, 64),
        cost: Cost { flops: 4 * (count * chunks) as u64, bytes: 16 * (count * (chunks + 1)) as u64 },
    });
}

impl Op for GroupBroadcast {
    fn name(&self) -> &'static str {
        "group_broadcast"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = super::expect_inputs(self.name(), inputs)?;
        let [groups, channels] = *x.dims() else {
            return Err(Error::internal(format!("group_broadcast: the input has shape {x}, expected (groups, C)")));
        };
        check_groups(self.name(), &self.shape, groups)?;
        if self.shape.channels() != channels {
            return Err(Error::internal(format!("group_broadcast: {x} does not broadcast to {}: the channels differ", self.shape)));
        }
        Ok(self.shape.clone())
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let groups = graph.shape(at.inputs[0]).dims()[0];
        Ok(vec![Some(group_sum(graph, dy, groups)?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let x = inputs[0];
        let [n, c, h, w] = output.nchw();
        let per_group = n / x.shape.dims()[0];
        Tensor::from_fn(output.clone(), |i| x.data[i / (c * h * w) / per_group * c + i / (h * w) % c])
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let (x, x_shape) = &inputs[0];
        let count = output.1.physical_len() / 4;
        let params = GroupBroadcastParams {
            count: count as u32,
            columns: (output.1.padded() / 4) as u32,
            group_items: (count / x_shape.rows()) as u32,
            reserved0: 0,
        };
        l.push(Dispatch {
            kernel: &GROUP_BROADCAST,
            overrides: Vec::new(),
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: vec![*x, output.0],
            workgroups: grid(count, 64),
            cost: Cost { flops: 0, bytes: 4 * (x_shape.physical_len() + output.1.physical_len()) as u64 },
        });
        Ok(())
    }
}

impl Op for SumAxes {
    fn name(&self) -> &'static str {
        "sum_axes"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = super::expect_inputs(self.name(), inputs)?;
        let increasing = self.axes.windows(2).all(|w| w[0] < w[1]);
        if self.axes.is_empty() || !increasing || self.axes.iter().any(|&a| a >= x.rank()) {
            return Err(Error::internal(format!("sum_axes: cannot sum {x} over the axes {:?}; expected axes in increasing order", self.axes)));
        }
        let dims: Vec<usize> = x.dims().iter().enumerate().map(|(axis, &d)| if self.axes.contains(&axis) { 1 } else { d }).collect();
        Shape::new(&dims)
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let shape = graph.shape(at.inputs[0]).clone();
        Ok(vec![Some(broadcast_axes(graph, dy, &shape)?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let x = inputs[0];
        let [_, c, h, w] = x.shape.nchw();
        let [yn, yc, yh, yw] = output.nchw();
        let mut y = Tensor::zeros(output.clone());
        for (i, value) in x.data.iter().enumerate() {
            let (n, j, k, l) = (i / (c * h * w), i / (h * w) % c, i / w % h, i % w);
            y.data[((n % yn * yc + j % yc) * yh + k % yh) * yw + l % yw] += value;
        }
        y
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let (x, shape) = &inputs[0];
        let y = &output.1;
        let [n, _, h, w] = shape.nchw();
        let [yn, _, yh, yw] = y.nchw();
        let x_columns = shape.padded() / 4;
        let columns = y.padded() / 4;
        // Channels count as summed even if there is one: the padding lanes are zero.
        let lanes = y.channels() == 1;
        let [term_n, term_h, term_w, term_c] = [n / yn, h / yh, w / yw, x_columns / columns];
        let terms = term_n * term_h * term_w * term_c;
        let outputs = y.rows() * columns;
        let (chunk, chunks) = chunking(outputs, terms, usize::MAX);
        let params = SumAxesParams {
            count: (outputs * chunks) as u32,
            columns: columns as u32,
            chunks: chunks as u32,
            chunk: chunk as u32,
            terms: terms as u32,
            height: yh as u32,
            width: yw as u32,
            term_h: term_h as u32,
            term_w: term_w as u32,
            term_c: term_c as u32,
            stride_n: (h * w * x_columns) as u32,
            stride_h: (w * x_columns) as u32,
            stride_w: x_columns as u32,
            reserved0: 0,
            reserved1: 0,
            reserved2: 0,
        };
        let partial = if chunks == 1 { output.0 } else { l.scratch(outputs * chunks * 4) };
        l.push(Dispatch {
            kernel: &SUM_AXES,
            overrides: vec![("LANES", (lanes && chunks == 1) as u32 as f64)],
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: vec![*x, partial],
            workgroups: grid(outputs * chunks, 64),
            cost: Cost { flops: shape.len() as u64, bytes: 4 * (shape.physical_len() + outputs * chunks * 4) as u64 },
        });
        if chunks > 1 {
            lower_finish(l, partial, output.0, outputs, columns, chunks, lanes);
        }
        Ok(())
    }
}

impl Op for BroadcastAxes {
    fn name(&self) -> &'static str {
        "broadcast_axes"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = super::expect_inputs(self.name(), inputs)?;
        let fits = x.rank() == self.shape.rank() && x.dims().iter().zip(self.shape.dims()).all(|(&from, &to)| from == to || from == 1);
        if !fits {
            return Err(Error::internal(format!(
                "broadcast_axes: {x} does not broadcast to {}; expected equal ranks, and on each axis the same extent or 1",
                self.shape
            )));
        }
        Ok(self.shape.clone())
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let shape = graph.shape(at.inputs[0]).clone();
        Ok(vec![Some(sum_to(graph, dy, &shape)?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let x = inputs[0];
        let [_, c, h, w] = output.nchw();
        let [xn, xc, xh, xw] = x.shape.nchw();
        Tensor::from_fn(output.clone(), |i| {
            let (n, j, k, l) = (i / (c * h * w), i / (h * w) % c, i / w % h, i % w);
            x.data[((n % xn * xc + j % xc) * xh + k % xh) * xw + l % xw]
        })
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let (x, x_shape) = &inputs[0];
        let y = &output.1;
        let [_, channels, height, width] = y.nchw();
        let count = y.physical_len() / 4;
        let [stride_n, stride_h, stride_w, stride_c] = broadcast_strides(x_shape);
        let params = BroadcastAxesParams {
            count: count as u32,
            columns: (y.padded() / 4) as u32,
            channels: channels as u32,
            height: height as u32,
            width: width as u32,
            splat: (x_shape.channels() == 1 && channels > 1) as u32,
            stride_n,
            stride_h,
            stride_w,
            stride_c,
            reserved0: 0,
            reserved1: 0,
        };
        l.push(Dispatch {
            kernel: &BROADCAST_AXES,
            overrides: Vec::new(),
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: vec![*x, output.0],
            workgroups: grid(count, 64),
            cost: Cost { flops: 0, bytes: 4 * (x_shape.physical_len() + y.physical_len()) as u64 },
        });
        Ok(())
    }
}

/// Sum over the images and pixels of each batch group: (groups * n, C[, H, W]) to (groups, C).
pub fn group_sum(g: &mut Graph, x: NodeId, groups: usize) -> Result<NodeId> {
    g.apply(GroupSum { groups }, &[x])
}

/// (groups, C) to `shape` = (groups * n, C[, H, W]).
pub fn group_broadcast(g: &mut Graph, x: NodeId, shape: &Shape) -> Result<NodeId> {
    if g.shape(x) == shape { Ok(x) } else { g.apply(GroupBroadcast { shape: shape.clone() }, &[x]) }
}

/// Sum over axes, which keep extent 1. Axes that already have extent 1 are left out; x itself if that leaves none.
pub fn sum_axes(g: &mut Graph, x: NodeId, axes: &[usize]) -> Result<NodeId> {
    let shape = g.shape(x);
    let mut axes: Vec<usize> = axes.iter().copied().filter(|&a| a >= shape.rank() || shape.dims()[a] > 1).collect();
    axes.sort_unstable();
    axes.dedup();
    if axes.is_empty() { Ok(x) } else { g.apply(SumAxes { axes }, &[x]) }
}

/// Sum over all axes, which keep extent 1.
pub fn sum(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    let axes: Vec<usize> = (0..g.shape(x).rank()).collect();
    sum_axes(g, x, &axes)
}

/// Mean over axes, which keep extent 1.
pub fn mean_axes(g: &mut Graph, x: NodeId, axes: &[usize]) -> Result<NodeId> {
    let sum = sum_axes(g, x, axes)?;
    let count = g.shape(x).len() / g.shape(sum).len();
    affine(g, sum, (1.0 / count as f64) as f32, 0.0)
}

/// Mean over all axes, which keep extent 1.
pub fn mean(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    let axes: Vec<usize> = (0..g.shape(x).rank()).collect();
    mean_axes(g, x, &axes)
}

/// Sum over the axes on which `shape` has extent 1 and x more: the gradient of a broadcast.
pub fn sum_to(g: &mut Graph, x: NodeId, shape: &Shape) -> Result<NodeId> {
    let axes: Vec<usize> = (0..shape.rank()).filter(|&a| shape.dims()[a] != g.shape(x).dims()[a]).collect();
    sum_axes(g, x, &axes)
}

/// Expands extents of 1 to those of `shape`; x itself if it has that shape.
pub fn broadcast_axes(g: &mut Graph, x: NodeId, shape: &Shape) -> Result<NodeId> {
    if g.shape(x) == shape { Ok(x) } else { g.apply(BroadcastAxes { shape: shape.clone() }, &[x]) }
}
