//! The text of the kernels for matrix units, run on the small fragments that a software adapter has (lavapipe of Mesa 26.2): 8 x 8 of f16 with sums in
//! f32, subgroups of eight. Only the part that names the fragments is another.

use super::half_cases;
use crate::gpu::kernel::{Feature, Kernel};
use crate::gpu::matrix::Fragments;
use crate::gpu::{Gpu, GpuOptions, testing};
use crate::ops::case::{Case, run};
use std::collections::{BTreeMap, BTreeSet};

const SMALL: Fragments = Fragments { size: 8, lanes: 8 };

/// `shaders/gemm_fragment_16.wgsl` for them.
const PART: (&str, &str) = (
    "gemm_fragment_16",
    "
const FRAGMENT = 8u;
const LANES = 8u;

alias FragmentA = coop_mat8x8<f16, A>;
alias FragmentB = coop_mat8x8<f16, B>;
alias Sums = coop_mat8x8<f32, C>;
",
);

/// The kernel with the small fragments, and with a text in place of another.
fn with_small_fragments(kernel: &Kernel, [right, wrong]: [&str; 2]) -> &'static Kernel {
    let parts: Vec<(&str, &str)> = kernel
        .parts
        .iter()
        .map(|part| if part.0 == PART.0 { PART } else { *part })
        .map(|(stem, text)| (stem, &*text.replace(right, wrong).leak()))
        .collect();
    let Kernel { name, bindings, workgroup, features, .. } = *kernel;
    // A kernel of another text needs another label.
    let variant = format!("{} {wrong}", kernel.variant).leak();
    Box::leak(Box::new(Kernel { name, variant, parts: parts.leak(), bindings, workgroup, features }))
}

/// Every case of the kernels.
fn cases(gpu: &Gpu) -> Vec<Case> {
    half_cases(&gpu.caps(), &|kernel| kernel.features.contains(&Feature::Matrix))
}

/// The cases on small fragments, with a text in place of another in them.
fn replanted(mut cases: Vec<Case>, replaced: [&str; 2]) -> Vec<Case> {
    let mut known: BTreeMap<String, &'static Kernel> = BTreeMap::new();
    for dispatch in cases.iter_mut().flat_map(|case| &mut case.dispatches).filter(|d| d.kernel.features.contains(&Feature::Matrix)) {
        let kernel = dispatch.kernel;
        dispatch.kernel = known.entry(kernel.label()).or_insert_with(|| with_small_fragments(kernel, replaced));
    }
    cases
}

fn open(checked: bool) -> Option<Gpu> {
    testing::gpu()?;
    let adapter = std::env::var("GANYMEDE_TEST_ADAPTER").ok();
    let options = GpuOptions { adapter, checked, pipeline_cache: false, matrix: Some(SMALL), ..GpuOptions::default() };
    let gpu = Gpu::open(&options).expect("the adapter opened before");
    match gpu.matrix_fault() {
        None => Some(gpu),
        Some(fault) => {
            println!("skipped: {}: {fault}", gpu.adapter_name());
            None
        }
    }
}

#[test]
fn the_text_agrees_with_the_twin_on_small_fragments() {
    for checked in [false, true] {
        let Some(gpu) = open(checked) else { return };
        let cases = replanted(cases(&gpu), [""; 2]);
        let labels = cases.iter().flat_map(|case| &case.dispatches).map(|d| d.kernel.label());
        let labels: BTreeSet<String> = labels.filter(|label| label.starts_with("gemm_rows_matrix")).collect();
        assert_eq!(labels.len(), 4, "{labels:?}");
        let failures: Vec<String> =
            cases.iter().filter_map(|case| run(&gpu, case).unwrap_or_else(|e| panic!("{}: {e}", case.name)).failure).collect();
        assert!(failures.is_empty(), "{} of {} cases fail:\n{}", failures.len(), cases.len(), failures.join("\n"));
        println!("{} cases of {labels:?} on {}", cases.len(), gpu.adapter_summary());
    }
}

/// The cases see a fragment in the wrong place, and a sum that is lost or counted twice.
#[test]
fn the_cases_notice_wrong_fragments() {
    let Some(gpu) = open(false) else { return };
    let right = cases(&gpu);
    for replaced in [
        ["coopLoad<FragmentA>(&tile_a[at_a + FRAGMENT]", "coopLoad<FragmentA>(&tile_a[at_a]"],
        ["coopLoadT<FragmentB>(&tile_b[at_b]", "coopLoad<FragmentB>(&tile_b[at_b]"],
        ["let at_a = q * PITCH", "let at_a = 0u * PITCH"],
        ["coopMultiplyAdd(below, beside, bottom_right)", "coopMultiplyAdd(below, beside, Sums())"],
        [
            "bottom_left = coopMultiplyAdd(below, here, bottom_left)",
            "bottom_left = coopMultiplyAdd(below, here, bottom_left + bottom_left)",
        ],
        ["&strip[at + FRAGMENT]", "&strip[at]"],
        ["top_right = bottom_right;", ""],
        ["(2u * square + half)", "(2u * square)"],
    ] {
        let cases = replanted(right.clone(), replaced);
        let is_planted = cases
            .iter()
            .flat_map(|case| &case.dispatches)
            .any(|d| d.kernel.features.contains(&Feature::Matrix) && d.kernel.wgsl().contains(replaced[1]));
        assert!(is_planted, "no text has {}", replaced[0]);
        let is_noticed = cases.iter().any(|case| run(&gpu, case).unwrap_or_else(|e| panic!("{}: {e}", case.name)).failure.is_some());
        assert!(is_noticed, "{} in place of {} goes unnoticed", replaced[1], replaced[0]);
    }
}
