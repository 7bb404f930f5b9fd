//! Whether a training step may have the precision that it asks for.

use super::config::GanConfig;
use super::step::Inputs;
use super::trainer;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::kernel::{Feature, Kernel};
use crate::graph::precision::Precision;
use crate::ops::case::{Case, run};
use crate::ops::gemm;
use std::collections::BTreeSet;

/// The precision that training gets, and what to tell the user about it, if there is something to tell.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// What the step is to be built with.
    pub precision: Precision,
    /// One line: what f16 covers, or why it, or the use of matrix units, was dropped.
    pub note: Option<String>,
}

/// Decides it: f16 if the configuration asks for it, the adapter can convert, and every kernel that the step reads f16 with computes what its f64
/// twin does, on small products; the same for matrix units. Without them there is f16, without f16 f32. No timing takes part, so an adapter decides
/// the same way every time.
///
/// # Errors
/// As [`trainer::plan`]; [`Error::Environment`] if the device is lost or out of memory.
pub fn settle(gpu: &Gpu, config: &GanConfig, inputs: &Inputs) -> Result<Settled> {
    let asked = config.precision;
    if asked == Precision::F32 {
        return Ok(Settled { precision: Precision::F32, note: None });
    }
    let products = match halves(gpu, config, inputs)? {
        Ok(products) => products,
        Err(why) => {
            let note = format!("--precision {asked} is dropped, everything is f32: {why}");
            return Ok(Settled { precision: Precision::F32, note: Some(note) });
        }
    };
    let covers = format!("Precision: {products} products of a step read activations and weights in f16");
    let rest = "sums, gradients and all else are f32";
    if asked == Precision::F16 {
        return Ok(Settled { precision: asked, note: Some(format!("{covers}; {rest}")) });
    }
    Ok(match matrices(gpu, config, inputs)? {
        Ok(products) => Settled { precision: asked, note: Some(format!("{covers}, {products} of them by matrix units; {rest}")) },
        Err(why) => {
            Settled { precision: Precision::F16, note: Some(format!("--precision {asked} is dropped for f16: {why}. {covers}; {rest}")) }
        }
    })
}

/// How many products would read f16, or why none may.
fn halves(gpu: &Gpu, config: &GanConfig, inputs: &Inputs) -> Result<std::result::Result<usize, String>> {
    let name = gpu.adapter_name();
    if !gpu.caps().float16 {
        return Ok(Err(format!("{name} cannot convert f16 in shaders")));
    }
    let plan = trainer::plan(&GanConfig { precision: Precision::F16, ..config.clone() }, inputs, &gpu.caps())?;
    let half: Vec<&Kernel> = plan.dispatches.iter().map(|(_, d)| d.kernel).filter(|k| gemm::is_half(k)).collect();
    if half.is_empty() {
        return Ok(Err("no product of these networks is computed by a kernel that reads f16".to_string()));
    }
    let fault = fault(gpu, &half)?;
    let products = half.iter().filter(|k| k.name != "to_f16").count();
    Ok(fault.map_or(Ok(products), |fault| Err(format!("a kernel computes wrong numbers with it on {name}: {fault}"))))
}

/// How many products matrix units would compute, or why none may.
fn matrices(gpu: &Gpu, config: &GanConfig, inputs: &Inputs) -> Result<std::result::Result<usize, String>> {
    let name = gpu.adapter_name();
    if let Some(fault) = gpu.matrix_fault() {
        return Ok(Err(format!("{name} cannot do it: {fault}")));
    }
    let plan = trainer::plan(&GanConfig { precision: Precision::F16Matrix, ..config.clone() }, inputs, &gpu.caps())?;
    let used: Vec<&Kernel> =
        plan.dispatches.iter().map(|(_, d)| d.kernel).filter(|kernel| kernel.features.contains(&Feature::Matrix)).collect();
    if used.is_empty() {
        return Ok(Err("no product of these networks has two operands in f16 and more than eight rows and columns".to_string()));
    }
    let fault = fault(gpu, &used)?;
    Ok(fault.map_or(Ok(used.len()), |fault| Err(format!("matrix units of {name} compute wrong numbers: {fault}"))))
}

/// The first case of the kernels that fails, and how.
fn fault(gpu: &Gpu, kernels: &[&Kernel]) -> Result<Option<String>> {
    let labels: BTreeSet<String> = kernels.iter().map(|kernel| kernel.label()).collect();
    first_fault(gpu, &gemm::half_cases(&gpu.caps(), &|kernel| labels.contains(&kernel.label())))
}

/// The first case that fails, and how. A kernel that the driver refuses fails too.
fn first_fault(gpu: &Gpu, cases: &[Case]) -> Result<Option<String>> {
    for case in cases {
        match run(gpu, case) {
            Ok(outcome) if outcome.failure.is_none() => {}
            Ok(outcome) => return Ok(outcome.failure),
            Err(Error::Internal(refusal)) => return Ok(Some(refusal)),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing;

    /// The cases of every kernel that reads f16, with a text in place of another in their shaders.
    fn planted(gpu: &Gpu, name: &str, right: &str, wrong: &str) -> Vec<Case> {
        let mut cases = gemm::half_cases(&gpu.caps(), &|kernel| kernel.label() == name);
        let mut planted = 0;
        for dispatch in cases.iter_mut().flat_map(|case| &mut case.dispatches).filter(|d| d.kernel.label() == name) {
            let parts = dispatch.kernel.parts.iter().map(|(stem, text)| (*stem, &*text.replace(right, wrong).leak())).collect::<Vec<_>>();
            planted += usize::from(parts != dispatch.kernel.parts);
            let Kernel { name, bindings, workgroup, features, .. } = *dispatch.kernel;
            // A kernel of another text needs another label.
            let variant = format!("{} {wrong}", dispatch.kernel.variant).leak();
            dispatch.kernel = Box::leak(Box::new(Kernel { name, variant, parts: parts.leak(), bindings, workgroup, features }));
        }
        assert!(planted > 0, "{name} has no {right}");
        cases
    }

    #[test]
    fn faults_in_what_reads_and_makes_f16_are_noticed() {
        let Some(gpu) = testing::gpu().filter(|gpu| gpu.caps().float16) else { return };
        for (kernel, right, wrong) in [
            ("gemm_rows_tile_small/n_ab16", "unpack2x16float(bits.x)", "unpack2x16float(bits.x >> 16u)"),
            ("gemm_rows_tile_small/t_b16", "Loaded(b_raw(address.x)", "Loaded(b_raw(address.y)"),
            ("gemm_cols_tile_small/a16", "a_wide(loaded.raw1)", "a_wide(loaded.raw0)"),
            ("gemm_rows_reduce/t_ab16", "return a[address >> 2u]", "return a[address >> 3u]"),
            ("to_f16", "pack2x16float(value.zw)", "pack2x16float(value.wz)"),
        ] {
            let right_cases = gemm::half_cases(&gpu.caps(), &|k| k.label() == kernel);
            assert_eq!(first_fault(gpu, &right_cases).unwrap(), None);
            let cases = planted(gpu, kernel, right, wrong);
            assert!(first_fault(gpu, &cases).unwrap().is_some(), "{kernel} with {wrong} goes unnoticed");
        }
        // A text that does not compile is a fault too, and no error.
        let refused = first_fault(gpu, &planted(gpu, "to_f16", "params.fours", "params.threes")).unwrap().unwrap_or_default();
        assert!(refused.contains("to_f16"), "{refused}");
    }
}
