// gemm_stage_t: B stored [n][k] on its way to a tile. A part of the gemm_rows_tile_* kernels; gemm_stage_n is its counterpart.
// Columns beyond those that exist are read as the last one, and their sums are stored as padding zeros or not at all.

// Which four columns and which four k of a tile a lane loads: neighbours load neighbouring k.
fn b_part(lane: u32) -> vec2<u32> {
    return vec2<u32>(lane >> 2u, lane & 3u);
}

// k to k + 3 of columns n to n + 3.
fn b_lines(base: u32, n: u32) -> Lines {
    let column = min(vec4<u32>(n, n + 1u, n + 2u, n + 3u), vec4<u32>(params.b_extent - 1u));
    return Lines(base + column * params.b_stride, vec4<u32>(), vec4<u32>(params.depth), 1u);
}

// What was loaded, for the tile: column j is at k + j.
fn b_block(loaded: mat4x4<f32>) -> mat4x4<f32> {
    return transpose(loaded);
}
