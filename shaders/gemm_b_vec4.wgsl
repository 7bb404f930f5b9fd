// gemm_b_vec4: operand B as vec4s. Addresses are in floats and multiples of four.
// A part of the gemm kernels; gemm_b_texture is its counterpart.

@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;

fn b4(address: u32) -> vec4<f32> {
    return b[address >> 2u];
}

// The same where it exists, else zero.
fn b4_if(exists: bool, address: u32) -> vec4<f32> {
    return select(vec4<f32>(), b4(select(0u, address, exists)), exists);
}
