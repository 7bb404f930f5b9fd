// gemm_b_texture: operand B as a texture of vec4s, filled by a copy. Addresses are in floats and multiples of four.
// A part of the gemm kernels. Software adapters read buffers lane by lane and component by component, but textures by whole vectors: up to
// eighteen times faster. Texel i of the operand is texel (i % 1024, i / 1024).

@group(0) @binding(2) var b: texture_storage_2d<rgba32float, read>;

fn b4(address: u32) -> vec4<f32> {
    let texel = address >> 2u;
    return textureLoad(b, vec2<u32>(texel & 1023u, texel >> 10u));
}

// The four floats at `lo` and the four at `hi`; the two addresses need not be neighbours.
fn b8(lo: u32, hi: u32) -> Vec8 {
    return Vec8(b4(lo), b4(hi));
}
