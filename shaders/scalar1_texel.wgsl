// Part: the input at binding 1 is a texture that mirrors the operand, and is read by single floats.

@group(0) @binding(1) var in1: texture_storage_2d<rgba32float, read>;

fn scalar1(index: u32) -> f32 {
    return textureLoad(in1, texel(index >> 2u))[index & 3u];
}
