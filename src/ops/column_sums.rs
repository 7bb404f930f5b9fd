//! Sums over the rows of several tensors in one dispatch: what [`super::reduce::GroupSum`] with one group computes for each, or
//! [`super::matmul::Matmul`] of a transposed column and a matrix.

use super::case::Case;
use super::case_builder::CaseBuilder;
use super::matmul::Matmul;
use super::reduce::GroupSum;
use super::{random, shape};
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Feature, Kernel, grid};
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::op::Op;
use crate::graph::shape::Shape;
use crate::graph::tensor::Tensor;
use crate::part;
use bytemuck::{Pod, Zeroable};

/// Most tensors of a dispatch: as many inputs and outputs as an adapter must be able to bind.
pub const MOST: usize = 4;

/// Most rows that one workgroup walks on a GPU. Beyond that a column takes longer than the dispatches that it saves.
const MOST_ROWS: usize = 65_536;

/// `column_sums`, any adapter.
pub static COLUMN_SUMS: Kernel = Kernel {
    name: "column_sums",
    variant: "shared",
    parts: &[part!("column_sums_vec4"), part!("tally_shared"), part!("column_sums")],
    bindings: &[Bind::Params, Bind::In, Bind::In, Bind::In, Bind::In, Bind::Out, Bind::Out, Bind::Out, Bind::Out],
    workgroup: [256, 1, 1],
    features: &[],
};

/// `column_sums`, inputs from textures, for software adapters.
pub static COLUMN_SUMS_TEXTURE: Kernel = Kernel {
    name: "column_sums",
    variant: "texture",
    parts: &[part!("column_sums_texture"), part!("tally_subgroup"), part!("column_sums")],
    bindings: &[Bind::Params, Bind::Texture, Bind::Texture, Bind::Texture, Bind::Texture, Bind::Out, Bind::Out, Bind::Out, Bind::Out],
    workgroup: [8, 1, 1],
    features: &[Feature::Subgroup],
};

/// The kernels of this file.
pub const KERNELS: &[&Kernel] = &[&COLUMN_SUMS, &COLUMN_SUMS_TEXTURE];

/// `ColumnSumsParams` of `column_sums.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct ColumnSumsParams {
    columns: [u32; MOST],
    rows: [u32; MOST],
    weights: [u32; MOST],
}

/// A tensor that is summed over its rows.
#[derive(Debug, Clone)]
pub struct Summand {
    /// The tensor, (N, C[, H, W]).
    pub x: (Operand, Shape),
    /// Which of the summands, (N, 1), has the weights of its rows, if they are weighted.
    pub weights: Option<usize>,
}

fn reads_textures(caps: &Caps) -> bool {
    caps.software && caps.fixed_subgroup
}

/// Whether a tensor of this shape is summed well by one workgroup a column. It follows from the adapter and the shape alone.
pub fn is_fit(caps: &Caps, shape: &Shape) -> bool {
    if reads_textures(caps) {
        4 * shape.physical_len() as u64 <= Kernel::TEXTURE_BYTES && caps.can_loop(shape.rows().div_ceil(Kernel::LANES as usize))
    } else {
        shape.rows() <= MOST_ROWS
    }
}

/// Sums each of `inputs` over its rows into the (1, C) of `outputs`.
///
/// # Errors
/// [`Error::Internal`] if there are no inputs, more than [`MOST`], or not as many outputs, or weights are no column of as many rows.
pub fn lower_column_sums(l: &mut Lowering, inputs: &[Summand], outputs: &[Operand]) -> Result<()> {
    if inputs.is_empty() || inputs.len() > MOST || inputs.len() != outputs.len() {
        return Err(Error::internal(format!(
            "column_sums of {} tensors into {}; one to {MOST} are supported",
            inputs.len(),
            outputs.len()
        )));
    }
    let mut params = ColumnSumsParams { columns: [0; MOST], rows: [0; MOST], weights: [0; MOST] };
    let mut cost = Cost::default();
    for (i, Summand { x: (_, shape), weights }) in inputs.iter().enumerate() {
        if let Some(w) = *weights {
            let column = inputs.get(w).map(|w| &w.x.1).filter(|w| w.len() == shape.rows() && w.rows() == shape.rows());
            column.ok_or_else(|| Error::internal(format!("column_sums of {shape} has no column of {} weights", shape.rows())))?;
            params.weights[i] = w as u32 + 1;
        }
        (params.columns[i], params.rows[i]) = ((shape.padded() / 4) as u32, shape.rows() as u32);
        cost.flops += shape.len() as u64;
        cost.bytes += 4 * (shape.physical_len() + shape.padded()) as u64;
    }
    // What is left out is bound to something that is there.
    let mut operands: Vec<Operand> = (0..MOST).map(|i| inputs.get(i).unwrap_or(&inputs[0]).x.0).collect();
    operands.extend((0..MOST).map(|i| outputs.get(i).copied().unwrap_or_else(|| l.scratch(4))));
    l.push(Dispatch {
        kernel: if reads_textures(&l.caps) { &COLUMN_SUMS_TEXTURE } else { &COLUMN_SUMS },
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands,
        workgroups: grid(params.columns.iter().sum::<u32>() as usize, 1),
        cost,
    });
    Ok(())
}

