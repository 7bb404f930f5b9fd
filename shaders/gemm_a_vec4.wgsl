// gemm_a_vec4: operand A as vec4s. Addresses are in floats and multiples of four.
// A part of the gemm kernels. gemm_a_u64 offers the same a8 with one load instead of two.

@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;

fn a4(address: u32) -> vec4<f32> {
    return a[address >> 2u];
}

// The four floats at `lo` and the four at `hi`; the two addresses need not be neighbours.
fn a8(lo: u32, hi: u32) -> Vec8 {
    return Vec8(a[lo >> 2u], a[hi >> 2u]);
}
