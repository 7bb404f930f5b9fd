//! Embedding: rows of a table by index, its adjoint, and one-hot rows.
//!
//! Indices are a column (N, 1) of small integers in f32, as labels lie on the device. They are checked when data are loaded; a kernel rounds to the
//! nearest integer and takes an index that names no row as a row of zeros, so that embedding is always `one_hot(indices) * weight`.

use super::case::Case;
use super::{op_case, random, shape};
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel, grid};
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::op::{Application, Op};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, NodeId};
use crate::part;
use bytemuck::{Pod, Zeroable};

/// Most rows of a table: an index plus a half must be exact in f32.
pub const MOST_ENTRIES: usize = 1 << 23;

/// Rows of a table by index.
pub static EMBEDDING: Kernel = Kernel {
    name: "embedding",
    variant: "",
    parts: &[part!("embedding")],
    bindings: &[Bind::Params, Bind::In, Bind::In, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// Sums of rows by index.
pub static EMBEDDING_BACKWARD: Kernel = Kernel {
    name: "embedding_backward",
    variant: "",
    parts: &[part!("embedding_backward")],
    bindings: &[Bind::Params, Bind::In, Bind::In, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// Indices as rows with a single one.
pub static ONE_HOT: Kernel = Kernel {
    name: "one_hot",
    variant: "",
    parts: &[part!("one_hot")],
    bindings: &[Bind::Params, Bind::In, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// The kernels of this file.
pub const KERNELS: &[&Kernel] = &[&EMBEDDING, &EMBEDDING_BACKWARD, &ONE_HOT];

/// `EmbeddingParams` of `embedding.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct EmbeddingParams {
    count: u32,
    columns: u32,
    entries: u32,
    reserved0: u32,
}

/// `EmbeddingBackwardParams` of `embedding_backward.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct EmbeddingBackwardParams {
    count: u32,
    columns: u32,
    rows: u32,
    reserved0: u32,
}

/// `OneHotParams` of `one_hot.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct OneHotParams {
    count: u32,
    columns: u32,
    channels: u32,
    reserved0: u32,
}

/// Rows of a table: weight (K, E) and indices (N, 1) to (N, E). Linear in the weight; the indices have no derivative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Embedding;

/// The adjoint of [`Embedding`]: x (N, E) and indices (N, 1) to (entries, E), each row of x added, in the batch's order, to the row that its index names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddingBackward {
    /// Rows of the table.
    pub entries: usize,
}

/// Indices (N, 1) as rows (N, classes) that are 1 in the index's column and 0 elsewhere. It has no derivative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OneHot {
    /// Columns.
    pub classes: usize,
}

/// Checks a column of indices, and the number of rows that they name; returns their count.
fn check_indices(name: &str, indices: &Shape, entries: usize) -> Result<usize> {
    let [n, 1] = *indices.dims() else {
        return Err(Error::internal(format!("{name}: the indices have shape {indices}, expected (N, 1)")));
    };
    if entries == 0 || entries > MOST_ENTRIES {
        return Err(Error::input(format!("{name}: {entries} classes, expected 1 to {MOST_ENTRIES}")));
    }
    Ok(n)
}

/// The row that an index names, if it is one of `entries`.
fn entry(index: f64, entries: usize) -> Option<usize> {
    let nearest = (index + 0.5).floor();
    (nearest >= 0.0 && nearest < entries as f64).then_some(nearest as usize)
}

impl Op for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [weight, indices] = super::expect_inputs(self.name(), inputs)?;
        let [entries, features] = *weight.dims() else {
            return Err(Error::internal(format!("embedding: the table has shape {weight}, expected (classes, features)")));
        };
        let n = check_indices(self.name(), indices, entries)?;
        Shape::new(&[n, features])
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let entries = graph.shape(at.inputs[0]).dims()[0];
        let dweight = if wanted[0] { Some(graph.apply(EmbeddingBackward { entries }, &[dy, at.inputs[1]])?) } else { None };
        Ok(vec![dweight, None])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let (weight, indices) = (inputs[0], inputs[1]);
        let [entries, features] = [weight.shape.dims()[0], weight.shape.dims()[1]];
        Tensor::from_fn(output.clone(), |i| {
            entry(indices.data[i / features], entries).map_or(0.0, |k| weight.data[k * features + i % features])
        })
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let [(weight, table), (indices, _)] = inputs else { return Err(Error::internal("embedding takes 2 inputs")) };
        let count = output.1.physical_len() / 4;
        let params =
            EmbeddingParams { count: count as u32, columns: (table.padded() / 4) as u32, entries: table.dims()[0] as u32, reserved0: 0 };
        l.push(Dispatch {
            kernel: &EMBEDDING,
            overrides: Vec::new(),
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: vec![*weight, *indices, output.0],
            workgroups: grid(count, 64),
            cost: Cost { flops: 0, bytes: (32 * count + 16 * output.1.rows()) as u64 },
        });
        Ok(())
    }
}

