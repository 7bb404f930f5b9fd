//! Sums and their adjoints: over batch groups (bias gradients, batch norm) and over any axes.
//!
//! Every sum runs in two barrier-free stages, chunks and then chunk order, with chunk lengths that follow from the shape alone: equal
//! shapes sum in equal order on every adapter.

use super::case::Case;
use super::elementwise::{affine, broadcast_strides};
use super::loaders::{Loaders, Loading, NarrowLoaders, loaders, narrow_loaders};
use super::{op_case, random, shape, widths};
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel, grid};
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::op::{Application, Op};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, NodeId};
use crate::part;
use bytemuck::{Pod, Zeroable};

/// Column sums of chunks of rows.
pub static GROUP_SUM_PARTIAL: Loaders = loaders!(
    "group_sum_partial",
    ["in1_texture"],
    ["in1_buffer"],
    [],
    &[Bind::Params, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::Out]
);

/// Adds the partial sums of each output.
pub static GROUP_SUM_FINISH: NarrowLoaders = narrow_loaders!(
    "group_sum_finish",
    ["in1_texel"],
    ["in1_buffer"],
    &[Bind::Params, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::Out]
);

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
pub static SUM_AXES: NarrowLoaders = narrow_loaders!(
    "sum_axes",
    ["in1_texel"],
    ["in1_buffer"],
    &[Bind::Params, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::Out]
);

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
pub const KERNELS: &[&Kernel] = &[
    &GROUP_SUM_PARTIAL.texture,
    &GROUP_SUM_PARTIAL.u64,
    &GROUP_SUM_PARTIAL.vec4,
    &GROUP_SUM_FINISH.texture,
    &GROUP_SUM_FINISH.vec4,
    &GROUP_BROADCAST,
    &SUM_AXES.texture,
    &SUM_AXES.vec4,
    &BROADCAST_AXES,
];

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
    /// How the first stage loads: the same sums in the same order, one or two columns an invocation.
    pub loading: Loading,
}

impl Chunks {
    /// Cuts a tensor of the given shape.
    pub fn new(caps: &Caps, shape: &Shape, groups: usize) -> Self {
        let rows = shape.rows() / groups;
        let columns = shape.padded() / 4;
        let (chunk, chunks) = chunking(groups * columns, rows, 256);
        let loading = Loading::new(caps, shape.padded(), shape.physical_len());
        Chunks { groups, rows, columns, chunk, chunks, loading }
    }

    /// Parameters of a kernel that walks one vec4 column of one chunk per invocation.
    pub fn params(&self) -> GroupSumPartialParams {
        GroupSumPartialParams {
            count: self.invocations() as u32,
            columns: (self.columns / self.loading.width()) as u32,
            rows: self.rows as u32,
            chunks: self.chunks as u32,
            chunk: self.chunk as u32,
            reserved0: 0,
            reserved1: 0,
            reserved2: 0,
        }
    }

    /// vec4 items of one partial result for each chunk.
    pub fn items(&self) -> usize {
        self.groups * self.chunks * self.columns
    }

