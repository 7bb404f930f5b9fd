//! Kernel table of the gemm family.

use crate::gpu::kernel::Bind::{In, Out, Params};
use crate::gpu::kernel::Feature::{Int64, Subgroup};
use crate::gpu::kernel::{Bind, Feature, Kernel};
use crate::part;

const ROWS: &[Bind] = &[Params, In, In, In, In, In, Out];
const COLS: &[Bind] = &[Params, In, In, Out];

/// A `gemm_rows_broadcast` with the loaders and the form of B given.
macro_rules! rows_broadcast {
    ($variant:literal, $a:literal, $b:literal, $tiles:literal, $features:expr) => {
        Kernel {
            name: "gemm_rows_broadcast",
            variant: $variant,
            parts: &[
                part!("gemm_rows"),
                part!("gemm_epilogue"),
                part!("gemm_rows_store"),
                part!("gemm_vec8"),
                part!($a),
                part!("gemm_row8"),
                part!($b),
                part!($tiles),
                part!("gemm_rows_broadcast"),
            ],
            bindings: ROWS,
            workgroup: [8, 1, 1],
            features: $features,
        }
    };
}

/// A `gemm_rows_narrow` with the loader of A and the form of B given.
macro_rules! rows_narrow {
    ($variant:literal, $a:literal, $tiles:literal, $features:expr) => {
        Kernel {
            name: "gemm_rows_narrow",
            variant: $variant,
            parts: &[
                part!("gemm_rows"),
                part!("gemm_epilogue"),
                part!("gemm_rows_store"),
                part!("gemm_vec8"),
                part!($a),
                part!("gemm_row8"),
                part!("gemm_b_vec4"),
                part!($tiles),
                part!("gemm_rows_narrow"),
            ],
            bindings: ROWS,
            workgroup: [8, 1, 1],
            features: $features,
        }
    };
}

/// A `gemm_rows_plain` with the form of B given.
macro_rules! rows_plain {
    ($variant:literal, $tiles:literal) => {
        Kernel {
            name: "gemm_rows_plain",
            variant: $variant,
            parts: &[
                part!("gemm_rows"),
                part!("gemm_epilogue"),
                part!("gemm_rows_store"),
                part!("gemm_vec8"),
                part!("gemm_a_vec4"),
                part!("gemm_b_vec4"),
                part!($tiles),
                part!("gemm_rows_plain"),
            ],
            bindings: ROWS,
            workgroup: [64, 1, 1],
            features: &[],
        }
    };
}

/// A `gemm_cols_broadcast` with the loaders given.
macro_rules! cols_broadcast {
    ($variant:literal, $a:literal, $b:literal, $features:expr) => {
        Kernel {
            name: "gemm_cols_broadcast",
            variant: $variant,
            parts: &[part!("gemm_cols"), part!("gemm_vec8"), part!($a), part!($b), part!("gemm_cols_broadcast")],
            bindings: COLS,
            workgroup: [8, 1, 1],
            features: $features,
        }
    };
}

const LANES: &[Feature] = &[Subgroup];
const WIDE_LANES: &[Feature] = &[Subgroup, Int64];

pub(super) static ROWS_BROADCAST_N: [Kernel; 3] = [
    rows_broadcast!("n_u64_u64", "gemm_a_u64", "gemm_b_u64", "gemm_tiles_n", WIDE_LANES),
    rows_broadcast!("n_vec4_u64", "gemm_a_vec4", "gemm_b_u64", "gemm_tiles_n", WIDE_LANES),
    rows_broadcast!("n_vec4_vec4", "gemm_a_vec4", "gemm_b_vec4", "gemm_tiles_n", LANES),
];
pub(super) static ROWS_BROADCAST_T: [Kernel; 3] = [
    rows_broadcast!("t_u64_u64", "gemm_a_u64", "gemm_b_u64", "gemm_tiles_t", WIDE_LANES),
    rows_broadcast!("t_vec4_u64", "gemm_a_vec4", "gemm_b_u64", "gemm_tiles_t", WIDE_LANES),
    rows_broadcast!("t_vec4_vec4", "gemm_a_vec4", "gemm_b_vec4", "gemm_tiles_t", LANES),
];
pub(super) static ROWS_NARROW_N: [Kernel; 2] = [
    rows_narrow!("n_u64", "gemm_a_u64", "gemm_narrow_n", WIDE_LANES),
    rows_narrow!("n_vec4", "gemm_a_vec4", "gemm_narrow_n", LANES),
];
pub(super) static ROWS_NARROW_T: [Kernel; 2] = [
    rows_narrow!("t_u64", "gemm_a_u64", "gemm_narrow_t", WIDE_LANES),
    rows_narrow!("t_vec4", "gemm_a_vec4", "gemm_narrow_t", LANES),
];
pub(super) static ROWS_PLAIN_N: Kernel = rows_plain!("n", "gemm_plain_n");
pub(super) static ROWS_PLAIN_T: Kernel = rows_plain!("t", "gemm_plain_t");
pub(super) static ROWS_SCALAR: Kernel = Kernel {
    name: "gemm_rows_scalar",
    variant: "",
    parts: &[part!("gemm_rows"), part!("gemm_epilogue"), part!("gemm_rows_scalar")],
    bindings: ROWS,
    workgroup: [64, 1, 1],
    features: &[],
};
pub(super) static COLS_BROADCAST: [Kernel; 3] = [
    cols_broadcast!("u64_u64", "gemm_a_u64", "gemm_b_u64", WIDE_LANES),
    cols_broadcast!("u64_vec4", "gemm_a_u64", "gemm_b_vec4", WIDE_LANES),
    cols_broadcast!("vec4_vec4", "gemm_a_vec4", "gemm_b_vec4", LANES),
];
pub(super) static COLS_PLAIN: Kernel = Kernel {
    name: "gemm_cols_plain",
    variant: "",
    parts: &[part!("gemm_cols"), part!("gemm_vec8"), part!("gemm_a_vec4"), part!("gemm_b_vec4"), part!("gemm_cols_plain")],
    bindings: COLS,
    workgroup: [64, 1, 1],
    features: &[],
};
pub(super) static COLS_SCALAR: Kernel = Kernel {
    name: "gemm_cols_scalar",
    variant: "",
    parts: &[part!("gemm_cols"), part!("gemm_cols_scalar")],
    bindings: COLS,
    workgroup: [64, 1, 1],
    features: &[],
};

/// Every kernel of the family.
pub fn kernels() -> Vec<&'static Kernel> {
    let broadcast = ROWS_BROADCAST_N.iter().chain(&ROWS_BROADCAST_T).chain(&ROWS_NARROW_N).chain(&ROWS_NARROW_T).chain(&COLS_BROADCAST);
    broadcast.chain([&ROWS_PLAIN_N, &ROWS_PLAIN_T, &ROWS_SCALAR, &COLS_PLAIN, &COLS_SCALAR]).collect()
}
