// gemm_stage_t: B stored [n][k] on its way to a tile. A part of the gemm_rows_tile_* kernels; gemm_stage_n is its counterpart.
// Columns beyond those that exist are read as the last one, and their sums are stored as padding zeros or not at all; k beyond the segment
// meets zeros of A.

// Which four columns and which four k of a tile a lane loads: neighbours load neighbouring k.
fn b_part(lane: u32) -> vec2<u32> {
    return vec2<u32>(lane >> 2u, lane & 3u);
}

// Where columns n to n + 3 start in a segment.
fn b_lines(base: u32, n: u32) -> vec4<u32> {
    return base + min(vec4<u32>(n, n + 1u, n + 2u, n + 3u), vec4<u32>(params.b_extent - 1u)) * params.b_stride;
}

// Four columns at k to k + 3, turned over.
fn b_block(line: vec4<u32>, k: u32) -> mat4x4<f32> {
    let address = line + min(k, params.depth - 4u);
    return transpose(mat4x4<f32>(b4(address.x), b4(address.y), b4(address.z), b4(address.w)));
}
