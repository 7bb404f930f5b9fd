// gemm_multiply_add: sum + block * a, k by k. A part of gemm_rows_broadcast, gemm_cols_broadcast and gemm_rows_narrow.
// Not `sum += block * a`, of which Mesa 26.2 makes fused multiply-adds whose sums it keeps in memory, two k at a time: two thirds of the speed. So does
// it with `fma`. Older versions have no fused ones, and are as fast either way.

fn multiply_add(sum: vec4<f32>, block: mat4x4<f32>, a: vec4<f32>) -> vec4<f32> {
    return sum + block[0] * a.x + block[1] * a.y + block[2] * a.z + block[3] * a.w;
}
