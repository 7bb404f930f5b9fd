//! Ops along the channel axis: join, slice and pad.
//!
//! Channels are stored in fours, so that an offset that is not a multiple of four moves channels to other lanes; offsets that are one move whole
//! vec4s.

use super::case::Case;
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

/// Joins two tensors along the channel axis.
pub static CONCAT_CHANNELS: NarrowLoaders = narrow_loaders!(
    "concat_channels",
    ["in1_texel", "in2_texel", "straddle"],
    ["in1_buffer", "in2_buffer", "straddle"],
    &[Bind::Params, Bind::Texture, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::In, Bind::Out]
);

/// A window over the channels of each row.
pub static WINDOW_CHANNELS: NarrowLoaders = narrow_loaders!(
    "window_channels",
    ["in1_texel", "straddle"],
    ["in1_buffer", "straddle"],
    &[Bind::Params, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::Out]
);

/// The kernels of this file.
pub const KERNELS: &[&Kernel] = &[&CONCAT_CHANNELS.texture, &CONCAT_CHANNELS.vec4, &WINDOW_CHANNELS.texture, &WINDOW_CHANNELS.vec4];

/// `ConcatChannelsParams` of `concat_channels.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct ConcatChannelsParams {
    count: u32,
    columns: u32,
    a_columns: u32,
    b_columns: u32,
    a_channels: u32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

/// `WindowChannelsParams` of `window_channels.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct WindowChannelsParams {
    count: u32,
    columns: u32,
    x_columns: u32,
    channels: u32,
    first: i32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

/// Joins two tensors along the channel axis: (N, Ca[, H, W]) and (N, Cb[, H, W]) to (N, Ca + Cb[, H, W]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConcatChannels;

/// `y[:, c] = x[:, c + start]` for `count` channels, zero where x has no such channel.
///
/// With the window inside x it is a slice; with x inside the window it pads, which is the slice's adjoint. The adjoint of a window of C channels is
/// the window of C channels that starts at `-start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowChannels {
    /// Channel of x that is the first of y; negative if zeros come first.
    pub start: isize,
    /// Channels of y.
    pub count: usize,
}

/// `shape` with other channels.
fn with_channels(name: &str, shape: &Shape, channels: usize) -> Result<Shape> {
    if shape.rank() < 2 {
        return Err(Error::internal(format!("{name}: the tensor has shape {shape}, expected a batch (N, C) or (N, C, H, W)")));
    }
    let mut dims = shape.dims().to_vec();
    dims[1] = channels;
    Shape::new(&dims)
}

impl Op for ConcatChannels {
    fn name(&self) -> &'static str {
        "concat_channels"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [a, b] = super::expect_inputs(self.name(), inputs)?;
        let channels = a.channels().checked_add(b.channels());
        let (Some(channels), true) = (channels, with_channels(self.name(), b, a.channels())? == *a) else {
            return Err(Error::input(format!(
                "concat_channels: the inputs have shapes {a} and {b}, expected the same batch, height and width; resize one of them first"
            )));
        };
        with_channels(self.name(), a, channels)
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let [ca, cb] = [0, 1].map(|i| graph.shape(at.inputs[i]).channels());
        let da = if wanted[0] { Some(slice_channels(graph, dy, 0, ca)?) } else { None };
        let db = if wanted[1] { Some(slice_channels(graph, dy, ca, cb)?) } else { None };
        Ok(vec![da, db])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let image = |x: &Tensor| x.data.len() / x.shape.dims()[0];
        let [a, b] = [inputs[0], inputs[1]].map(|x| x.data.chunks(image(x)));
        Tensor::new(output.clone(), a.zip(b).flat_map(|(a, b)| a.iter().chain(b).copied()).collect())
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let [(a, a_shape), (b, b_shape)] = inputs else { return Err(Error::internal("concat_channels takes 2 inputs")) };
        let count = output.1.physical_len() / 4;
        let params = ConcatChannelsParams {
            count: count as u32,
            columns: (output.1.padded() / 4) as u32,
            a_columns: (a_shape.padded() / 4) as u32,
            b_columns: (b_shape.padded() / 4) as u32,
            a_channels: a_shape.channels() as u32,
            reserved0: 0,
            reserved1: 0,
            reserved2: 0,
        };
        l.push(Dispatch {
            kernel: CONCAT_CHANNELS.kernel(&l.caps, 4 * count),
            overrides: vec![("SHIFT", (a_shape.padded() - a_shape.channels()) as f64)],
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: vec![*a, *b, output.0],
            workgroups: grid(count, 64),
            cost: Cost { flops: 0, bytes: 4 * (a_shape.physical_len() + b_shape.physical_len() + output.1.physical_len()) as u64 },
        });
        Ok(())
    }
}

