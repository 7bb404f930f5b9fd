//! More element-wise functions on the kernels of [`super::elementwise`]: ELU, SiLU, GELU, absolute value and clamp.
//!
//! The first derivative of each is one dispatch, `*_backward`; second ones are put together out of primitives, where there are any.

use super::case::Case;
use super::elementwise::{Binary, Unary, affine, binary_ops, exp, mul, sigmoid, unary_ops};
use super::{op_case, random, shape, widths};
use crate::error::{Error, Result};
use crate::graph::lower::Caps;
use crate::graph::op::Application;
use crate::graph::{Graph, NodeId};
use std::f64::consts::PI;

/// `x > 0 ? x : alpha (exp(x) - 1)` (Clevert, Unterthiner, Hochreiter 2016). Alpha is at least 0, so that the output's sign tells the
/// input's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Elu {
    /// Minus the limit for x -> -inf.
    pub alpha: f32,
}

/// `x sigmoid(x)`, also called swish (Elfwing, Uchibe, Doya 2018).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silu;

/// `x Phi(x)` with the normal distribution Phi: the exact form (Hendrycks, Gimpel 2016), PyTorch's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gelu;

/// `|x|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abs;

/// `min(max(x, least), most)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clamp {
    /// Lower limit; `f32::MIN` for none.
    pub least: f32,
    /// Upper limit; `f32::MAX` for none.
    pub most: f32,
}

impl Unary for Elu {
    const NAME: &'static str = "elu";
    const FUNCTION: u32 = 9;

    fn params(&self) -> [f32; 2] {
        [self.alpha, 0.0]
    }

    fn check(&self) -> Result<()> {
        check_alpha(Self::NAME, self.alpha)
    }

    fn value(&self, x: f64) -> f64 {
        if x > 0.0 { x } else { self.alpha as f64 * x.exp_m1() }
    }

    fn derivative(&self, g: &mut Graph, _x: NodeId, y: NodeId, dy: NodeId) -> Result<Option<NodeId>> {
        elu_backward(g, y, dy, self.alpha).map(Some)
    }
}

impl Unary for Silu {
    const NAME: &'static str = "silu";
    const FUNCTION: u32 = 10;

    fn value(&self, x: f64) -> f64 {
        x / (1.0 + (-x).exp())
    }

    fn derivative(&self, g: &mut Graph, x: NodeId, _y: NodeId, dy: NodeId) -> Result<Option<NodeId>> {
        g.apply(SiluBackward, &[x, dy]).map(Some)
    }
}

impl Unary for Gelu {
    const NAME: &'static str = "gelu";
    const FUNCTION: u32 = 11;

    fn value(&self, x: f64) -> f64 {
        x * normal_cdf(x)
    }

    fn derivative(&self, g: &mut Graph, x: NodeId, _y: NodeId, dy: NodeId) -> Result<Option<NodeId>> {
        g.apply(GeluBackward, &[x, dy]).map(Some)
    }
}

impl Unary for Abs {
    const NAME: &'static str = "abs";
    const FUNCTION: u32 = 12;

    fn value(&self, x: f64) -> f64 {
        x.abs()
    }

    fn derivative(&self, g: &mut Graph, x: NodeId, _y: NodeId, dy: NodeId) -> Result<Option<NodeId>> {
        g.apply(AbsBackward, &[x, dy]).map(Some)
    }
}

impl Unary for Clamp {
    const NAME: &'static str = "clamp";
    const FUNCTION: u32 = 13;

    fn params(&self) -> [f32; 2] {
        [self.least, self.most]
    }

    fn check(&self) -> Result<()> {
        check_limits(Self::NAME, self.least, self.most)
    }

    fn value(&self, x: f64) -> f64 {
        x.clamp(self.least as f64, self.most as f64)
    }

    fn derivative(&self, g: &mut Graph, x: NodeId, _y: NodeId, dy: NodeId) -> Result<Option<NodeId>> {
        clamp_backward(g, x, dy, self.least, self.most).map(Some)
    }
}

/// The input gradient of [`Elu`] from its *output* y: `dy * (y > 0 ? 1 : y + alpha)`. Inputs y and dy, of one shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EluBackward {
    /// As [`Elu::alpha`].
    pub alpha: f32,
}

/// The input gradient of [`Silu`]: `dy * s (1 + x (1 - s))` with `s = sigmoid(x)`. Inputs x and dy, of one shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiluBackward;

/// The input gradient of [`Gelu`]: `dy * (Phi(x) + x phi(x))` with the normal distribution and its density. Inputs x and dy, of one shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GeluBackward;

