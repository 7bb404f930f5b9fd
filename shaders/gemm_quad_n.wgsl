// gemm_quad_n: tiles of four columns of B stored [k][n]. A part of gemm_rows_quad, _plain and _reduce; gemm_quad_t is its counterpart.
// Rows k of B beyond those that exist are read as the last one: they meet zeros of A.

// Column kk is the vec4 over columns n to n + 3 at k + kk.
fn tile_at(base: u32, k: u32, n: u32) -> mat4x4<f32> {
    let start = base + min(n, params.columns - 4u);
    let last = params.b_extent - 1u;
    return mat4x4<f32>(
        b4(start + min(k, last) * params.b_stride),
        b4(start + min(k + 1u, last) * params.b_stride),
        b4(start + min(k + 2u, last) * params.b_stride),
        b4(start + min(k + 3u, last) * params.b_stride),
    );
}
