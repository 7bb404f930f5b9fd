//! Kernel table of the gemm family.

use crate::gpu::kernel::Bind::{In, Out, Params, Texture};
use crate::gpu::kernel::{Bind, Feature, Kernel};
use crate::part;

const ROWS: &[Bind] = &[Params, In, In, In, In, In, Out];
const ROWS_TEXTURES: &[Bind] = &[Params, Texture, Texture, In, In, Texture, Out];
const COLS: &[Bind] = &[Params, In, In, Out];
const COLS_TEXTURES: &[Bind] = &[Params, Texture, Texture, Out];
const LANES: &[Feature] = &[Feature::Subgroup];
const QUAD: &[Feature] = &[Feature::Quad];
const LANES_WORDS: &[Feature] = &[Feature::Subgroup, Feature::Int64];
const HALVES: &[Feature] = &[Feature::Float16];
const MATRIX: &[Feature] = &[Feature::Float16, Feature::Matrix];

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
        $name:literal, $variant:literal, [$($loader:literal),+], $store:literal, [$($part:literal),*], $bindings:expr, $lanes:expr, $features:expr
    ) => {
        Kernel {
            name: $name,
            variant: $variant,
            parts: &[
                part!("gemm_rows"),
                part!("gemm_epilogue"),
                $(part!($loader),)+
                part!($store),
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

/// The kernels of the rows core for GPUs in one form of B. A split kernel is the same text over a walk with several phases for each.
pub(super) struct Tiles {
    pub large: Kernel,
    pub small: Kernel,
    pub small_split: Kernel,
    pub reduce: Kernel,
    pub reduce_split: Kernel,
}

/// [`Tiles`]: the variants, the parts that know how B is stored, and the loaders.
macro_rules! rows_tiles {
    ($whole:literal, $split:literal, $stage:literal, $quad:literal, [$($loader:literal),+], $loads:literal, $features:expr) => {
        Tiles {
            large: rows_tile!(
                "gemm_rows_tile_large",
                $whole,
                [$($loader),+],
                ["gemm_tile_large", "gemm_tile", $loads, $stage, "gemm_rows_stage"],
                256,
                $features
            ),
            small: rows_tile!(
                "gemm_rows_tile_small",
                $whole,
                [$($loader),+],
                ["gemm_tile_small", "gemm_tile", $loads, $stage, "gemm_rows_stage"],
                128,
                $features
            ),
            small_split: rows_tile!(
                "gemm_rows_tile_small",
                $split,
                [$($loader),+],
                ["gemm_tile_small", "gemm_tile", $loads, $stage, "gemm_rows_stage"],
                128,
                $features
            ),
            reduce: rows_tile!("gemm_rows_reduce", $whole, [$($loader),+], [$quad], 64, $features),
            reduce_split: rows_tile!("gemm_rows_reduce", $split, [$($loader),+], [$quad], 64, $features),
        }
    };
}

/// [`Tiles`] of operands in f32.
macro_rules! rows_tiles_f32 {
    ($whole:literal, $split:literal, $stage:literal, $quad:literal) => {
        rows_tiles!($whole, $split, $stage, $quad, ["gemm_a_vec4", "gemm_b_vec4"], "gemm_tile_f32", &[])
    };
}

/// [`Tiles`] of operands of which one or both are in f16.
macro_rules! rows_tiles_f16 {
    ($whole:literal, $split:literal, $stage:literal, $quad:literal, $loader:literal) => {
        rows_tiles!($whole, $split, $stage, $quad, [$loader], "gemm_tile_f16", HALVES)
    };
}

/// A kernel of the rows core for matrix units: its variant, and the part that knows how B is stored.
macro_rules! rows_matrix {
    ($variant:literal, $stage:literal) => {
        rows_tile!(
            "gemm_rows_matrix",
            $variant,
            ["gemm_ab_f16"],
            ["gemm_fragment_16", "gemm_tile_matrix", "gemm_tile_f16", $stage, "gemm_rows_stage"],
            128,
            MATRIX
        )
    };
}

/// A kernel of the rows core for GPUs.
macro_rules! rows_tile {
    ($name:literal, $variant:literal, [$($loader:literal),+], [$($part:literal),*], $lanes:expr, $features:expr) => {
        rows!($name, $variant, [$($loader,)+ "gemm_saved_vec4"], "gemm_rows_store", [$($part),*], ROWS, $lanes, $features)
    };
}

/// The kernel of the rows core for subgroups of four lanes: its variant, and the part that knows how B is stored.
macro_rules! rows_quad {
    ($variant:literal, $quad:literal) => {
        rows!(
            "gemm_rows_quad",
            $variant,
            ["gemm_a_vec4", "gemm_b_vec4", "gemm_saved_vec4"],
            "gemm_rows_store",
            ["gemm_row4", $quad],
            ROWS,
            4,
            QUAD
        )
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

/// The kernel of the cols core for subgroups of eight lanes: its variants by loader.
macro_rules! cols_broadcast {
    ($texture:literal, $vec4:literal) => {
        Loaders {
            texture: cols!(
                "gemm_cols_broadcast",
                $texture,
                ["gemm_a_texture", "gemm_b_texture", "gemm_multiply_add", "gemm_patch", "gemm_cols_patch"],
                COLS_TEXTURES,
                8,
                LANES_WORDS
            ),
            vec4: cols!(
                "gemm_cols_broadcast",
                $vec4,
                ["gemm_a_vec4", "gemm_b_vec4", "gemm_multiply_add", "gemm_patch", "gemm_cols_patch"],
                COLS,
                8,
                LANES_WORDS
            ),
        }
    };
}

/// The kernels of the cols core for GPUs; the tiles' size is a part. A split kernel is the same text, given parts of the pixels.
pub(super) struct ColsTiles {
    pub large: Kernel,
    pub small: Kernel,
    pub small_split: Kernel,
}

/// [`ColsTiles`]: the variants and the loaders.
macro_rules! cols_tiles {
    ($whole:literal, $split:literal, [$($loader:literal),+], $loads:literal, $features:expr) => {
        ColsTiles {
            large: cols!(
                "gemm_cols_tile_large",
                $whole,
                [$($loader,)+ "gemm_tile_large", "gemm_tile", $loads, "gemm_cols_stage"],
                COLS,
                256,
                $features
            ),
            small: cols!(
                "gemm_cols_tile_small",
                $whole,
                [$($loader,)+ "gemm_tile_small", "gemm_tile", $loads, "gemm_cols_stage"],
                COLS,
                128,
                $features
            ),
            small_split: cols!(
                "gemm_cols_tile_small",
                $split,
                [$($loader,)+ "gemm_tile_small", "gemm_tile", $loads, "gemm_cols_stage"],
                COLS,
                128,
                $features
            ),
        }
    };
}

pub(super) static ROWS_BROADCAST_N: Loaders = rows_loaders!(
    "gemm_rows_broadcast",
    "n_texture",
    "n_vec4",
    "gemm_rows_store_u64",
    ["gemm_row4", "gemm_multiply_add", "gemm_patch", "gemm_patch_n"],
    LANES_WORDS
);
pub(super) static ROWS_BROADCAST_T: Loaders = rows_loaders!(
    "gemm_rows_broadcast",
    "t_texture",
    "t_vec4",
    "gemm_rows_store_u64",
    ["gemm_row4", "gemm_multiply_add", "gemm_patch", "gemm_patch_t"],
    LANES_WORDS
);
pub(super) static ROWS_QUAD_N: Kernel = rows_quad!("n", "gemm_quad_n");
pub(super) static ROWS_QUAD_T: Kernel = rows_quad!("t", "gemm_quad_t");
pub(super) static ROWS_NARROW_N: Loaders =
    rows_loaders!("gemm_rows_narrow", "n_texture", "n_vec4", "gemm_rows_store", ["gemm_row8", "gemm_multiply_add", "gemm_narrow_n"], LANES);
pub(super) static ROWS_NARROW_T: Loaders =
    rows_loaders!("gemm_rows_narrow", "t_texture", "t_vec4", "gemm_rows_store", ["gemm_row8", "gemm_multiply_add", "gemm_narrow_t"], LANES);
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
pub(super) static ROWS_TILES_N: Tiles = rows_tiles_f32!("n", "n_split", "gemm_stage_n", "gemm_quad_n");
pub(super) static ROWS_TILES_T: Tiles = rows_tiles_f32!("t", "t_split", "gemm_stage_t", "gemm_quad_t");
/// Forward: activations and weights in f16.
static ROWS_TILES_N_AB16: Tiles = rows_tiles_f16!("n_ab16", "n_ab16_split", "gemm_stage_n", "gemm_quad_n", "gemm_ab_f16");
static ROWS_TILES_T_AB16: Tiles = rows_tiles_f16!("t_ab16", "t_ab16_split", "gemm_stage_t", "gemm_quad_t", "gemm_ab_f16");
/// Forward, by matrix units: whole and split.
static ROWS_MATRIX_N: [Kernel; 2] = [rows_matrix!("n", "gemm_stage_n"), rows_matrix!("n_split", "gemm_stage_n")];
static ROWS_MATRIX_T: [Kernel; 2] = [rows_matrix!("t", "gemm_stage_t"), rows_matrix!("t_split", "gemm_stage_t")];
/// Input gradients: gradients in f32, weights in f16.
static ROWS_TILES_N_B16: Tiles = rows_tiles_f16!("n_b16", "n_b16_split", "gemm_stage_n", "gemm_quad_n", "gemm_b_f16");
static ROWS_TILES_T_B16: Tiles = rows_tiles_f16!("t_b16", "t_b16_split", "gemm_stage_t", "gemm_quad_t", "gemm_b_f16");
pub(super) static COLS_BROADCAST: Loaders = cols_broadcast!("texture", "vec4");
pub(super) static COLS_BROADCAST_SPLIT: Loaders = cols_broadcast!("texture_split", "vec4_split");
pub(super) static COLS_QUAD: Kernel = cols!("gemm_cols_quad", "", ["gemm_a_vec4", "gemm_b_vec4"], COLS, 4, QUAD);
pub(super) static COLS_QUAD_SPLIT: Kernel = cols!("gemm_cols_quad", "split", ["gemm_a_vec4", "gemm_b_vec4"], COLS, 4, QUAD);
pub(super) static COLS_PLAIN: Kernel = cols!("gemm_cols_plain", "", ["gemm_a_vec4", "gemm_b_vec4"], COLS, 64, &[]);
pub(super) static COLS_TILES: ColsTiles = cols_tiles!("", "split", ["gemm_a_vec4", "gemm_b_vec4"], "gemm_tile_f32", &[]);
/// Weight gradients: one operand is a gradient in f32, the other an activation in f16.
static COLS_TILES_A16: ColsTiles = cols_tiles!("a16", "a16_split", ["gemm_a_f16"], "gemm_tile_f16", HALVES);
static COLS_TILES_B16: ColsTiles = cols_tiles!("b16", "b16_split", ["gemm_b_f16"], "gemm_tile_f16", HALVES);
pub(super) static COLS_SCALAR: Kernel = cols!("gemm_cols_scalar", "", [], COLS, 64, &[]);
pub(super) static COLS_SCALAR_SPLIT: Kernel = cols!("gemm_cols_scalar", "split", [], COLS, 64, &[]);

pub(super) static SPLIT_FINISH: Kernel = Kernel {
    name: "gemm_split_finish",
    variant: "",
    parts: &[part!("gemm_epilogue"), part!("gemm_split_finish")],
    bindings: &[Params, In, In, In, Out],
    workgroup: [64, 1, 1],
    features: &[],
};

/// Whether a kernel sums parts of k apart.
pub(super) fn is_split(kernel: &Kernel) -> bool {
    kernel.variant.ends_with("split")
}

/// A kernel that reads f32, and what does the same with operands in f16.
pub(super) struct HalfForms {
    pub f32: &'static Kernel,
    /// A and B in f16, B alone, A alone; `None` where no product of a training step asks for it.
    pub ab: Option<&'static Kernel>,
    pub b: Option<&'static Kernel>,
    pub a: Option<&'static Kernel>,
    /// A and B in f16 for matrix units.
    pub matrix: Option<Matrix>,
}

/// A kernel for matrix units in place of another.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    pub kernel: &'static Kernel,
    /// Workgroups of it that cover what one of the other kernel's does.
    pub workgroups: usize,
}

/// Every kernel that has forms in f16.
pub(super) fn half_forms() -> impl Iterator<Item = HalfForms> {
    let tiles = |t: &'static Tiles| [&t.large, &t.small, &t.small_split, &t.reduce, &t.reduce_split];
    let rows = [[&ROWS_TILES_N, &ROWS_TILES_N_AB16, &ROWS_TILES_N_B16], [&ROWS_TILES_T, &ROWS_TILES_T_AB16, &ROWS_TILES_T_B16]];
    // In the order of `tiles`. Few columns would leave matrix units idle.
    let matrices = [&ROWS_MATRIX_N, &ROWS_MATRIX_T].map(|[whole, split]| {
        let matrix = |kernel, workgroups| Some(Matrix { kernel, workgroups });
        [matrix(whole, 4), matrix(whole, 1), matrix(split, 1), None, None]
    });
    let rows = rows.into_iter().zip(matrices).flat_map(move |(forms, matrix)| {
        let [f32, ab, b] = forms.map(tiles);
        (0..f32.len()).map(move |i| HalfForms { f32: f32[i], ab: Some(ab[i]), b: Some(b[i]), a: None, matrix: matrix[i] })
    });
    let [f32, a, b] = [&COLS_TILES, &COLS_TILES_A16, &COLS_TILES_B16].map(|t| [&t.large, &t.small, &t.small_split]);
    rows.chain((0..f32.len()).map(move |i| HalfForms { f32: f32[i], ab: None, b: Some(b[i]), a: Some(a[i]), matrix: None }))
}

pub(super) static TO_F16: Kernel = Kernel {
    name: "to_f16",
    variant: "",
    parts: &[part!("to_f16")],
    bindings: &[Params, In, Out],
    workgroup: [64, 1, 1],
    features: HALVES,
};

/// Every kernel of the family.
pub fn kernels() -> Vec<&'static Kernel> {
    let software = [&ROWS_BROADCAST_N, &ROWS_BROADCAST_T, &ROWS_NARROW_N, &ROWS_NARROW_T, &COLS_BROADCAST, &COLS_BROADCAST_SPLIT];
    let software = software.into_iter().flat_map(|loaders| [&loaders.texture, &loaders.vec4]);
    let quads = [&ROWS_QUAD_N, &ROWS_QUAD_T, &COLS_QUAD, &COLS_QUAD_SPLIT];
    let tiles = half_forms().flat_map(|forms| [Some(forms.f32), forms.ab, forms.b, forms.a]).flatten();
    let others = [&ROWS_PLAIN_N, &ROWS_PLAIN_T, &ROWS_SCALAR, &SPLIT_FINISH, &COLS_PLAIN, &COLS_SCALAR, &COLS_SCALAR_SPLIT, &TO_F16];
    software.chain(quads).chain(tiles).chain(&ROWS_MATRIX_N).chain(&ROWS_MATRIX_T).chain(others).collect()
}
