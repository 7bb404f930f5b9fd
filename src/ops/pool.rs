//! Pooling: the largest or the mean value of windows that slide over the pixels of a map, and global pooling.
//!
//! Max pooling is linear in x once it is known which pixel of each window is taken. That is an op of its own, the index I(x), whose derivative is zero
//! wherever it has one. The derivatives close on two more, which are each other's adjoints:
//!
//! | op | inputs | derivatives for an upstream u |
//! |---|---|---|
//! | [`MaxPool2d`] | x | dx = B(I(x), u) |
//! | [`MaxPool2dIndex`] I | x | none |
//! | [`MaxPool2dBackward`] B | index, dy | d(dy) = P(index, u) |
//! | [`MaxPool2dPick`] P | index, x | dx = B(index, u) |
//! | [`AvgPool2d`] A | x | dx = its adjoint |
//! | [`AvgPool2dBackward`] | dy | d(dy) = A(u) |
//!
//! A backward pass keeps the index instead of x: one number for each window.

use super::case::Case;
use super::conv2d::rank4;
use super::loaders::{Loaders, Loading, NarrowLoaders, loaders, narrow_loaders};
use super::{elementwise, op_case, random, reduce, reshape, shape, widths};
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel, grid};
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::op::{Application, Op};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, NodeId};
use bytemuck::{Pod, Zeroable};

/// Largest value of each window, or where it is.
pub static MAX_POOL2D: NarrowLoaders = narrow_loaders!(
    "max_pool2d",
    ["pixel", "pool", "in1_texel"],
    ["pixel", "pool", "in1_buffer"],
    &[Bind::Params, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::Out]
);

/// Upstream gradients of the windows in which a pixel is the largest.
pub static MAX_POOL2D_BACKWARD: NarrowLoaders = narrow_loaders!(
    "max_pool2d_backward",
    ["pixel", "pool", "in1_texel", "in2_texel"],
    ["pixel", "pool", "in1_buffer", "in2_buffer"],
    &[Bind::Params, Bind::Texture, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::In, Bind::Out]
);

/// [`MAX_POOL2D_BACKWARD`] of windows that do not overlap.
pub static MAX_POOL2D_BACKWARD_APART: Loaders = loaders!(
    "max_pool2d_backward_apart",
    ["in1_texture", "in2_texture"],
    ["in1_buffer", "in2_buffer"],
    ["pixel", "pool"],
    &[Bind::Params, Bind::Texture, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::In, Bind::Out]
);

/// The value of each window at a given place.
pub static MAX_POOL2D_PICK: NarrowLoaders = narrow_loaders!(
    "max_pool2d_pick",
    ["pixel", "pool", "in1_texel", "scalar2_texel"],
    ["pixel", "pool", "in1_buffer", "scalar2_buffer"],
    &[Bind::Params, Bind::Texture, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::In, Bind::Out]
);

/// Sum of each window times a factor.
pub static AVG_POOL2D: NarrowLoaders = narrow_loaders!(
    "avg_pool2d",
    ["pixel", "pool", "in1_texel"],
    ["pixel", "pool", "in1_buffer"],
    &[Bind::Params, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::Out]
);

/// Upstream gradients of the windows that hold a pixel, times a factor.
pub static AVG_POOL2D_BACKWARD: NarrowLoaders = narrow_loaders!(
    "avg_pool2d_backward",
    ["pixel", "pool", "in1_texel"],
    ["pixel", "pool", "in1_buffer"],
    &[Bind::Params, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::Out]
);

/// The kernels of this file.
pub const KERNELS: &[&Kernel] = &[
    &MAX_POOL2D.texture,
    &MAX_POOL2D.vec4,
    &MAX_POOL2D_BACKWARD.texture,
    &MAX_POOL2D_BACKWARD.vec4,
    &MAX_POOL2D_BACKWARD_APART.texture,
    &MAX_POOL2D_BACKWARD_APART.u64,
    &MAX_POOL2D_BACKWARD_APART.vec4,
    &MAX_POOL2D_PICK.texture,
    &MAX_POOL2D_PICK.vec4,
    &AVG_POOL2D.texture,
    &AVG_POOL2D.vec4,
    &AVG_POOL2D_BACKWARD.texture,
    &AVG_POOL2D_BACKWARD.vec4,
];

/// `PoolParams` of `pool.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct PoolParams {
    count: u32,
    columns: u32,
    channels: u32,
    height: u32,
    width: u32,
    windows_y: u32,
    windows_x: u32,
    kernel_y: u32,
    kernel_x: u32,
    stride_y: u32,
    stride_x: u32,
    padding_y: u32,
    padding_x: u32,
    scale: f32,
    areas_y: u32,
    areas_x: u32,
}

