// Part: the input at binding 2 is a texture that mirrors the operand, two vec4 an item. Software adapters read textures several times faster
// than buffers.

@group(0) @binding(2) var in2: texture_storage_2d<rgba32float, read>;

fn load2(index: u32) -> Value {
    let at = texel(2u * index);
    return Value(textureLoad(in2, at), textureLoad(in2, at + NEXT));
}
