//! Element-wise ops: affine maps, activations, and the broadcasting `add`, `sub` and `mul`. [`super::curves`] has more activations on the
//! same kernels.
//!
//! Gradient rules refer to the op's output where the derivative can be had from it, so that a forward pass need not keep what went into an
//! activation.

use super::case::Case;
use super::loaders::{Loaders, Loading, loaders};
use super::{op_case, random, reduce, shape, widths};
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel, grid};
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::op::Application;
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, NodeId};
use bytemuck::{Pod, Zeroable};

/// One element-wise function of one tensor.
pub static UNARY: Loaders = loaders!(
    "unary",
    ["in1_texture"],
    ["in1_buffer"],
    ["activations", "curves"],
    &[Bind::Params, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::Out]
);

/// One element-wise function of two tensors. Broadcasting takes the form with items of four floats.
pub static BINARY: Loaders = loaders!(
    "binary",
    ["in1_texture", "in2_texture"],
    ["in1_buffer", "in2_buffer"],
    ["activations", "curves"],
    &[Bind::Params, Bind::Texture, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::In, Bind::Out]
);

/// The kernels of this file.
pub const KERNELS: &[&Kernel] = &[&UNARY.texture, &UNARY.u64, &UNARY.vec4, &BINARY.texture, &BINARY.u64, &BINARY.vec4];

/// `UnaryParams` of `unary.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct UnaryParams {
    count: u32,
    columns: u32,
    channels: u32,
    reserved0: u32,
    a: f32,
    b: f32,
    reserved1: u32,
    reserved2: u32,
}

/// `BinaryParams` of `binary.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct BinaryParams {
    count: u32,
    columns: u32,
    channels: u32,
    height: u32,
    width: u32,
    k0: f32,
    a_splat: u32,
    b_splat: u32,
    a_n: u32,
    a_h: u32,
    a_w: u32,
    a_c: u32,
    b_n: u32,
    b_h: u32,
    b_w: u32,
    b_c: u32,
    k1: f32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

/// `scale * x + shift`. Identity for (1, 0) is left out by [`affine`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// Factor; the kernel rounds it to f32.
    pub scale: f64,
    /// Added after the factor; the kernel rounds it to f32.
    pub shift: f64,
}

/// `x > 0 ? x : slope * x`; ReLU is slope 0. The slope is at least 0, so that the sign of the output tells that of the input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LeakyRelu {
    /// Slope for x <= 0.
    pub slope: f32,
}

/// Hyperbolic tangent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tanh;

/// `1 / (1 + exp(-x))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sigmoid;

/// `log(1 + exp(x))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Softplus;

/// Square root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sqrt;

/// `1 / sqrt(x)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rsqrt;

/// Exponential function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exp;

/// Natural logarithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log;

/// What a unary op adds to [`crate::graph::op::Op`]: the function, its code in `unary.wgsl`, and its derivative.
pub(super) trait Unary {
    const NAME: &'static str;
    const FUNCTION: u32;

    /// Parameters a and b of the kernel.
    fn params(&self) -> [f32; 2] {
        [0.0; 2]
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The function, in f64.
    fn value(&self, x: f64) -> f64;

    /// d(loss)/dx from dy, given the input and the output.
    fn derivative(&self, g: &mut Graph, x: NodeId, y: NodeId, dy: NodeId) -> Result<Option<NodeId>>;
}

impl Unary for Affine {
    const NAME: &'static str = "affine";
    const FUNCTION: u32 = 0;

    fn params(&self) -> [f32; 2] {
        [self.scale as f32, self.shift as f32]
    }

    fn check(&self) -> Result<()> {
        match self.params().iter().all(|p| p.is_finite()) {
            true => Ok(()),
            false => Err(Error::internal(format!("affine: scale {} and shift {} must be finite", self.scale, self.shift))),
        }
    }

    fn value(&self, x: f64) -> f64 {
        self.scale * x + self.shift
    }

