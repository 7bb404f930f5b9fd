// gemm_a_vec4: operand A as vec4s. Addresses are in floats and multiples of four.
// A part of the gemm kernels; gemm_a_texture is its counterpart.

@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;

fn a4(address: u32) -> vec4<f32> {
    return a[address >> 2u];
}

// The same where it exists, else zero.
fn a4_if(exists: bool, address: u32) -> vec4<f32> {
    return select(vec4<f32>(), a4(select(0u, address, exists)), exists);
}
