//! Two-dimensional convolution: forward, input gradient (which is transposed convolution) and weight gradient.
//!
//! The three are the partial derivatives of one trilinear form, the sum of `x · w · y` over all triples that a convolution multiplies. So the
//! derivatives of each are the other two, and gradients of gradients stay in the family:
//!
//! | op | inputs | derivatives for an upstream u |
//! |---|---|---|
//! | [`Conv2dForward`] F | x, w | dx = I(u, w), dw = W(x, u) |
//! | [`Conv2dBackwardInput`] I | dy, w | d(dy) = F(u, w), dw = W(u, dy) |
//! | [`Conv2dBackwardWeight`] W | x, dy | dx = I(dy, u), d(dy) = F(x, u) |

use super::gemm::cols::Cols;
use super::gemm::rows::{Form, Phase, Pixels, Rows, Segment};
use super::gemm::{Core, Epilogue, Product, Size, check_len, gemm_op, key};
use crate::error::{Error, Result};
use crate::graph::lower::{Lowering, Operand};
use crate::graph::op::{Application, Op};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, NodeId};

/// Geometry of a convolution, as in `torch.nn.Conv2d`: (vertical, horizontal) pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2d {
    /// Pixels of the input from one output pixel to the next; at least 1.
    pub stride: [usize; 2],
    /// Rows and columns of zeros around the input.
    pub padding: [usize; 2],
    /// Pixels of the input from one kernel tap to the next; at least 1.
    pub dilation: [usize; 2],
    /// Groups of channels that see only each other; divides input and output channels.
    pub groups: usize,
}

impl Conv2d {
    /// The same stride and padding in both directions, no dilation, one group.
    pub fn square(stride: usize, padding: usize) -> Self {
        Conv2d { stride: [stride; 2], padding: [padding; 2], ..Conv2d::default() }
    }
}

impl Default for Conv2d {
    fn default() -> Self {
        Conv2d { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 }
    }
}

/// Convolution of x (N, C, H, W) with w (O, C / groups, KH, KW), giving (N, O, OH, OW): `torch.nn.functional.conv2d` without bias.
///
/// # Errors
/// If the shapes do not fit.
pub fn conv2d(graph: &mut Graph, x: NodeId, w: NodeId, conv: Conv2d) -> Result<NodeId> {
    graph.apply(Conv2dForward { conv, output_hw: None }, &[x, w])
}

/// Transposed convolution of x (N, C, H, W) with w (C, O / groups, KH, KW), giving (N, O, OH, OW) with
/// `OH = (H - 1) · stride - 2 · padding + dilation · (KH - 1) + output_padding + 1`: `torch.nn.functional.conv_transpose2d` without bias.
///
/// # Errors
/// If the shapes do not fit, or an output padding is smaller than neither its stride nor its dilation.
pub fn conv_transpose2d(graph: &mut Graph, x: NodeId, w: NodeId, conv: Conv2d, output_padding: [usize; 2]) -> Result<NodeId> {
    const OP: &str = "conv_transpose2d";
    conv.check(OP)?;
    let (x_shape, w_shape) = (graph.shape(x).clone(), graph.shape(w).clone());
    let ([_, _, h, w_in], [_, _, kh, kw]) = (rank4(OP, "x", &x_shape)?, rank4(OP, "w", &w_shape)?);
    let mut input_hw = [0; 2];
    for (axis, (extent, kernel)) in [(h, kh), (w_in, kw)].into_iter().enumerate() {
        let (stride, padding, extra) = (conv.stride[axis], conv.padding[axis], output_padding[axis]);
        if extra >= stride.max(conv.dilation[axis]) {
            return Err(Error::input(format!("{OP}: output padding must be smaller than the stride or the dilation, got {extra}")));
        }
        let size = (extent - 1)
            .checked_mul(stride)
            .and_then(|n| n.checked_add(conv.dilation[axis].checked_mul(kernel - 1)?)?.checked_add(extra + 1)?.checked_sub(2 * padding));
        input_hw[axis] = size.filter(|n| *n > 0).ok_or_else(|| {
            Error::input(format!("{OP}: x {x_shape} with w {w_shape}, {conv:?} and output padding {output_padding:?} has no output pixel"))
        })?;
    }
    graph.apply(Conv2dBackwardInput { conv, input_hw }, &[x, w])
}

