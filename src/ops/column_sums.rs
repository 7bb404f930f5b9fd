//! Sums over the rows of several tensors in one dispatch: what [`super::reduce::GroupSum`] with one group computes for each.

use super::case::Case;
use super::case_builder::CaseBuilder;
use super::reduce::GroupSum;
use super::{random, shape};
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Feature, Kernel, grid};
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::op::Op;
use crate::graph::shape::Shape;
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
}

fn reads_textures(caps: &Caps) -> bool {
    caps.software && caps.fixed_subgroup
}

/// Whether a tensor of this shape is summed well by one workgroup a column. It follows from the adapter and the shape alone.
pub fn is_fit(caps: &Caps, shape: &Shape) -> bool {
    if reads_textures(caps) { 4 * shape.physical_len() as u64 <= Kernel::TEXTURE_BYTES } else { shape.rows() <= MOST_ROWS }
}

/// Sums each (N, C[, H, W]) of `inputs` over its rows into the (1, C) of `outputs`.
///
/// # Errors
/// [`Error::Internal`] if there are no inputs, more than [`MOST`], or not as many outputs.
pub fn lower_column_sums(l: &mut Lowering, inputs: &[(Operand, Shape)], outputs: &[Operand]) -> Result<()> {
    if inputs.is_empty() || inputs.len() > MOST || inputs.len() != outputs.len() {
        return Err(Error::internal(format!(
            "column_sums of {} tensors into {}; one to {MOST} are supported",
            inputs.len(),
            outputs.len()
        )));
    }
    let mut params = ColumnSumsParams { columns: [0; MOST], rows: [0; MOST] };
    let mut cost = Cost::default();
    for (i, (_, shape)) in inputs.iter().enumerate() {
        (params.columns[i], params.rows[i]) = ((shape.padded() / 4) as u32, shape.rows() as u32);
        cost.flops += shape.len() as u64;
        cost.bytes += 4 * (shape.physical_len() + shape.padded()) as u64;
    }
    // What is left out is bound to something that is there.
    let mut operands: Vec<Operand> = (0..MOST).map(|i| inputs.get(i).unwrap_or(&inputs[0]).0).collect();
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
    both.iter().flat_map(|caps| uses.map(|dims| case(caps, dims))).collect()
}

fn case(caps: &Caps, dims: &[&[usize]]) -> Case {
    let mut b = CaseBuilder::new(caps);
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    for (i, dims) in dims.iter().enumerate() {
        let x = random(&shape(dims), i as u64, -1.0, 1.0);
        let y = GroupSum { groups: 1 }.twin(&[&x], &shape(&[1, x.shape.channels()]));
        inputs.push((b.input(&x.pack()), x.shape));
        outputs.push(b.output(y.pack_f64()));
    }
    lower_column_sums(&mut b.lowering, &inputs, &outputs).expect("cases have one to four tensors");
    Case { atol: 1e-5, ..b.finish(format!("column_sums {dims:?}")) }
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
        let x = (Operand::Scratch(0), shape(&[2, 4]));
        for (inputs, outputs) in [(0, 0), (2, 1), (5, 5)] {
            let result =
                lower_column_sums(&mut Lowering::new(Caps::minimal()), &vec![x.clone(); inputs], &vec![Operand::Scratch(1); outputs]);
            assert!(matches!(result, Err(Error::Internal(_))), "{inputs} into {outputs}");
        }
    }
}
