// Part: the input at binding 1 is a texture that mirrors the operand, one vec4 an item; as in1_texture otherwise.

@group(0) @binding(1) var in1: texture_storage_2d<rgba32float, read>;

fn load1(index: u32) -> Value {
    return textureLoad(in1, texel(index));
}
