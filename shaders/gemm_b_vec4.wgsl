// gemm_b_vec4: operand B as vec4s. Addresses are in floats and multiples of four.
// A part of the gemm kernels. gemm_b_u64 offers the same b8 with one load instead of two.

@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;

fn b4(address: u32) -> vec4<f32> {
    return b[address >> 2u];
}

// The four floats at `lo` and the four at `hi`; the two addresses need not be neighbours.
fn b8(lo: u32, hi: u32) -> Vec8 {
    return Vec8(b[lo >> 2u], b[hi >> 2u]);
}
