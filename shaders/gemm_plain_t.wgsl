// gemm_plain_t: tiles of B stored [n][k] for gemm_rows_plain; gemm_plain_n is its counterpart.
// Columns beyond those that exist are read as the last one, and their sums are stored as padding zeros or not at all.

// Column kk is the vec4 over columns n to n + 3 at k + kk.
fn tile_at(base: u32, k: u32, n: u32) -> mat4x4<f32> {
    let start = base + k;
    let last = params.b_extent - 1u;
    return transpose(mat4x4<f32>(
        b4(start + min(n, last) * params.b_stride),
        b4(start + min(n + 1u, last) * params.b_stride),
        b4(start + min(n + 2u, last) * params.b_stride),
        b4(start + min(n + 3u, last) * params.b_stride),
    ));
}