/// Geometry of a pooling, as in `torch.nn.MaxPool2d` without dilation and with `ceil_mode=False`: (vertical, horizontal) pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Pixels of a window; at least 1.
    pub kernel: [usize; 2],
    /// Pixels from one window to the next; at least 1.
    pub stride: [usize; 2],
    /// Rows and columns around the map; at most half a window, so that every window holds a pixel.
    pub padding: [usize; 2],
}

impl Pool {
    /// Most pixels of a window: an index counts them exactly in f32.
    pub const MAX_PIXELS: usize = 1 << 24;

    /// The same extents in both directions.
    pub fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Pool { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 2] }
    }

    /// Windows over a map of (H, W) pixels along both axes: `(H + 2 · padding - kernel) / stride + 1`.
    ///
    /// # Errors
    /// If the geometry is none, or no window fits; the message begins with `op`.
    pub fn windows(&self, op: &str, [h, w]: [usize; 2]) -> Result<[usize; 2]> {
        let [kh, kw] = self.kernel;
        if self.kernel.contains(&0) || self.stride.contains(&0) {
            return Err(Error::input(format!("{op}: kernel and stride must be at least 1, got {self:?}")));
        }
        if kh.checked_mul(kw).is_none_or(|pixels| pixels > Self::MAX_PIXELS) {
            return Err(Error::input(format!(
                "{op}: a window of {kh} x {kw} has more than {} pixels; make the kernel smaller",
                Self::MAX_PIXELS
            )));
        }
        if (0..2).any(|i| self.padding[i] > self.kernel[i] / 2) {
            return Err(Error::input(format!("{op}: the padding must be at most half the kernel, got {self:?}")));
        }
        let along = |extent: usize, i: usize| Some((extent + 2 * self.padding[i]).checked_sub(self.kernel[i])? / self.stride[i] + 1);
        match (along(h, 0), along(w, 1)) {
            (Some(y), Some(x)) => Ok([y, x]),
            _ => Err(Error::input(format!(
                "{op}: a window of {kh} x {kw} does not fit in {h} x {w} pixels; make the kernel smaller ({self:?})"
            ))),
        }
    }

    /// Windows over the pixels of x (N, C, H, W): (N, C, OH, OW).
    fn over(&self, op: &str, x: &Shape) -> Result<Shape> {
        let [n, c, h, w] = rank4(op, "x", x)?;
        let [oh, ow] = self.windows(op, [h, w])?;
        Shape::new(&[n, c, oh, ow])
    }

    /// The map (N, C, H, W) whose windows a tensor (N, C, OH, OW) belongs to.
    fn under(&self, op: &str, name: &str, windows: &Shape, input_hw: [usize; 2]) -> Result<Shape> {
        let [n, c, oh, ow] = rank4(op, name, windows)?;
        let [h, w] = input_hw;
        let [eh, ew] = self.windows(op, input_hw)?;
        if [oh, ow] != [eh, ew] {
            return Err(Error::input(format!("{op}: {name} {windows} must have {eh} x {ew} windows over {h} x {w} pixels ({self:?})")));
        }
        Shape::new(&[n, c, h, w])
    }

    /// Calls `f` with the window, the pixel and the tap of every pixel of every window, in logical order of the windows and of the taps of each. The
    /// twins are loops over it.
    fn visit(&self, map: &Shape, windows: &Shape, mut f: impl FnMut(usize, usize, usize)) {
        let ([n, c, h, w], [_, _, oh, ow]) = (map.nchw(), windows.nchw());
        for plane in 0..n * c {
            for (i, j) in (0..oh).flat_map(|i| (0..ow).map(move |j| (i, j))) {
                for (r, s) in (0..self.kernel[0]).flat_map(|r| (0..self.kernel[1]).map(move |s| (r, s))) {
                    let y = (i * self.stride[0] + r).wrapping_sub(self.padding[0]);
                    let x = (j * self.stride[1] + s).wrapping_sub(self.padding[1]);
                    if y < h && x < w {
                        f((plane * oh + i) * ow + j, (plane * h + y) * w + x, r * self.kernel[1] + s);
                    }
                }
            }
        }
    }

    /// Appends a kernel of this file over a map and its windows, one of which `output` is.
    fn push(
        &self,
        l: &mut Lowering,
        work: Work,
        [map, windows]: [&Shape; 2],
        inputs: &[(Operand, Shape)],
        output: (Operand, Shape),
    ) -> Result<()> {
        let ([images, channels, height, width], [_, _, windows_y, windows_x]) = (map.nchw(), windows.nchw());
        let floats = |shape: &Shape| shape.physical_len();
        let largest = inputs.iter().map(|(_, shape)| floats(shape)).max().unwrap_or(0);
        let loading = Loading::new(&l.caps, map.padded(), largest);
        let (kernel, areas, groups) = match work.kernel {
            Form::Narrow(kernel) => (kernel.kernel(&l.caps, largest), [0, 0], 1),
            Form::Apart(kernel) => (kernel.kernel(loading), self.areas([height, width]), loading.width()),
        };
        // Its pixels, or the windows that see a pixel, which are no more.
        l.check_loops(kernel, self.kernel[0] * (1 + self.kernel[1]))?;
        let columns = map.padded() / 4 / groups;
        let count = if areas == [0, 0] { floats(&output.1) / 4 } else { images * areas[0] * areas[1] * columns };
        let params = PoolParams {
            count: count as u32,
            columns: columns as u32,
            channels: channels as u32,
            height: height as u32,
            width: width as u32,
            windows_y: windows_y as u32,
            windows_x: windows_x as u32,
            kernel_y: self.kernel[0] as u32,
            kernel_x: self.kernel[1] as u32,
            stride_y: self.stride[0] as u32,
            stride_x: self.stride[1] as u32,
            padding_y: self.padding[0] as u32,
            padding_x: self.padding[1] as u32,
            scale: work.scale as f32,
            areas_y: areas[0] as u32,
            areas_x: areas[1] as u32,
        };
        let bytes = 4 * (inputs.iter().map(|(_, shape)| floats(shape)).sum::<usize>() + floats(&output.1)) as u64;
        l.push(Dispatch {
            kernel,
            overrides: work.overrides,
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: inputs.iter().map(|(operand, _)| *operand).chain([output.0]).collect(),
            workgroups: grid(count, 64),
            cost: Cost { flops: (work.flops * windows.len()) as u64, bytes },
        });
        Ok(())
    }

    /// Most pixels of an area that one invocation writes.
    const MOST_APART: usize = 64;

    /// Whether windows do not overlap, and are so near each other that the pixels between them are not most of the work.
    fn is_apart(&self) -> bool {
        (0..2).all(|i| self.stride[i] >= self.kernel[i]) && self.stride[0].saturating_mul(self.stride[1]) <= Self::MOST_APART
    }

    /// Areas of one stride that cover a map of (H, W) pixels along both axes, from the corner of the first window.
    fn areas(&self, hw: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|i| (hw[i] + self.padding[i]).div_ceil(self.stride[i]))
    }

    fn pixels(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }
}

