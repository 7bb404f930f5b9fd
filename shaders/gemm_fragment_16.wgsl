// gemm_fragment_16: fragments of 16 x 16 numbers in f16, which the 32 lanes of a subgroup multiply together, with sums in f32. A part of
// gemm_rows_matrix. The host asks for adapters that have such units and subgroups of no other size: src/gpu/matrix.rs.

const FRAGMENT = 16u; // rows, columns and k of a fragment
const LANES = 32u;    // of a subgroup

alias FragmentA = coop_mat16x16<f16, A>;
alias FragmentB = coop_mat16x16<f16, B>;
alias Sums = coop_mat16x16<f32, C>;
