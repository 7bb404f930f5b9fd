// gemm_narrow_t: tiles of B stored [n][k] for gemm_rows_narrow; gemm_narrow_n is its counterpart.
// Lanes 0 to 3 load k to k + 3 of one column each, lanes 4 to 7 load k + 4 to k + 7.
// Columns beyond those that exist are read as the last one; k beyond the segment meets zeros of A.

// Where this lane's part of B starts, without the segment.
fn lane_column(n: u32, lane: u32) -> u32 {
    return min(n + (lane & 3u), params.b_extent - 1u) * params.b_stride;
}

fn lane_tile(column: u32, base: u32, k: u32, lane: u32) -> vec4<f32> {
    return b4(base + column + min(k + (lane & 4u), params.depth - 4u));
}

// Column kk is the vec4 over n at k + kk.
fn near_tile(part: vec4<f32>) -> mat4x4<f32> {
    return transpose(mat4x4<f32>(subgroupBroadcast(part, 0u), subgroupBroadcast(part, 1u), subgroupBroadcast(part, 2u), subgroupBroadcast(part, 3u)));
}

// The same at k + 4 + kk.
fn far_tile(part: vec4<f32>) -> mat4x4<f32> {
    return transpose(mat4x4<f32>(subgroupBroadcast(part, 4u), subgroupBroadcast(part, 5u), subgroupBroadcast(part, 6u), subgroupBroadcast(part, 7u)));
}