    fn derivative(&self, g: &mut Graph, _x: NodeId, _y: NodeId, dy: NodeId) -> Result<Option<NodeId>> {
        if self.scale == 0.0 { Ok(None) } else { affine(g, dy, self.scale, 0.0).map(Some) }
    }
}

impl Unary for LeakyRelu {
    const NAME: &'static str = "leaky_relu";
    const FUNCTION: u32 = 1;

    fn params(&self) -> [f32; 2] {
        [self.slope, 0.0]
    }

    fn check(&self) -> Result<()> {
        check_slope(Self::NAME, self.slope)
    }

    fn value(&self, x: f64) -> f64 {
        if x > 0.0 { x } else { self.slope as f64 * x }
    }

    fn derivative(&self, g: &mut Graph, _x: NodeId, y: NodeId, dy: NodeId) -> Result<Option<NodeId>> {
        leaky_relu_backward(g, y, dy, self.slope).map(Some)
    }
}

impl Unary for Tanh {
    const NAME: &'static str = "tanh";
    const FUNCTION: u32 = 2;

    fn value(&self, x: f64) -> f64 {
        x.tanh()
    }

    fn derivative(&self, g: &mut Graph, _x: NodeId, y: NodeId, dy: NodeId) -> Result<Option<NodeId>> {
        // 1 - y^2
        let square = mul(g, y, y)?;
        let slope = affine(g, square, -1.0, 1.0)?;
        mul(g, dy, slope).map(Some)
    }
}

impl Unary for Sigmoid {
    const NAME: &'static str = "sigmoid";
    const FUNCTION: u32 = 3;

    fn value(&self, x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    fn derivative(&self, g: &mut Graph, _x: NodeId, y: NodeId, dy: NodeId) -> Result<Option<NodeId>> {
        // y (1 - y)
        let rest = affine(g, y, -1.0, 1.0)?;
        let slope = mul(g, y, rest)?;
        mul(g, dy, slope).map(Some)
    }
}

impl Unary for Softplus {
    const NAME: &'static str = "softplus";
    const FUNCTION: u32 = 4;

    fn value(&self, x: f64) -> f64 {
        x.max(0.0) + (-x.abs()).exp().ln_1p()
    }

    fn derivative(&self, g: &mut Graph, x: NodeId, _y: NodeId, dy: NodeId) -> Result<Option<NodeId>> {
        let slope = sigmoid(g, x)?;
        mul(g, dy, slope).map(Some)
    }
}

impl Unary for Sqrt {
    const NAME: &'static str = "sqrt";
    const FUNCTION: u32 = 5;

    fn value(&self, x: f64) -> f64 {
        x.sqrt()
    }

    fn derivative(&self, g: &mut Graph, x: NodeId, _y: NodeId, dy: NodeId) -> Result<Option<NodeId>> {
        // 1 / (2 sqrt(x))
        let inverse = rsqrt(g, x)?;
        let slope = affine(g, inverse, 0.5, 0.0)?;
        mul(g, dy, slope).map(Some)
    }
}

impl Unary for Rsqrt {
    const NAME: &'static str = "rsqrt";
    const FUNCTION: u32 = 6;

    fn value(&self, x: f64) -> f64 {
        1.0 / x.sqrt()
    }

    fn derivative(&self, g: &mut Graph, _x: NodeId, y: NodeId, dy: NodeId) -> Result<Option<NodeId>> {
        // -y^3 / 2
        let square = mul(g, y, y)?;
        let cube = mul(g, square, y)?;
        let slope = affine(g, cube, -0.5, 0.0)?;
        mul(g, dy, slope).map(Some)
    }
}

impl Unary for Exp {
    const NAME: &'static str = "exp";
    const FUNCTION: u32 = 7;

    fn value(&self, x: f64) -> f64 {
        x.exp()
    }

    fn derivative(&self, g: &mut Graph, _x: NodeId, y: NodeId, dy: NodeId) -> Result<Option<NodeId>> {
        mul(g, dy, y).map(Some)
    }
}

impl Unary for Log {
    const NAME: &'static str = "log";
    const FUNCTION: u32 = 8;

    fn value(&self, x: f64) -> f64 {
        x.ln()
    }