/// F: `y[n, o, i, j] = sum over c, r, s of x[n, c, i·stride - padding + r·dilation, …] · w[o, c, r, s]`.
///
/// Inputs x (N, C, H, W) and w (O, C / groups, KH, KW); output (N, O, OH, OW).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dForward {
    /// Geometry.
    pub conv: Conv2d,
    /// (OH, OW) where that is less than fits into x: only the first rows and columns are computed. It takes an output padding beyond the stride, under
    /// dilation, to ask for it. `None` for all that fit.
    pub output_hw: Option<[usize; 2]>,
}

/// I: the gradient of F with respect to x. It is transposed convolution.
///
/// Inputs dy (N, O, OH, OW) and w (O, C / groups, KH, KW); output (N, C, H, W).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dBackwardInput {
    /// Geometry of F.
    pub conv: Conv2d,
    /// (H, W) of F's input: stride makes it ambiguous.
    pub input_hw: [usize; 2],
}

/// W: the gradient of F with respect to w.
///
/// Inputs x (N, C, H, W) and dy (N, O, OH, OW); output (O, C / groups, KH, KW).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dBackwardWeight {
    /// Geometry of F.
    pub conv: Conv2d,
    /// (KH, KW): stride makes it ambiguous.
    pub kernel_hw: [usize; 2],
}

impl Conv2d {
    /// Output pixels of the forward direction along both axes: `(H + 2 · padding - dilation · (KH - 1) - 1) / stride + 1`, or `None` if the
    /// kernel does not fit in the padded input.
    pub fn output_hw(&self, input_hw: [usize; 2], kernel_hw: [usize; 2]) -> Option<[usize; 2]> {
        let along = |axis: usize| {
            let reach = self.dilation[axis].checked_mul(kernel_hw[axis] - 1)?.checked_add(1)?;
            let padded = self.padding[axis].checked_mul(2)?.checked_add(input_hw[axis])?;
            Some(padded.checked_sub(reach)? / self.stride[axis] + 1)
        };
        Some([along(0)?, along(1)?])
    }

    /// Stride, padding and what is not usual, for [`key`]: `" s2 p1"`, and the pixels of the result where inputs leave them open.
    fn geometry(&self, result_hw: Option<[usize; 2]>) -> String {
        let pair = |[y, x]: [usize; 2]| if y == x { y.to_string() } else { format!("{y}x{x}") };
        let mut text = format!(" s{} p{}", pair(self.stride), pair(self.padding));
        if self.dilation != [1, 1] {
            text.push_str(&format!(" d{}", pair(self.dilation)));
        }
        if self.groups != 1 {
            text.push_str(&format!(" g{}", self.groups));
        }
        if let Some([h, w]) = result_hw {
            text.push_str(&format!(" to {h}x{w}"));
        }
        text
    }

    fn check(&self, op: &str) -> Result<()> {
        if self.stride.contains(&0) || self.dilation.contains(&0) || self.groups == 0 {
            return Err(Error::input(format!("{op}: stride, dilation and groups must be at least 1, got {self:?}")));
        }
        Ok(())
    }
}

/// The extents of a tensor (N, C, H, W), or an error that names it.
pub(super) fn rank4(op: &str, name: &str, shape: &Shape) -> Result<[usize; 4]> {
    <[usize; 4]>::try_from(shape.dims()).map_err(|_| Error::input(format!("{op}: {name} must have rank 4, got shape {shape}")))
}

/// Shapes of x, w and y that fit each other.
struct Family {
    conv: Conv2d,
    x: Shape,
    w: Shape,
    y: Shape,
}

