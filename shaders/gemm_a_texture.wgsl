// gemm_a_texture: operand A as a texture of vec4s, filled by a copy. Addresses are in floats and multiples of four.
// A part of the gemm kernels. Software adapters read buffers lane by lane and component by component, but textures by whole vectors: up to
// eighteen times faster. Texel i of the operand is texel (i % 1024, i / 1024).

@group(0) @binding(1) var a: texture_storage_2d<rgba32float, read>;

fn a4(address: u32) -> vec4<f32> {
    let texel = address >> 2u;
    return textureLoad(a, vec2<u32>(texel & 1023u, texel >> 10u));
}

// The four floats at `lo` and the four at `hi`; the two addresses need not be neighbours.
fn a8(lo: u32, hi: u32) -> Vec8 {
    return Vec8(a4(lo), a4(hi));
}
