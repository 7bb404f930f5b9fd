// gemm_a_vec4: operand A as vec4s. Addresses are in floats and multiples of four.
// A part of the gemm kernels; gemm_a_texture is its counterpart.

@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;

fn a4(address: u32) -> vec4<f32> {
    return a[address >> 2u];
}