/// The input gradient of [`Abs`]: `dy * sign(x)`, 0 at 0. Inputs x and dy, of one shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbsBackward;

/// The input gradient of [`Clamp`]: `least < x < most ? dy : 0`. At the limits themselves it is 0, as in PyTorch 2.15 (older ones let it
/// pass there). Inputs x and dy, of one shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClampBackward {
    /// As [`Clamp::least`].
    pub least: f32,
    /// As [`Clamp::most`].
    pub most: f32,
}

impl Binary for EluBackward {
    const NAME: &'static str = "elu_backward";
    const FUNCTION: u32 = 4;
    const BROADCASTS: bool = false;

    fn params(&self) -> [f32; 2] {
        [self.alpha, 0.0]
    }

    fn check(&self) -> Result<()> {
        check_alpha(Self::NAME, self.alpha)
    }

    fn value(&self, y: f64, dy: f64) -> f64 {
        if y > 0.0 { dy } else { dy * (y + self.alpha as f64) }
    }

    fn derivative(&self, g: &mut Graph, at: &Application, ddx: NodeId, wanted: &[bool]) -> Result<[Option<NodeId>; 2]> {
        let (y, dy) = (at.inputs[0], at.inputs[1]);
        let by_y = if wanted[0] {
            let product = mul(g, ddx, dy)?;
            Some(clamp_backward(g, y, product, f32::MIN, 0.0)?)
        } else {
            None
        };
        let by_dy = if wanted[1] { Some(elu_backward(g, y, ddx, self.alpha)?) } else { None };
        Ok([by_y, by_dy])
    }
}

impl Binary for SiluBackward {
    const NAME: &'static str = "silu_backward";
    const FUNCTION: u32 = 5;
    const BROADCASTS: bool = false;

    fn value(&self, x: f64, dy: f64) -> f64 {
        let s = 1.0 / (1.0 + (-x).exp());
        dy * s * (1.0 + x * (1.0 - s))
    }

    fn derivative(&self, g: &mut Graph, at: &Application, ddx: NodeId, wanted: &[bool]) -> Result<[Option<NodeId>; 2]> {
        let by_dy = if wanted[1] { Some(g.apply(SiluBackward, &[at.inputs[0], ddx])?) } else { None };
        Ok([second(g, at, ddx, wanted, silu_curvature)?, by_dy])
    }
}

impl Binary for GeluBackward {
    const NAME: &'static str = "gelu_backward";
    const FUNCTION: u32 = 6;
    const BROADCASTS: bool = false;

    fn value(&self, x: f64, dy: f64) -> f64 {
        dy * (normal_cdf(x) + x * normal_density(x))
    }

    fn derivative(&self, g: &mut Graph, at: &Application, ddx: NodeId, wanted: &[bool]) -> Result<[Option<NodeId>; 2]> {
        let by_dy = if wanted[1] { Some(g.apply(GeluBackward, &[at.inputs[0], ddx])?) } else { None };
        Ok([second(g, at, ddx, wanted, gelu_curvature)?, by_dy])
    }
}

impl Binary for AbsBackward {
    const NAME: &'static str = "abs_backward";
    const FUNCTION: u32 = 7;
    const BROADCASTS: bool = false;

    fn value(&self, x: f64, dy: f64) -> f64 {
        if x == 0.0 { 0.0 } else { dy * x.signum() }
    }

    fn derivative(&self, g: &mut Graph, at: &Application, ddx: NodeId, wanted: &[bool]) -> Result<[Option<NodeId>; 2]> {
        // The sign is constant almost everywhere, so x gets nothing.
        let by_dy = if wanted[1] { Some(g.apply(AbsBackward, &[at.inputs[0], ddx])?) } else { None };
        Ok([None, by_dy])
    }
}

impl Binary for ClampBackward {
    const NAME: &'static str = "clamp_backward";
    const FUNCTION: u32 = 8;
    const BROADCASTS: bool = false;

    fn params(&self) -> [f32; 2] {
        [self.least, self.most]
    }

    fn check(&self) -> Result<()> {
        check_limits(Self::NAME, self.least, self.most)
    }

    fn value(&self, x: f64, dy: f64) -> f64 {
        if x > self.least as f64 && x < self.most as f64 { dy } else { 0.0 }
    }

    fn derivative(&self, g: &mut Graph, at: &Application, ddx: NodeId, wanted: &[bool]) -> Result<[Option<NodeId>; 2]> {
        // The mask is constant almost everywhere, so x gets nothing.
        let by_dy = if wanted[1] { Some(clamp_backward(g, at.inputs[0], ddx, self.least, self.most)?) } else { None };
        Ok([None, by_dy])
    }
}

