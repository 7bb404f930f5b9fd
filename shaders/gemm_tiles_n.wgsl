// gemm_tiles_n: tiles of B stored [k][n] (matmul nn, conv2d input gradient). A part of gemm_rows_broadcast; gemm_tiles_t is its counterpart.
// Rows k of B beyond those that exist are read as the last one: they meet zeros of A.

// Eight k by eight columns of B: column kk of a tile is the vec4 over n at k + kk.
struct Tiles {
    near_lo: mat4x4<f32>, // k to k + 3,     n to n + 3
    near_hi: mat4x4<f32>, // k to k + 3,     n + 4 to n + 7
    far_lo: mat4x4<f32>,  // k + 4 to k + 7, n to n + 3
    far_hi: mat4x4<f32>,  // k + 4 to k + 7, n + 4 to n + 7
}

// What a lane keeps of its columns n to n + 7.
struct Columns {
    lo: u32,
    hi: u32,
    stride: u32,
    last_row: u32,
}

fn columns_at(n: u32) -> Columns {
    let last = params.columns - 4u;
    return Columns(min(n, last), min(n + 4u, last), params.b_stride, params.b_extent - 1u);
}

fn tile_row(columns: Columns, base: u32, k: u32) -> Vec8 {
    let row = base + min(k, columns.last_row) * columns.stride;
    return b8(row + columns.lo, row + columns.hi);
}

fn tiles_at(columns: Columns, base: u32, k: u32) -> Tiles {
    let r0 = tile_row(columns, base, k);
    let r1 = tile_row(columns, base, k + 1u);
    let r2 = tile_row(columns, base, k + 2u);
    let r3 = tile_row(columns, base, k + 3u);
    let r4 = tile_row(columns, base, k + 4u);
    let r5 = tile_row(columns, base, k + 5u);
    let r6 = tile_row(columns, base, k + 6u);
    let r7 = tile_row(columns, base, k + 7u);
    return Tiles(
        mat4x4<f32>(r0.lo, r1.lo, r2.lo, r3.lo),
        mat4x4<f32>(r0.hi, r1.hi, r2.hi, r3.hi),
        mat4x4<f32>(r4.lo, r5.lo, r6.lo, r7.lo),
        mat4x4<f32>(r4.hi, r5.hi, r6.hi, r7.hi),
    );
}