/// Validated uses of the kernels of this file.
pub(super) fn cases(caps: &Caps) -> Vec<Case> {
    // One row, fewer rows than lanes and more, channels that are no multiple of four, one to four tensors.
    let uses: [&[&[usize]]; 4] = [
        &[&[1, 1]],
        &[&[64, 256], &[64, 13]],
        &[&[3, 5, 7, 9], &[128, 1], &[1000, 4]],
        &[&[64, 100], &[2, 33, 1, 1], &[4, 3, 32, 32], &[130, 8]],
    ];
    let shared = Caps { fixed_subgroup: false, ..caps.clone() };
    let texture = caps.fixed_subgroup.then(|| Caps { software: true, ..caps.clone() });
    let both: Vec<Caps> = std::iter::once(shared).chain(texture).collect();
    both.iter().flat_map(|caps| uses.map(|dims| case(caps, dims)).into_iter().chain([weighted_case(caps)])).collect()
}

fn case(caps: &Caps, dims: &[&[usize]]) -> Case {
    let mut b = CaseBuilder::new(caps);
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    for (i, dims) in dims.iter().enumerate() {
        let x = random(&shape(dims), i as u64, -1.0, 1.0);
        let y = GroupSum { groups: 1 }.twin(&[&x], &shape(&[1, x.shape.channels()]));
        inputs.push(Summand { x: (b.input(&x.pack()), x.shape), weights: None });
        outputs.push(b.output(y.pack_f64()));
    }
    lower_column_sums(&mut b.lowering, &inputs, &outputs).expect("cases have one to four tensors");
    Case { atol: 1e-5, ..b.finish(format!("column_sums {dims:?}")) }
}

/// Two tensors, a column, and a matrix that it weighs.
fn weighted_case(caps: &Caps) -> Case {
    let tensor = |dims: &[usize], seed| random(&shape(dims), seed, -1.0, 1.0);
    let (u, v, w, x) = (tensor(&[20, 37], 1), tensor(&[20, 8], 2), tensor(&[20, 1], 3), tensor(&[20, 8], 4));
    let sum = |x: &Tensor| GroupSum { groups: 1 }.twin(&[x], &shape(&[1, x.shape.channels()]));
    let product = Matmul { transpose_a: true, transpose_b: false }.twin(&[&w, &x], &shape(&[1, 8]));
    let mut b = CaseBuilder::new(caps);
    let outputs = [sum(&u), sum(&v), sum(&w), product].map(|t| b.output(t.pack_f64()));
    let inputs = [u, v, w, x].map(|t| Summand { x: (b.input(&t.pack()), t.shape), weights: None });
    let [u, v, w, x] = inputs;
    let inputs = [u, v, w, Summand { weights: Some(2), ..x }];
    lower_column_sums(&mut b.lowering, &inputs, &outputs).expect("the weights are a column");
    Case { atol: 1e-5, ..b.finish("column_sums, weighted") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::case_builder::assert_cases;

    #[test]
    fn kernels_equal_their_twins() {
        assert_cases(KERNELS, cases);
    }

    #[test]
    fn wrong_numbers_of_tensors_are_refused() {
        let x = Summand { x: (Operand::Scratch(0), shape(&[2, 4])), weights: None };
        for (inputs, outputs) in [(0, 0), (2, 1), (5, 5)] {
            let result =
                lower_column_sums(&mut Lowering::new(Caps::minimal()), &vec![x.clone(); inputs], &vec![Operand::Scratch(1); outputs]);
            assert!(matches!(result, Err(Error::Internal(_))), "{inputs} into {outputs}");
        }
        for weights in [0, 1] {
            let x = Summand { weights: Some(weights), ..x.clone() };
            let result = lower_column_sums(&mut Lowering::new(Caps::minimal()), &[x], &[Operand::Scratch(1)]);
            assert!(matches!(result, Err(Error::Internal(_))), "weights {weights}");
        }
    }
}
