//! The self-test behind `ganymede check`: every kernel, and every specialisation that a preset uses, against its f64 twin on the chosen adapter.

use crate::error::Result;
use crate::gan::config::GanConfig;
use crate::gan::step::Inputs;
use crate::gan::trainer;
use crate::gpu::Gpu;
use crate::gpu::kernel::Kernel;
use crate::graph::lower::Caps;
use crate::graph::precision::Precision;
use crate::ops::{self, case};
use crate::run::presets::PRESETS;
use std::collections::BTreeSet;

/// A kernel and its overrides, as text: what a pipeline is built from.
pub type Specialisation = (String, String);

/// One line of the report.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// A case and its largest error relative to the largest expected value.
    Passed { case: String, worst: f64 },
    /// A case that came out wrong, and how.
    Failed { case: String, worst: f64, failure: String },
    /// A kernel or specialisation that no case covers.
    Uncovered(String),
    /// A kernel that this adapter cannot run, for want of an optional feature; others do its work.
    Unsupported(String),
}

/// How a self-test ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Cases that passed.
    pub passed: usize,
    /// Cases that failed.
    pub failed: usize,
    /// Kernels or specialisations without a case.
    pub uncovered: usize,
    /// Kernels that the adapter cannot run.
    pub unsupported: usize,
}

/// Runs every case that the adapter can run and hands each line to `report`.
pub fn self_test(gpu: &Gpu, mut report: impl FnMut(&Line)) -> Result<Summary> {
    let caps = gpu.caps();
    let mut summary = Summary::default();
    let mut covered: BTreeSet<Specialisation> = BTreeSet::new();
    for case in ops::cases(&caps) {
        covered.extend(case.dispatches.iter().map(|d| specialisation(d.kernel, &d.overrides)));
        let outcome = case::run(gpu, &case)?;
        let line = match outcome.failure {
            None => {
                summary.passed += 1;
                Line::Passed { case: case.name, worst: outcome.worst }
            }
            Some(failure) => {
                summary.failed += 1;
                Line::Failed { case: case.name, worst: outcome.worst, failure }
            }
        };
        report(&line);
    }
    for kernel in ops::kernels() {
        let label = kernel.label();
        if !gpu.supports(kernel) {
            summary.unsupported += 1;
            report(&Line::Unsupported(label));
        } else if !covered.iter().any(|(name, _)| *name == label) {
            summary.uncovered += 1;
            report(&Line::Uncovered(label));
        }
    }
    for used in preset_specialisations(&caps)? {
        if !covered.contains(&used) {
            summary.uncovered += 1;
            report(&Line::Uncovered(format!("{} with {}", used.0, used.1)));
        }
    }
    Ok(summary)
}

/// Every pipeline that training with a preset builds on an adapter of these capabilities.
pub fn preset_specialisations(caps: &Caps) -> Result<BTreeSet<Specialisation>> {
    let mut used = BTreeSet::new();
    for preset in PRESETS.iter() {
        // Without matrix units, the last precision's plan is that of the one before.
        for precision in Precision::ALL.into_iter().take(if caps.matrix { 3 } else { 2 }) {
            for channels in [1, 3] {
                let config = GanConfig { precision, ..preset.gan_config(channels, 2) };
                let plan = trainer::plan(&config, &Inputs::Device { images: 4 }, caps)?;
                used.extend(plan.dispatches.iter().map(|(_, d)| specialisation(d.kernel, &d.overrides)));
            }
        }
    }
    Ok(used)
}

fn specialisation(kernel: &Kernel, overrides: &[(&'static str, f64)]) -> Specialisation {
    let overrides: Vec<String> = overrides.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    (kernel.label(), overrides.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever adds a specialisation adds its case: `ganymede check` fails without.
    #[test]
    fn every_specialisation_of_a_preset_has_a_case() {
        let gpu = Caps { int64: true, float16: true, matrix: true, ..Caps::minimal() };
        let narrow = Caps { quads: true, software: true, ..Caps::minimal() };
        let wide = Caps { fixed_subgroup: true, int64: true, float16: true, ..narrow.clone() };
        for caps in [Caps::minimal(), gpu, narrow, wide] {
            let cases = ops::cases(&caps);
            let covered: BTreeSet<Specialisation> =
                cases.iter().flat_map(|case| &case.dispatches).map(|d| specialisation(d.kernel, &d.overrides)).collect();
            let used = preset_specialisations(&caps).expect("the presets can be planned");
            let missing: Vec<&Specialisation> = used.difference(&covered).collect();
            assert!(!used.is_empty() && missing.is_empty(), "{caps:?}: {missing:?}");
        }
    }
}
