//! Matrix product.

use super::gemm::cols::Cols;
use super::gemm::rows::{Form, Rows};
use super::gemm::{Core, Epilogue, Product, Size, check_len, gemm_op, key};
use crate::error::{Error, Result};
use crate::graph::lower::{Lowering, Operand};
use crate::graph::op::{Application, Op};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, NodeId};

/// `C[m, n] = sum over k of op(A)[m, k] · op(B)[k, n]`, where op transposes or not: `torch.matmul` of two matrices.
///
/// Inputs A (M, K), or (K, M) if transposed; B (K, N), or (N, K) if transposed. Output (M, N). A linear layer with weight (out, in) is
/// `transpose_b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matmul {
    /// A is stored (K, M).
    pub transpose_a: bool,
    /// B is stored (N, K).
    pub transpose_b: bool,
}

/// The product of two matrices; see [`Matmul`].
///
/// # Errors
/// If the shapes do not fit.
pub fn matmul(graph: &mut Graph, a: NodeId, b: NodeId, transpose_a: bool, transpose_b: bool) -> Result<NodeId> {
    graph.apply(Matmul { transpose_a, transpose_b }, &[a, b])
}

impl Matmul {
    /// M, K and N.
    fn extents(&self, a: &Shape, b: &Shape) -> Result<[usize; 3]> {
        let of = |name: &str, shape: &Shape, transposed: bool| match *shape.dims() {
            [rows, columns] => Ok(if transposed { [columns, rows] } else { [rows, columns] }),
            _ => Err(Error::input(format!("matmul: {name} must have rank 2, got shape {shape}"))),
        };
        let ([m, k], [b_k, n]) = (of("a", a, self.transpose_a)?, of("b", b, self.transpose_b)?);
        if k != b_k {
            let side = |transposed| if transposed { " transposed" } else { "" };
            return Err(Error::input(format!(
                "matmul: b must have {k} rows, one for each column of a, got {b_k} (a {a}{}, b {b}{})",
                side(self.transpose_a),
                side(self.transpose_b)
            )));
        }
        Ok([m, k, n])
    }

    fn product(&self, inputs: &[&Shape]) -> Result<Product> {
        let (a, b) = (inputs[0], inputs[1]);
        let [m, k, n] = self.extents(a, b)?;
        let output = Shape::new(&[m, n])?;
        [a, b, &output].into_iter().try_for_each(|shape| check_len("matmul", shape))?;
        let size = Size::new((m * n) as u64 * k as u64, [a, b, &output]);
        let out = [n, output.padded()];
        let core = match (self.transpose_a, self.transpose_b) {
            (false, false) => Core::Rows(Rows { size, ..Rows::matrix(Form::N, m, [a.padded(); 2], out, [k, b.padded()]) }),
            (false, true) => Core::Rows(Rows { size, ..Rows::matrix(Form::T, m, [a.padded(); 2], out, [n, b.padded()]) }),
            (true, false) => Core::Cols(Cols { size, ..Cols::matrix(k, [m, a.padded()], out) }),
            (true, true) => {
                Core::Rows(Rows { size, a_k_stride: Some(a.padded()), ..Rows::matrix(Form::T, m, [k, 1], out, [n, b.padded()]) })
            }
        };
        Ok(Product { core, operands: [0, 1] })
    }

    fn key(&self, inputs: &[&Shape]) -> String {
        let letter = |transposed| if transposed { 't' } else { 'n' };
        key(&format!("matmul_{}{}", letter(self.transpose_a), letter(self.transpose_b)), inputs, "")
    }
}

gemm_op!(Matmul);

