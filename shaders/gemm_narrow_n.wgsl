// gemm_narrow_n: tiles of B stored [k][n] for gemm_rows_narrow; gemm_narrow_t is its counterpart.
// Lane l loads the four columns at k + l. Rows of B beyond those that exist are read as the last one: they meet zeros of A.

// Where this lane's part of B starts, without the segment.
fn lane_column(n: u32, lane: u32) -> u32 {
    return min(n, params.columns - 4u);
}

fn lane_tile(column: u32, base: u32, k: u32, lane: u32) -> vec4<f32> {
    return b4(base + min(k + lane, params.b_extent - 1u) * params.b_stride + column);
}

// Column kk is the vec4 over n at k + kk.
fn near_tile(part: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(subgroupBroadcast(part, 0u), subgroupBroadcast(part, 1u), subgroupBroadcast(part, 2u), subgroupBroadcast(part, 3u));
}

// The same at k + 4 + kk.
fn far_tile(part: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(subgroupBroadcast(part, 4u), subgroupBroadcast(part, 5u), subgroupBroadcast(part, 6u), subgroupBroadcast(part, 7u));
}
