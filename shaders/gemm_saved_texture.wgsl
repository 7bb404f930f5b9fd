// gemm_saved_texture: the saved activation output of an epilogue, as a texture of vec4s (see gemm_a_texture). A part of the gemm_rows_* kernels.

@group(0) @binding(5) var saved: texture_storage_2d<rgba32float, read>;

// Four floats; the address is in floats and a multiple of four.
fn saved4(address: u32) -> vec4<f32> {
    let texel = address >> 2u;
    return textureLoad(saved, vec2<u32>(texel & 1023u, texel >> 10u));
}
