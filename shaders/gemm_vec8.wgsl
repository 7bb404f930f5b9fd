// gemm_vec8: eight consecutive floats of one operand, the unit in which the gemm kernels load.
// A part, not a kernel: joined in front of gemm_a_*, gemm_b_* and the cores by the kernel table in src/ops/gemm/kernels.rs.

struct Vec8 {
    lo: vec4<f32>,
    hi: vec4<f32>,
}