impl Op for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [m, _, n] = self.extents(inputs[0], inputs[1])?;
        Shape::new(&[m, n])
    }

    fn gradient(&self, graph: &mut Graph, at: &Application, dy: NodeId, wanted: &[bool]) -> Result<Vec<Option<NodeId>>> {
        let (a, b) = (at.inputs[0], at.inputs[1]);
        // dA = dC op(B)ᵀ and dB = op(A)ᵀ dC, each transposed as its input is.
        let (ta, tb) = (self.transpose_a, self.transpose_b);
        let da = if ta { (b, dy, tb, true) } else { (dy, b, false, !tb) };
        let db = if tb { (dy, a, true, ta) } else { (a, dy, !ta, false) };
        let mut gradient = |wanted: bool, (l, r, tl, tr): (NodeId, NodeId, bool, bool)| -> Result<Option<NodeId>> {
            if wanted { matmul(graph, l, r, tl, tr).map(Some) } else { Ok(None) }
        };
        Ok(vec![gradient(wanted[0], da)?, gradient(wanted[1], db)?])
    }

    fn twin(&self, inputs: &[&Tensor], output: &Shape) -> Tensor {
        let (a, b) = (inputs[0], inputs[1]);
        let (m, n) = (output.dims()[0], output.dims()[1]);
        let k = a.shape.len() / m;
        Tensor::from_fn(output.clone(), |index| {
            let (i, j) = (index / n, index % n);
            let sum = |p: usize| {
                let left = if self.transpose_a { a.data[p * m + i] } else { a.data[i * k + p] };
                let right = if self.transpose_b { b.data[j * k + p] } else { b.data[p * n + j] };
                left * right
            };
            (0..k).map(sum).sum()
        })
    }

    fn lower(&self, lowering: &mut Lowering, inputs: &[(Operand, Shape)], output: (Operand, Shape)) -> Result<()> {
        self.lower_fused(lowering, inputs, output, &Epilogue::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient_check::check;
    use crate::ops::{new_graph, random, shape};

    #[test]
    fn gradients_are_finite_differences() {
        for (ta, tb) in [(false, false), (false, true), (true, false), (true, true)] {
            let a = if ta { [3, 2] } else { [2, 3] };
            let b = if tb { [5, 3] } else { [3, 5] };
            let inputs = [random(&shape(&a), 1, -1.0, 1.0), random(&shape(&b), 2, -1.0, 1.0)];
            check(&format!("matmul {ta} {tb}"), &inputs, |g, x| matmul(g, x[0], x[1], ta, tb));
        }
    }

    #[test]
    fn mistakes_are_named() {
        let mut graph = new_graph();
        let mut leaf = |name: &str, dims: &[usize]| graph.leaf(name, shape(dims), None).unwrap();
        let (a, b, c) = (leaf("a", &[2, 3]), leaf("b", &[4, 5]), leaf("c", &[1, 2, 3, 3]));
        let text = matmul(&mut graph, a, b, false, false).unwrap_err().to_string();
        assert_eq!(text, "matmul: b must have 3 rows, one for each column of a, got 4 (a (2, 3), b (4, 5))");
        let text = matmul(&mut graph, a, b, true, true).unwrap_err().to_string();
        assert_eq!(text, "matmul: b must have 2 rows, one for each column of a, got 5 (a (2, 3) transposed, b (4, 5) transposed)");
        let text = matmul(&mut graph, a, c, false, false).unwrap_err().to_string();
        assert_eq!(text, "matmul: b must have rank 2, got shape (1, 2, 3, 3)");
    }

    #[test]
    fn a_weight_gradient_has_no_epilogue() {
        let op = Matmul { transpose_a: true, transpose_b: false };
        let node = |i: usize| Operand::Node(NodeId(i));
        let inputs = [(node(0), shape(&[3, 2])), (node(1), shape(&[3, 5]))];
        let mut lowering = Lowering::new(crate::graph::lower::Caps::minimal());
        let epilogue = Epilogue { bias: Some(node(3)), ..Epilogue::default() };
        let refused = op.lower_fused(&mut lowering, &inputs, (node(2), shape(&[2, 5])), &epilogue);
        assert!(refused.is_err() && lowering.dispatches.is_empty());
        op.lower(&mut lowering, &inputs, (node(2), shape(&[2, 5]))).unwrap();
        assert_eq!(lowering.dispatches.len(), 1);
        assert_eq!(lowering.dispatches[0].1.cost, crate::gpu::kernel::Cost { flops: 60, bytes: 4 * (12 + 24 + 16) });
    }
}
