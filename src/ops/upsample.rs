//! Upsampling by whole factors: nearest and bilinear, with their adjoints.

use super::case::Case;
use super::conv2d::rank4;
use super::loaders::{NarrowLoaders, narrow_loaders};
use super::pool::{Pool, lower_window_sums};
use super::{op_case, random, shape, widths};
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel, grid};
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::op::{Application, Op};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, NodeId};
use bytemuck::{Pod, Zeroable};

/// Repeats each pixel as a block of pixels.
pub static UPSAMPLE_NEAREST: NarrowLoaders = narrow_loaders!(
    "upsample_nearest",
    ["pixel", "upsample", "in1_texel"],
    ["pixel", "upsample", "in1_buffer"],
    &[Bind::Params, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::Out]
);

/// Interpolates between the four nearest pixels.
pub static UPSAMPLE_BILINEAR: NarrowLoaders = narrow_loaders!(
    "upsample_bilinear",
    ["pixel", "upsample", "in1_texel"],
    ["pixel", "upsample", "in1_buffer"],
    &[Bind::Params, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::Out]
);

/// Upstream gradients of the pixels that were interpolated from a pixel.
pub static UPSAMPLE_BILINEAR_BACKWARD: NarrowLoaders = narrow_loaders!(
    "upsample_bilinear_backward",
    ["pixel", "upsample", "in1_texel"],
    ["pixel", "upsample", "in1_buffer"],
    &[Bind::Params, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::Out]
);

/// The kernels of this file.
pub const KERNELS: &[&Kernel] = &[
    &UPSAMPLE_NEAREST.texture,
    &UPSAMPLE_NEAREST.vec4,
    &UPSAMPLE_BILINEAR.texture,
    &UPSAMPLE_BILINEAR.vec4,
    &UPSAMPLE_BILINEAR_BACKWARD.texture,
    &UPSAMPLE_BILINEAR_BACKWARD.vec4,
];

/// `UpsampleParams` of `upsample.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct UpsampleParams {
    count: u32,
    columns: u32,
    height: u32,
    width: u32,
    scale_y: u32,
    scale_x: u32,
    reserved0: u32,
    reserved1: u32,
}

/// Repeats each pixel `scale` = (vertical, horizontal) times: (N, C, H, W) to (N, C, H * sh, W * sw).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpsampleNearest {
    /// Factors (vertical, horizontal); at least 1.
    pub scale: [usize; 2],
}

/// The adjoint of [`UpsampleNearest`]: the sum of each block of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpsampleNearestBackward {
    /// Factors (vertical, horizontal) of the upsampling.
    pub scale: [usize; 2],
}

/// Interpolates between pixel centres, and repeats the outermost pixels beyond theirs: (N, C, H, W) to (N, C, H * sh, W * sw).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpsampleBilinear {
    /// Factors (vertical, horizontal); at least 1.
    pub scale: [usize; 2],
}

/// The adjoint of [`UpsampleBilinear`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpsampleBilinearBackward {
    /// Factors (vertical, horizontal) of the upsampling.
    pub scale: [usize; 2],
}

/// The shape of x enlarged.
fn enlarged(op: &str, x: &Shape, scale: [usize; 2]) -> Result<Shape> {
    // Kernels compute twice a position in u32.
    const LONGEST: usize = 1 << 30;
    let [n, c, h, w] = rank4(op, "x", x)?;
    if scale.contains(&0) {
        return Err(Error::input(format!("{op}: the factors must be at least 1, got {scale:?}")));
    }
    let longer = |extent: usize, factor: usize| extent.checked_mul(factor).filter(|n| *n <= LONGEST);
    match (longer(h, scale[0]), longer(w, scale[1])) {
        (Some(h), Some(w)) => Shape::new(&[n, c, h, w]),
        _ => Err(Error::input(format!("{op}: x {x} enlarged by {scale:?} has more than 2^30 pixels along an axis; use smaller factors"))),
    }
}