impl Op for WindowChannels {
    fn name(&self) -> &'static str {
        "window_channels"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = super::expect_inputs(self.name(), inputs)?;
        let y = with_channels(self.name(), x, self.count)?;
        let reach = self.start.checked_add_unsigned(self.count);
        let meets = reach.is_some_and(|end| end > 0) && i32::try_from(self.start).is_ok() && self.start < x.channels() as isize;
        if !meets {
            return Err(Error::internal(format!("window_channels: {} channels from {} on meet none of {x}", self.count, self.start)));
        }
        Ok(y)
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let count = graph.shape(at.inputs[0]).channels();
        Ok(vec![Some(graph.apply(WindowChannels { start: -self.start, count }, &[dy])?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let x = inputs[0];
        let ([n, c, h, w], [_, x_channels, ..]) = (output.nchw(), x.shape.nchw());
        let mut y = Tensor::zeros(output.clone());
        for i in 0..n {
            for j in 0..c {
                let from = j as isize + self.start;
                if from < 0 || from >= x_channels as isize {
                    continue;
                }
                for k in 0..h * w {
                    y.data[(i * c + j) * h * w + k] = x.data[(i * x_channels + from as usize) * h * w + k];
                }
            }
        }
        y
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let (x, x_shape) = &inputs[0];
        let count = output.1.physical_len() / 4;
        let params = WindowChannelsParams {
            count: count as u32,
            columns: (output.1.padded() / 4) as u32,
            x_columns: (x_shape.padded() / 4) as u32,
            channels: output.1.channels() as u32,
            first: self.start.div_euclid(4) as i32,
            reserved0: 0,
            reserved1: 0,
            reserved2: 0,
        };
        l.push(Dispatch {
            kernel: WINDOW_CHANNELS.kernel(&l.caps, x_shape.physical_len()),
            overrides: vec![("SHIFT", self.start.rem_euclid(4) as f64)],
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: vec![*x, output.0],
            workgroups: grid(count, 64),
            cost: Cost { flops: 0, bytes: 4 * (x_shape.physical_len().min(4 * count) + 4 * count) as u64 },
        });
        Ok(())
    }
}

/// Tensors (N, Ci[, H, W]) joined along the channel axis: (N, ΣCi[, H, W]), as `torch.cat(xs, 1)`. Pairs are joined as a balanced tree, so that
/// many small tensors (a dense block) are copied log2 of their number times.
///
/// # Errors
/// If there is no tensor, or batches, heights or widths differ.
pub fn concat_channels(g: &mut Graph, xs: &[NodeId]) -> Result<NodeId> {
    match *xs {
        [] => Err(Error::input("concat_channels: there is nothing to join; name at least one tensor")),
        [x] => Ok(x),
        _ => {
            let (left, right) = xs.split_at(xs.len() / 2);
            let (a, b) = (concat_channels(g, left)?, concat_channels(g, right)?);
            g.apply(ConcatChannels, &[a, b])
        }
    }
}

/// Channels `first` to `first + count` of x (N, C[, H, W]); x itself if that is all of them.
///
/// # Errors
/// If x has not these channels, or `count` is 0.
pub fn slice_channels(g: &mut Graph, x: NodeId, first: usize, count: usize) -> Result<NodeId> {
    let shape = g.shape(x);
    if first.checked_add(count).is_none_or(|end| end > shape.channels()) {
        return Err(Error::input(format!("slice_channels: {count} channels from {first} on are not in a tensor of shape {shape}")));
    }
    window(g, x, first as isize, count)
}

/// x (N, C[, H, W]) as channels `first` to `first + C` of `total`, the others zero: the adjoint of [`slice_channels`]. x itself if it has `total`.
///
/// # Errors
/// If x does not fit.
pub fn pad_channels(g: &mut Graph, x: NodeId, first: usize, total: usize) -> Result<NodeId> {
    let shape = g.shape(x);
    if first.checked_add(shape.channels()).is_none_or(|end| end > total) {
        return Err(Error::input(format!("pad_channels: {shape} at channel {first} does not fit {total} channels")));
    }
    window(g, x, -(first as isize), total)
}

fn window(g: &mut Graph, x: NodeId, start: isize, count: usize) -> Result<NodeId> {
    if start == 0 && g.shape(x).channels() == count { Ok(x) } else { g.apply(WindowChannels { start, count }, &[x]) }
}

/// Validated uses of the kernels of this file.
pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    // All four shifts; fewer channels than a vec4, whole ones, and the padding of one input inside another's column. The last is worth a texture.
    let joins = [(1, 1), (2, 1), (3, 6), (4, 4), (5, 3), (6, 9), (7, 1), (8, 5), (13, 12), (4, 1)];
    // (channels, start, count): slices at all shifts, pads at all shifts, and windows that only overlap.
    let windows: [(usize, isize, usize); 16] = [
        (9, 0, 3),
        (9, 1, 8),
        (9, 2, 5),
        (9, 3, 1),
        (12, 4, 4),
        (12, 8, 3),
        (17, 7, 9),
        (3, 0, 9),
        (8, -1, 9),
        (5, -2, 9),
        (1, -3, 9),
        (4, -4, 12),
        (3, -8, 12),
        (9, -7, 17),
        (6, -3, 5),
        (6, 5, 9),
    ];
    for (i, rest) in [&[][..], &[3, 2], &[29, 31]].into_iter().enumerate() {
        let tensor = |c: usize, seed: u64| random(&shape(&[&[3, c], rest].concat()), 10 * seed + i as u64, -1.0, 1.0);
        for caps in widths(caps) {
            for (a, b) in joins {
                cases.push(op_case(&caps, &ConcatChannels, &[tensor(a, 1), tensor(b, 2)]));
            }
            for (c, start, count) in windows {
                cases.push(op_case(&caps, &WindowChannels { start, count }, &[tensor(c, 3)]));
            }
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::case_builder::assert_cases;
    use crate::ops::gradient_check::check;
    use crate::ops::new_graph;

    #[test]
    fn kernels_equal_their_twins() {
        assert_cases(KERNELS, cases);
    }

    #[test]
    fn rules_are_derivatives() {
        let x = |c: usize| random(&shape(&[2, c, 1, 2]), c as u64, -1.0, 1.0);
        check("concat_channels", &[x(3), x(2), x(5)], concat_channels);
        check("concat_channels twice", &[x(3)], |g, x| concat_channels(g, &[x[0], x[0]]));
        check("slice_channels", &[x(5)], |g, x| slice_channels(g, x[0], 1, 3));
        check("pad_channels", &[x(3)], |g, x| pad_channels(g, x[0], 2, 7));
        check("window_channels", &[x(4)], |g, x| g.apply(WindowChannels { start: 2, count: 5 }, &[x[0]]));
    }

    #[test]
    fn twins_take_and_place_channels() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[2, 3]), None).unwrap();
        let values = [("x".to_string(), Tensor::from_fn(shape(&[2, 3]), |i| i as f64 + 1.0))].into();
        let slice = slice_channels(&mut g, x, 1, 2).unwrap();
        let pad = pad_channels(&mut g, slice, 1, 4).unwrap();
        let joined = concat_channels(&mut g, &[slice, x, slice]).unwrap();
        let results = g.evaluate(&values, &[slice, pad, joined]).unwrap();
        assert_eq!(results[0].data, [2.0, 3.0, 5.0, 6.0]);
        assert_eq!(results[1].data, [0.0, 2.0, 3.0, 0.0, 0.0, 5.0, 6.0, 0.0]);
        assert_eq!(results[2].data, [2.0, 3.0, 1.0, 2.0, 3.0, 2.0, 3.0, 5.0, 6.0, 4.0, 5.0, 6.0, 5.0, 6.0]);
        assert_eq!(slice_channels(&mut g, x, 0, 3).unwrap(), x);
        assert_eq!(pad_channels(&mut g, x, 0, 3).unwrap(), x);
        assert_eq!(concat_channels(&mut g, &[x]).unwrap(), x);
    }

