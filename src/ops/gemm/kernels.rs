//! Kernel table of the gemm family.

use crate::gpu::kernel::Bind::{In, Out, Params, Texture};
use crate::gpu::kernel::Feature::{Int64, Subgroup};
use crate::gpu::kernel::{Bind, Feature, Kernel};
use crate::graph::lower::Caps;
use crate::part;

const ROWS: &[Bind] = &[Params, In, In, In, In, In, Out];
const ROWS_TEXTURES: &[Bind] = &[Params, Texture, Texture, In, In, Texture, Out];
const COLS: &[Bind] = &[Params, In, In, Out];
const COLS_TEXTURES: &[Bind] = &[Params, Texture, Texture, Out];

/// A `gemm_rows_broadcast` with the loaders and the form of B given.
macro_rules! rows_broadcast {
    ($variant:literal, [$a:literal, $b:literal, $saved:literal], $tiles:literal, $bindings:expr, $features:expr) => {
        Kernel {
            name: "gemm_rows_broadcast",
            variant: $variant,
            parts: &[
                part!("gemm_rows"),
                part!("gemm_epilogue"),
                part!($saved),
                part!("gemm_rows_store"),
                part!("gemm_vec8"),
                part!($a),
                part!("gemm_row8"),
                part!($b),
                part!($tiles),
                part!("gemm_rows_broadcast"),
            ],
            bindings: $bindings,
            workgroup: [8, 1, 1],
            features: $features,
        }
    };
}

/// A `gemm_rows_narrow` with the loaders and the form of B given.
macro_rules! rows_narrow {
    ($variant:literal, [$a:literal, $b:literal, $saved:literal], $tiles:literal, $bindings:expr, $features:expr) => {
        Kernel {
            name: "gemm_rows_narrow",
            variant: $variant,
            parts: &[
                part!("gemm_rows"),
                part!("gemm_epilogue"),
                part!($saved),
                part!("gemm_rows_store"),
                part!("gemm_vec8"),
                part!($a),
                part!("gemm_row8"),
                part!($b),
                part!($tiles),
                part!("gemm_rows_narrow"),
            ],
            bindings: $bindings,
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
                part!("gemm_saved_vec4"),
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
    ($variant:literal, [$a:literal, $b:literal], $bindings:expr, $features:expr) => {
        Kernel {
            name: "gemm_cols_broadcast",
            variant: $variant,
            parts: &[part!("gemm_cols"), part!("gemm_vec8"), part!($a), part!($b), part!("gemm_cols_broadcast")],
            bindings: $bindings,
            workgroup: [8, 1, 1],
            features: $features,
        }
    };
}

const LANES: &[Feature] = &[Subgroup];
const WIDE_LANES: &[Feature] = &[Subgroup, Int64];

/// The ways in which the kernels for software adapters load their operands, fastest first.
pub(super) struct Loaders {
    /// From textures: operands of at most [`Kernel::TEXTURE_BYTES`].
    pub texture: Kernel,
    /// From buffers, eight floats at once: where 64-bit integers are there and strides are multiples of eight.
    pub wide: Kernel,
    /// From buffers, four floats at once.
    pub vec4: Kernel,
}

pub(super) static ROWS_BROADCAST_N: Loaders = Loaders {
    texture: rows_broadcast!("n_texture", ["gemm_a_texture", "gemm_b_texture", "gemm_saved_texture"], "gemm_tiles_n", ROWS_TEXTURES, LANES),
    wide: rows_broadcast!("n_u64", ["gemm_a_u64", "gemm_b_u64", "gemm_saved_vec4"], "gemm_tiles_n", ROWS, WIDE_LANES),
    vec4: rows_broadcast!("n_vec4", ["gemm_a_vec4", "gemm_b_vec4", "gemm_saved_vec4"], "gemm_tiles_n", ROWS, LANES),
};
pub(super) static ROWS_BROADCAST_T: Loaders = Loaders {
    texture: rows_broadcast!("t_texture", ["gemm_a_texture", "gemm_b_texture", "gemm_saved_texture"], "gemm_tiles_t", ROWS_TEXTURES, LANES),
    wide: rows_broadcast!("t_u64", ["gemm_a_u64", "gemm_b_u64", "gemm_saved_vec4"], "gemm_tiles_t", ROWS, WIDE_LANES),
    vec4: rows_broadcast!("t_vec4", ["gemm_a_vec4", "gemm_b_vec4", "gemm_saved_vec4"], "gemm_tiles_t", ROWS, LANES),
};
pub(super) static ROWS_NARROW_N: Loaders = Loaders {
    texture: rows_narrow!("n_texture", ["gemm_a_texture", "gemm_b_texture", "gemm_saved_texture"], "gemm_narrow_n", ROWS_TEXTURES, LANES),
    wide: rows_narrow!("n_u64", ["gemm_a_u64", "gemm_b_vec4", "gemm_saved_vec4"], "gemm_narrow_n", ROWS, WIDE_LANES),
    vec4: rows_narrow!("n_vec4", ["gemm_a_vec4", "gemm_b_vec4", "gemm_saved_vec4"], "gemm_narrow_n", ROWS, LANES),
};
pub(super) static ROWS_NARROW_T: Loaders = Loaders {
    texture: rows_narrow!("t_texture", ["gemm_a_texture", "gemm_b_texture", "gemm_saved_texture"], "gemm_narrow_t", ROWS_TEXTURES, LANES),
    wide: rows_narrow!("t_u64", ["gemm_a_u64", "gemm_b_vec4", "gemm_saved_vec4"], "gemm_narrow_t", ROWS, WIDE_LANES),
    vec4: rows_narrow!("t_vec4", ["gemm_a_vec4", "gemm_b_vec4", "gemm_saved_vec4"], "gemm_narrow_t", ROWS, LANES),
};
pub(super) static COLS_BROADCAST: Loaders = Loaders {
    texture: cols_broadcast!("texture", ["gemm_a_texture", "gemm_b_texture"], COLS_TEXTURES, LANES),
    wide: cols_broadcast!("u64", ["gemm_a_u64", "gemm_b_u64"], COLS, WIDE_LANES),
    vec4: cols_broadcast!("vec4", ["gemm_a_vec4", "gemm_b_vec4"], COLS, LANES),
};
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

impl Loaders {
    /// The kernels that can run on an adapter, fastest first: `bytes` is the size of the largest operand, `is_wide` whether strides are multiples of eight.
    pub fn fitting(&'static self, caps: &Caps, bytes: u64, is_wide: bool) -> impl Iterator<Item = &'static Kernel> {
        let texture = (bytes <= Kernel::TEXTURE_BYTES).then_some(&self.texture);
        let wide = (caps.int64 && is_wide).then_some(&self.wide);
        texture.into_iter().chain(wide).chain([&self.vec4])
    }
}

/// Every kernel of the family.
pub fn kernels() -> Vec<&'static Kernel> {
    let broadcast = [&ROWS_BROADCAST_N, &ROWS_BROADCAST_T, &ROWS_NARROW_N, &ROWS_NARROW_T, &COLS_BROADCAST];
    let broadcast = broadcast.into_iter().flat_map(|loaders| [&loaders.texture, &loaders.wide, &loaders.vec4]);
    broadcast.chain([&ROWS_PLAIN_N, &ROWS_PLAIN_T, &ROWS_SCALAR, &COLS_PLAIN, &COLS_SCALAR]).collect()
}
