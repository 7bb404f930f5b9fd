// Part: the stores of accumulate as textures that mirror them to read, and the sums as a buffer to write.

@group(0) @binding(2) var grads: texture_storage_2d<rgba32float, read>;
@group(0) @binding(3) var old_sums: texture_storage_2d<rgba32float, read>;
@group(0) @binding(4) var<storage, read_write> sums: array<Item>;

fn load_grad(i: u32) -> Value {
    let at = texel(2u * i);
    return Value(textureLoad(grads, at), textureLoad(grads, at + NEXT));
}

fn load_sum(i: u32) -> Value {
    let at = texel(2u * i);
    return Value(textureLoad(old_sums, at), textureLoad(old_sums, at + NEXT));
}