unary_ops!(Elu, Silu, Gelu, Abs, Clamp);
binary_ops!(EluBackward, SiluBackward, GeluBackward, AbsBackward, ClampBackward);

/// The gradient by x of `dy * f'(x)`: `ddx * dy * f''(x)`, if it is wanted.
pub(super) fn second(
    g: &mut Graph,
    at: &Application,
    ddx: NodeId,
    wanted: &[bool],
    curvature: impl FnOnce(&mut Graph, NodeId) -> Result<NodeId>,
) -> Result<Option<NodeId>> {
    if !wanted[0] {
        return Ok(None);
    }
    let curvature = curvature(g, at.inputs[0])?;
    let product = mul(g, ddx, at.inputs[1])?;
    mul(g, product, curvature).map(Some)
}

/// s (1 - s) (2 + x (1 - 2 s)) with s = sigmoid(x).
fn silu_curvature(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    let s = sigmoid(g, x)?;
    let rest = affine(g, s, -1.0, 1.0)?;
    let slope = mul(g, s, rest)?;
    let balance = affine(g, s, -2.0, 1.0)?;
    let lever = mul(g, x, balance)?;
    let bend = affine(g, lever, 1.0, 2.0)?;
    mul(g, slope, bend)
}

/// phi(x) (2 - x^2).
fn gelu_curvature(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    let square = mul(g, x, x)?;
    let exponent = affine(g, square, -0.5, 0.0)?;
    let bell = exp(g, exponent)?;
    let density = affine(g, bell, 1.0 / (2.0 * PI).sqrt(), 0.0)?;
    let bend = affine(g, square, -1.0, 2.0)?;
    mul(g, density, bend)
}

fn check_alpha(name: &str, alpha: f32) -> Result<()> {
    if alpha.is_finite() && alpha >= 0.0 {
        return Ok(());
    }
    Err(Error::input(format!("{name}: alpha is {alpha}, expected a finite number of at least 0")))
}

fn check_limits(name: &str, least: f32, most: f32) -> Result<()> {
    if least.is_finite() && most.is_finite() && least <= most {
        return Ok(());
    }
    Err(Error::input(format!("{name}: the limits are {least} and {most}, expected finite numbers in increasing order")))
}

/// Density of the standard normal distribution.
fn normal_density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
}

