// gemm_lanes4: subgroups of four lanes, one quad. A part of gemm_rows_broadcast and gemm_cols_broadcast; gemm_lanes8 is its counterpart.

const LANES = 4u;
