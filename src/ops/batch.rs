//! Ops along the batch axis: join, slice and pad. Batches are contiguous in memory, so these are copies of runs.

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

/// Joins two tensors along the batch axis.
pub static CONCAT_BATCH: NarrowLoaders = narrow_loaders!(
    "concat_batch",
    ["in1_texel", "in2_texel"],
    ["in1_buffer", "in2_buffer"],
    &[Bind::Params, Bind::Texture, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::In, Bind::Out]
);

/// A run of images of a batch.
pub static SLICE_BATCH: NarrowLoaders = narrow_loaders!(
    "slice_batch",
    ["in1_texel"],
    ["in1_buffer"],
    &[Bind::Params, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::Out]
);

/// Places a batch in a larger one of zeros.
pub static PAD_BATCH: NarrowLoaders = narrow_loaders!(
    "pad_batch",
    ["in1_texel"],
    ["in1_buffer"],
    &[Bind::Params, Bind::Texture, Bind::Out],
    &[Bind::Params, Bind::In, Bind::Out]
);

/// The kernels of this file.
pub const KERNELS: &[&Kernel] =
    &[&CONCAT_BATCH.texture, &CONCAT_BATCH.vec4, &SLICE_BATCH.texture, &SLICE_BATCH.vec4, &PAD_BATCH.texture, &PAD_BATCH.vec4];

/// `ConcatBatchParams` of `concat_batch.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct ConcatBatchParams {
    count: u32,
    split: u32,
    reserved0: u32,
    reserved1: u32,
}

/// `SliceBatchParams` of `slice_batch.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct SliceBatchParams {
    count: u32,
    start: u32,
    reserved0: u32,
    reserved1: u32,
}

/// `PadBatchParams` of `pad_batch.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct PadBatchParams {
    count: u32,
    start: u32,
    len: u32,
    reserved0: u32,
}

/// Joins two tensors along the batch axis: (Na, ...) and (Nb, ...) to (Na + Nb, ...).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConcatBatch;

/// Images `start` to `start + len` of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceBatch {
    /// First image.
    pub start: usize,
    /// Images.
    pub len: usize,
}

/// A batch of `total` images, zero but for the input at `start`: the adjoint of [`SliceBatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PadBatch {
    /// Where the input begins.
    pub start: usize,
    /// Images of the output.
    pub total: usize,
}

/// `shape` with another batch extent.
fn with_batch(name: &str, shape: &Shape, n: usize) -> Result<Shape> {
    if shape.rank() < 2 {
        return Err(Error::internal(format!("{name}: the tensor has shape {shape}, expected a batch (N, C) or (N, C, H, W)")));
    }
    let mut dims = shape.dims().to_vec();
    dims[0] = n;
    Shape::new(&dims)
}

/// vec4 items of one image.
fn image_items(shape: &Shape) -> usize {
    shape.physical_len() / 4 / shape.dims()[0]
}

impl Op for ConcatBatch {
    fn name(&self) -> &'static str {
        "concat_batch"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [a, b] = super::expect_inputs(self.name(), inputs)?;
        if a.rank() != b.rank() || a.rank() < 2 || a.dims()[1..] != b.dims()[1..] {
            return Err(Error::internal(format!("concat_batch: the inputs have shapes {a} and {b}, expected images of one shape")));
        }
        with_batch(self.name(), a, a.dims()[0] + b.dims()[0])
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let [na, nb] = [graph.shape(at.inputs[0]).dims()[0], graph.shape(at.inputs[1]).dims()[0]];
        let da = if wanted[0] { Some(slice_batch(graph, dy, 0, na)?) } else { None };
        let db = if wanted[1] { Some(slice_batch(graph, dy, na, nb)?) } else { None };
        Ok(vec![da, db])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        Tensor::new(output.clone(), inputs.iter().flat_map(|x| x.data.iter().copied()).collect())
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let count = output.1.physical_len() / 4;
        let params = ConcatBatchParams { count: count as u32, split: (inputs[0].1.physical_len() / 4) as u32, reserved0: 0, reserved1: 0 };
        l.push(Dispatch {
            kernel: CONCAT_BATCH.kernel(&l.caps, 4 * count),
            overrides: Vec::new(),
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: vec![inputs[0].0, inputs[1].0, output.0],
            workgroups: grid(count, 64),
            cost: Cost { flops: 0, bytes: 32 * count as u64 },
        });
        Ok(())
    }
}

