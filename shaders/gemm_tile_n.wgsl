// gemm_tile_n: tiles of B stored [k][n]. A part of gemm_rows_broadcast; gemm_tile_t is its counterpart.
// Rows k of B beyond those that exist are read as the last one: they meet zeros of A. Columns beyond those that exist are read as the last four, and
// their sums are not stored.

// Where the lane's left and right columns start in row 0, and the last row that may be read.
struct TileColumns {
    left: u32,
    right: u32,
    last: u32,
}

fn tile_columns_at(n: u32, lane: u32) -> TileColumns {
    let end = params.columns - 4u;
    return TileColumns(min(n, end), min(n + 4u, end), (params.b_extent - 1u) * params.b_stride);
}

fn tile_at(columns: TileColumns, base: u32, k: u32, lane: u32) -> Tile {
    let row = (k + (lane >> 2u)) * params.b_stride;
    let row0 = base + min(row, columns.last);
    let row2 = base + min(row + 2u * params.b_stride, columns.last);
    return tile_of_rows(b4(row0 + columns.left), b4(row0 + columns.right), b4(row2 + columns.left), b4(row2 + columns.right), lane);
}
