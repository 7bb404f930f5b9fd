// gemm_stage_n: B stored [k][n] on its way to a tile. A part of the gemm_rows_tile_* kernels; gemm_stage_t is its counterpart.
// Columns beyond those that exist are read as the last four, and their sums are not stored.

// Which four columns and which four k of a tile a lane loads: neighbours load neighbouring columns.
fn b_part(lane: u32) -> vec2<u32> {
    return vec2<u32>(lane % QUADS, lane / QUADS);
}

// Columns n to n + 3 at k to k + 3.
fn b_lines(base: u32, n: u32) -> Lines {
    let start = vec4<u32>(0u, 1u, 2u, 3u) * params.b_stride;
    return Lines(vec4<u32>(base + min(n, params.columns - 4u)), start, vec4<u32>(params.b_extent * params.b_stride), params.b_stride);
}

// What was loaded, for the tile: column j is at k + j.
fn b_block(loaded: mat4x4<f32>) -> mat4x4<f32> {
    return loaded;
}