/// The standard normal distribution, (1 + erf(x / sqrt 2)) / 2, to 13 digits where it is small as elsewhere.
///
/// Near 0 the series phi(x) sum x^(2n+1) / (2n+1)!!, whose terms have one sign; beyond, Laplace's continued fraction of the tail
/// (Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.2.11 and 26.2.14).
pub fn normal_cdf(x: f64) -> f64 {
    let t = x.abs();
    if t.is_nan() {
        return x;
    }
    let tail = if t < 3.0 {
        let (mut term, mut sum) = (t, 0.0);
        let mut odd = 1.0;
        while term > 1e-18 * sum {
            sum += term;
            odd += 2.0;
            term *= t * t / odd;
        }
        0.5 - normal_density(t) * sum
    } else {
        let fraction = (1..=200).rev().fold(t, |below, n| t + f64::from(n) / below);
        normal_density(t) / fraction
    };
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// Exponential linear unit.
///
/// # Errors
/// If `alpha` is negative or not finite.
pub fn elu(g: &mut Graph, x: NodeId, alpha: f32) -> Result<NodeId> {
    g.apply(Elu { alpha }, &[x])
}

/// `dy * (y > 0 ? 1 : y + alpha)` for y the output of an ELU.
pub fn elu_backward(g: &mut Graph, y: NodeId, dy: NodeId, alpha: f32) -> Result<NodeId> {
    g.apply(EluBackward { alpha }, &[y, dy])
}

/// Sigmoid-weighted linear unit, `x sigmoid(x)`.
pub fn silu(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    g.apply(Silu, &[x])
}

/// Gaussian error linear unit, `x (1 + erf(x / sqrt 2)) / 2`.
pub fn gelu(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    g.apply(Gelu, &[x])
}

/// Absolute value; its gradient at 0 is 0.
pub fn abs(g: &mut Graph, x: NodeId) -> Result<NodeId> {
    g.apply(Abs, &[x])
}

/// `min(max(x, least), most)`; the gradient passes between `least` and `most`, and is 0 at both. `f32::MIN` and `f32::MAX` stand for no
/// limit.
///
/// # Errors
/// If a limit is not finite, or they are out of order.
pub fn clamp(g: &mut Graph, x: NodeId, least: f32, most: f32) -> Result<NodeId> {
    g.apply(Clamp { least, most }, &[x])
}

/// `least < x < most ? dy : 0`.
pub fn clamp_backward(g: &mut Graph, x: NodeId, dy: NodeId, least: f32, most: f32) -> Result<NodeId> {
    g.apply(ClampBackward { least, most }, &[x, dy])
}

/// Validated uses of the kernels with the functions of this file.
pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    // Scalar, vector, C not a multiple of 4, C = 8 (wide rows), H != W, more than one row of texels.
    let shapes: [&[usize]; 6] = [&[], &[7], &[5, 1], &[2, 3, 4, 5], &[3, 8, 1, 1], &[37, 13, 7, 5]];
    let mut cases = Vec::new();
    for caps in widths(caps) {
        for (i, dims) in shapes.iter().enumerate() {
            let (shape, seed) = (shape(dims), i as u64);
            // Around 0; in the tails; where exponentials overflow or vanish.
            for width in [0.6, 5.0, 200.0] {
                let x = [random(&shape, seed, -width, width)];
                cases.push(op_case(&caps, &Elu { alpha: 0.75 }, &x));
                cases.push(op_case(&caps, &Silu, &x));
                cases.push(op_case(&caps, &Gelu, &x));
                cases.push(op_case(&caps, &Abs, &x));
                cases.push(op_case(&caps, &Clamp { least: 0.25, most: 0.5 }, &x));
                let pair = [x[0].clone(), random(&shape, 100 + seed, -4.0, 4.0)];
                cases.push(op_case(&caps, &EluBackward { alpha: 0.75 }, &pair));
                cases.push(op_case(&caps, &SiluBackward, &pair));
                cases.push(op_case(&caps, &GeluBackward, &pair));
                cases.push(op_case(&caps, &AbsBackward, &pair));
                cases.push(op_case(&caps, &ClampBackward { least: -0.25, most: 0.5 }, &pair));
            }
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing;
    use crate::graph::shape::Shape;
    use crate::graph::tensor::Tensor;
    use crate::ops::case::{self, CaseBuffer};
    use crate::ops::gradient_check::check;
    use crate::ops::new_graph;

    fn away_from_zero(dims: &[usize], seed: u64) -> Tensor {
        let x = random(&shape(dims), seed, -2.0, 2.0);
        Tensor::new(x.shape, x.data.iter().map(|v| v + 0.01f64.copysign(*v)).collect())
    }

    #[test]
    fn rules_are_derivatives() {
        let x = [away_from_zero(&[2, 3, 2, 2], 1)];
        for alpha in [0.0, 0.5, 1.0] {
            check("elu", &x, |g, x| elu(g, x[0], alpha));
        }
        check("silu", &x, |g, x| silu(g, x[0]));
        check("gelu", &x, |g, x| gelu(g, x[0]));
        check("abs", &x, |g, x| abs(g, x[0]));
        check("clamp", &x, |g, x| clamp(g, x[0], -1.005, 0.505));
        let pair = [x[0].clone(), away_from_zero(&[2, 3, 2, 2], 2)];
        check("elu_backward", &pair, |g, x| elu_backward(g, x[0], x[1], 0.5));
        check("silu_backward", &pair, |g, x| g.apply(SiluBackward, x));
        check("gelu_backward", &pair, |g, x| g.apply(GeluBackward, x));
        check("abs_backward", &pair, |g, x| g.apply(AbsBackward, x));
        check("clamp_backward", &pair, |g, x| clamp_backward(g, x[0], x[1], -1.005, 0.505));
    }

    /// Values of math.erfc(-x / sqrt(2)) / 2 with 40 digits, rounded.
    #[test]
    fn the_normal_distribution_has_thirteen_digits() {
        let known = [
            (-12.0, 1.776482112077679e-33),
            (-6.0, 9.86587645037698e-10),
            (-3.5, 2.3262907903552503e-4),
            (-3.0, 1.3498980316300946e-3),
            (-2.999, 1.3543365337271063e-3),
            (-1.5, 6.680720126885807e-2),
            (-0.625, 2.6598552904870054e-1),
            (-0.001, 4.996010577860889e-1),
            (0.25, 5.987063256829237e-1),
            (2.0, 9.772498680518208e-1),
            (4.0, 9.999683287581668e-1),
        ];
        for (x, expected) in known {
            let relative = (normal_cdf(x) / expected - 1.0).abs();
            assert!(relative < 3e-13, "Phi({x}) is {:e}, expected {expected:e}", normal_cdf(x));
            assert!((normal_cdf(x) + normal_cdf(-x) - 1.0).abs() < 1e-15);
        }
        assert!(normal_cdf(f64::NAN).is_nan());
        assert_eq!((normal_cdf(60.0), normal_cdf(-60.0)), (1.0, 0.0));
    }

    #[test]
    fn gradients_of_elu_use_the_output() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[2, 3]), None).unwrap();
        let dy = g.leaf("dy", shape(&[2, 3]), None).unwrap();
        let y = elu(&mut g, x, 1.0).unwrap();
        let dx = g.gradients(&[(y, dy)], &[x]).unwrap()[0].unwrap();
        assert_eq!(g.inputs(dx), [y, dy]);
    }

    #[test]
    fn impossible_parameters_are_named() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[2, 3]), None).unwrap();
        let text = elu(&mut g, x, -1.0).unwrap_err().to_string();
        assert!(text.contains("elu: alpha is -1, expected a finite number of at least 0"), "{text}");
        let text = clamp(&mut g, x, 1.0, 0.0).unwrap_err().to_string();
        assert!(text.contains("clamp: the limits are 1 and 0, expected finite numbers in increasing order"), "{text}");
        assert!(clamp(&mut g, x, f32::NAN, 0.0).is_err());
        assert!(clamp(&mut g, x, 0.0, f32::INFINITY).is_err());
    }

    /// Relative errors, element by element, on a grid that is dense around 0 and reaches to where the result vanishes.
    #[test]
    fn small_results_are_as_exact_as_large_ones() {
        let Some(gpu) = testing::gpu() else { return };
        let caps = gpu.caps();
        let steps = |n: usize, from: f64, to: f64| -> Tensor {
            let at = |i: usize| f64::from((from + (to - from) * i as f64 / (n - 1) as f64) as f32);
            Tensor::from_fn(Shape::new(&[1, n]).unwrap(), at)
        };
        let strict = |mut case: Case, rtol: f64| {
            (case.rtol, case.atol) = (rtol, 0.0);
            assert_eq!(case::run(gpu, &case).unwrap().failure, None);
        };
        // e^(-x^2 / 2) itself is good to about x^2 / 2 units in the last place.
        strict(op_case(&caps, &Gelu, &[steps(4096, -1.0, 8.0)]), 1e-6);
        strict(op_case(&caps, &Gelu, &[steps(4096, -6.0, -1.0)]), 4e-6);
        strict(op_case(&caps, &Elu { alpha: 1.0 }, &[steps(4096, -1.0, 1.0)]), 5e-7);
        strict(op_case(&caps, &Silu, &[steps(4096, -20.0, 20.0)]), 4e-6);
    }

    #[test]
    fn non_finite_values_are_kept() {
        let Some(gpu) = testing::gpu() else { return };
        const NAN: f32 = f32::NAN;
        const INF: f32 = f32::INFINITY;
        let given = [NAN, INF, 1e30, -1e30, 50.0, -50.0, f32::from_bits(0xffc0_0001), 0.0];
        let x = random(&shape(&[2, 4]), 1, 1.0, 2.0);
        let x = std::slice::from_ref(&x);
        for caps in widths(&gpu.caps()) {
            let cases = [
                (op_case(&caps, &Elu { alpha: 2.0 }, x), [NAN, INF, 1e30, -2.0, 50.0, -2.0, NAN, 0.0]),
                (op_case(&caps, &Silu, x), [NAN, INF, 1e30, 0.0, 50.0, -9.643_749e-21, NAN, 0.0]),
                (op_case(&caps, &Gelu, x), [NAN, INF, 1e30, 0.0, 50.0, 0.0, NAN, 0.0]),
                (op_case(&caps, &Abs, x), [NAN, INF, 1e30, 1e30, 50.0, 50.0, NAN, 0.0]),
                (op_case(&caps, &Clamp { least: -1.0, most: 3.0 }, x), [NAN, 3.0, 3.0, -1.0, 3.0, -1.0, NAN, 0.0]),
            ];
            for (mut case, expected) in cases {
                case.buffers[0] = CaseBuffer::Input(bytemuck::cast_slice(&given).to_vec());
                let bits = crate::ops::tests::bits(gpu, &case);
                let got: Vec<f32> = bytemuck::pod_collect_to_vec(&bits[1]);
                for ((x, got), expected) in given.iter().zip(got).zip(expected) {
                    let close = got == expected || got.is_nan() && expected.is_nan() || (got - expected).abs() <= 1e-4 * expected.abs();
                    assert!(close, "{} at {x:e} gives {got:e}, expected {expected:e}", case.name);
                }
            }
        }
    }
}