    fn derivative(&self, g: &mut Graph, x: NodeId, _y: NodeId, dy: NodeId) -> Result<Option<NodeId>> {
        // 1 / x as the square of 1 / sqrt(x): x is positive wherever a logarithm is.
        let root = rsqrt(g, x)?;
        let slope = mul(g, root, root)?;
        mul(g, dy, slope).map(Some)
    }
}

/// What a binary op adds to [`crate::graph::op::Op`]: the function, its code in `binary.wgsl`, and its derivatives.
pub(super) trait Binary {
    const NAME: &'static str;
    const FUNCTION: u32;
    const BROADCASTS: bool = true;

    /// Parameters k0 and k1 of the kernel.
    fn params(&self) -> [f32; 2] {
        [0.0; 2]
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The function, in f64.
    fn value(&self, a: f64, b: f64) -> f64;

    /// d(loss)/da and d(loss)/db from dy, of dy's shape (the caller sums over broadcast axes), for the wanted inputs.
    fn derivative(&self, g: &mut Graph, at: &Application, dy: NodeId, wanted: &[bool]) -> Result<[Option<NodeId>; 2]>;
}

/// `a + b` with broadcasting of extents equal to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Add;

/// `a - b` with broadcasting of extents equal to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sub;

/// `a * b` with broadcasting of extents equal to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mul;

/// The input gradient of [`LeakyRelu`] from its *output* y: `dy * (y > 0 ? 1 : slope)`. Inputs y and dy, of one shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LeakyReluBackward {
    /// Slope for y <= 0.
    pub slope: f32,
}

impl Binary for Add {
    const NAME: &'static str = "add";
    const FUNCTION: u32 = 0;

    fn value(&self, a: f64, b: f64) -> f64 {
        a + b
    }

    fn derivative(&self, _g: &mut Graph, _at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<[Option<NodeId>; 2]> {
        Ok([Some(dy), Some(dy)])
    }
}

impl Binary for Sub {
    const NAME: &'static str = "sub";
    const FUNCTION: u32 = 1;

    fn value(&self, a: f64, b: f64) -> f64 {
        a - b
    }

    fn derivative(&self, g: &mut Graph, _at: &Application, dy: NodeId, wanted: &[bool]) -> Result<[Option<NodeId>; 2]> {
        let db = if wanted[1] { Some(affine(g, dy, -1.0, 0.0)?) } else { None };
        Ok([Some(dy), db])
    }
}

impl Binary for Mul {
    const NAME: &'static str = "mul";
    const FUNCTION: u32 = 2;

    fn value(&self, a: f64, b: f64) -> f64 {
        a * b
    }

    fn derivative(&self, g: &mut Graph, at: &Application, dy: NodeId, wanted: &[bool]) -> Result<[Option<NodeId>; 2]> {
        let da = if wanted[0] { Some(mul(g, dy, at.inputs[1])?) } else { None };
        let db = if wanted[1] { Some(mul(g, dy, at.inputs[0])?) } else { None };
        Ok([da, db])
    }
}

impl Binary for LeakyReluBackward {
    const NAME: &'static str = "leaky_relu_backward";
    const FUNCTION: u32 = 3;
    const BROADCASTS: bool = false;

    fn params(&self) -> [f32; 2] {
        [self.slope, 0.0]
    }

    fn check(&self) -> Result<()> {
        check_slope(Self::NAME, self.slope)
    }

    fn value(&self, y: f64, dy: f64) -> f64 {
        if y > 0.0 { dy } else { self.slope as f64 * dy }
    }