/// What an invocation of a kernel computes.
enum Form {
    /// Four channels of one element of the result.
    Narrow(&'static NarrowLoaders),
    /// Channels of all pixels of an area.
    Apart(&'static Loaders),
}

/// A kernel, and what its params do not take from the geometry.
struct Work {
    kernel: Form,
    overrides: Vec<(&'static str, f64)>,
    /// Factor of sums.
    scale: f64,
    /// Operations for each window.
    flops: usize,
}

/// Appends the sums of windows over x, times a factor.
pub(super) fn lower_window_sums(l: &mut Lowering, pool: &Pool, scale: f64, x: &(Operand, Shape), y: (Operand, Shape)) -> Result<()> {
    let work = Work { kernel: Form::Narrow(&AVG_POOL2D), overrides: Vec::new(), scale, flops: pool.pixels() };
    let windows = y.1.clone();
    pool.push(l, work, [&x.1, &windows], std::slice::from_ref(x), y)
}

/// Largest value of each window: (N, C, H, W) to (N, C, OH, OW). Padding never wins, and a NaN always does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool2d {
    /// Geometry.
    pub pool: Pool,
}

/// Where in each window its largest value is, counted row by row from the window's padded corner: (N, C, H, W) to (N, C, OH, OW). The first of equal
/// values counts, as in PyTorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool2dIndex {
    /// Geometry.
    pub pool: Pool,
}

/// The gradient of [`MaxPool2d`] with respect to x: each pixel gets the gradients of the windows in which it is the largest. Inputs index and dy, of shape
/// (N, C, OH, OW); output (N, C, H, W).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool2dBackward {
    /// Geometry.
    pub pool: Pool,
    /// (H, W) of the map: stride makes it ambiguous.
    pub input_hw: [usize; 2],
}

/// The value of each window at its index: the adjoint of [`MaxPool2dBackward`]. Inputs index (N, C, OH, OW) and x (N, C, H, W); output as index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool2dPick {
    /// Geometry.
    pub pool: Pool,
}

