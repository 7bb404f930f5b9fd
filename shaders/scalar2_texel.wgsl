// Part: the input at binding 2 is a texture that mirrors the operand, and is read by single floats.

@group(0) @binding(2) var in2: texture_storage_2d<rgba32float, read>;

fn scalar2(index: u32) -> f32 {
    return textureLoad(in2, texel(index >> 2u))[index & 3u];
}