    fn derivative(&self, g: &mut Graph, at: &Application, dy: NodeId, wanted: &[bool]) -> Result<[Option<NodeId>; 2]> {
        // The mask is constant almost everywhere, so y gets nothing.
        let d = if wanted[1] { Some(leaky_relu_backward(g, at.inputs[0], dy, self.slope)?) } else { None };
        Ok([None, d])
    }
}

fn check_slope(name: &str, slope: f32) -> Result<()> {
    if slope.is_finite() && slope >= 0.0 {
        return Ok(());
    }
    Err(Error::input(format!("{name}: the slope is {slope}, expected a finite number of at least 0")))
}

/// Makes ops of types that are [`Unary`].
macro_rules! unary_ops {
    ($($op:ty),*) => {$(
        impl $crate::graph::op::Op for $op {
            fn name(&self) -> &'static str {
                <Self as $crate::ops::elementwise::Unary>::NAME
            }

            fn shape(&self, inputs: &[&$crate::graph::shape::Shape]) -> $crate::error::Result<$crate::graph::shape::Shape> {
                $crate::ops::elementwise::unary_shape(self, inputs)
            }

            fn gradient(
                &self,
                graph: &mut $crate::graph::Graph,
                at: &$crate::graph::op::Application,
                dy: $crate::graph::NodeId,
                _wanted: &[bool],
            ) -> $crate::error::Result<Vec<Option<$crate::graph::NodeId>>> {
                Ok(vec![$crate::ops::elementwise::Unary::derivative(self, graph, at.inputs[0], at.node, dy)?])
            }

            fn twin(
                &self,
                inputs: &[&$crate::graph::tensor::Tensor],
                output: &$crate::graph::shape::Shape,
            ) -> $crate::graph::tensor::Tensor {
                let value = |i: usize| $crate::ops::elementwise::Unary::value(self, inputs[0].data[i]);
                $crate::graph::tensor::Tensor::from_fn(output.clone(), value)
            }

            fn lower(
                &self,
                lowering: &mut $crate::graph::lower::Lowering,
                inputs: &[($crate::graph::lower::Operand, $crate::graph::shape::Shape)],
                output: ($crate::graph::lower::Operand, $crate::graph::shape::Shape),
            ) -> $crate::error::Result<()> {
                $crate::ops::elementwise::lower_unary(lowering, self, inputs[0].0, output);
                Ok(())
            }
        }
    )*};
}
pub(super) use unary_ops;

/// Makes ops of types that are [`Binary`].
macro_rules! binary_ops {
    ($($op:ty),*) => {$(
        impl $crate::graph::op::Op for $op {
            fn name(&self) -> &'static str {
                <Self as $crate::ops::elementwise::Binary>::NAME
            }

            fn shape(&self, inputs: &[&$crate::graph::shape::Shape]) -> $crate::error::Result<$crate::graph::shape::Shape> {
                $crate::ops::elementwise::binary_shape(self, inputs)
            }

            fn gradient(
                &self,
                graph: &mut $crate::graph::Graph,
                at: &$crate::graph::op::Application,
                dy: $crate::graph::NodeId,
                wanted: &[bool],
            ) -> $crate::error::Result<Vec<Option<$crate::graph::NodeId>>> {
                $crate::ops::elementwise::binary_gradient(self, graph, at, dy, wanted)
            }

            fn twin(
                &self,
                inputs: &[&$crate::graph::tensor::Tensor],
                output: &$crate::graph::shape::Shape,
            ) -> $crate::graph::tensor::Tensor {
                let value = |a: f64, b: f64| $crate::ops::elementwise::Binary::value(self, a, b);
                $crate::ops::elementwise::binary_twin(inputs[0], inputs[1], output, value)
            }

            fn lower(
                &self,
                lowering: &mut $crate::graph::lower::Lowering,
                inputs: &[($crate::graph::lower::Operand, $crate::graph::shape::Shape)],
                output: ($crate::graph::lower::Operand, $crate::graph::shape::Shape),
            ) -> $crate::error::Result<()> {
                $crate::ops::elementwise::lower_binary(lowering, self, &inputs[0], &inputs[1], output);
                Ok(())
            }
        }
    )*};
}
pub(super) use binary_ops;

unary_ops!(Affine, LeakyRelu, Tanh, Sigmoid, Softplus, Sqrt, Rsqrt, Exp, Log);
binary_ops!(Add, Sub, Mul, LeakyReluBackward);

pub(super) fn unary_shape<T: Unary>(op: &T, inputs: &[&Shape]) -> Result<Shape> {
    op.check()?;
    let [x] = super::expect_inputs(T::NAME, inputs)?;
    Ok(x.clone())
}

pub(super) fn binary_shape<T: Binary>(op: &T, inputs: &[&Shape]) -> Result<Shape> {
    op.check()?;
    let (name, broadcasts) = (T::NAME, T::BROADCASTS);
    let [a, b] = super::expect_inputs(name, inputs)?;
    if a == b {
        return Ok(a.clone());
    }
    let fits = |(&p, &q): (&usize, &usize)| p == q || p == 1 || q == 1;
    if !broadcasts || a.rank() != b.rank() || !a.dims().iter().zip(b.dims()).all(fits) {
        let rule = if broadcasts { "equal ranks, and on each axis equal extents or 1" } else { "equal shapes" };
        return Err(Error::internal(format!("{name}: the inputs have shapes {a} and {b}, expected {rule}")));
    }
    let dims: Vec<usize> = a.dims().iter().zip(b.dims()).map(|(&p, &q)| p.max(q)).collect();
    Shape::new(&dims)
}

/// Gradients of a binary op, summed over the axes that were broadcast.
pub(super) fn binary_gradient<T: Binary>(
    op: &T,
    graph: &mut Graph,
    at: &Application,
    dy: NodeId,
    wanted: &[bool],
) -> Result<Vec<Option<NodeId>>> {
    let gradients = op.derivative(graph, at, dy, wanted)?;
    let mut summed = Vec::with_capacity(2);
    for ((gradient, &input), &wanted) in gradients.into_iter().zip(&at.inputs).zip(wanted) {
        summed.push(match gradient {
            Some(gradient) if wanted => {
                let shape = graph.shape(input).clone();
                Some(reduce::sum_to(graph, gradient, &shape)?)
            }
            _ => None,
        });
    }
    Ok(summed)
}

pub(super) fn binary_twin(a: &Tensor, b: &Tensor, output: &Shape, value: impl Fn(f64, f64) -> f64) -> Tensor {
    let [an, ac, ah, aw] = a.shape.nchw();
    let [bn, bc, bh, bw] = b.shape.nchw();
    let [n, c, h, w] = output.nchw();
    let mut data = Vec::with_capacity(output.len());
    for i in 0..n {
        for j in 0..c {
            for k in 0..h {
                for l in 0..w {
                    let at_a = ((i % an * ac + j % ac) * ah + k % ah) * aw + l % aw;
                    let at_b = ((i % bn * bc + j % bc) * bh + k % bh) * bw + l % bw;
                    data.push(value(a.data[at_a], b.data[at_b]));
                }
            }
        }
    }
    Tensor::new(output.clone(), data)
}

pub(super) fn lower_unary<T: Unary>(l: &mut Lowering, op: &T, x: Operand, y: (Operand, Shape)) {
    let shape = y.1;
    let [a, b] = op.params();
    let loading = Loading::new(&l.caps, shape.physical_len(), shape.physical_len());
    let count = shape.physical_len() / 4 / loading.width();
    let params = UnaryParams {
        count: count as u32,
        columns: (shape.padded() / 4) as u32,
        channels: shape.channels() as u32,
        reserved0: 0,
        a,
        b,
        reserved1: 0,
        reserved2: 0,
    };
    l.push(Dispatch {
        kernel: UNARY.kernel(loading),
        overrides: vec![("FUNCTION", T::FUNCTION as f64)],
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![x, y.0],
        workgroups: grid(count, 64),
        cost: Cost { flops: shape.len() as u64, bytes: 8 * shape.physical_len() as u64 },
    });
}

/// Strides of a tensor along N, H, W and columns in vec4 items, with 0 where its extent is 1.
pub(super) fn broadcast_strides(shape: &Shape) -> [u32; 4] {
    let [n, c, h, w] = shape.nchw();
    let columns = shape.padded() / 4;
    let stride = |extent: usize, stride: usize| if extent == 1 { 0 } else { stride as u32 };
    [stride(n, h * w * columns), stride(h, w * columns), stride(w, columns), stride(c, 1)]
}

pub(super) fn lower_binary<T: Binary>(l: &mut Lowering, op: &T, a: &(Operand, Shape), b: &(Operand, Shape), y: (Operand, Shape)) {
    let shape = y.1;
    let [k0, k1] = op.params();
    let broadcast = a.1 != b.1;
    let loading = if broadcast { Loading::Vec4 } else { Loading::new(&l.caps, shape.physical_len(), shape.physical_len()) };
    let count = shape.physical_len() / 4 / loading.width();
    let [_, channels, height, width] = shape.nchw();
    let [a_n, a_h, a_w, a_c] = broadcast_strides(&a.1);
    let [b_n, b_h, b_w, b_c] = broadcast_strides(&b.1);
    let splat = |s: &Shape| (s.channels() == 1 && channels > 1) as u32;
    let params = BinaryParams {
        count: count as u32,
        columns: (shape.padded() / 4) as u32,
        channels: channels as u32,
        height: height as u32,
        width: width as u32,
        k0,
        a_splat: splat(&a.1),
        b_splat: splat(&b.1),
        a_n,
        a_h,
        a_w,
        a_c,
        b_n,
        b_h,
        b_w,
        b_c,
        k1,
        reserved0: 0,
        reserved1: 0,
        reserved2: 0,
    };
    l.push(Dispatch {
        kernel: BINARY.kernel(loading),
        overrides: vec![("BROADCAST", broadcast as u32 as f64), ("FUNCTION", T::FUNCTION as f64)],
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![a.0, b.0, y.0],
        workgroups: grid(count, 64),
        cost: Cost { flops: shape.len() as u64, bytes: 4 * (a.1.physical_len() + b.1.physical_len() + shape.physical_len()) as u64 },
    });
}

/// `scale * x + shift`; x itself for (1, 0).
pub fn affine(g: &mut Graph, x: NodeId, scale: impl Into<f64>, shift: impl Into<f64>) -> Result<NodeId> {
    let (scale, shift) = (scale.into(), shift.into());
    if scale == 1.0 && shift == 0.0 { Ok(x) } else { g.apply(Affine { scale, shift }, &[x]) }
}

/// Leaky ReLU.
pub fn leaky_relu(g: &mut Graph, x: NodeId, slope: f32) -> Result<NodeId> {
    g.apply(LeakyRelu { slope }, &[x])
}

/// ReLU: leaky ReLU of slope 0.
pub fn relu(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    leaky_relu(g, x, 0.0)
}

/// `dy * (y > 0 ? 1 : slope)` for y the output of a leaky ReLU.
pub fn leaky_relu_backward(g: &mut Graph, y: NodeId, dy: NodeId, slope: f32) -> Result<NodeId> {
    g.apply(LeakyReluBackward { slope }, &[y, dy])
}

/// Hyperbolic tangent.
pub fn tanh(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    g.apply(Tanh, &[x])
}

/// Logistic function.
pub fn sigmoid(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    g.apply(Sigmoid, &[x])
}

/// `log(1 + exp(x))`.
pub fn softplus(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    g.apply(Softplus, &[x])
}

/// Square root. Its gradient at 0 is infinite: add an eps where that can occur.
pub fn sqrt(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    g.apply(Sqrt, &[x])
}

/// `1 / sqrt(x)`.
pub fn rsqrt(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    g.apply(Rsqrt, &[x])
}

/// Exponential function.
pub fn exp(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    g.apply(Exp, &[x])
}

/// Natural logarithm.
pub fn log(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    g.apply(Log, &[x])
}

/// `a + b`, broadcasting extents of 1.
pub fn add(g: &mut Graph, a: NodeId, b: NodeId) -> Result<NodeId> {
    g.apply(Add, &[a, b])
}

/// `a - b`, broadcasting extents of 1.
pub fn sub(g: &mut Graph, a: NodeId, b: NodeId) -> Result<NodeId> {
    g.apply(Sub, &[a, b])
}

/// `a * b`, broadcasting extents of 1.
pub fn mul(g: &mut Graph, a: NodeId, b: NodeId) -> Result<NodeId> {
    g.apply(Mul, &[a, b])
}

/// Validated uses of the kernels of this file.
pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    // Scalar, vector, one channel, C not a multiple of 4, C = 8 (wide rows), H != W, more than one workgroup, more than one row of texels.
    let shapes: [&[usize]; 9] = [&[], &[7], &[1, 1], &[5, 1], &[66, 4], &[2, 3, 4, 5], &[3, 8, 1, 1], &[2, 13, 5, 3], &[37, 13, 7, 5]];
    let mut cases = Vec::new();
    for caps in widths(caps) {
        for (i, dims) in shapes.iter().enumerate() {
            let (shape, seed) = (shape(dims), i as u64);
            let x = random(&shape, seed, -4.0, 4.0);
            let positive = random(&shape, seed, 0.05, 9.0);
            let far = random(&shape, seed, -200.0, 200.0);
            cases.push(op_case(&caps, &Affine { scale: -1.5, shift: 0.75 }, std::slice::from_ref(&x)));
            cases.push(op_case(&caps, &LeakyRelu { slope: 0.2 }, std::slice::from_ref(&x)));
            cases.push(op_case(&caps, &Tanh, std::slice::from_ref(&x)));
            cases.push(op_case(&caps, &Tanh, std::slice::from_ref(&far)));
            cases.push(op_case(&caps, &Sigmoid, std::slice::from_ref(&x)));
            cases.push(op_case(&caps, &Sigmoid, std::slice::from_ref(&far)));
            cases.push(op_case(&caps, &Softplus, std::slice::from_ref(&x)));
            cases.push(op_case(&caps, &Softplus, std::slice::from_ref(&far)));
            cases.push(op_case(&caps, &Sqrt, std::slice::from_ref(&positive)));
            cases.push(op_case(&caps, &Rsqrt, std::slice::from_ref(&positive)));
            cases.push(op_case(&caps, &Exp, std::slice::from_ref(&x)));
            cases.push(op_case(&caps, &Log, std::slice::from_ref(&positive)));
            let pair = [x, random(&shape, 100 + seed, -4.0, 4.0)];
            cases.push(op_case(&caps, &Add, &pair));
            cases.push(op_case(&caps, &Sub, &pair));
            cases.push(op_case(&caps, &Mul, &pair));
            cases.push(op_case(&caps, &LeakyReluBackward { slope: 0.2 }, &pair));
        }
    }
    let whole: &[usize] = &[3, 6, 2, 5];
    let parts: [&[usize]; 8] =
        [&[1, 6, 2, 5], &[3, 1, 2, 5], &[3, 6, 1, 5], &[3, 6, 2, 1], &[3, 1, 1, 1], &[1, 6, 1, 1], &[1, 1, 2, 5], &[1; 4]];
    let both_ways: [[&[usize]; 2]; 6] = [
        [&[3, 1, 2, 1], &[1, 6, 1, 5]],
        [&[4, 5], &[1, 5]],
        [&[4, 5], &[4, 1]],
        [&[4, 1], &[1, 5]],
        [&[6], &[1]],
        [&[16, 1, 2, 2], &[16, 3, 2, 2]],
    ];
    let pairs = parts.iter().map(|part| [whole, *part]).chain(both_ways);
    for (i, [a, b]) in pairs.enumerate() {
        let (a, b) = (random(&shape(a), i as u64, -2.0, 2.0), random(&shape(b), 50 + i as u64, -2.0, 2.0));
        for inputs in [[a.clone(), b.clone()], [b, a]] {
            cases.push(op_case(caps, &Add, &inputs));
            cases.push(op_case(caps, &Sub, &inputs));
            cases.push(op_case(caps, &Mul, &inputs));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient_check::check;
    use crate::ops::new_graph;

    fn away_from_zero(dims: &[usize], seed: u64) -> Tensor {
        let x = random(&shape(dims), seed, -2.0, 2.0);
        Tensor::new(x.shape, x.data.iter().map(|v| v + 0.01f64.copysign(*v)).collect())
    }

    #[test]
    fn unary_rules_are_derivatives() {
        let x = [away_from_zero(&[2, 3, 2, 2], 1)];
        let positive = [random(&shape(&[2, 3]), 2, 0.3, 3.0)];
        check("affine", &x, |g, x| affine(g, x[0], -1.5, 0.5));
        check("leaky_relu", &x, |g, x| leaky_relu(g, x[0], 0.2));
        check("relu", &x, |g, x| relu(g, x[0]));
        check("tanh", &x, |g, x| tanh(g, x[0]));
        check("sigmoid", &x, |g, x| sigmoid(g, x[0]));
        check("softplus", &x, |g, x| softplus(g, x[0]));
        check("exp", &x, |g, x| exp(g, x[0]));
        check("sqrt", &positive, |g, x| sqrt(g, x[0]));
        check("rsqrt", &positive, |g, x| rsqrt(g, x[0]));
        check("log", &positive, |g, x| log(g, x[0]));
    }

    #[test]
    fn binary_rules_are_derivatives() {
        let pairs: [[&[usize]; 2]; 4] =
            [[&[2, 3, 2, 2], &[2, 3, 2, 2]], [&[2, 3, 2, 2], &[1, 3, 1, 1]], [&[2, 1, 2, 1], &[1, 3, 1, 2]], [&[3, 2], &[3, 1]]];
        for (i, [a, b]) in pairs.iter().enumerate() {
            let inputs = [away_from_zero(a, i as u64), away_from_zero(b, 9 + i as u64)];
            check("add", &inputs, |g, x| add(g, x[0], x[1]));
            check("sub", &inputs, |g, x| sub(g, x[0], x[1]));
            check("mul", &inputs, |g, x| mul(g, x[0], x[1]));
            check("mul reversed", &inputs, |g, x| mul(g, x[1], x[0]));
        }
        let inputs = [away_from_zero(&[2, 3], 1), away_from_zero(&[2, 3], 2)];
        check("square", &inputs[..1], |g, x| mul(g, x[0], x[0]));
        check("leaky_relu_backward", &inputs, |g, x| leaky_relu_backward(g, x[0], x[1], 0.2));
    }

    #[test]
    fn gradients_use_the_output() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[2, 3]), None).unwrap();
        let dy = g.leaf("dy", shape(&[2, 3]), None).unwrap();
        for build in [|g: &mut Graph, x| leaky_relu(g, x, 0.2), |g: &mut Graph, x| tanh(g, x), |g: &mut Graph, x| sigmoid(g, x)] {
            let y = build(&mut g, x).unwrap();
            let first = g.len();
            let dx = g.gradients(&[(y, dy)], &[x]).unwrap()[0].unwrap();
            for node in (first..=dx.0).map(NodeId) {
                assert!(!g.inputs(node).contains(&x), "the gradient of {:?} reads the pre-activation", g.node(y).kind);
            }
        }
    }

    #[test]
    fn impossible_inputs_are_named() {
        let mut g = new_graph();
        let a = g.leaf("a", shape(&[2, 3]), None).unwrap();
        let b = g.leaf("b", shape(&[2, 4]), None).unwrap();
        let c = g.leaf("c", shape(&[3]), None).unwrap();
        let text = add(&mut g, a, b).unwrap_err().to_string();
        assert!(text.starts_with("add: the inputs have shapes (2, 3) and (2, 4), expected equal ranks"), "{text}");
        assert!(mul(&mut g, a, c).is_err());
        let ones = g.leaf("ones", shape(&[2, 1]), None).unwrap();
        let text = leaky_relu_backward(&mut g, a, ones, 0.2).unwrap_err().to_string();
        assert!(text.starts_with("leaky_relu_backward: the inputs have shapes (2, 3) and (2, 1), expected equal shapes"), "{text}");
        let text = leaky_relu(&mut g, a, -0.5).unwrap_err().to_string();
        assert!(text.contains("the slope is -0.5, expected a finite number of at least 0"), "{text}");
        assert!(affine(&mut g, a, f64::NAN, 0.0).is_err());
        assert!(g.apply(Tanh, &[a, a]).unwrap_err().to_string().contains("tanh takes 1 inputs, got 2"));
    }

    #[test]
    fn twins_do_not_overflow() {
        assert_eq!(Softplus.value(1000.0), 1000.0);
        assert_eq!(Softplus.value(-1000.0), 0.0);
        assert!((Softplus.value(-20.0) - (-20.0f64).exp()).abs() < 1e-17);
        assert_eq!(Sigmoid.value(-1000.0), 0.0);
    }
}
