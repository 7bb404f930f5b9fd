// gemm_patch_n: patches of B stored [k][n]. A part of gemm_rows_broadcast; gemm_patch_t is its counterpart.
// Rows k of B beyond those that exist are read as the last one: they meet zeros of A. Columns beyond those that exist are read as the last four, and
// their sums are not stored.

// Where the lane's left and right columns start in row 0, and the last row that may be read.
struct PatchColumns {
    left: u32,
    right: u32,
    last: u32,
}

fn patch_columns_at(n: u32, lane: u32) -> PatchColumns {
    let end = params.columns - 4u;
    return PatchColumns(min(n, end), min(n + 4u, end), (params.b_extent - 1u) * params.b_stride);
}

fn patch_at(columns: PatchColumns, base: u32, k: u32, lane: u32) -> Patch {
    let row = (k + (lane >> 2u)) * params.b_stride;
    let row0 = base + min(row, columns.last);
    let row2 = base + min(row + 2u * params.b_stride, columns.last);
    return patch_of_rows(b4(row0 + columns.left), b4(row0 + columns.right), b4(row2 + columns.left), b4(row2 + columns.right), lane);
}
