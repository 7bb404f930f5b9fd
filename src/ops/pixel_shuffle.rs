//! Pixel shuffle, which spreads groups of channels over blocks of pixels, and its inverse. Each is the other's adjoint.
//!
//! Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network" (CVPR 2016), equation 4.

use super::case::Case;
use super::conv2d::rank4;
use super::loaders::{NarrowLoaders, narrow_loaders};
use super::{op_case, random, shape, widths};
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel, grid};
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::op::{Application, Op};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, NodeId};
use bytemuck::{Pod, Zeroable};

/// Spreads groups of channels over blocks of pixels.
pub static PIXEL_SHUFFLE: NarrowLoaders = narrow_loaders!(
    "pixel_shuffle",
    ["pixel", "scalar1_texel"],
    ["pixel", "scalar1_buffer"],
    &[Bind::Params, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::Out]
);

/// Gathers blocks of pixels as groups of channels.
pub static PIXEL_UNSHUFFLE: NarrowLoaders = narrow_loaders!(
    "pixel_unshuffle",
    ["pixel", "scalar1_texel"],
    ["pixel", "scalar1_buffer"],
    &[Bind::Params, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::Out]
);

/// The kernels of this file.
pub const KERNELS: &[&Kernel] = &[&PIXEL_SHUFFLE.texture, &PIXEL_SHUFFLE.vec4, &PIXEL_UNSHUFFLE.texture, &PIXEL_UNSHUFFLE.vec4];

/// `PixelShuffleParams` of `pixel_shuffle.wgsl` and `pixel_unshuffle.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct PixelShuffleParams {
    count: u32,
    columns: u32,
    channels: u32,
    height: u32,
    width: u32,
    factor: u32,
    x_stride: u32,
    reserved0: u32,
}

/// (N, C * r * r, H, W) to (N, C, H * r, W * r): channel `(c * r + i) * r + j` becomes row i and column j of the blocks of channel c.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelShuffle {
    /// Pixels of a block along each axis, r; at least 1.
    pub factor: usize,
}

/// (N, C, H * r, W * r) to (N, C * r * r, H, W): the inverse of [`PixelShuffle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelUnshuffle {
    /// Pixels of a block along each axis, r; at least 1.
    pub factor: usize,
}

/// Appends one of the kernels, of which the map with more channels has (H, W) pixels.
fn push(l: &mut Lowering, kernel: &'static NarrowLoaders, factor: usize, coarse: &Shape, x: &(Operand, Shape), y: (Operand, Shape)) {
    let [_, _, height, width] = coarse.nchw();
    let (count, floats) = (y.1.physical_len() / 4, x.1.physical_len());
    let params = PixelShuffleParams {
        count: count as u32,
        columns: (y.1.padded() / 4) as u32,
        channels: y.1.channels() as u32,
        height: height as u32,
        width: width as u32,
        factor: factor as u32,
        x_stride: x.1.padded() as u32,
        reserved0: 0,
    };
    l.push(Dispatch {
        kernel: kernel.kernel(&l.caps, floats),
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![x.0, y.0],
        workgroups: grid(count, 64),
        cost: Cost { flops: 0, bytes: 4 * (x.1.len() + y.1.physical_len()) as u64 },
    });
}

