//! Kernel table of the gemm family.

use crate::gpu::kernel::Bind::{In, Out, Params, Texture};
use crate::gpu::kernel::{Bind, Feature, Kernel};
use crate::part;

const ROWS: &[Bind] = &[Params, In, In, In, In, In, Out];
const ROWS_TEXTURES: &[Bind] = &[Params, Texture, Texture, In, In, Texture, Out];
const COLS: &[Bind] = &[Params, In, In, Out];
const COLS_TEXTURES: &[Bind] = &[Params, Texture, Texture, Out];
const LANES: &[Feature] = &[Feature::Subgroup];
const LANES_WORDS: &[Feature] = &[Feature::Subgroup, Feature::Int64];

/// A kernel for software adapters with its two loaders.
pub(super) struct Loaders {
    /// From textures: operands of at most [`Kernel::TEXTURE_BYTES`].
    pub texture: Kernel,
    /// From buffers.
    pub vec4: Kernel,
}

impl Loaders {
    /// The kernels that can load operands of which the largest has so many bytes, fastest first.
    pub fn fitting(&'static self, bytes: u64) -> impl Iterator<Item = &'static Kernel> {
        (bytes <= Kernel::TEXTURE_BYTES).then_some(&self.texture).into_iter().chain([&self.vec4])
    }
}

/// A kernel of the rows core: its name, variant, loaders, store, what is joined between them and the core, and the rest of the table entry.
macro_rules! rows {
    (
        $name:literal, $variant:literal, [$a:literal, $b:literal, $saved:literal], $store:literal, [$($part:literal),*], $bindings:expr, $lanes:expr,
        $features:expr
    ) => {
        Kernel {
            name: $name,
            variant: $variant,
            parts: &[
                part!("gemm_rows"),
                part!("gemm_epilogue"),
                part!($saved),
                part!($store),
                part!($a),
                part!($b),
                $(part!($part),)*
                part!($name),
            ],
            bindings: $bindings,
            workgroup: [$lanes, 1, 1],
            features: $features,
        }
    };
}

/// Both loaders of a kernel of the rows core.
macro_rules! rows_loaders {
    ($name:literal, $texture:literal, $vec4:literal, $store:literal, [$($part:literal),*], $features:expr) => {
        Loaders {
            texture: rows!(
                $name,
                $texture,
                ["gemm_a_texture", "gemm_b_texture", "gemm_saved_texture"],
                $store,
                [$($part),*],
                ROWS_TEXTURES,
                8,
                $features
            ),
            vec4: rows!($name, $vec4, ["gemm_a_vec4", "gemm_b_vec4", "gemm_saved_vec4"], $store, [$($part),*], ROWS, 8, $features),
        }
    };
}

/// A kernel of the cols core.
macro_rules! cols {
    ($name:literal, $variant:literal, [$($loader:literal),*], $bindings:expr, $lanes:expr, $features:expr) => {
        Kernel {
            name: $name,
            variant: $variant,
            parts: &[part!("gemm_cols"), $(part!($loader),)* part!($name)],
            bindings: $bindings,
            workgroup: [$lanes, 1, 1],
            features: $features,
        }
    };
}

pub(super) static ROWS_BROADCAST_N: Loaders = rows_loaders!(
    "gemm_rows_broadcast",
    "n_texture",
    "n_vec4",
    "gemm_rows_store_u64",
    ["gemm_row4", "gemm_tile", "gemm_tile_n"],
    LANES_WORDS
);
pub(super) static ROWS_BROADCAST_T: Loaders = rows_loaders!(
    "gemm_rows_broadcast",
    "t_texture",
    "t_vec4",
    "gemm_rows_store_u64",
    ["gemm_row4", "gemm_tile", "gemm_tile_t"],
    LANES_WORDS
);
pub(super) static ROWS_NARROW_N: Loaders =
    rows_loaders!("gemm_rows_narrow", "n_texture", "n_vec4", "gemm_rows_store", ["gemm_row8", "gemm_narrow_n"], LANES);
pub(super) static ROWS_NARROW_T: Loaders =
    rows_loaders!("gemm_rows_narrow", "t_texture", "t_vec4", "gemm_rows_store", ["gemm_row8", "gemm_narrow_t"], LANES);
pub(super) static ROWS_PLAIN_N: Kernel =
    rows!("gemm_rows_plain", "n", ["gemm_a_vec4", "gemm_b_vec4", "gemm_saved_vec4"], "gemm_rows_store", ["gemm_quad_n"], ROWS, 64, &[]);
pub(super) static ROWS_PLAIN_T: Kernel =
    rows!("gemm_rows_plain", "t", ["gemm_a_vec4", "gemm_b_vec4", "gemm_saved_vec4"], "gemm_rows_store", ["gemm_quad_t"], ROWS, 64, &[]);
pub(super) static ROWS_SCALAR: Kernel = Kernel {
    name: "gemm_rows_scalar",
    variant: "",
    parts: &[part!("gemm_rows"), part!("gemm_epilogue"), part!("gemm_rows_scalar")],
    bindings: ROWS,
    workgroup: [64, 1, 1],
    features: &[],
};
pub(super) static COLS_BROADCAST: Loaders = Loaders {
    texture: cols!("gemm_cols_broadcast", "texture", ["gemm_a_texture", "gemm_b_texture", "gemm_tile"], COLS_TEXTURES, 8, LANES_WORDS),
    vec4: cols!("gemm_cols_broadcast", "vec4", ["gemm_a_vec4", "gemm_b_vec4", "gemm_tile"], COLS, 8, LANES_WORDS),
};
pub(super) static COLS_PLAIN: Kernel = cols!("gemm_cols_plain", "", ["gemm_a_vec4", "gemm_b_vec4"], COLS, 64, &[]);
pub(super) static COLS_SCALAR: Kernel = cols!("gemm_cols_scalar", "", [], COLS, 64, &[]);

/// Every kernel of the family.
pub fn kernels() -> Vec<&'static Kernel> {
    let software = [&ROWS_BROADCAST_N, &ROWS_BROADCAST_T, &ROWS_NARROW_N, &ROWS_NARROW_T, &COLS_BROADCAST];
    let software = software.into_iter().flat_map(|loaders| [&loaders.texture, &loaders.vec4]);
    software.chain([&ROWS_PLAIN_N, &ROWS_PLAIN_T, &ROWS_SCALAR, &COLS_PLAIN, &COLS_SCALAR]).collect()
}
