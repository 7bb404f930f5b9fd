// gemm_patch_quad: the part of B that a lane multiplies by, where there is no other quad to load half of it. A part of gemm_rows_broadcast;
// gemm_patch_n and gemm_patch_t are its counterparts, and gemm_quad_n or gemm_quad_t, joined in front, knows how B is stored.

// Four k by eight columns: column kk of each matrix is the vec4 at k + kk over the four left or right columns.
struct Patch {
    left: mat4x4<f32>,
    right: mat4x4<f32>,
}

struct PatchColumns {
    n: u32,
}

fn patch_columns_at(n: u32, lane: u32) -> PatchColumns {
    return PatchColumns(n);
}

fn patch_at(columns: PatchColumns, base: u32, k: u32, lane: u32) -> Patch {
    return Patch(tile_at(base, k, columns.n), tile_at(base, k, columns.n + 4u));
}
