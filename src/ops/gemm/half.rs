//! Operands in f16: which kernels read them, and who converts them.
//!
//! Products are lowered as ever, in f32; [`read_halves`] then goes through the dispatches and gives those whose kernel has a form for it (tiles and
//! `reduce`) operands in f16, which a [`to_f16`] dispatch makes in front of the first product that reads them and that all later ones share: a
//! weight or an activation is converted once for its forward and its backward products. What may be rounded is for the caller to say. Sums,
//! epilogues and results are in f32. Where both operands are in f16, matrix units can multiply them, if the caller says so.

use super::super::case::Case;
use super::super::case_builder::CaseBuilder;
use super::super::{random, shape};
use super::kernels::{HalfForms, TO_F16, half_forms};
use crate::gpu::kernel::{Cost, Dispatch, Kernel, grid};
use crate::graph::lower::{Caps, Lowering, Operand};
use bytemuck::{Pod, Zeroable};
use std::collections::HashMap;

/// `ToF16Params` of `shaders/to_f16.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct ToF16Params {
    fours: u32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

/// A value that may be rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    /// The operand that all its readers name: one conversion serves them.
    pub operand: Operand,
    /// Its length in 32-bit words, a multiple of four.
    pub words: usize,
}

/// Gives products operands in f16 wherever `may_round` names the value behind an operand and their kernel has a form for it: that of matrix units, if
/// it is to be `by_matrix` and there is one. The dispatches are run in order and no value changes between them.
pub fn read_halves(
    dispatches: Vec<(String, Dispatch<Operand>)>,
    lowering: &mut Lowering,
    by_matrix: bool,
    may_round: &dyn Fn(Operand) -> Option<Value>,
) -> Vec<(String, Dispatch<Operand>)> {
    let mut halves: HashMap<Operand, Operand> = HashMap::new();
    let mut result = Vec::with_capacity(dispatches.len());
    for (mut label, mut dispatch) in dispatches {
        if let Some(forms) = half_forms().find(|forms| std::ptr::eq(forms.f32, dispatch.kernel)) {
            let [a, b] = [0, 1].map(|i| may_round(dispatch.operands[i]));
            let both = a.zip(b).is_some();
            let matrix = forms.matrix.filter(|_| by_matrix && both);
            let choices = [
                (matrix.map(|m| m.kernel), both, [a, b]),
                (forms.ab, both, [a, b]),
                (forms.b, b.is_some(), [None, b]),
                (forms.a, a.is_some(), [a, None]),
            ];
            let chosen = choices.into_iter().find_map(|(kernel, fits, values)| kernel.filter(|_| fits).map(|kernel| (kernel, values)));
            if let Some((kernel, values)) = chosen {
                if let Some(matrix) = matrix {
                    label = label.strip_suffix(dispatch.kernel.name).map_or(label.clone(), |prefix| format!("{prefix}{}", kernel.name));
                    let [x, y, z] = dispatch.workgroups;
                    let [columns, lines, _] = grid(x as usize * y as usize * matrix.workgroups, 1);
                    dispatch.workgroups = [columns, lines, z];
                }
                dispatch.kernel = kernel;
                for (i, value) in values.into_iter().enumerate() {
                    let Some(value) = value else { continue };
                    let half = *halves.entry(value.operand).or_insert_with(|| {
                        let half = lowering.scratch(value.words / 2);
                        result.push((format!("{label}.to_f16"), conversion(value, half)));
                        half
                    });
                    dispatch.operands[i] = half;
                    dispatch.cost.bytes = dispatch.cost.bytes.saturating_sub(2 * value.words as u64);
                }
            }
        }
        result.push((label, dispatch));
    }
    result
}

fn conversion(value: Value, half: Operand) -> Dispatch<Operand> {
    let params = ToF16Params { fours: (value.words / 4) as u32, reserved0: 0, reserved1: 0, reserved2: 0 };
    Dispatch {
        kernel: &TO_F16,
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![value.operand, half],
        workgroups: grid(value.words / 4, 64),
        cost: Cost { flops: 0, bytes: 6 * value.words as u64 },
    }
}

/// Whether a kernel reads f16, or makes it.
pub fn is_half(kernel: &Kernel) -> bool {
    let matrix = |f: &HalfForms| f.matrix.map(|m| m.kernel);
    kernel.label() == TO_F16.label()
        || half_forms().any(|f| [f.ab, f.b, f.a, matrix(&f)].into_iter().flatten().any(|k| k.label() == kernel.label()))
}