impl Op for EmbeddingBackward {
    fn name(&self) -> &'static str {
        "embedding_backward"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [x, indices] = super::expect_inputs(self.name(), inputs)?;
        let n = check_indices(self.name(), indices, self.entries)?;
        if x.rank() != 2 || x.dims()[0] != n {
            return Err(Error::internal(format!("embedding_backward: {x} is summed by indices {indices}, expected (N, E) and (N, 1)")));
        }
        Shape::new(&[self.entries, x.channels()])
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let dx = if wanted[0] { Some(embedding(graph, dy, at.inputs[1])?) } else { None };
        Ok(vec![dx, None])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let (x, indices) = (inputs[0], inputs[1]);
        let features = x.shape.channels();
        let mut y = Tensor::zeros(output.clone());
        for (row, index) in x.data.chunks(features).zip(&indices.data) {
            let Some(k) = entry(*index, self.entries) else { continue };
            for (j, value) in row.iter().enumerate() {
                y.data[k * features + j] += value;
            }
        }
        y
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let [(x, shape), (indices, _)] = inputs else { return Err(Error::internal("embedding_backward takes 2 inputs")) };
        let count = output.1.physical_len() / 4;
        let rows = shape.rows();
        let params = EmbeddingBackwardParams { count: count as u32, columns: (shape.padded() / 4) as u32, rows: rows as u32, reserved0: 0 };
        l.check_loops(&EMBEDDING_BACKWARD, rows)?;
        l.push(Dispatch {
            kernel: &EMBEDDING_BACKWARD,
            overrides: Vec::new(),
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: vec![*x, *indices, output.0],
            workgroups: grid(count, 64),
            cost: Cost { flops: shape.len() as u64, bytes: (4 * shape.physical_len() + 16 * rows + 16 * count) as u64 },
        });
        Ok(())
    }
}

impl Op for OneHot {
    fn name(&self) -> &'static str {
        "one_hot"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [indices] = super::expect_inputs(self.name(), inputs)?;
        let n = check_indices(self.name(), indices, self.classes)?;
        Shape::new(&[n, self.classes])
    }

    fn gradient(&self, _: &mut Graph, _: &Application, _: NodeId, _: &[bool]) -> Result<Vec<Option<NodeId>>> {
        Ok(vec![None])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        Tensor::from_fn(output.clone(), |i| {
            let hit = entry(inputs[0].data[i / self.classes], self.classes) == Some(i % self.classes);
            if hit { 1.0 } else { 0.0 }
        })
    }

    fn lower(&self, l: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        let count = output.1.physical_len() / 4;
        let params =
            OneHotParams { count: count as u32, columns: (output.1.padded() / 4) as u32, channels: self.classes as u32, reserved0: 0 };
        l.push(Dispatch {
            kernel: &ONE_HOT,
            overrides: Vec::new(),
            params: bytemuck::bytes_of(&params).to_vec(),
            operands: vec![inputs[0].0, output.0],
            workgroups: grid(count, 64),
            cost: Cost { flops: 0, bytes: (16 * count + 16 * output.1.rows()) as u64 },
        });
        Ok(())
    }
}

/// Rows of the table `weight` (K, E) that `indices` (N, 1) name: (N, E), as `nn.Embedding`.
///
/// # Errors
/// If the shapes are others, or the table has more than [`MOST_ENTRIES`] rows.
pub fn embedding(g: &mut Graph, weight: NodeId, indices: NodeId) -> Result<NodeId> {
    g.apply(Embedding, &[weight, indices])
}