/// The shape that enlarged is that of dy.
fn reduced(op: &str, dy: &Shape, scale: [usize; 2]) -> Result<Shape> {
    let [n, c, h, w] = rank4(op, "dy", dy)?;
    if scale.contains(&0) || h % scale[0] != 0 || w % scale[1] != 0 {
        return Err(Error::input(format!("{op}: dy {dy} must have a multiple of {} x {} pixels", scale[0], scale[1])));
    }
    let x = Shape::new(&[n, c, h / scale[0], w / scale[1]])?;
    enlarged(op, &x, scale)?;
    Ok(x)
}

/// Appends a kernel of this file between a map and the larger one.
fn push(
    l: &mut Lowering,
    kernel: &'static NarrowLoaders,
    scale: [usize; 2],
    flops: usize,
    input: &(Operand, Shape),
    output: (Operand, Shape),
) {
    let ([_, _, h, w], [_, _, output_h, output_w]) = (input.1.nchw(), output.1.nchw());
    let (count, floats) = (output.1.physical_len() / 4, input.1.physical_len());
    let params = UpsampleParams {
        count: count as u32,
        columns: (output.1.padded() / 4) as u32,
        height: h.min(output_h) as u32,
        width: w.min(output_w) as u32,
        scale_y: scale[0] as u32,
        scale_x: scale[1] as u32,
        reserved0: 0,
        reserved1: 0,
    };
    l.push(Dispatch {
        kernel: kernel.kernel(&l.caps, floats),
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![input.0, output.0],
        workgroups: grid(count, 64),
        cost: Cost { flops: flops as u64, bytes: 4 * (floats + output.1.physical_len()) as u64 },
    });
}

/// Multiply-adds of a bilinear interpolation, counted as two operations each: four taps.
const BILINEAR_FLOPS: usize = 8;