/// The f64 twin of the conversion: the bits of the nearest number in f16, to even in the middle. For numbers that f16 holds as normal ones.
pub fn to_f16(x: f64) -> u16 {
    let sign = if x.is_sign_negative() { 0x8000 } else { 0 };
    if x == 0.0 {
        return sign;
    }
    let exponent = x.abs().log2().floor() as i32;
    // The leading bit is in it, and adds one to the exponent; so does a fraction that rounding makes a whole.
    let significand = (x.abs() * 2f64.powi(10 - exponent)).round_ties_even() as i32;
    sign | (((exponent + 14) << 10) + significand) as u16
}

/// A number in f16 as f64. For normal numbers and zero.
pub fn from_f16(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3ff));
    if exponent == 0 { sign * fraction * 2f64.powi(-24) } else { sign * (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15) }
}

/// Cases of the conversion. Every number is one that f16 holds: in which direction others are rounded, WGSL leaves open.
pub(super) fn conversion_cases(caps: &Caps) -> Vec<Case> {
    if !caps.float16 {
        return Vec::new();
    }
    let case = |numbers: usize| {
        let mut values = random(&shape(&[numbers]), 7, -1.0, 1.0).data;
        let special = [0.0, -0.0, 65504.0, -65504.0, 1.0 / 16384.0, 1.0, -1.0, 1023.5];
        values.iter_mut().zip(special).for_each(|(value, special)| *value = special);
        let bits: Vec<u16> = values.iter().map(|v| to_f16(*v)).collect();
        let exact: Vec<f32> = bits.iter().map(|b| from_f16(*b) as f32).collect();
        let words: Vec<u32> = bits.chunks(2).map(|pair| u32::from(pair[0]) | u32::from(pair[1]) << 16).collect();
        let mut case = CaseBuilder::new(caps);
        let x = case.input(&exact);
        let y = case.words(vec![0; words.len()], words);
        case.lowering.push(conversion(Value { operand: x, words: numbers }, y));
        case.finish(format!("to_f16 of {numbers}"))
    };
    [8, 252, 256, 260, 5000].map(case).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing;

    #[test]
    fn twins_round_to_nearest_even_and_back() {
        for (x, bits) in [(1.0, 0x3c00), (-2.0, 0xc000), (65504.0, 0x7bff), (0.0, 0), (-0.0, 0x8000), (0.333_251_953_125, 0x3555)] {
            assert_eq!((to_f16(x), from_f16(bits)), (bits, x));
        }
        // In the middle of two; just above it; a fraction that becomes a whole.
        let ulp = 1.0 / 1024.0;
        for (x, rounded) in
            [(1.0 + 0.5 * ulp, 1.0), (1.0 + 1.5 * ulp, 1.0 + 2.0 * ulp), (1.0 + 0.501 * ulp, 1.0 + ulp), (2.0 - 0.1 * ulp, 2.0)]
        {
            assert_eq!(from_f16(to_f16(x)), rounded);
        }
    }

    /// Numbers that f16 does not hold come out as one of their neighbours; those beyond its range as its largest or infinity.
    #[test]
    fn the_kernel_rounds_to_a_neighbour() {
        let Some(gpu) = testing::gpu().filter(|gpu| gpu.caps().float16) else { return };
        let mut values: Vec<f32> = random(&shape(&[1000]), 11, -8.0, 8.0).data.iter().map(|v| *v as f32).collect();
        values[..4].copy_from_slice(&[1e6, -1e6, 1e-12, -1e-12]);
        let x = gpu.buffer("x", 4000).unwrap();
        let y = gpu.buffer("y", 2000).unwrap();
        gpu.write(&x, 0, bytemuck::cast_slice(&values)).unwrap();
        let value = Value { operand: Operand::Scratch(0), words: 1000 };
        let dispatch = conversion(value, Operand::Scratch(1)).map(|o| if o == value.operand { x.whole() } else { y.whole() });
        gpu.submit(&gpu.sequence("to_f16", vec![("to_f16".into(), dispatch)], None).unwrap(), 0..1).unwrap();
        let got: Vec<u16> = bytemuck::pod_collect_to_vec(&gpu.read(&y, 0, 2000).unwrap());
        assert!([0x7c00, 0x7bff].contains(&got[0]) && [0xfc00, 0xfbff].contains(&got[1]), "{:x?}", &got[..4]);
        assert!(got[2] & 0x7fff <= 1 && got[3] & 0x7fff <= 1, "{:x?}", &got[..4]);
        for (got, x) in got.iter().zip(&values).skip(4) {
            let (got, x) = (from_f16(*got), f64::from(*x));
            assert!((got - x).abs() < x.abs() / 1024.0 + 6e-8, "{x} became {got}");
        }
    }
}