    /// Invocations of the first stage.
    pub fn invocations(&self) -> usize {
        self.items() / self.loading.width()
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
        let chunks = Chunks::new(&l.caps, shape, self.groups);
        let partial = if chunks.chunks == 1 { output.0 } else { l.scratch(chunks.items() * 4) };
        l.push(Dispatch {
            kernel: GROUP_SUM_PARTIAL.kernel(chunks.loading),
            overrides: Vec::new(),
            params: bytemuck::bytes_of(&chunks.params()).to_vec(),
            operands: vec![*x, partial],
            workgroups: grid(chunks.invocations(), 64),
            cost: Cost { flops: shape.len() as u64, bytes: 4 * (shape.physical_len() + chunks.items() * 4) as u64 },
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
        kernel: GROUP_SUM_FINISH.kernel(&l.caps, 4 * count * chunks),
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
            return Err(Error::internal(format!(
                "sum_axes: cannot sum {x} over the axes {:?}; expected axes in increasing order",
                self.axes
            )));
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
        let kernel = SUM_AXES.kernel(&l.caps, shape.physical_len());
        l.check_loops(kernel, chunk)?;
        l.push(Dispatch {
            kernel,
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
    affine(g, sum, 1.0 / count as f64, 0.0)
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

/// Validated uses of the kernels of this file.
pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    // One row, one channel, unequal H and W, rows in several chunks of which the last is short, more columns than a workgroup,
    // partial sums that are worth a texture.
    let grouped: [(&[usize], usize); 10] = [
        (&[1, 1], 1),
        (&[6, 5, 3, 2], 1),
        (&[6, 5, 3, 2], 2),
        (&[6, 1, 3, 2], 3),
        (&[40, 7], 2),
        (&[2, 6, 33, 31], 2),
        (&[2, 14, 33, 31], 2),
        (&[4, 3, 40, 27], 1),
        (&[6, 270], 2),
        (&[8, 4, 64, 64], 1),
    ];
    for (i, (dims, groups)) in grouped.into_iter().enumerate() {
        let (x, seed) = (shape(dims), i as u64);
        for caps in widths(caps) {
            cases.push(op_case(&caps, &GroupSum { groups }, &[random(&x, seed, -1.0, 1.0)]));
        }
        let rows = random(&shape(&[groups, x.channels()]), seed, -1.0, 1.0);
        cases.push(op_case(caps, &GroupBroadcast { shape: x }, &[rows]));
    }
    for (i, dims) in [&[3, 6, 2, 5], &[2, 9, 12, 17], &[3, 1, 4, 2]].iter().enumerate() {
        let x = shape(*dims);
        for set in 1..16usize {
            let axes: Vec<usize> = (0..4).filter(|axis| set >> axis & 1 == 1).collect();
            let op = SumAxes { axes };
            let y = op.shape(&[&x]).expect("the axes are in range");
            cases.push(op_case(caps, &op, &[random(&x, i as u64, -1.0, 1.0)]));
            cases.push(op_case(caps, &BroadcastAxes { shape: x.clone() }, &[random(&y, i as u64, -1.0, 1.0)]));
        }
    }
    let others: [(&[usize], &[usize]); 7] = [
        (&[7], &[0]),
        (&[70, 1], &[0]),
        (&[5, 7], &[1]),
        (&[5, 7], &[0]),
        (&[5, 7], &[0, 1]),
        (&[4, 3, 64, 64], &[0, 1, 2, 3]),
        (&[64, 3, 16, 16], &[1, 2, 3]),
    ];
    for (dims, axes) in others {
        let (x, op) = (shape(dims), SumAxes { axes: axes.to_vec() });
        let y = op.shape(&[&x]).expect("the axes are in range");
        for caps in widths(caps) {
            cases.push(op_case(&caps, &op, &[random(&x, 5, -1.0, 1.0)]));
        }
        cases.push(op_case(caps, &BroadcastAxes { shape: x }, &[random(&y, 6, -1.0, 1.0)]));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient_check::check;
    use crate::ops::new_graph;

    #[test]
    fn rules_are_derivatives() {
        let x = [random(&shape(&[4, 3, 2, 2]), 1, -1.0, 1.0)];
        for groups in [1, 2, 4] {
            check("group_sum", &x, |g, x| group_sum(g, x[0], groups));
            let rows = [random(&shape(&[groups, 3]), 2, -1.0, 1.0)];
            check("group_broadcast", &rows, |g, x| group_broadcast(g, x[0], &shape(&[4, 3, 2, 2])));
        }
        for axes in [&[0][..], &[1], &[2, 3], &[1, 2, 3], &[0, 1, 2, 3]] {
            check("sum_axes", &x, |g, x| sum_axes(g, x[0], axes));
            check("mean_axes of a square", &x, |g, x| {
                let square = crate::ops::elementwise::mul(g, x[0], x[0])?;
                mean_axes(g, square, axes)
            });
        }
        let part = [random(&shape(&[1, 3, 1, 2]), 3, -1.0, 1.0)];
        check("broadcast_axes", &part, |g, x| broadcast_axes(g, x[0], &shape(&[2, 3, 4, 2])));
    }

    #[test]
    fn sums_and_means_are_what_they_say() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[2, 2, 1, 2]), None).unwrap();
        let values = [("x".to_string(), Tensor::from_fn(shape(&[2, 2, 1, 2]), |i| i as f64))].into();
        let nodes =
            [sum(&mut g, x).unwrap(), mean(&mut g, x).unwrap(), group_sum(&mut g, x, 1).unwrap(), mean_axes(&mut g, x, &[1, 3]).unwrap()];
        let results = g.evaluate(&values, &nodes).unwrap();
        assert_eq!(results[0], Tensor::new(shape(&[1; 4]), vec![28.0]));
        assert_eq!(results[1], Tensor::new(shape(&[1; 4]), vec![3.5]));
        assert_eq!(results[2], Tensor::new(shape(&[1, 2]), vec![10.0, 18.0]));
        assert_eq!(results[3], Tensor::new(shape(&[2, 1, 1, 1]), vec![1.5, 5.5]));
        assert_eq!(sum_axes(&mut g, x, &[2]).unwrap(), x, "an axis of extent 1 needs no sum");
        assert_eq!(sum_axes(&mut g, x, &[3, 0, 3]).unwrap(), sum_axes(&mut g, x, &[0, 3]).unwrap());
    }

    #[test]
    fn chunks_cover_all_terms() {
        for (outputs, terms, longest) in
            [(1, 1, 256), (1, 17, 256), (4, 1024, 256), (3000, 5000, 256), (1, 1 << 24, usize::MAX), (16, 65536, 256)]
        {
            let (chunk, chunks) = chunking(outputs, terms, longest);
            assert!(chunk * chunks >= terms && chunk * (chunks - 1) < terms, "{outputs} {terms}: {chunks} chunks of {chunk}");
            assert!(chunk >= 16.min(terms) && chunk <= longest);
        }
        assert_eq!(chunking(16, 65536, 256), (256, 256));
        assert_eq!(chunking(1, 1 << 24, usize::MAX), (8192, 2048));
    }

    #[test]
    fn impossible_inputs_are_named() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[6, 5, 3, 2]), None).unwrap();
        let v = g.leaf("v", shape(&[5]), None).unwrap();
        let text = group_sum(&mut g, x, 4).unwrap_err().to_string();
        assert!(text.starts_with("group_sum: a batch of 6 does not divide into 4 groups"), "{text}");
        assert!(group_sum(&mut g, x, 0).is_err());
        assert!(group_sum(&mut g, v, 1).is_err());
        assert!(group_broadcast(&mut g, v, &shape(&[6, 5])).is_err());
        let rows = g.leaf("rows", shape(&[2, 4]), None).unwrap();
        let text = group_broadcast(&mut g, rows, &shape(&[6, 5])).unwrap_err().to_string();
        assert!(text.contains("(2, 4) does not broadcast to (6, 5)"), "{text}");
        assert!(sum_axes(&mut g, x, &[4]).is_err());
        assert!(broadcast_axes(&mut g, rows, &shape(&[2, 8])).is_err());
    }
}
