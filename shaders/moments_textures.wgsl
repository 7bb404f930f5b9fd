// Part: the stores of an optimiser with two moments as buffers to write, and as textures that mirror them to read: the sequence copies each
// before the update. moments_buffers is its counterpart.

@group(0) @binding(2) var grads: texture_storage_2d<rgba32float, read>;
@group(0) @binding(3) var old_values: texture_storage_2d<rgba32float, read>;
@group(0) @binding(4) var old_moments1: texture_storage_2d<rgba32float, read>;
@group(0) @binding(5) var old_moments2: texture_storage_2d<rgba32float, read>;
@group(0) @binding(6) var<storage, read> factor: array<f32>;
@group(0) @binding(7) var<storage, read_write> values: array<Item>;
@group(0) @binding(8) var<storage, read_write> moments1: array<Item>;
@group(0) @binding(9) var<storage, read_write> moments2: array<Item>;
@group(0) @binding(10) var<storage, read_write> averages: array<Item>;
@group(0) @binding(11) var<storage, read_write> squares: array<f32>;

fn load_grad(i: u32) -> Value {
    let at = texel(2u * i);
    return Value(textureLoad(grads, at), textureLoad(grads, at + NEXT));
}

fn load_value(i: u32) -> Value {
    let at = texel(2u * i);
    return Value(textureLoad(old_values, at), textureLoad(old_values, at + NEXT));
}

fn load_m(i: u32) -> Value {
    let at = texel(2u * i);
    return Value(textureLoad(old_moments1, at), textureLoad(old_moments1, at + NEXT));
}

fn load_v(i: u32) -> Value {
    let at = texel(2u * i);
    return Value(textureLoad(old_moments2, at), textureLoad(old_moments2, at + NEXT));
}
