// gemm_lanes8: subgroups of eight lanes, two quads. A part of gemm_rows_broadcast and gemm_cols_broadcast; gemm_lanes4 is its counterpart.

const LANES = 8u;