impl Family {
    /// Checks what the three members have in common.
    fn new(op: &'static str, conv: Conv2d, x: Shape, w: Shape, (y_name, y): (&str, Shape)) -> Result<Self> {
        conv.check(op)?;
        let ([n, c, h, width], [o, i, kh, kw], [y_n, y_o, oh, ow]) = (rank4(op, "x", &x)?, rank4(op, "w", &w)?, rank4(op, y_name, &y)?);
        let wrong = |text: String| Err(Error::input(format!("{op}: {text} (x {x}, w {w}, {y_name} {y}, {conv:?})")));
        if i.checked_mul(conv.groups) != Some(c) {
            return wrong(format!(
                "w must have {} input channels in each of {} groups, got {i}",
                c as f64 / conv.groups as f64,
                conv.groups
            ));
        }
        if o % conv.groups != 0 {
            return wrong(format!("output channels must be a multiple of the {} groups, got {o}", conv.groups));
        }
        if [y_n, y_o] != [n, o] {
            return wrong(format!("{y_name} must have {n} images of {o} channels, got {y_n} of {y_o}"));
        }
        let Some([eh, ew]) = conv.output_hw([h, width], [kh, kw]) else {
            return wrong(format!("a kernel of {kh} x {kw} does not fit in {h} x {width} pixels"));
        };
        // An output padding between stride and dilation leaves room for more pixels than y has.
        let fits = |axis: usize, most: usize, got: usize| got <= most && most - got <= (conv.dilation[axis] - 1) / conv.stride[axis];
        if !(fits(0, eh, oh) && fits(1, ew, ow)) {
            return wrong(format!("{y_name} must have {eh} x {ew} pixels, got {oh} x {ow}"));
        }
        // Kernels compute positions in the padded input as 32-bit signed numbers of floats.
        let padded = |axis: usize, size: usize| conv.padding[axis].checked_mul(2).and_then(|p| p.checked_add(size));
        let floats = padded(0, h).zip(padded(1, width)).and_then(|(h, w)| h.checked_mul(w)?.checked_mul(n)?.checked_mul(x.padded()));
        if floats.is_none_or(|floats| floats > i32::MAX as usize) {
            return wrong("the padded input has more than 2^31 - 1 floats: make the batch or the layer smaller".to_string());
        }
        check_len(op, &w)?;
        check_len(op, &y)?;
        Ok(Family { conv, x, w, y })
    }

    fn size(&self) -> Size {
        let multiply_adds = self.y.len() as u64 * (self.w.len() / self.w.dims()[0]) as u64;
        Size::new(multiply_adds, [&self.x, &self.w, &self.y])
    }

    /// True if the kernel covers an unpadded input, so that y has one pixel and x and w are matrices with the same rows as they lie in memory.
    fn is_dense(&self) -> bool {
        let [_, _, h, w] = self.x.nchw();
        let [_, _, kh, kw] = self.w.nchw();
        self.conv.groups == 1
            && self.conv.padding == [0, 0]
            && [h, w] == [kh, kw]
            && (0..2).all(|i| self.conv.dilation[i] == 1 || [kh, kw][i] == 1)
    }

    fn pixels(shape: &Shape) -> Pixels {
        let [_, _, height, width] = shape.nchw();
        Pixels { height, width, floats: shape.padded() }
    }

    /// Columns that group `g` stores among `logical` channels of a tensor padded to `padded`: the last group's go on over the padding.
    fn columns(&self, g: usize, logical: usize, padded: usize) -> usize {
        let of_group = logical / self.conv.groups;
        if g + 1 == self.conv.groups { of_group + padded - logical } else { of_group }
    }

    fn forward(&self) -> Rows {
        let ([n, c, ..], [o, i, kh, kw], [_, _, oh, ow]) = (self.x.nchw(), self.w.nchw(), self.y.nchw());
        let (i4, o4, groups) = (self.w.padded(), self.y.padded(), self.conv.groups);
        if self.is_dense() {
            let k = kh * kw * i4;
            return Rows { size: self.size(), ..Rows::matrix(Form::T, n, [k; 2], [o, o4], [o, k]) };
        }
        // Taps of a kernel row that are neighbours in memory, in x as in w, are one segment.
        let taps_fused = if groups == 1 && (self.conv.dilation[1] == 1 || kw == 1) { kw } else { 1 };
        let tap_depth = if groups == 1 { i4 } else { i };
        let phase = |g: usize| {
            let segment = |r: usize, s: usize| Segment {
                y: (r * self.conv.dilation[0]) as i64 - self.conv.padding[0] as i64,
                x: (s * self.conv.dilation[1]) as i64 - self.conv.padding[1] as i64,
                b_base: ((g * (o / groups) * kh + r) * kw + s) * i4,
            };
            Phase {
                rows: n * oh * ow,
                grid: [oh, ow],
                out: [0, 0],
                a_channel: g * (c / groups),
                out_channel: g * (o / groups),
                columns: self.columns(g, o, o4),
                segments: (0..kh).flat_map(|r| (0..kw).step_by(taps_fused).map(move |s| (r, s))).map(|(r, s)| segment(r, s)).collect(),
            }
        };
        Rows {
            form: Form::T,
            phases: (0..groups).map(phase).collect(),
            period: o4,
            channels: o / groups,
            depth: taps_fused * tap_depth,
            b_extent: o / groups,
            b_stride: kh * kw * i4,
            a: Self::pixels(&self.x),
            a_step: self.conv.stride,
            out: Self::pixels(&self.y),
            out_step: [1, 1],
            a_k_stride: None,
            size: self.size(),
        }
    }