/// `indices` (N, 1) as one-hot rows (N, classes).
///
/// # Errors
/// If the indices have another shape, or there are no classes or more than [`MOST_ENTRIES`].
pub fn one_hot(g: &mut Graph, indices: NodeId, classes: usize) -> Result<NodeId> {
    g.apply(OneHot { classes }, &[indices])
}

/// Validated uses of the kernels of this file.
pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    let mut cases = Vec::new();
    // One class, features that are no multiple of 4, classes that nobody names, more than one workgroup; every index set has both ends and strays.
    for (i, (n, entries, features)) in [(3, 1, 1), (7, 5, 3), (9, 4, 8), (70, 10, 13), (5, 1000, 16)].into_iter().enumerate() {
        let stray = [0.0, entries as f64 - 1.0, -1.0, entries as f64, 0.25];
        let indices = Tensor::from_fn(shape(&[n, 1]), |r| *stray.get(r).unwrap_or(&((r * r + i) as f64 % entries as f64)));
        let weight = random(&shape(&[entries, features]), i as u64, -1.0, 1.0);
        let x = random(&shape(&[n, features]), 50 + i as u64, -1.0, 1.0);
        cases.push(op_case(caps, &Embedding, &[weight, indices.clone()]));
        cases.push(op_case(caps, &EmbeddingBackward { entries }, &[x, indices.clone()]));
        cases.push(op_case(caps, &OneHot { classes: entries }, &[indices]));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::case_builder::assert_cases;
    use crate::ops::gradient_check::check;
    use crate::ops::matmul::Matmul;
    use crate::ops::new_graph;

    #[test]
    fn kernels_equal_their_twins() {
        assert_cases(KERNELS, cases);
    }

    #[test]
    fn rules_are_derivatives() {
        let indices = Tensor::new(shape(&[4, 1]), vec![2.0, 0.0, 2.0, 1.0]);
        let inputs = [random(&shape(&[4, 3]), 1, -1.0, 1.0), indices];
        check("embedding", &inputs, |g, x| embedding(g, x[0], x[1]));
        check("embedding_backward", &inputs, |g, x| g.apply(EmbeddingBackward { entries: 5 }, x));
        check("one_hot", &inputs[1..], |g, x| one_hot(g, x[0], 3));
    }

    /// Indices that name nothing included.
    #[test]
    fn it_is_the_product_with_one_hot_rows() {
        let mut g = new_graph();
        let (weight, indices) = (random(&shape(&[3, 2]), 1, -1.0, 1.0), Tensor::new(shape(&[5, 1]), vec![2.0, -1.0, 0.0, 3.0, 1.2]));
        let w = g.leaf("w", weight.shape.clone(), None).unwrap();
        let i = g.leaf("i", indices.shape.clone(), None).unwrap();
        let rows = one_hot(&mut g, i, 3).unwrap();
        let product = g.apply(Matmul { transpose_a: false, transpose_b: false }, &[rows, w]).unwrap();
        let gathered = embedding(&mut g, w, i).unwrap();
        let values = [("w".to_string(), weight.clone()), ("i".to_string(), indices)].into();
        let results = g.evaluate(&values, &[rows, gathered, product]).unwrap();
        assert_eq!(results[0].data, [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        assert_eq!(results[1], results[2]);
        assert_eq!(results[1].data[..2], weight.data[4..]);
    }

    #[test]
    fn impossible_inputs_are_named() {
        let mut g = new_graph();
        let w = g.leaf("w", shape(&[3, 2]), None).unwrap();
        let v = g.leaf("v", shape(&[3]), None).unwrap();
        let i = g.leaf("i", shape(&[5, 1]), None).unwrap();
        let text = embedding(&mut g, w, v).unwrap_err().to_string();
        assert!(text.contains("embedding: the indices have shape (3), expected (N, 1)"), "{text}");
        assert!(embedding(&mut g, v, i).unwrap_err().to_string().contains("the table has shape (3), expected (classes, features)"));
        assert!(g.apply(EmbeddingBackward { entries: 2 }, &[w, i]).is_err());
        for classes in [0, MOST_ENTRIES + 1] {
            let text = one_hot(&mut g, i, classes).unwrap_err().to_string();
            assert!(text.contains(&format!("one_hot: {classes} classes, expected 1 to {MOST_ENTRIES}")), "{text}");
        }
    }
}
