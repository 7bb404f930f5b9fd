// gemm_stage_n: B stored [k][n] on its way to a tile. A part of the gemm_rows_tile_* kernels; gemm_stage_t is its counterpart.
// Rows k of B beyond those that exist are read as the last one: they meet zeros of A. Columns beyond those that exist are not stored.

// Which four columns and which four k of a tile a lane loads: neighbours load neighbouring columns.
fn b_part(lane: u32) -> vec2<u32> {
    return vec2<u32>(lane % QUADS, lane / QUADS);
}

// Where the columns from n start in a segment.
fn b_lines(base: u32, n: u32) -> vec4<u32> {
    return vec4<u32>(base + min(n, params.columns - 4u));
}

// Four columns at k to k + 3.
fn b_block(line: vec4<u32>, k: u32) -> mat4x4<f32> {
    let address = line + min(vec4<u32>(k, k + 1u, k + 2u, k + 3u), vec4<u32>(params.b_extent - 1u)) * params.b_stride;
    return mat4x4<f32>(b4(address.x), b4(address.y), b4(address.z), b4(address.w));
}