    fn backward_input(&self) -> Rows {
        let ([n, c, h, w], [o, i, kh, kw]) = (self.x.nchw(), self.w.nchw());
        let (i4, o4, groups) = (self.w.padded(), self.y.padded(), self.conv.groups);
        let taps = kh * kw;
        if self.is_dense() {
            let flat = Rows::matrix(Form::N, n, [o4; 2], [taps * i4, taps * i4], [o, taps * i4]);
            return Rows { period: i4, channels: i, size: self.size(), ..flat };
        }
        // Pixels whose position has the same remainder by the stride see the same taps, at fixed offsets: a phase. No product is with a zero.
        let [stride_y, stride_x] = self.conv.stride;
        let mut phases = Vec::new();
        for (y, x) in (0..stride_y.min(h)).flat_map(|y| (0..stride_x.min(w)).map(move |x| (y, x))) {
            let grid = [(h - y).div_ceil(stride_y), (w - x).div_ceil(stride_x)];
            for g in 0..groups {
                let mut segments = Vec::new();
                for (r, s) in (0..kh).flat_map(|r| (0..kw).map(move |s| (r, s))) {
                    if let (Some(dy), Some(dx)) = (self.tap_offset(0, y, r), self.tap_offset(1, x, s)) {
                        segments.push(Segment { y: dy, x: dx, b_base: (g * (o / groups) * taps + r * kw + s) * i4 });
                    }
                }
                phases.push(Phase {
                    rows: n * grid[0] * grid[1],
                    grid,
                    out: [y, x],
                    a_channel: g * (o / groups),
                    out_channel: g * (c / groups),
                    columns: self.columns(g, c, self.x.padded()),
                    segments,
                });
            }
        }
        Rows {
            form: Form::N,
            phases,
            period: self.x.padded(),
            channels: c / groups,
            depth: if groups == 1 { o4 } else { o / groups },
            b_extent: o / groups,
            b_stride: taps * i4,
            a: Self::pixels(&self.y),
            a_step: [1, 1],
            out: Self::pixels(&self.x),
            out_step: self.conv.stride,
            a_k_stride: None,
            size: self.size(),
        }
    }

    /// Where in y, relative to t, a tap reaches the input position t · stride + phase, if it does.
    fn tap_offset(&self, axis: usize, phase: usize, tap: usize) -> Option<i64> {
        let stride = self.conv.stride[axis] as i64;
        let distance = (phase + self.conv.padding[axis]) as i64 - (tap * self.conv.dilation[axis]) as i64;
        (distance % stride == 0).then_some(distance / stride)
    }

    fn backward_weight(&self) -> Cols {
        let ([n, c, ..], [o, i, kh, kw]) = (self.x.nchw(), self.w.nchw());
        let (i4, o4, groups) = (self.w.padded(), self.y.padded(), self.conv.groups);
        if self.is_dense() {
            let flat = Cols::matrix(n, [o, o4], [i, kh * kw * i4]);
            return Cols { size: self.size(), ..flat };
        }
        Cols {
            images: n,
            rows: o / groups,
            groups,
            kernel: [kh, kw],
            tap_columns: i4,
            channels: i,
            a: Self::pixels(&self.y),
            b: Self::pixels(&self.x),
            b_channels: c / groups,
            stride: self.conv.stride,
            padding: self.conv.padding,
            dilation: self.conv.dilation,
            size: self.size(),
        }
    }