impl Op for SliceBatch {
    fn name(&self) -> &'static str {
        "slice_batch"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = super::expect_inputs(self.name(), inputs)?;
        let y = with_batch(self.name(), x, self.len)?;
        if self.start.checked_add(self.len).is_none_or(|end| end > x.dims()[0]) {
            return Err(Error::internal(format!(
                "slice_batch: {} images from {} on are not in a batch of shape {x}",
                self.len, self.start
            )));
        }
        Ok(y)
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let total = graph.shape(at.inputs[0]).dims()[0];
        Ok(vec![Some(pad_batch(graph, dy, self.start, total)?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let image = output.len() / self.len;
        Tensor::from_fn(output.clone(), |i| inputs[0].data[self.start * image + i])
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let count = output.1.physical_len() / 4;
        let params =
            SliceBatchParams { count: count as u32, start: (self.start * image_items(&output.1)) as u32, reserved0: 0, reserved1: 0 };
        l.push(Dispatch {
            kernel: SLICE_BATCH.kernel(&l.caps, inputs[0].1.physical_len()),
            overrides: Vec::new(),
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: vec![inputs[0].0, output.0],
            workgroups: grid(count, 64),
            cost: Cost { flops: 0, bytes: 32 * count as u64 },
        });
        Ok(())
    }
}

impl Op for PadBatch {
    fn name(&self) -> &'static str {
        "pad_batch"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x] = super::expect_inputs(self.name(), inputs)?;
        let y = with_batch(self.name(), x, self.total)?;
        if self.start.checked_add(x.dims()[0]).is_none_or(|end| end > self.total) {
            return Err(Error::internal(format!("pad_batch: {x} at image {} does not fit a batch of {}", self.start, self.total)));
        }
        Ok(y)
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, _wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let len = graph.shape(at.inputs[0]).dims()[0];
        Ok(vec![Some(slice_batch(graph, dy, self.start, len)?)])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let x = inputs[0];
        let image = output.len() / self.total;
        let mut y = Tensor::zeros(output.clone());
        for (i, value) in x.data.iter().enumerate() {
            y.data[self.start * image + i] = *value;
        }
        y
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let (x, shape) = &inputs[0];
        let count = output.1.physical_len() / 4;
        let params = PadBatchParams {
            count: count as u32,
            start: (self.start * image_items(shape)) as u32,
            len: (shape.physical_len() / 4) as u32,
            reserved0: 0,
        };
        l.push(Dispatch {
            kernel: PAD_BATCH.kernel(&l.caps, shape.physical_len()),
            overrides: Vec::new(),
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: vec![*x, output.0],
            workgroups: grid(count, 64),
            cost: Cost { flops: 0, bytes: 4 * (shape.physical_len() + output.1.physical_len()) as u64 },
        });
        Ok(())
    }
}

/// a and b joined along the batch axis.
pub fn concat_batch(g: &mut Graph, a: NodeId, b: NodeId) -> Result<NodeId> {
    g.apply(ConcatBatch, &[a, b])
}

/// Images `start` to `start + len` of x; x itself if that is all of it.
pub fn slice_batch(g: &mut Graph, x: NodeId, start: usize, len: usize) -> Result<NodeId> {
    if start == 0 && g.shape(x).dims().first() == Some(&len) { Ok(x) } else { g.apply(SliceBatch { start, len }, &[x]) }
}

/// x at image `start` of a batch of `total` that is zero elsewhere; x itself if it fills the batch.
pub fn pad_batch(g: &mut Graph, x: NodeId, start: usize, total: usize) -> Result<NodeId> {
    if start == 0 && g.shape(x).dims().first() == Some(&total) { Ok(x) } else { g.apply(PadBatch { start, total }, &[x]) }
}

/// Validated uses of the kernels of this file.
pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    // The last is worth a texture.
    for (i, image) in [&[1][..], &[6], &[3, 2, 5], &[16, 3, 3], &[13, 23, 17]].into_iter().enumerate() {
        let batch = |n: usize, seed: u64| random(&shape(&[&[n], image].concat()), seed + i as u64, -1.0, 1.0);
        for caps in widths(caps) {
            cases.push(op_case(&caps, &ConcatBatch, &[batch(3, 1), batch(2, 9)]));
            cases.push(op_case(&caps, &ConcatBatch, &[batch(1, 1), batch(1, 9)]));
            for start in [0, 2, 4] {
                cases.push(op_case(&caps, &SliceBatch { start, len: 3 }, &[batch(7, 2)]));
                cases.push(op_case(&caps, &PadBatch { start, total: 7 }, &[batch(3, 3)]));
            }
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
        let inputs = [random(&shape(&[2, 3, 1, 2]), 1, -1.0, 1.0), random(&shape(&[3, 3, 1, 2]), 2, -1.0, 1.0)];
        check("concat_batch", &inputs, |g, x| concat_batch(g, x[0], x[1]));
        check("slice_batch", &inputs[1..], |g, x| slice_batch(g, x[0], 1, 2));
        check("pad_batch", &inputs[..1], |g, x| pad_batch(g, x[0], 1, 4));
    }

    #[test]
    fn twins_take_and_place_images() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[3, 2]), None).unwrap();
        let values = [("x".to_string(), Tensor::from_fn(shape(&[3, 2]), |i| i as f64))].into();
        let slice = slice_batch(&mut g, x, 1, 2).unwrap();
        let pad = pad_batch(&mut g, slice, 2, 5).unwrap();
        let both = concat_batch(&mut g, slice, x).unwrap();
        let results = g.evaluate(&values, &[slice, pad, both]).unwrap();
        assert_eq!(results[0].data, [2.0, 3.0, 4.0, 5.0]);
        assert_eq!(results[1].data, [0.0, 0.0, 0.0, 0.0, 2.0, 3.0, 4.0, 5.0, 0.0, 0.0]);
        assert_eq!(results[2].data, [2.0, 3.0, 4.0, 5.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(slice_batch(&mut g, x, 0, 3).unwrap(), x);
        assert_eq!(pad_batch(&mut g, x, 0, 3).unwrap(), x);
    }

    #[test]
    fn impossible_inputs_are_named() {
        let mut g = new_graph();
        let x = g.leaf("x", shape(&[3, 2]), None).unwrap();
        let other = g.leaf("other", shape(&[3, 4]), None).unwrap();
        let v = g.leaf("v", shape(&[3]), None).unwrap();
        let text = slice_batch(&mut g, x, 2, 2).unwrap_err().to_string();
        assert!(text.starts_with("slice_batch: 2 images from 2 on are not in a batch of shape (3, 2)"), "{text}");
        assert!(slice_batch(&mut g, x, usize::MAX, 2).is_err());
        assert!(slice_batch(&mut g, x, 1, 0).is_err());
        assert!(pad_batch(&mut g, x, 2, 4).unwrap_err().to_string().contains("does not fit a batch of 4"));
        assert!(concat_batch(&mut g, x, other).is_err());
        assert!(concat_batch(&mut g, v, v).is_err());
    }
}
