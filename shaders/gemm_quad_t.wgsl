// gemm_quad_t: tiles of four columns of B stored [n][k]. A part of gemm_rows_quad, _plain and _reduce; gemm_quad_n is its counterpart.
// Columns beyond those that exist are read as the last one, and their sums are stored as padding zeros or not at all; k beyond the segment
// meets zeros of A.

// Column kk is the vec4 over columns n to n + 3 at k + kk.
fn tile_at(base: u32, k: u32, n: u32) -> mat4x4<f32> {
    let start = base + min(k, params.depth - 4u);
    let last = params.b_extent - 1u;
    return transpose(mat4x4<f32>(
        b4(start + min(n, last) * params.b_stride),
        b4(start + min(n + 1u, last) * params.b_stride),
        b4(start + min(n + 2u, last) * params.b_stride),
        b4(start + min(n + 3u, last) * params.b_stride),
    ));
}
