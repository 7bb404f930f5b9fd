// gemm_b_texture: operand B as a texture of vec4s, filled by a copy. Addresses are in floats and multiples of four.
// A part of the gemm kernels; gemm_b_vec4 is its counterpart. Software adapters read buffers lane by lane and component by component, but
// textures by whole vectors: up to eighteen times faster. vec4 i of the operand is texel (i % 1024, i / 1024).

@group(0) @binding(2) var b: texture_storage_2d<rgba32float, read>;

fn b4(address: u32) -> vec4<f32> {
    let texel = address >> 2u;
    return textureLoad(b, vec2<u32>(texel & 1023u, texel >> 10u));
}

// The same where it exists, else zero: what lies beside the 1024 texels of a row is never written. One select of a coordinate, not four of numbers.
fn b4_if(exists: bool, address: u32) -> vec4<f32> {
    let texel = select(0u, address, exists) >> 2u;
    return textureLoad(b, vec2<u32>(select(1024u, texel & 1023u, exists), texel >> 10u));
}