    /// Calls `f` with the positions in x, w and y, in logical order, of every product that the convolution sums. The twins are this sum, by one of its
    /// three factors.
    fn products(&self, mut f: impl FnMut(usize, usize, usize)) {
        let ([n, c, h, w], [o, i, kh, kw], [_, _, oh, ow]) = (self.x.nchw(), self.w.nchw(), self.y.nchw());
        let Conv2d { stride, padding, dilation, groups } = self.conv;
        for image in 0..n {
            for out in 0..o {
                for y in 0..oh {
                    for x in 0..ow {
                        for channel in 0..i {
                            for r in 0..kh {
                                for s in 0..kw {
                                    let row = (y * stride[0] + r * dilation[0]).wrapping_sub(padding[0]);
                                    let column = (x * stride[1] + s * dilation[1]).wrapping_sub(padding[1]);
                                    if row < h && column < w {
                                        let group = out / (o / groups);
                                        f(
                                            ((image * c + group * i + channel) * h + row) * w + column,
                                            ((out * i + channel) * kh + r) * kw + s,
                                            ((image * o + out) * oh + y) * ow + x,
                                        );
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Conv2dForward {
    fn family(&self, x: &Shape, w: &Shape) -> Result<Family> {
        const OP: &str = "conv2d_forward";
        self.conv.check(OP)?;
        let ([n, _, h, width], [o, _, kh, kw]) = (rank4(OP, "x", x)?, rank4(OP, "w", w)?);
        let all = self.conv.output_hw([h, width], [kh, kw]).ok_or_else(|| {
            Error::input(format!("{OP}: a kernel of {kh} x {kw} does not fit in {h} x {width} pixels (x {x}, w {w}, {:?})", self.conv))
        })?;
        let [oh, ow] = self.output_hw.unwrap_or(all);
        Family::new(OP, self.conv, x.clone(), w.clone(), ("y", Shape::new(&[n, o, oh, ow])?))
    }

    /// The op that gives `output_hw` pixels.
    fn onto(conv: Conv2d, input_hw: [usize; 2], kernel_hw: [usize; 2], output_hw: [usize; 2]) -> Self {
        let is_less = conv.output_hw(input_hw, kernel_hw) != Some(output_hw);
        Conv2dForward { conv, output_hw: is_less.then_some(output_hw) }
    }
}

impl Conv2dBackwardInput {
    fn family(&self, dy: &Shape, w: &Shape) -> Result<Family> {
        const OP: &str = "conv2d_backward_input";
        let ([n, ..], [_, i, ..]) = (rank4(OP, "dy", dy)?, rank4(OP, "w", w)?);
        let channels =
            i.checked_mul(self.conv.groups).ok_or_else(|| Error::input(format!("{OP}: {} groups are too many", self.conv.groups)))?;
        let x = Shape::new(&[n, channels, self.input_hw[0], self.input_hw[1]])?;
        Family::new(OP, self.conv, x, w.clone(), ("dy", dy.clone()))
    }
}

impl Conv2dBackwardWeight {
    fn family(&self, x: &Shape, dy: &Shape) -> Result<Family> {
        const OP: &str = "conv2d_backward_weight";
        self.conv.check(OP)?;
        let ([_, c, ..], [_, o, ..]) = (rank4(OP, "x", x)?, rank4(OP, "dy", dy)?);
        if c % self.conv.groups != 0 {
            return Err(Error::input(format!(
                "{OP}: x must have a multiple of {} channels, one share for each group, got {c}",
                self.conv.groups
            )));
        }
        let w = Shape::new(&[o, c / self.conv.groups, self.kernel_hw[0], self.kernel_hw[1]])?;
        Family::new(OP, self.conv, x.clone(), w, ("dy", dy.clone()))
    }
}

impl Conv2dForward {
    fn product(&self, inputs: &[&Shape]) -> Result<Product> {
        let core = Core::Rows(self.family(inputs[0], inputs[1])?.forward());
        Ok(Product { core, operands: [0, 1] })
    }

    fn key(&self, inputs: &[&Shape]) -> String {
        key(self.name(), inputs, &self.conv.geometry(self.output_hw))
    }
}

impl Conv2dBackwardInput {
    fn product(&self, inputs: &[&Shape]) -> Result<Product> {
        let core = Core::Rows(self.family(inputs[0], inputs[1])?.backward_input());
        Ok(Product { core, operands: [0, 1] })
    }

    fn key(&self, inputs: &[&Shape]) -> String {
        key(self.name(), inputs, &self.conv.geometry(Some(self.input_hw)))
    }
}

impl Conv2dBackwardWeight {
    fn product(&self, inputs: &[&Shape]) -> Result<Product> {
        let core = Core::Cols(self.family(inputs[0], inputs[1])?.backward_weight());
        Ok(Product { core, operands: [1, 0] })
    }

    fn key(&self, inputs: &[&Shape]) -> String {
        key(self.name(), inputs, &self.conv.geometry(Some(self.kernel_hw)))
    }
}

gemm_op!(Conv2dForward);
gemm_op!(Conv2dBackwardInput);
gemm_op!(Conv2dBackwardWeight);

impl Op for Conv2dForward {
    fn name(&self) -> &'static str {
        "conv2d_forward"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(self.family(inputs[0], inputs[1])?.y)
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let (conv, x, w) = (self.conv, at.inputs[0], at.inputs[1]);
        let input_hw = spatial(graph, x);
        let kernel_hw = spatial(graph, w);
        Ok(vec![
            wanted[0].then(|| graph.apply(Conv2dBackwardInput { conv, input_hw }, &[dy, w])).transpose()?,
            wanted[1].then(|| graph.apply(Conv2dBackwardWeight { conv, kernel_hw }, &[x, dy])).transpose()?,
        ])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let (x, w) = (inputs[0], inputs[1]);
        let mut y = Tensor::zeros(output.clone());
        twin_family(self.family(&x.shape, &w.shape)).products(|ix, iw, iy| y.data[iy] += x.data[ix] * w.data[iw]);
        y
    }

    fn lower(&self, lowering: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        self.lower_fused(lowering, inputs, output, &Epilogue::default())
    }
}

impl Op for Conv2dBackwardInput {
    fn name(&self) -> &'static str {
        "conv2d_backward_input"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(self.family(inputs[0], inputs[1])?.x)
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, upstream: NodeId, wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let (conv, dy, w) = (self.conv, at.inputs[0], at.inputs[1]);
        let kernel_hw = spatial(graph, w);
        let forward = Conv2dForward::onto(conv, self.input_hw, kernel_hw, spatial(graph, dy));
        Ok(vec![
            wanted[0].then(|| graph.apply(forward, &[upstream, w])).transpose()?,
            wanted[1].then(|| graph.apply(Conv2dBackwardWeight { conv, kernel_hw }, &[upstream, dy])).transpose()?,
        ])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let (dy, w) = (inputs[0], inputs[1]);
        let mut dx = Tensor::zeros(output.clone());
        twin_family(self.family(&dy.shape, &w.shape)).products(|ix, iw, iy| dx.data[ix] += dy.data[iy] * w.data[iw]);
        dx
    }

    fn lower(&self, lowering: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        self.lower_fused(lowering, inputs, output, &Epilogue::default())
    }
}

impl Op for Conv2dBackwardWeight {
    fn name(&self) -> &'static str {
        "conv2d_backward_weight"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(self.family(inputs[0], inputs[1])?.w)
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, upstream: NodeId, wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let (conv, x, dy) = (self.conv, at.inputs[0], at.inputs[1]);
        let input_hw = spatial(graph, x);
        let forward = Conv2dForward::onto(conv, input_hw, self.kernel_hw, spatial(graph, dy));
        Ok(vec![
            wanted[0].then(|| graph.apply(Conv2dBackwardInput { conv, input_hw }, &[dy, upstream])).transpose()?,
            wanted[1].then(|| graph.apply(forward, &[x, upstream])).transpose()?,
        ])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let (x, dy) = (inputs[0], inputs[1]);
        let mut dw = Tensor::zeros(output.clone());
        twin_family(self.family(&x.shape, &dy.shape)).products(|ix, iw, iy| dw.data[iw] += x.data[ix] * dy.data[iy]);
        dw
    }

    fn lower(&self, lowering: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        self.lower_fused(lowering, inputs, output, &Epilogue::default())
    }
}

/// (H, W) of a node.
fn spatial(graph: &Graph, node: NodeId) -> [usize; 2] {
    let [_, _, h, w] = graph.shape(node).nchw();
    [h, w]
}

/// A twin is evaluated on shapes that the graph has checked.
fn twin_family(family: Result<Family>) -> Family {
    family.unwrap_or_else(|error| panic!("a twin got shapes that the shape rule refuses: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::lower::Caps;
    use crate::ops::elementwise::leaky_relu;
    use crate::ops::gradient_check::check;
    use crate::ops::{new_graph, random, shape};

    fn tensors(dims: [&[usize]; 2]) -> [Tensor; 2] {
        [random(&shape(dims[0]), 1, -1.0, 1.0), random(&shape(dims[1]), 2, -1.0, 1.0)]
    }

    /// First and second derivatives, by x, w and the upstream gradient, of all three members: each is a derivative of the others.
    #[test]
    fn gradients_are_finite_differences() {
        let conv = Conv2d { stride: [2, 1], padding: [1, 0], dilation: [1, 2], groups: 1 };
        check("conv2d", &tensors([&[2, 2, 4, 5], &[3, 2, 3, 2]]), |g, x| conv2d(g, x[0], x[1], conv));
        let grouped = Conv2d { stride: [1, 2], padding: [1, 1], groups: 2, ..Conv2d::default() };
        check("grouped conv2d", &tensors([&[1, 4, 3, 4], &[2, 2, 2, 3]]), |g, x| conv2d(g, x[0], x[1], grouped));
        check("conv_transpose2d", &tensors([&[2, 3, 2, 3], &[3, 2, 3, 2]]), |g, x| conv_transpose2d(g, x[0], x[1], conv, [1, 0]));
        check("grouped conv_transpose2d", &tensors([&[1, 2, 2, 2], &[2, 2, 3, 3]]), |g, x| {
            conv_transpose2d(g, x[0], x[1], grouped, [0, 1])
        });
        let dilated = Conv2d { padding: [1, 0], dilation: [2, 1], ..Conv2d::default() };
        check("conv_transpose2d with a pixel beyond the stride", &tensors([&[1, 2, 2, 2], &[2, 2, 3, 2]]), |g, x| {
            conv_transpose2d(g, x[0], x[1], dilated, [1, 0])
        });
        let kernel_hw = [2, 3];
        check("conv2d_backward_weight", &tensors([&[2, 4, 3, 4], &[2, 2, 4, 2]]), |g, x| {
            g.apply(Conv2dBackwardWeight { conv: grouped, kernel_hw }, &[x[0], x[1]])
        });
    }

    /// What a gradient penalty differentiates: a critic's input gradient.
    #[test]
    fn a_critic_can_be_differentiated_twice() {
        let conv = Conv2d { stride: [2, 2], padding: [1, 1], ..Conv2d::default() };
        let inputs = [
            random(&shape(&[2, 2, 4, 4]), 1, -1.0, 1.0),
            random(&shape(&[3, 2, 4, 4]), 2, -1.0, 1.0),
            random(&shape(&[1, 3, 2, 2]), 3, -1.0, 1.0),
        ];
        check("critic", &inputs, |g, x| {
            let hidden = conv2d(g, x[0], x[1], conv)?;
            let hidden = leaky_relu(g, hidden, 0.2)?;
            conv2d(g, hidden, x[2], Conv2d::default())
        });
    }

    #[test]
    fn convolution_by_hand() {
        // x is 3 x 3, the kernel picks its corners' difference; a stride of 2 and padding 1 leave 2 x 2 pixels.
        let x = Tensor::new(shape(&[1, 1, 3, 3]), (1..=9).map(f64::from).collect());
        let w = Tensor::new(shape(&[1, 1, 2, 2]), vec![1.0, 0.0, 0.0, -1.0]);
        let op = Conv2dForward { conv: Conv2d::square(2, 1), output_hw: None };
        let y = op.shape(&[&x.shape, &w.shape]).unwrap();
        assert_eq!(op.twin(&[&x, &w], &y), Tensor::new(shape(&[1, 1, 2, 2]), vec![-1.0, -3.0, -7.0, 5.0 - 9.0]));
    }

    #[test]
    fn shapes_are_pytorchs() {
        let mut graph = new_graph();
        let x = graph.leaf("x", shape(&[2, 6, 7, 5]), None).unwrap();
        let w = graph.leaf("w", shape(&[8, 3, 4, 3]), None).unwrap();
        let conv = Conv2d { stride: [2, 3], padding: [1, 2], dilation: [1, 2], groups: 2 };
        let y = conv2d(&mut graph, x, w, conv).unwrap();
        assert_eq!(graph.shape(y), &shape(&[2, 8, 3, 2]));
        // The transposed convolution undoes the shape if the output padding says which of the sizes it was.
        let back = conv_transpose2d(&mut graph, y, w, conv, [1, 0]).unwrap();
        assert_eq!(graph.shape(back), &shape(&[2, 6, 7, 4]));
    }

    #[test]
    fn mistakes_are_named() {
        let mut graph = new_graph();
        let mut leaf = |name: &str, dims: &[usize]| graph.leaf(name, shape(dims), None).unwrap();
        let (x, w, flat) = (leaf("x", &[2, 6, 7, 5]), leaf("w", &[8, 4, 4, 3]), leaf("flat", &[2, 6]));
        let (grouped, small) = (leaf("grouped", &[9, 3, 4, 3]), leaf("small", &[2, 4, 2, 2]));
        let plain = Conv2d::default();
        let mut text = |x, w, conv| conv2d(&mut graph, x, w, conv).unwrap_err().to_string();
        assert!(text(flat, w, plain).contains("conv2d_forward: x must have rank 4, got shape (2, 6)"));
        assert!(text(x, w, plain).contains("w must have 6 input channels in each of 1 groups, got 4"), "{}", text(x, w, plain));
        assert!(text(x, grouped, Conv2d { groups: 2, ..plain }).contains("output channels must be a multiple of the 2 groups, got 9"));
        assert!(text(small, w, plain).contains("a kernel of 4 x 3 does not fit in 2 x 2 pixels"));
        assert!(text(x, w, Conv2d { stride: [0, 1], ..plain }).contains("stride, dilation and groups must be at least 1"));
        let refused = conv_transpose2d(&mut graph, small, w, plain, [1, 0]).unwrap_err().to_string();
        assert!(refused.contains("output padding must be smaller than the stride or the dilation, got 1"), "{refused}");
        let refused = conv_transpose2d(&mut graph, small, w, Conv2d { padding: [9, 9], ..plain }, [0, 0]).unwrap_err().to_string();
        assert!(refused.contains("has no output pixel"), "{refused}");
        let wrong_dy = graph.apply(Conv2dBackwardWeight { conv: plain, kernel_hw: [2, 2] }, &[x, small]).unwrap_err().to_string();
        assert!(wrong_dy.contains("conv2d_backward_weight: dy must have 6 x 4 pixels, got 2 x 2"), "{wrong_dy}");
    }

    /// A kernel that is one pixel smaller than its input would be a dense product if it were not for that pixel.
    #[test]
    fn only_kernels_that_are_their_input_become_matrix_products() {
        let rows = |x: [usize; 4], w: [usize; 4], conv: Conv2d| {
            Conv2dForward { conv, output_hw: None }.family(&shape(&x), &shape(&w)).unwrap().forward().phases[0].segments.len()
        };
        assert_eq!(rows([2, 8, 4, 4], [3, 8, 4, 4], Conv2d::default()), 1);
        assert_eq!(rows([2, 8, 4, 4], [3, 8, 3, 4], Conv2d::default()), 3);
        assert_eq!(rows([2, 8, 4, 4], [3, 8, 4, 4], Conv2d { padding: [0, 1], ..Conv2d::default() }), 4);
        assert_eq!(rows([2, 8, 3, 3], [3, 8, 2, 2], Conv2d { dilation: [2, 2], ..Conv2d::default() }), 4);
    }

    /// The choice of kernels, which a run's bits depend on.
    #[test]
    fn kernels_are_chosen_by_adapter_and_shape() {
        let best = |caps: &Caps, conv: Conv2d, x: [usize; 4], w: [usize; 4]| {
            Conv2dForward { conv, output_hw: None }.candidates(caps, &[&shape(&x), &shape(&w)]).unwrap()[0].label()
        };
        let software = Caps { fixed_subgroup: true, int64: true, software: true, ..Caps::minimal() };
        let gpu = Caps { software: false, ..software.clone() };
        let conv = Conv2d { stride: [2, 2], padding: [1, 1], ..Conv2d::default() };
        let layer = ([4, 16, 8, 8], [32, 16, 4, 4]);
        for gpu in [&Caps::minimal(), &gpu] {
            assert_eq!(best(gpu, conv, layer.0, layer.1), "gemm_rows_tile_small/t");
            assert_eq!(best(gpu, conv, [64, 64, 32, 32], [128, 64, 4, 4]), "gemm_rows_tile_large/t");
            assert_eq!(best(gpu, conv, [64, 64, 8, 8], [128, 64, 4, 4]), "gemm_rows_tile_small/t_split");
            assert_eq!(best(gpu, conv, [4, 16, 8, 8], [3, 16, 4, 4]), "gemm_rows_reduce/t");
            assert_eq!(best(gpu, Conv2d::default(), [64, 512, 4, 4], [1, 512, 4, 4]), "gemm_rows_reduce/t_split");
            assert_eq!(best(gpu, Conv2d { groups: 2, ..conv }, [4, 64, 8, 8], [64, 32, 4, 4]), "gemm_rows_tile_small/t");
            assert_eq!(best(gpu, Conv2d { groups: 16, ..conv }, [4, 16, 8, 8], [16, 1, 4, 4]), "gemm_rows_scalar");
        }
        assert_eq!(best(&software, conv, layer.0, layer.1), "gemm_rows_broadcast/t_texture");
        assert_eq!(best(&software, conv, [4, 16, 8, 8], [3, 16, 4, 4]), "gemm_rows_narrow/t_texture");
        // Operands of more than 128 MiB do not fit a texture.
        let large = [130, 64, 64, 64];
        assert_eq!(best(&software, conv, large, [32, 64, 4, 4]), "gemm_rows_broadcast/t_vec4");
        assert_eq!(best(&software, conv, large, [3, 64, 4, 4]), "gemm_rows_narrow/t_vec4");
        assert_eq!(best(&software, Conv2d { groups: 16, ..conv }, [4, 16, 8, 8], [16, 1, 4, 4]), "gemm_rows_scalar");
    }
}