    #[test]
    fn impossible_inputs_are_named() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[2, 3, 4, 4]), None).unwrap();
        let small = g.leaf("small", shape(&[2, 3, 4, 2]), None).unwrap();
        let flat = g.leaf("flat", shape(&[2, 3]), None).unwrap();
        let v = g.leaf("v", shape(&[3]), None).unwrap();
        let text = concat_channels(&mut g, &[x, small]).unwrap_err().to_string();
        assert!(text.contains("concat_channels: the inputs have shapes (2, 3, 4, 4) and (2, 3, 4, 2), expected the same batch"), "{text}");
        for pair in [[x, flat], [x, v], [v, v]] {
            assert!(concat_channels(&mut g, &pair).is_err());
        }
        assert!(concat_channels(&mut g, &[]).unwrap_err().to_string().contains("nothing to join"));
        let text = slice_channels(&mut g, x, 2, 2).unwrap_err().to_string();
        assert!(text.contains("slice_channels: 2 channels from 2 on are not in a tensor of shape (2, 3, 4, 4)"), "{text}");
        assert!(slice_channels(&mut g, x, usize::MAX, 2).is_err());
        assert!(slice_channels(&mut g, x, 1, 0).is_err());
        assert!(slice_channels(&mut g, v, 1, 1).is_err());
        assert!(pad_channels(&mut g, x, 2, 4).unwrap_err().to_string().contains("does not fit 4 channels"));
        for start in [3, -5, isize::MIN, isize::MAX] {
            assert!(g.apply(WindowChannels { start, count: 5 }, &[x]).is_err(), "{start}");
        }
    }
}