/// Mean of each window, to which padding contributes zeros: (N, C, H, W) to (N, C, OH, OW).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvgPool2d {
    /// Geometry.
    pub pool: Pool,
}

/// The adjoint of [`AvgPool2d`]: (N, C, OH, OW) to (N, C, H, W).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvgPool2dBackward {
    /// Geometry.
    pub pool: Pool,
    /// (H, W) of the map: stride makes it ambiguous.
    pub input_hw: [usize; 2],
}

/// Whether a value takes the place of the largest so far.
fn wins(value: f64, largest: f64) -> bool {
    value > largest || value.is_nan()
}

/// The largest value of each window and its tap.
fn largest(pool: &Pool, x: &Tensor, windows: &Shape) -> Vec<(f64, usize)> {
    let mut found: Vec<Option<(f64, usize)>> = vec![None; windows.len()];
    pool.visit(&x.shape, windows, |window, pixel, tap| {
        let value = x.data[pixel];
        if found[window].is_none_or(|(best, _)| wins(value, best)) {
            found[window] = Some((value, tap));
        }
    });
    found.into_iter().map(|best| best.unwrap_or((f64::NEG_INFINITY, 0))).collect()
}

impl Op for MaxPool2d {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = super::expect_inputs(self.name(), inputs)?;
        self.pool.over(self.name(), x)
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let [_, _, h, w] = graph.shape(at.inputs[0]).nchw();
        let index = graph.apply(MaxPool2dIndex { pool: self.pool }, &at.inputs)?;
        Ok(vec![Some(graph.apply(MaxPool2dBackward { pool: self.pool, input_hw: [h, w] }, &[index, dy])?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        Tensor::new(output.clone(), largest(&self.pool, inputs[0], output).into_iter().map(|(value, _)| value).collect())
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let work = Work { kernel: Form::Narrow(&MAX_POOL2D), overrides: vec![("INDEX", 0.0)], scale: 1.0, flops: self.pool.pixels() };
        self.pool.push(l, work, [&inputs[0].1, &output.1.clone()], inputs, output)
    }
}

impl Op for MaxPool2dIndex {
    fn name(&self) -> &'static str {
        "max_pool2d_index"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = super::expect_inputs(self.name(), inputs)?;
        self.pool.over(self.name(), x)
    }

    fn gradient(&self, _graph: &mut Graph, _at: &Application, _dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        // The index is constant almost everywhere.
        Ok(vec![None])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        Tensor::new(output.clone(), largest(&self.pool, inputs[0], output).into_iter().map(|(_, tap)| tap as f64).collect())
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let work = Work { kernel: Form::Narrow(&MAX_POOL2D), overrides: vec![("INDEX", 1.0)], scale: 1.0, flops: self.pool.pixels() };
        self.pool.push(l, work, [&inputs[0].1, &output.1.clone()], inputs, output)
    }
}

impl MaxPool2dBackward {
    /// Appends the kernel for windows that do not overlap, or the one for any.
    fn push(&self, l: &mut Lowering, is_apart: bool, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let (kernel, overrides) = if is_apart {
            let [y, x] = self.pool.stride.map(|stride| stride as f64);
            (Form::Apart(&MAX_POOL2D_BACKWARD_APART), vec![("STRIDE_Y", y), ("STRIDE_X", x)])
        } else {
            (Form::Narrow(&MAX_POOL2D_BACKWARD), Vec::new())
        };
        let work = Work { kernel, overrides, scale: 1.0, flops: self.pool.pixels() };
        self.pool.push(l, work, [&output.1.clone(), &inputs[1].1], inputs, output)
    }
}

impl Op for MaxPool2dBackward {
    fn name(&self) -> &'static str {
        "max_pool2d_backward"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [index, dy] = super::expect_inputs(self.name(), inputs)?;
        if index != dy {
            return Err(Error::internal(format!("{}: index {index} and dy {dy} must have one shape", self.name())));
        }
        self.pool.under(self.name(), "dy", dy, self.input_hw)
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, upstream: NodeId, wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let pick = MaxPool2dPick { pool: self.pool };
        Ok(vec![None, wanted[1].then(|| graph.apply(pick, &[at.inputs[0], upstream])).transpose()?])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let (index, dy) = (inputs[0], inputs[1]);
        let mut dx = Tensor::zeros(output.clone());
        self.pool.visit(output, &dy.shape, |window, pixel, tap| {
            if index.data[window] == tap as f64 {
                dx.data[pixel] += dy.data[window];
            }
        });
        dx
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        self.push(l, self.pool.is_apart(), inputs, output)
    }
}