impl Op for UpsampleNearest {
    fn name(&self) -> &'static str {
        "upsample_nearest"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = super::expect_inputs(self.name(), inputs)?;
        enlarged(self.name(), x, self.scale)
    }

    fn gradient(&self, graph: &mut Graph, _at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        Ok(vec![Some(graph.apply(UpsampleNearestBackward { scale: self.scale }, &[dy])?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let [_, _, h, w] = output.nchw();
        let width = w / self.scale[1];
        Tensor::from_fn(output.clone(), |i| {
            let (plane, y, x) = (i / (h * w), i / w % h / self.scale[0], i % w / self.scale[1]);
            inputs[0].data[(plane * (h / self.scale[0]) + y) * width + x]
        })
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        push(l, &UPSAMPLE_NEAREST, self.scale, 0, &inputs[0], output);
        Ok(())
    }
}

impl Op for UpsampleNearestBackward {
    fn name(&self) -> &'static str {
        "upsample_nearest_backward"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [dy] = super::expect_inputs(self.name(), inputs)?;
        reduced(self.name(), dy, self.scale)
    }

    fn gradient(&self, graph: &mut Graph, _at: &Application, upstream: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        Ok(vec![Some(graph.apply(UpsampleNearest { scale: self.scale }, &[upstream])?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let dy = inputs[0];
        let ([_, _, h, w], [_, _, height, width]) = (dy.shape.nchw(), output.nchw());
        let mut dx = Tensor::zeros(output.clone());
        for (i, value) in dy.data.iter().enumerate() {
            let (plane, y, x) = (i / (h * w), i / w % h, i % w);
            dx.data[(plane * height + y / self.scale[0]) * width + x / self.scale[1]] += value;
        }
        dx
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let blocks = Pool { kernel: self.scale, stride: self.scale, padding: [0, 0] };
        lower_window_sums(l, &blocks, 1.0, &inputs[0], output)
    }
}

/// The two pixels on an axis of `extent` pixels that pixel `o` of the larger map is interpolated from, each with its weight.
fn taps(o: usize, scale: usize, extent: usize) -> [(usize, f64); 2] {
    let position = ((o as f64 + 0.5) / scale as f64 - 0.5).max(0.0);
    let near = (position.floor() as usize).min(extent - 1);
    let weight = (position - near as f64).min(1.0);
    [(near, 1.0 - weight), ((near + 1).min(extent - 1), weight)]
}

/// Calls `f` with the pixel of the smaller map, that of the larger one and the weight of each product that bilinear upsampling sums.
fn bilinear_products(small: &Shape, large: &Shape, scale: [usize; 2], mut f: impl FnMut(usize, usize, f64)) {
    let ([n, c, height, width], [_, _, h, w]) = (small.nchw(), large.nchw());
    for plane in 0..n * c {
        for (i, j) in (0..h).flat_map(|i| (0..w).map(move |j| (i, j))) {
            for (y, weight_y) in taps(i, scale[0], height) {
                for (x, weight_x) in taps(j, scale[1], width) {
                    f((plane * height + y) * width + x, (plane * h + i) * w + j, weight_y * weight_x);
                }
            }
        }
    }
}

impl Op for UpsampleBilinear {
    fn name(&self) -> &'static str {
        "upsample_bilinear"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = super::expect_inputs(self.name(), inputs)?;
        enlarged(self.name(), x, self.scale)
    }

    fn gradient(&self, graph: &mut Graph, _at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        Ok(vec![Some(graph.apply(UpsampleBilinearBackward { scale: self.scale }, &[dy])?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let x = inputs[0];
        let mut y = Tensor::zeros(output.clone());
        bilinear_products(&x.shape, output, self.scale, |small, large, weight| y.data[large] += weight * x.data[small]);
        y
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let flops = BILINEAR_FLOPS * output.1.len();
        push(l, &UPSAMPLE_BILINEAR, self.scale, flops, &inputs[0], output);
        Ok(())
    }
}

impl Op for UpsampleBilinearBackward {
    fn name(&self) -> &'static str {
        "upsample_bilinear_backward"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [dy] = super::expect_inputs(self.name(), inputs)?;
        reduced(self.name(), dy, self.scale)
    }

    fn gradient(&self, graph: &mut Graph, _at: &Application, upstream: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        Ok(vec![Some(graph.apply(UpsampleBilinear { scale: self.scale }, &[upstream])?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let dy = inputs[0];
        let mut dx = Tensor::zeros(output.clone());
        bilinear_products(output, &dy.shape, self.scale, |small, large, weight| dx.data[small] += weight * dy.data[large]);
        dx
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let flops = BILINEAR_FLOPS * inputs[0].1.len();
        push(l, &UPSAMPLE_BILINEAR_BACKWARD, self.scale, flops, &inputs[0], output);
        Ok(())
    }
}

/// Each pixel of x (N, C, H, W) repeated `scale` = (vertical, horizontal) times: `torch.nn.Upsample(mode="nearest")`. x itself for factors of 1.
///
/// # Errors
/// If x has no pixels, a factor is 0, or the result is too large.
pub fn upsample_nearest(g: &mut Graph, x: NodeId, scale: [usize; 2]) -> Result<NodeId> {
    if scale == [1, 1] { Ok(x) } else { g.apply(UpsampleNearest { scale }, &[x]) }
}

/// x (N, C, H, W) enlarged `scale` = (vertical, horizontal) times by interpolation: `torch.nn.Upsample(mode="bilinear", align_corners=False)`. x itself for
/// factors of 1.
///
/// # Errors
/// If x has no pixels, a factor is 0, or the result is too large.
pub fn upsample_bilinear(g: &mut Graph, x: NodeId, scale: [usize; 2]) -> Result<NodeId> {
    if scale == [1, 1] { Ok(x) } else { g.apply(UpsampleBilinear { scale }, &[x]) }
}

/// Validated uses of the kernels of this file.
pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    // One pixel; one column; even and odd factors; factors beyond the map; an axis that stays; worth a texture, before and after.
    for (i, (x, scale)) in [
        ([1, 1, 1, 1], [2, 3]),
        ([2, 3, 4, 1], [3, 2]),
        ([2, 4, 3, 5], [2, 2]),
        ([1, 6, 2, 3], [5, 4]),
        ([2, 5, 1, 7], [1, 3]),
        ([3, 9, 6, 4], [4, 1]),
        ([2, 13, 19, 23], [2, 2]),
    ]
    .into_iter()
    .enumerate()
    {
        let [n, c, h, w] = x;
        let x = random(&shape(&x), i as u64, -2.0, 2.0);
        let dy = random(&shape(&[n, c, h * scale[0], w * scale[1]]), 50 + i as u64, -2.0, 2.0);
        for caps in widths(caps) {
            cases.push(op_case(&caps, &UpsampleNearest { scale }, std::slice::from_ref(&x)));
            cases.push(op_case(&caps, &UpsampleNearestBackward { scale }, std::slice::from_ref(&dy)));
            cases.push(op_case(&caps, &UpsampleBilinear { scale }, std::slice::from_ref(&x)));
            cases.push(op_case(&caps, &UpsampleBilinearBackward { scale }, std::slice::from_ref(&dy)));
        }
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
        for scale in [[2, 2], [1, 3], [4, 1], [3, 2]] {
            let x = [random(&shape(&[2, 2, 2, 3]), 1, -1.0, 1.0)];
            check("upsample_nearest", &x, |g, x| upsample_nearest(g, x[0], scale));
            check("upsample_bilinear", &x, |g, x| upsample_bilinear(g, x[0], scale));
            let dy = [random(&shape(&[1, 2, 2 * scale[0], 2 * scale[1]]), 2, -1.0, 1.0)];
            check("upsample_nearest_backward", &dy, |g, dy| g.apply(UpsampleNearestBackward { scale }, &[dy[0]]));
            check("upsample_bilinear_backward", &dy, |g, dy| g.apply(UpsampleBilinearBackward { scale }, &[dy[0]]));
        }
    }

    #[test]
    fn upsampling_by_hand() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[1, 1, 1, 2]), None).unwrap();
        let values = [("x".to_string(), Tensor::new(shape(&[1, 1, 1, 2]), vec![0.0, 4.0]))].into();
        let nearest = upsample_nearest(&mut g, x, [2, 2]).unwrap();
        let bilinear = upsample_bilinear(&mut g, x, [1, 2]).unwrap();
        let results = g.evaluate(&values, &[nearest, bilinear]).unwrap();
        assert_eq!(results[0].data, [0.0, 0.0, 4.0, 4.0, 0.0, 0.0, 4.0, 4.0]);
        assert_eq!(results[1].data, [0.0, 1.0, 3.0, 4.0]);
        assert_eq!(upsample_nearest(&mut g, x, [1, 1]).unwrap(), x);
        assert_eq!(upsample_bilinear(&mut g, x, [1, 1]).unwrap(), x);
    }

    #[test]
    fn mistakes_are_named() {
        let mut g = new_graph();
        let (x, flat) = (g.leaf("x", shape(&[2, 3, 4, 6]), None).unwrap(), g.leaf("flat", shape(&[2, 3]), None).unwrap());
        let text = upsample_nearest(&mut g, x, [2, 0]).unwrap_err().to_string();
        assert!(text.contains("upsample_nearest: the factors must be at least 1, got [2, 0]"), "{text}");
        assert!(upsample_bilinear(&mut g, flat, [2, 2]).unwrap_err().to_string().contains("x must have rank 4"));
        assert!(upsample_bilinear(&mut g, x, [usize::MAX, 1]).unwrap_err().to_string().contains("more than 2^30 pixels along an axis"));
        let text = g.apply(UpsampleBilinearBackward { scale: [3, 2] }, &[x]).unwrap_err().to_string();
        assert!(text.contains("dy (2, 3, 4, 6) must have a multiple of 3 x 2 pixels"), "{text}");
    }
}
