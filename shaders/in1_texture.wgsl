// Part: the input at binding 1 is a texture that mirrors the operand, two vec4 an item. Software adapters read textures several times faster
// than buffers.

@group(0) @binding(1) var in1: texture_storage_2d<rgba32float, read>;

fn load1(index: u32) -> Value {
    let at = texel(2u * index);
    return Value(textureLoad(in1, at), textureLoad(in1, at + NEXT));
}