impl Op for MaxPool2dPick {
    fn name(&self) -> &'static str {
        "max_pool2d_pick"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [index, x] = super::expect_inputs(self.name(), inputs)?;
        let y = self.pool.over(self.name(), x)?;
        if *index != y {
            return Err(Error::internal(format!("{}: index {index} must have the shape {y} of the windows over x {x}", self.name())));
        }
        Ok(y)
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let [_, _, h, w] = graph.shape(at.inputs[1]).nchw();
        let backward = MaxPool2dBackward { pool: self.pool, input_hw: [h, w] };
        Ok(vec![None, wanted[1].then(|| graph.apply(backward, &[at.inputs[0], dy])).transpose()?])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let (index, x) = (inputs[0], inputs[1]);
        let mut y = Tensor::zeros(output.clone());
        self.pool.visit(&x.shape, output, |window, pixel, tap| {
            if index.data[window] == tap as f64 {
                y.data[window] = x.data[pixel];
            }
        });
        y
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let work = Work { kernel: Form::Narrow(&MAX_POOL2D_PICK), overrides: Vec::new(), scale: 1.0, flops: 0 };
        self.pool.push(l, work, [&inputs[1].1, &output.1.clone()], inputs, output)
    }
}

impl Op for AvgPool2d {
    fn name(&self) -> &'static str {
        "avg_pool2d"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = super::expect_inputs(self.name(), inputs)?;
        self.pool.over(self.name(), x)
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let [_, _, h, w] = graph.shape(at.inputs[0]).nchw();
        Ok(vec![Some(graph.apply(AvgPool2dBackward { pool: self.pool, input_hw: [h, w] }, &[dy])?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let mut y = Tensor::zeros(output.clone());
        self.pool.visit(&inputs[0].shape, output, |window, pixel, _| y.data[window] += inputs[0].data[pixel] / self.pool.pixels() as f64);
        y
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        lower_window_sums(l, &self.pool, 1.0 / self.pool.pixels() as f64, &inputs[0], output)
    }
}

impl Op for AvgPool2dBackward {
    fn name(&self) -> &'static str {
        "avg_pool2d_backward"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [dy] = super::expect_inputs(self.name(), inputs)?;
        self.pool.under(self.name(), "dy", dy, self.input_hw)
    }

    fn gradient(&self, graph: &mut Graph, _at: &Application, upstream: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        Ok(vec![Some(avg_pool2d(graph, upstream, self.pool)?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let mut dx = Tensor::zeros(output.clone());
        self.pool.visit(output, &inputs[0].shape, |window, pixel, _| dx.data[pixel] += inputs[0].data[window] / self.pool.pixels() as f64);
        dx
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let pixels = self.pool.pixels();
        let work = Work { kernel: Form::Narrow(&AVG_POOL2D_BACKWARD), overrides: Vec::new(), scale: 1.0 / pixels as f64, flops: pixels };
        self.pool.push(l, work, [&output.1.clone(), &inputs[0].1], inputs, output)
    }
}

/// Largest value of each window of x (N, C, H, W), giving (N, C, OH, OW): `torch.nn.MaxPool2d`.
///
/// # Errors
/// If x has no pixels, no window fits, or the padding is more than half a window.
pub fn max_pool2d(g: &mut Graph, x: NodeId, pool: Pool) -> Result<NodeId> {
    g.apply(MaxPool2d { pool }, &[x])
}

/// Mean of each window of x (N, C, H, W), giving (N, C, OH, OW): `torch.nn.AvgPool2d` with `count_include_pad=True`.
///
/// # Errors
/// If x has no pixels, no window fits, or the padding is more than half a window.
pub fn avg_pool2d(g: &mut Graph, x: NodeId, pool: Pool) -> Result<NodeId> {
    g.apply(AvgPool2d { pool }, &[x])
}

/// Sum over the pixels of each channel: (N, C, H, W) to (N, C).
///
/// # Errors
/// If x has no pixels.
pub fn global_sum_pool(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    let [n, c, h, w] = rank4("global_sum_pool", "x", g.shape(x))?;
    if h * w == 1 { reshape::reshape(g, x, &Shape::new(&[n, c])?) } else { reduce::group_sum(g, x, n) }
}

/// Mean over the pixels of each channel: (N, C, H, W) to (N, C), `torch.nn.AdaptiveAvgPool2d(1)` and a flatten.
///
/// # Errors
/// If x has no pixels.
pub fn global_avg_pool(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    let [_, _, h, w] = rank4("global_avg_pool", "x", g.shape(x))?;
    let sum = global_sum_pool(g, x)?;
    elementwise::affine(g, sum, 1.0 / (h * w) as f64, 0.0)
}

/// Validated uses of the kernels of this file.
pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    let pool = |kernel, stride, padding| Pool { kernel, stride, padding };
    let mut cases = Vec::new();
    for (i, (pool, x)) in [
        // One pixel; one window; one channel; C = 4 and C beyond it; H != W.
        (pool([1, 1], [1, 1], [0, 0]), [1, 1, 1, 1]),
        (pool([5, 4], [1, 1], [0, 0]), [3, 7, 5, 4]),
        (pool([2, 2], [2, 2], [0, 0]), [2, 3, 6, 8]),
        (pool([2, 2], [2, 2], [0, 0]), [2, 4, 7, 5]),
        (pool([3, 3], [1, 1], [1, 1]), [1, 1, 4, 5]),
        (pool([3, 2], [2, 1], [1, 1]), [2, 5, 7, 6]),
        (pool([4, 5], [3, 2], [2, 1]), [2, 6, 3, 9]),
        // Strides beyond the window: pixels in no window.
        (pool([2, 1], [3, 2], [0, 0]), [2, 6, 8, 7]),
        // And padding, with a last area that has no window.
        (pool([2, 2], [3, 2], [1, 1]), [2, 5, 7, 6]),
        // One dimension.
        (pool([1, 3], [1, 2], [0, 1]), [2, 3, 1, 9]),
        // Strides so long that every pixel is looked at by itself.
        (pool([2, 3], [9, 8], [1, 0]), [1, 6, 12, 11]),
        // Worth a texture, before and after.
        (pool([3, 3], [1, 1], [1, 1]), [2, 13, 21, 23]),
        (pool([2, 2], [2, 2], [0, 0]), [2, 13, 43, 62]),
        (pool([2, 3], [2, 3], [0, 1]), [2, 13, 43, 62]),
    ]
    .into_iter()
    .enumerate()
    {
        let x = random(&shape(&x), i as u64, -2.0, 2.0);
        // Values that tie in most windows.
        let ties = Tensor::new(x.shape.clone(), x.data.iter().map(|v| v.round()).collect());
        let y = pool.over("a case", &x.shape).expect("the geometry is written by hand");
        let dy = random(&y, 50 + i as u64, -1.0, 1.0);
        let index = MaxPool2dIndex { pool }.twin(&[&ties], &y);
        let [_, _, h, w] = x.shape.nchw();
        for caps in widths(caps) {
            cases.push(op_case(&caps, &MaxPool2d { pool }, std::slice::from_ref(&x)));
            cases.push(op_case(&caps, &MaxPool2dIndex { pool }, std::slice::from_ref(&ties)));
            cases.push(op_case(&caps, &MaxPool2dBackward { pool, input_hw: [h, w] }, &[index.clone(), dy.clone()]));
            cases.push(op_case(&caps, &MaxPool2dPick { pool }, &[index.clone(), x.clone()]));
            cases.push(op_case(&caps, &AvgPool2d { pool }, std::slice::from_ref(&x)));
            cases.push(op_case(&caps, &AvgPool2dBackward { pool, input_hw: [h, w] }, std::slice::from_ref(&dy)));
        }
    }
    // Windows of nothing but minus infinity, and NaNs in every place of a window.
    let pool = pool([2, 3], [1, 2], [1, 1]);
    let mut x = random(&shape(&[2, 3, 5, 7]), 9, -2.0, 2.0);
    x.data[..40].fill(f64::NEG_INFINITY);
    cases.push(op_case(caps, &MaxPool2d { pool }, std::slice::from_ref(&x)));
    cases.push(op_case(caps, &MaxPool2dIndex { pool }, std::slice::from_ref(&x)));
    x.data.iter_mut().step_by(5).for_each(|value| *value = f64::NAN);
    cases.push(op_case(caps, &MaxPool2dIndex { pool }, &[x]));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing;
    use crate::ops::case::CaseBuffer;
    use crate::ops::case_builder::bits;
    use crate::ops::gradient_check::check;
    use crate::ops::new_graph;

    #[test]
    fn windows_of_more_pixels_than_loops_may_walk_are_refused() {
        let lower = |side: usize, software: bool| {
            let mut lowering = Lowering::new(Caps { software, ..Caps::minimal() });
            let [x, y] = [0, 1].map(|i| Operand::Node(NodeId(i)));
            let (input, output) = (shape(&[1, 4, side, side]), shape(&[1, 4, 1, 1]));
            AvgPool2d { pool: Pool::square(side, side, 0) }.lower(&mut lowering, &[(x, input)], (y, output))
        };
        lower(250, true).unwrap();
        lower(256, false).unwrap();
        let refusal = lower(256, true).unwrap_err();
        assert_eq!(refusal.exit_code(), 2);
        assert!(refusal.to_string().contains("avg_pool2d/texture would run 65792 iterations of its loops"), "{refusal}");
    }

    fn geometries() -> [(Pool, [usize; 4]); 4] {
        [
            (Pool::square(2, 2, 0), [2, 2, 4, 5]),
            (Pool { kernel: [3, 2], stride: [2, 1], padding: [1, 1] }, [1, 3, 4, 3]),
            (Pool { kernel: [1, 2], stride: [2, 3], padding: [0, 0] }, [2, 1, 5, 5]),
            (Pool::square(3, 1, 1), [1, 2, 3, 3]),
        ]
    }

    #[test]
    fn rules_are_derivatives() {
        for (pool, dims) in geometries() {
            let [n, c, h, w] = dims;
            let x = random(&shape(&dims), 1, -2.0, 2.0);
            check("max_pool2d", std::slice::from_ref(&x), |g, x| max_pool2d(g, x[0], pool));
            check("max_pool2d of a square", std::slice::from_ref(&x), |g, x| {
                let square = elementwise::mul(g, x[0], x[0])?;
                max_pool2d(g, square, pool)
            });
            check("avg_pool2d", std::slice::from_ref(&x), |g, x| avg_pool2d(g, x[0], pool));
            let [oh, ow] = pool.windows("test", [h, w]).unwrap();
            let dy = random(&shape(&[n, c, oh, ow]), 2, -1.0, 1.0);
            check("avg_pool2d_backward", &[dy], |g, dy| g.apply(AvgPool2dBackward { pool, input_hw: [h, w] }, &[dy[0]]));
            check("global_avg_pool", std::slice::from_ref(&x), |g, x| global_avg_pool(g, x[0]));
        }
    }

    /// Windows that do not overlap have a kernel of their own, which gives the bits of the general one.
    #[test]
    fn both_forms_of_the_backward_pass_agree() {
        let Some(gpu) = testing::gpu() else { return };
        let pool = |kernel, stride, padding| Pool { kernel, stride, padding };
        for (pool, dims) in [
            (Pool::square(2, 2, 0), [2, 8, 7, 5]),
            (pool([2, 1], [3, 2], [0, 0]), [2, 6, 8, 7]),
            (pool([2, 2], [3, 2], [1, 1]), [2, 5, 7, 6]),
            (pool([2, 2], [2, 2], [0, 0]), [2, 13, 43, 62]),
            (pool([2, 3], [2, 3], [0, 1]), [2, 13, 43, 62]),
        ] {
            let x = random(&shape(&dims), 3, -2.0, 2.0);
            let y = pool.over("a test", &x.shape).unwrap();
            let index = MaxPool2dIndex { pool }.twin(&[&x], &y);
            let mut dy = random(&y, 4, -1.0, 1.0);
            dy.data.iter_mut().step_by(3).for_each(|v| *v = -0.0);
            dy.data[1] = f64::INFINITY;
            dy.data[2] = f64::NAN;
            let backward = MaxPool2dBackward { pool, input_hw: [dims[2], dims[3]] };
            for caps in widths(&gpu.caps()) {
                let [general, apart] = [false, true].map(|is_apart| {
                    let mut lowering = Lowering::new(caps.clone());
                    let [i, d, dx] = [0, 1, 2].map(|i| Operand::Node(NodeId(i)));
                    backward.push(&mut lowering, is_apart, &[(i, y.clone()), (d, y.clone())], (dx, x.shape.clone())).unwrap();
                    let buffers = [CaseBuffer::input(&index), CaseBuffer::input(&dy), CaseBuffer::Scratch(x.shape.physical_len())];
                    Case::from_lowering("max_pool2d_backward", lowering, [i, d, dx].into_iter().zip(buffers).collect())
                });
                assert_ne!(general.dispatches[0].kernel.name, apart.dispatches[0].kernel.name);
                let [general, apart]: [Vec<u32>; 2] =
                    [general, apart].map(|case| bits(gpu, &case).iter().flat_map(|b| bytemuck::pod_collect_to_vec(b)).collect());
                let other = general.iter().zip(&apart).enumerate().find(|(_, (a, b))| a != b);
                assert!(other.is_none(), "{backward:?} of {}: {other:x?}", x.shape);
            }
        }
        assert!(Pool::square(2, 2, 1).is_apart() && Pool::square(2, 3, 0).is_apart() && !Pool::square(3, 2, 0).is_apart());
        assert!(!Pool::square(2, usize::MAX, 0).is_apart(), "most of an area would be between windows");
    }

    /// Gradients of gradients stay within the family: the op at the end of each chain is one of those before it.
    #[test]
    fn max_pooling_is_closed() {
        let pool = Pool::square(2, 2, 0);
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[2, 3, 4, 4]), None).unwrap();
        let y = max_pool2d(&mut g, x, pool).unwrap();
        let dy = g.leaf("dy", shape(&[2, 3, 2, 2]), None).unwrap();
        let dx = g.gradients(&[(y, dy)], &[x]).unwrap()[0].unwrap();
        assert!(g.op::<MaxPool2dBackward>(dx).is_some());
        let ddx = g.leaf("ddx", shape(&[2, 3, 4, 4]), None).unwrap();
        let ddy = g.gradients(&[(dx, ddx)], &[dy]).unwrap()[0].unwrap();
        assert!(g.op::<MaxPool2dPick>(ddy).is_some());
        let again = g.gradients(&[(ddy, dy)], &[ddx]).unwrap()[0].unwrap();
        assert_eq!(again, dx, "the adjoint of the adjoint, on the same upstream gradient");
        assert_eq!(g.gradients(&[(dx, ddx)], &[x]).unwrap(), [None], "which pixel is taken has no derivative");
    }

    #[test]
    fn pooling_by_hand() {
        let mut g = new_graph();
        // 3 5 5
        // 2 5 1
        let x = g.leaf("x", shape(&[1, 1, 2, 3]), None).unwrap();
        let values = [("x".to_string(), Tensor::new(shape(&[1, 1, 2, 3]), vec![3.0, 5.0, 5.0, 2.0, 5.0, 1.0]))].into();
        let pool = Pool { kernel: [2, 2], stride: [1, 1], padding: [0, 1] };
        let max = max_pool2d(&mut g, x, pool).unwrap();
        let index = g.apply(MaxPool2dIndex { pool }, &[x]).unwrap();
        let mean = avg_pool2d(&mut g, x, pool).unwrap();
        let means = global_avg_pool(&mut g, x).unwrap();
        let results = g.evaluate(&values, &[max, index, mean, means]).unwrap();
        assert_eq!(results[0].data, [3.0, 5.0, 5.0, 5.0]);
        // The window's padding is tap 0 and 2; the first of equals is taken.
        assert_eq!(results[1].data, [1.0, 1.0, 0.0, 0.0]);
        assert_eq!(results[2].data, [1.25, 3.75, 4.0, 1.5]);
        assert_eq!(results[3], Tensor::new(shape(&[1, 1]), vec![3.5]));
    }

    #[test]
    fn global_pooling_of_one_pixel_moves_nothing() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[3, 5, 1, 1]), None).unwrap();
        let y = global_avg_pool(&mut g, x).unwrap();
        assert_eq!((g.shape(y), g.storage(y)), (&shape(&[3, 5]), x));
    }

    #[test]
    fn mistakes_are_named() {
        let mut g = new_graph();
        let mut leaf = |name: &str, dims: &[usize]| g.leaf(name, shape(dims), None).unwrap();
        let (x, flat, dy) = (leaf("x", &[2, 6, 3, 5]), leaf("flat", &[2, 6]), leaf("dy", &[2, 6, 2, 2]));
        let mut text = |x, pool| max_pool2d(&mut g, x, pool).unwrap_err().to_string();
        let plain = Pool::square(2, 2, 0);
        assert!(text(flat, plain).contains("max_pool2d: x must have rank 4, got shape (2, 6)"), "{}", text(flat, plain));
        assert!(text(x, Pool::square(4, 1, 0)).contains("a window of 4 x 4 does not fit in 3 x 5 pixels"));
        assert!(text(x, Pool::square(2, 0, 0)).contains("kernel and stride must be at least 1"));
        assert!(text(x, Pool { padding: [0, 2], ..plain }).contains("the padding must be at most half the kernel"));
        assert!(text(x, Pool::square(usize::MAX, 1, usize::MAX / 2)).contains("more than 16777216 pixels"));
        let backward = MaxPool2dBackward { pool: plain, input_hw: [3, 5] };
        let refused = g.apply(backward, &[dy, dy]).unwrap_err().to_string();
        assert!(refused.contains("dy (2, 6, 2, 2) must have 1 x 2 windows over 3 x 5 pixels"), "{refused}");
        assert!(g.apply(backward, &[x, dy]).is_err() && g.apply(MaxPool2dPick { pool: plain }, &[dy, x]).is_err());
        assert!(global_avg_pool(&mut g, flat).unwrap_err().to_string().starts_with("global_avg_pool: x must have rank 4"));
    }
}
