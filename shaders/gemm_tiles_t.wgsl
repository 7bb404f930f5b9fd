// gemm_tiles_t: tiles of B stored [n][k] (matmul nt, conv2d forward). A part of gemm_rows_broadcast; gemm_tiles_n is its counterpart.
// A lane loads eight k of each of its columns and transposes, which is free: it renames registers.
// Columns beyond those that exist are read as the last one, and their sums are stored as padding zeros or not at all.

// Eight k by eight columns of B: column kk of a tile is the vec4 over n at k + kk.
struct Tiles {
    near_lo: mat4x4<f32>, // k to k + 3,     n to n + 3
    near_hi: mat4x4<f32>, // k to k + 3,     n + 4 to n + 7
    far_lo: mat4x4<f32>,  // k + 4 to k + 7, n to n + 3
    far_hi: mat4x4<f32>,  // k + 4 to k + 7, n + 4 to n + 7
}

// What a lane keeps of its columns n to n + 7: where their rows of B start.
struct Columns {
    lo: vec4<u32>,
    hi: vec4<u32>,
    last_k: u32,
}

fn columns_at(n: u32) -> Columns {
    let last = vec4<u32>(params.b_extent - 1u);
    let lo = vec4<u32>(n, n + 1u, n + 2u, n + 3u);
    return Columns(min(lo, last) * params.b_stride, min(lo + 4u, last) * params.b_stride, params.depth - 4u);
}

fn tiles_at(columns: Columns, base: u32, k: u32) -> Tiles {
    let near = base + k;
    let far = base + min(k + 4u, columns.last_k);
    let c0 = b8(columns.lo.x + near, columns.lo.x + far);
    let c1 = b8(columns.lo.y + near, columns.lo.y + far);
    let c2 = b8(columns.lo.z + near, columns.lo.z + far);
    let c3 = b8(columns.lo.w + near, columns.lo.w + far);
    let c4 = b8(columns.hi.x + near, columns.hi.x + far);
    let c5 = b8(columns.hi.y + near, columns.hi.y + far);
    let c6 = b8(columns.hi.z + near, columns.hi.z + far);
    let c7 = b8(columns.hi.w + near, columns.hi.w + far);
    return Tiles(
        transpose(mat4x4<f32>(c0.lo, c1.lo, c2.lo, c3.lo)),
        transpose(mat4x4<f32>(c4.lo, c5.lo, c6.lo, c7.lo)),
        transpose(mat4x4<f32>(c0.hi, c1.hi, c2.hi, c3.hi)),
        transpose(mat4x4<f32>(c4.hi, c5.hi, c6.hi, c7.hi)),
    );
}
