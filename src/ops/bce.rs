//! Binary cross-entropy with logits over runs of rows: as primitives, which is what differentiation sees, and as one fused kernel.

use super::activation::Activation;
use super::batch::slice_batch;
use super::case::{Case, CaseBuffer};
use super::case_builder::CaseBuilder;
use super::elementwise::add;
use super::loss::{Target, bce_with_logits_mean};
use super::{random, shape, widths};
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel, grid};
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, NodeId};
use crate::part;
use bytemuck::{Pod, Zeroable};

/// Losses and the gradient of their sum.
pub static BCE_WITH_LOGITS: Kernel = Kernel {
    name: "bce_with_logits",
    variant: "",
    parts: &[part!("bce_with_logits")],
    bindings: &[Bind::Params, Bind::In, Bind::In, Bind::Out, Bind::Out, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// Losses, the gradient of their sum, and that through the layer in front.
pub static BCE_HEAD: Kernel = Kernel {
    name: "bce_head",
    variant: "vec4",
    parts: &[part!("gemm_epilogue"), part!("gemm_a_vec4"), part!("bce_head")],
    bindings: &[Bind::Params, Bind::In, Bind::In, Bind::In, Bind::In, Bind::Out, Bind::Out, Bind::Out, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// [`BCE_HEAD`], the saved activation from a texture, for software adapters.
pub static BCE_HEAD_TEXTURE: Kernel = Kernel {
    name: "bce_head",
    variant: "texture",
    parts: &[part!("gemm_epilogue"), part!("gemm_a_texture"), part!("bce_head")],
    bindings: &[Bind::Params, Bind::Texture, Bind::In, Bind::In, Bind::In, Bind::Out, Bind::Out, Bind::Out, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// The kernels of this file.
pub static KERNELS: &[&Kernel] = &[&BCE_WITH_LOGITS, &BCE_HEAD, &BCE_HEAD_TEXTURE];

/// Parameters of `bce_head`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct BceHeadParams {
    parts: BceWithLogitsParams,
    columns: u32,
    run: u32,
    activation: u32,
    slope: f32,
}

/// Parameters of `bce_with_logits`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct BceWithLogitsParams {
    rows0: u32,
    rows1: u32,
    sign0: f32,
    sign1: f32,
}

/// A run of rows held against one label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Number of rows.
    pub rows: usize,
    /// The label.
    pub target: Target,
    /// The mean loss, a (1, 1) node.
    pub loss: NodeId,
}

/// The nodes of [`bce_parts`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bce {
    /// Logits (N, 1).
    pub logits: NodeId,
    /// One or two runs of rows that make up the batch.
    pub parts: Vec<Part>,
    /// Sum of the parts' losses, (1, 1).
    pub total: NodeId,
}

/// The mean loss of each run of rows of `logits` (N, 1) against its label, and their sum, out of primitives.
///
/// # Errors
/// If there are not one or two runs, or they do not make up the batch.
pub fn bce_parts(g: &mut Graph, logits: NodeId, runs: &[(usize, Target)]) -> Result<Bce> {
    let rows: usize = runs.iter().map(|(rows, _)| rows).sum();
    if !matches!(runs.len(), 1 | 2) || g.shape(logits).dims() != [rows, 1] {
        return Err(Error::internal(format!("bce_parts: runs {runs:?} do not make up logits of shape {}", g.shape(logits))));
    }
    let mut parts = Vec::new();
    let mut first = 0;
    for &(rows, target) in runs {
        let run = if runs.len() == 1 { logits } else { slice_batch(g, logits, first, rows)? };
        parts.push(Part { rows, target, loss: bce_with_logits_mean(g, run, target)? });
        first += rows;
    }
    let total = match parts[..] {
        [a, b] => add(g, a.loss, b.loss)?,
        _ => parts[0].loss,
    };
    Ok(Bce { logits, parts, total })
}

/// The fused kernel: the losses of one or two runs into `losses`, and `dlogits` from the gradient `dy` of their sum.
///
/// # Errors
/// As [`Lowering::check_loops`].
pub fn lower_bce(
    l: &mut Lowering,
    logits: Operand,
    dy: Operand,
    runs: &[(usize, Target)],
    dlogits: Operand,
    losses: &[Operand],
) -> Result<()> {
    let params = parts(runs);
    let unused = if losses.len() < 2 { Some(l.scratch(4)) } else { None };
    let losses: Vec<Operand> = losses.iter().copied().chain(unused).collect();
    let rows = (params.rows0 + params.rows1) as usize;
    l.check_loops(&BCE_WITH_LOGITS, rows)?;
    l.push(Dispatch {
        kernel: &BCE_WITH_LOGITS,
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: [vec![logits, dy, dlogits], losses].concat(),
        workgroups: grid(rows.max(2), 64),
        cost: Cost { flops: 50 * rows as u64, bytes: 48 * rows as u64 },
    });
    Ok(())
}

/// The layer that makes a logit of each row, as [`lower_bce_head`] sees it.
#[derive(Debug, Clone)]
pub struct Head {
    /// Its weights: one row of dx.
    pub weight: Operand,
    /// Gradient of its input, behind the derivative of the activation in front.
    pub dx: (Operand, Shape),
    /// The output of that activation, shaped as dx, and the activation.
    pub mask: Option<(Operand, Activation)>,
}

/// [`lower_bce`], and the gradient through the layer that made the logits.
///
/// # Errors
/// As [`Lowering::check_loops`].
pub fn lower_bce_head(
    l: &mut Lowering,
    logits: Operand,
    dy: Operand,
    runs: &[(usize, Target)],
    dlogits: Operand,
    losses: &[Operand],
    head: &Head,
) -> Result<()> {
    let (dx, shape) = &head.dx;
    let params = parts(runs);
    let rows = (params.rows0 + params.rows1) as usize;
    let columns = shape.physical_len() / rows / 4;
    let run = if l.caps.software { 8 } else { 1 };
    let (saved, activation) = head.mask.unwrap_or((head.weight, Activation::None));
    let from_texture = l.caps.software && 4 * shape.physical_len() as u64 <= Kernel::TEXTURE_BYTES;
    let unused = if losses.len() < 2 { Some(l.scratch(4)) } else { None };
    let params =
        BceHeadParams { parts: params, columns: columns as u32, run: run as u32, activation: activation.code(), slope: activation.slope() };
    let kernel = if from_texture { &BCE_HEAD_TEXTURE } else { &BCE_HEAD };
    l.check_loops(kernel, rows)?;
    l.push(Dispatch {
        kernel,
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: [vec![saved, logits, dy, head.weight, dlogits, *dx], losses.to_vec(), unused.into_iter().collect()].concat(),
        workgroups: grid((rows.div_ceil(run) * columns).max(2), 64),
        cost: Cost { flops: (50 * rows + 3 * shape.len()) as u64, bytes: (48 * rows + 8 * shape.physical_len()) as u64 },
    });
    Ok(())
}

fn parts(runs: &[(usize, Target)]) -> BceWithLogitsParams {
    let run = |i: usize| runs.get(i).map_or((0, 1.0), |&(rows, target)| (rows as u32, sign(target)));
    let ((rows0, sign0), (rows1, sign1)) = (run(0), run(1));
    BceWithLogitsParams { rows0, rows1, sign0, sign1 }
}

fn sign(target: Target) -> f32 {
    match target {
        Target::Real => -1.0,
        Target::Fake => 1.0,
    }
}

/// The f64 twin.
pub mod twin {
    use super::{Activation, Target};

    /// Losses of the runs, and the gradient of their sum scaled by `dy`: log(1 + e^(-l)) against 1, log(1 + e^l) against 0.
    pub fn bce_with_logits(logits: &[f64], runs: &[(usize, Target)], dy: f64) -> (Vec<f64>, Vec<f64>) {
        let (mut losses, mut gradient) = (Vec::new(), Vec::new());
        let mut rest = logits;
        for &(rows, target) in runs {
            let (run, after) = rest.split_at(rows);
            let label = if target == Target::Real { 1.0 } else { 0.0 };
            let loss = |l: f64| l.max(0.0) - l * label + (-l.abs()).exp().ln_1p();
            losses.push(run.iter().map(|&l| loss(l)).sum::<f64>() / rows as f64);
            gradient.extend(run.iter().map(|&l| dy * (1.0 / (1.0 + (-l).exp()) - label) / rows as f64));
            rest = after;
        }
        (losses, gradient)
    }

    /// The gradient through a layer of one output and the activation in front, whose output is `saved`: dlogits weight f'(saved), row by row.
    pub fn bce_head(dlogits: &[f64], weight: &[f64], saved: &[f64], activation: Activation) -> Vec<f64> {
        let row = |(d, saved): (&f64, &[f64])| -> Vec<f64> {
            saved.iter().zip(weight).map(|(y, w)| d * w * activation.derivative_from_output(*y)).collect()
        };
        dlogits.iter().zip(saved.chunks(weight.len())).flat_map(row).collect()
    }
}

/// Validated uses of the kernel.
pub fn cases(caps: &Caps) -> Vec<Case> {
    use Target::{Fake, Real};
    let all: [&[(usize, Target)]; 5] = [&[(1, Real)], &[(7, Fake)], &[(65, Real)], &[(3, Real), (3, Fake)], &[(64, Real), (67, Fake)]];
    all.into_iter()
        .map(|runs| {
            let rows = runs.iter().map(|(rows, _)| rows).sum();
            let mut logits = random(&shape(&[rows, 1]), rows as u64, -6.0, 6.0);
            if rows > 4 {
                (logits.data[1], logits.data[rows - 1]) = (100.0, -100.0);
            }
            let (losses, gradient) = twin::bce_with_logits(&logits.data, runs, -1.5);
            let scalar = |value: f64| Tensor::new(shape(&[1, 1]), vec![value]);
            let node = |i: usize| Operand::Node(NodeId(i));
            let mut lowering = Lowering::new(caps.clone());
            let outputs: Vec<Operand> = (0..runs.len()).map(|i| node(3 + i)).collect();
            lower_bce(&mut lowering, node(0), node(1), runs, node(2), &outputs).unwrap_or_else(|e| panic!("{e}"));
            let mut known = vec![
                (node(0), CaseBuffer::input(&logits)),
                (node(1), CaseBuffer::input(&scalar(-1.5))),
                (node(2), CaseBuffer::output(&Tensor::new(logits.shape.clone(), gradient))),
            ];
            known.extend(losses.iter().enumerate().map(|(i, &loss)| (node(3 + i), CaseBuffer::output(&scalar(loss)))));
            Case::from_lowering(format!("bce_with_logits {runs:?}"), lowering, known)
        })
        .chain(widths(caps).iter().flat_map(head_cases))
        .collect()
}

fn head_cases(caps: &Caps) -> Vec<Case> {
    use Target::{Fake, Real};
    type Use<'a> = (&'a [(usize, Target)], &'a [usize], Activation);
    let uses: [Use; 4] = [
        (&[(1, Real)], &[1], Activation::None),
        (&[(7, Fake)], &[13], Activation::LeakyRelu(0.2)),
        (&[(3, Real), (3, Fake)], &[5, 2, 3], Activation::Tanh),
        (&[(64, Real), (67, Fake)], &[256], Activation::LeakyRelu(0.0)),
    ];
    let case = |(runs, image, activation): Use| {
        let rows = runs.iter().map(|(rows, _)| rows).sum();
        let logits = random(&shape(&[rows, 1]), rows as u64, -6.0, 6.0);
        let saved = random(&shape(&[&[rows], image].concat()), 7, -1.0, 1.0);
        let weight = random(&shape(&[&[1], image].concat()), 8, -1.0, 1.0);
        let (losses, dlogits) = twin::bce_with_logits(&logits.data, runs, -1.5);
        let dx = twin::bce_head(&dlogits, &weight.data, &saved.data, activation);
        let mut b = CaseBuilder::new(caps);
        let [from, dy, w, y] = [&logits, &Tensor::new(shape(&[1, 1]), vec![-1.5]), &weight, &saved].map(|t| b.input(&t.pack()));
        let dlogits = b.output(Tensor::new(logits.shape.clone(), dlogits).pack_f64());
        let dx = b.output(Tensor::new(saved.shape.clone(), dx).pack_f64());
        let losses: Vec<Operand> = losses.iter().map(|loss| b.output(vec![*loss, 0.0, 0.0, 0.0])).collect();
        let mask = (activation != Activation::None).then_some((y, activation));
        let head = Head { weight: w, dx: (dx, saved.shape), mask };
        lower_bce_head(&mut b.lowering, from, dy, runs, dlogits, &losses, &head).unwrap_or_else(|e| panic!("{e}"));
        b.finish(format!("bce_head {runs:?} {image:?} {activation:?}"))
    };
    uses.map(case).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing;
    use crate::ops::{case, constant, new_graph, random, shape};
    use std::collections::HashMap;

    #[test]
    fn primitives_equal_the_fused_twin() {
        let runs = [(5, Target::Real), (4, Target::Fake)];
        let logits = random(&shape(&[9, 1]), 3, -4.0, 4.0);
        let mut g = new_graph();
        let leaf = g.leaf("logits", logits.shape.clone(), None).unwrap();
        let bce = bce_parts(&mut g, leaf, &runs).unwrap();
        let one = constant::ones_like(&mut g, bce.total).unwrap();
        let dlogits = g.gradients(&[(bce.total, one)], &[leaf]).unwrap()[0].unwrap();
        let wanted = [bce.parts[0].loss, bce.parts[1].loss, dlogits];
        let got = g.evaluate(&HashMap::from([("logits".to_string(), logits.clone())]), &wanted).unwrap();
        let (losses, gradient) = twin::bce_with_logits(&logits.data, &runs, 1.0);
        let expected = [vec![losses[0]], vec![losses[1]], gradient].concat();
        let got: Vec<f64> = got.into_iter().flat_map(|t| t.data).collect();
        for (a, b) in got.iter().zip(&expected) {
            assert!((a - b).abs() < 1e-7, "{a} {b}");
        }
    }

    #[test]
    fn kernel_equals_twin() {
        let Some(gpu) = testing::gpu() else { return };
        for case in cases(&gpu.caps()) {
            let outcome = case::run(gpu, &case).unwrap();
            assert_eq!(outcome.failure, None, "{}", case.name);
        }
    }
}
