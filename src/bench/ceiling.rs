//! What the adapter could do at best: multiply-adds in registers, and copies.

use super::subject::{Ceilings, Check, Subject};
use super::timing::Budget;
use super::{Add, Better, Group, Measurement, Options};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::kernel::{Bind, Cost, Dispatch, Feature, Kernel, grid};
use crate::gpu::step::StepRow;
use crate::ops::case::{Case, CaseBuffer};
use crate::part;
use bytemuck::{Pod, Zeroable};
use std::time::Duration;

/// Multiply-adds in registers.
pub static MULTIPLY_ADD: Kernel = Kernel {
    name: "ceiling_multiply_add",
    variant: "",
    parts: &[part!("ceiling_multiply_add")],
    bindings: &[Bind::Params, Bind::Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// A copy of items of so many floats from buffers or textures.
macro_rules! copy_kernel {
    ($variant:literal, [$($part:literal),*], $source:expr, $features:expr) => {
        Kernel {
            name: "ceiling_copy",
            variant: $variant,
            parts: &[$(part!($part),)* part!("ceiling_copy")],
            bindings: &[Bind::Params, $source, Bind::Out],
            workgroup: [64, 1, 1],
            features: $features,
        }
    };
}

/// Copies, each with the floats of an item. The fastest is the ceiling.
pub static COPIES: [(Kernel, usize); 5] = [
    (copy_kernel!("f32", ["ceiling_item_f32", "in1_buffer"], Bind::In, &[]), 1),
    (copy_kernel!("vec4", ["item_vec4", "in1_buffer"], Bind::In, &[]), 4),
    (copy_kernel!("u64", ["item_u64", "in1_buffer"], Bind::In, &[Feature::Int64]), 8),
    (copy_kernel!("vec4_texture", ["item_vec4", "texel", "in1_texel"], Bind::Texture, &[]), 4),
    (copy_kernel!("u64_texture", ["item_u64", "texel", "in1_texture"], Bind::Texture, &[Feature::Int64]), 8),
];

/// `CeilingMultiplyAddParams` of `ceiling_multiply_add.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct CeilingMultiplyAddParams {
    items: u32,
    rounds: u32,
    x: f32,
    y: f32,
}

/// Multiply-adds of an accumulator in one round, as the text has them.
const ROUND: u32 = 4;
/// Rounds; the sums would differ visibly if one were left out.
const ROUNDS: u32 = 256;
/// x and y: every accumulator runs towards y / (1 - x) = 3, and comes less than two thirds of the way.
const X: f32 = 1.0 - 1.0 / 1024.0;
const Y: f32 = 3.0 / 1024.0;

/// What `ceiling_multiply_add` leaves for item `i`, lane `lane`.
fn multiply_add_twin(i: usize, lane: usize, accumulators: u32) -> f64 {
    let start = (i % 8) as f64 / 8.0 + lane as f64 / 32.0;
    let end = |j: u32| (0..ROUND * ROUNDS).fold(start + f64::from(j), |a, _| a * f64::from(X) + f64::from(Y));
    (0..accumulators).map(end).sum()
}

fn multiply_add(items: usize, accumulators: u32, fused: bool) -> Subject {
    let params = CeilingMultiplyAddParams { items: items as u32, rounds: ROUNDS, x: X, y: Y };
    let of_eight: Vec<f64> = (0..8 * 4).map(|at| multiply_add_twin(at / 4, at % 4, accumulators)).collect();
    let flops = items as u64 * 4 * 2 * u64::from(accumulators * ROUND * ROUNDS);
    let dispatch = Dispatch {
        kernel: &MULTIPLY_ADD,
        overrides: vec![("accumulators", f64::from(accumulators)), ("fused", f64::from(u8::from(fused)))],
        params: bytemuck::bytes_of(&params).to_vec(),
        operands: vec![0],
        workgroups: grid(items, 64),
        cost: Cost { flops, bytes: 16 * items as u64 },
    };
    let name = format!("ceiling multiply-add {accumulators} vec4{}", if fused { " fma" } else { "" });
    let expected = of_eight.iter().copied().cycle().take(4 * items).collect();
    // A thousand roundings in a row.
    subject(name, dispatch, vec![CaseBuffer::Output(expected)], 1e-4, true)
}

fn copy((kernel, width): &'static (Kernel, usize), floats: usize) -> Subject {
    let values: Vec<f32> = (0..floats).map(|i| (i % 16_777_213) as f32 + 0.5).collect();
    let dispatch = Dispatch {
        kernel,
        overrides: Vec::new(),
        params: bytemuck::bytes_of(&[(floats / *width) as u32, 0, 0, 0]).to_vec(),
        operands: vec![0, 1],
        workgroups: grid(floats / *width, 64),
        cost: Cost { flops: 0, bytes: 8 * floats as u64 },
    };
    let buffers =
        vec![CaseBuffer::Input(bytemuck::cast_slice(&values).to_vec()), CaseBuffer::Output(values.iter().map(|v| f64::from(*v)).collect())];
    subject(format!("ceiling copy {} {} MiB", kernel.variant, floats >> 18), dispatch, buffers, 0.0, false)
}

fn subject(name: String, dispatch: Dispatch<usize>, buffers: Vec<CaseBuffer>, rtol: f64, is_product: bool) -> Subject {
    let case = Case { name: name.clone(), dispatches: vec![dispatch], buffers, step: StepRow::zeroed(), rtol, atol: 0.0 };
    Subject { name, case, check: Check::Whole, is_product }
}

/// Floats of the copies: 4 and 64 MiB.
const COPY_FLOATS: [usize; 2] = [1 << 20, 1 << 24];

/// Finds the ceilings in about a second.
///
/// # Errors
/// As [`Subject::measure`].
pub fn quick(gpu: &Gpu) -> Result<Ceilings> {
    let budget = Budget { time: Duration::from_millis(50), runs: None, sample: Duration::from_millis(2) };
    // A software adapter copies large buffers no faster than small ones, and its twin would take seconds for them.
    let copies = if gpu.caps().software { &COPY_FLOATS[..1] } else { &COPY_FLOATS };
    find(gpu, &budget, copies, &mut |_| Ok(()))
}

/// Measures the ceilings; every kernel is a result where the filter lets it.
///
/// # Errors
/// As [`Subject::measure`].
pub fn measure(gpu: &Gpu, options: &Options, budget: &Budget, add: &mut Add) -> Result<Ceilings> {
    let ceilings = find(gpu, budget, &COPY_FLOATS, &mut |m| if options.wants(&m.name, &m.kernel) { add(m) } else { Ok(()) })?;
    for mib in [4u64, 64] {
        let name = format!("copy_buffer_to_buffer {mib} MiB");
        if options.wants(&name, "") {
            let [from, to] = ["from", "to"].map(|label| gpu.buffer(label, mib << 20));
            let (from, to) = (from?, to?);
            let seconds = budget.samples(|times| gpu.seconds_of_copies(&from, &to, times))?;
            let samples = seconds.iter().map(|s| (2 * (mib << 20)) as f64 / s * 1e-9).collect();
            add(Measurement::new(Group::Kernels, &name, "", "GB/s", Better::Higher, samples)?)?;
        }
    }
    Ok(ceilings)
}

fn find(gpu: &Gpu, budget: &Budget, copy_floats: &[usize], add: &mut Add) -> Result<Ceilings> {
    let software = gpu.caps().software;
    // A software adapter has as many vector registers as its processor, 16 or 32, and an invocation's vec4 takes four of them.
    let (items, counts): (usize, &[u32]) = if software { (1 << 14, &[1, 2, 3, 4]) } else { (1 << 20, &[2, 4, 8, 12, 16]) };
    let fused = counts[counts.len() / 2];
    let arithmetic = counts.iter().map(|n| multiply_add(items, *n, false)).chain([multiply_add(items, fused, true)]);
    let gflops = best(gpu, budget, arithmetic, add)?;

    let copies = COPIES.iter().filter(|(kernel, _)| gpu.supports(kernel));
    let copies = copies.flat_map(|entry| copy_floats.iter().map(|floats| copy(entry, *floats)));
    let gigabytes = best(gpu, budget, copies, add)?;
    Ok(Ceilings { gflops, gigabytes })
}

/// The best of several kernels' best.
fn best(gpu: &Gpu, budget: &Budget, subjects: impl Iterator<Item = Subject>, add: &mut Add) -> Result<f64> {
    let mut best: f64 = 0.0;
    for subject in subjects {
        let measured = subject.measure(gpu, budget, None)?;
        best = best.max(measured.best);
        add(measured)?;
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::super::subject::Sample;
    use super::*;
    use crate::error::Error;
    use crate::gpu::testing;

    /// Every kernel with every number of accumulators, on sizes that fill no workgroup.
    #[test]
    fn kernels_equal_their_twins() {
        let Some(gpu) = testing::gpu() else { return };
        let budget = Budget { time: Duration::ZERO, runs: Some(1), sample: Duration::ZERO };
        let run = |subject: Subject| subject.measure(gpu, &budget, None).unwrap();
        for accumulators in [1, 2, 3, 4, 8, 12, 16] {
            run(multiply_add(100, accumulators, accumulators % 2 == 1));
        }
        for entry in COPIES.iter().filter(|(kernel, _)| gpu.supports(kernel)) {
            run(copy(entry, 1000));
        }
    }

    /// Nothing that is wrong gets a time: one element of a whole output, one of a sample.
    #[test]
    fn wrong_numbers_are_not_timed() {
        let Some(gpu) = testing::gpu() else { return };
        let budget = Budget { time: Duration::ZERO, runs: Some(1), sample: Duration::ZERO };
        let mut subject = copy(&COPIES[1], 1000);
        let CaseBuffer::Output(expected) = &mut subject.case.buffers[1] else { panic!("a copy writes its second buffer") };
        expected[999] += 1.0;
        let sample = Sample { buffer: 1, indices: vec![3, 999], expected: vec![expected[3], expected[999]] };
        for check in [Check::Whole, Check::Samples(vec![sample])] {
            let refused = Subject { check, ..subject.clone() }.measure(gpu, &budget, None);
            let Err(Error::SelfTest(text)) = refused else { panic!("{refused:?}") };
            assert!(text.contains("ceiling copy vec4") && text.contains("1 of"), "{text}");
        }
    }

    /// The tolerance would let no left-out round, accumulator or difference between lanes pass.
    #[test]
    fn the_twin_tells_all_parts_apart() {
        let expected = multiply_add_twin(3, 1, 4);
        let short =
            (0..4).map(|j| (0..ROUND * (ROUNDS - 1)).fold(3.0 / 8.0 + 1.0 / 32.0 + f64::from(j), |a, _| a * f64::from(X) + f64::from(Y)));
        for other in [short.sum(), multiply_add_twin(3, 1, 3), multiply_add_twin(3, 2, 4), multiply_add_twin(4, 1, 4)] {
            assert!((other - expected).abs() > 3e-4 * expected, "{other} {expected}");
        }
    }
}
