// Part: the input at binding 2 is a texture that mirrors the operand, one vec4 an item; as in2_texture otherwise.

@group(0) @binding(2) var in2: texture_storage_2d<rgba32float, read>;

fn load2(index: u32) -> Value {
    return textureLoad(in2, texel(index));
}