impl Op for PixelShuffle {
    fn name(&self) -> &'static str {
        "pixel_shuffle"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = super::expect_inputs(self.name(), inputs)?;
        let [n, c, h, w] = rank4(self.name(), "x", x)?;
        let r = self.factor;
        // A factor that divides the channels is no larger than they are, so that the products below are exact.
        let block = r.checked_mul(r).filter(|block| *block > 0 && c % block == 0);
        let Some(block) = block else {
            return Err(Error::input(format!(
                "pixel_shuffle: x {x} must have a multiple of {r} x {r} channels, and at least one, got {c}"
            )));
        };
        Shape::new(&[n, c / block, h * r, w * r])
    }

    fn gradient(&self, graph: &mut Graph, _at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        Ok(vec![Some(pixel_unshuffle(graph, dy, self.factor)?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let ([n, c, h, w], r) = (output.nchw(), self.factor);
        let mut data = Vec::with_capacity(output.len());
        for (image, channel) in (0..n).flat_map(|image| (0..c).map(move |channel| (image, channel))) {
            for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
                let group = channel * r * r + y % r * r + x % r;
                data.push(inputs[0].data[((image * c * r * r + group) * (h / r) + y / r) * (w / r) + x / r]);
            }
        }
        Tensor::new(output.clone(), data)
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        push(l, &PIXEL_SHUFFLE, self.factor, &inputs[0].1, &inputs[0], output);
        Ok(())
    }
}

impl Op for PixelUnshuffle {
    fn name(&self) -> &'static str {
        "pixel_unshuffle"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = super::expect_inputs(self.name(), inputs)?;
        let [n, c, h, w] = rank4(self.name(), "x", x)?;
        let r = self.factor;
        if r == 0 || h % r != 0 || w % r != 0 {
            return Err(Error::input(format!("pixel_unshuffle: x {x} must have a multiple of {r} x {r} pixels, and at least one")));
        }
        Shape::new(&[n, c * r * r, h / r, w / r])
    }

    fn gradient(&self, graph: &mut Graph, _at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        Ok(vec![Some(pixel_shuffle(graph, dy, self.factor)?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let ([_, c, h, w], r) = (inputs[0].shape.nchw(), self.factor);
        let mut y = Tensor::zeros(output.clone());
        for (i, value) in inputs[0].data.iter().enumerate() {
            let (image, channel, row, column) = (i / (c * h * w), i / (h * w) % c, i / w % h, i % w);
            let group = (channel * r + row % r) * r + column % r;
            y.data[((image * c * r * r + group) * (h / r) + row / r) * (w / r) + column / r] = *value;
        }
        y
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        push(l, &PIXEL_UNSHUFFLE, self.factor, &output.1.clone(), &inputs[0], output);
        Ok(())
    }
}

/// x (N, C * r * r, H, W) with groups of r * r channels spread over blocks of r x r pixels, giving (N, C, H * r, W * r): `torch.nn.PixelShuffle`. x itself
/// for r = 1, and what was unshuffled by r before.
///
/// # Errors
/// If x has no pixels, or r * r does not divide its channels.
pub fn pixel_shuffle(g: &mut Graph, x: NodeId, r: usize) -> Result<NodeId> {
    let undone = g.op::<PixelUnshuffle>(x).is_some_and(|op| op.factor == r);
    if r == 1 {
        Ok(x)
    } else if undone {
        Ok(g.inputs(x)[0])
    } else {
        g.apply(PixelShuffle { factor: r }, &[x])
    }
}

/// x (N, C, H * r, W * r) with blocks of r x r pixels gathered as groups of r * r channels, giving (N, C * r * r, H, W): `torch.nn.PixelUnshuffle`. x itself
/// for r = 1, and what was shuffled by r before.
///
/// # Errors
/// If x has no pixels, or r does not divide its height and width.
pub fn pixel_unshuffle(g: &mut Graph, x: NodeId, r: usize) -> Result<NodeId> {
    let undone = g.op::<PixelShuffle>(x).is_some_and(|op| op.factor == r);
    if r == 1 {
        Ok(x)
    } else if undone {
        Ok(g.inputs(x)[0])
    } else {
        g.apply(PixelUnshuffle { factor: r }, &[x])
    }
}

/// Validated uses of the kernels of this file.
pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    // (N, C, H, W) of the map with fewer channels over r: one pixel and channel; channels on both sides of whole fours; odd factors; worth a texture.
    for (i, ([n, c, h, w], r)) in [
        ([1, 1, 1, 1], 2),
        ([2, 3, 2, 3], 2),
        ([2, 4, 3, 1], 2),
        ([1, 2, 2, 3], 3),
        ([3, 1, 2, 2], 3),
        ([2, 5, 1, 2], 5),
        ([2, 7, 17, 11], 2),
    ]
    .into_iter()
    .enumerate()
    {
        let x = random(&shape(&[n, c * r * r, h, w]), i as u64, -1.0, 1.0);
        let y = random(&shape(&[n, c, h * r, w * r]), 50 + i as u64, -1.0, 1.0);
        for caps in widths(caps) {
            cases.push(op_case(&caps, &PixelShuffle { factor: r }, std::slice::from_ref(&x)));
            cases.push(op_case(&caps, &PixelUnshuffle { factor: r }, std::slice::from_ref(&y)));
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
        check("pixel_shuffle", &[random(&shape(&[2, 8, 2, 1]), 1, -1.0, 1.0)], |g, x| pixel_shuffle(g, x[0], 2));
        check("pixel_unshuffle", &[random(&shape(&[1, 2, 3, 6]), 2, -1.0, 1.0)], |g, x| pixel_unshuffle(g, x[0], 3));
    }

    #[test]
    fn shuffling_by_hand() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[1, 4, 1, 2]), None).unwrap();
        let values = [("x".to_string(), Tensor::from_fn(shape(&[1, 4, 1, 2]), |i| i as f64))].into();
        let y = pixel_shuffle(&mut g, x, 2).unwrap();
        let results = g.evaluate(&values, &[y]).unwrap();
        assert_eq!(results[0], Tensor::new(shape(&[1, 1, 2, 4]), vec![0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]));
        assert_eq!(pixel_unshuffle(&mut g, y, 2).unwrap(), x, "there and back is nowhere");
        let z = pixel_unshuffle(&mut g, x, 1).unwrap();
        assert_eq!(z, x);
        // The op itself undoes it as well.
        let back = g.apply(PixelUnshuffle { factor: 2 }, &[y]).unwrap();
        let back_values = g.evaluate(&values, &[back]).unwrap().remove(0);
        assert_eq!(back_values, values["x"]);
        assert_eq!(pixel_shuffle(&mut g, back, 2).unwrap(), y);
    }

    #[test]
    fn mistakes_are_named() {
        let mut g = new_graph();
        let (x, flat) = (g.leaf("x", shape(&[2, 6, 4, 3]), None).unwrap(), g.leaf("flat", shape(&[2, 4]), None).unwrap());
        for r in [0, 2, usize::MAX] {
            let text = pixel_shuffle(&mut g, x, r).unwrap_err().to_string();
            assert!(text.contains(&format!("must have a multiple of {r} x {r} channels, and at least one, got 6")), "{text}");
            let text = pixel_unshuffle(&mut g, x, r).unwrap_err().to_string();
            assert!(text.contains(&format!("x (2, 6, 4, 3) must have a multiple of {r} x {r} pixels")), "{text}");
        }
        assert!(pixel_shuffle(&mut g, flat, 2).unwrap_err().to_string().contains("x must have rank 4"));
    }
}
