// Part: the stores of an optimiser with one moment as buffers to write, and as textures that mirror them to read: the sequence copies each
// before the update. momentum_buffers is its counterpart.

@group(0) @binding(2) var grads: texture_storage_2d<rgba32float, read>;
@group(0) @binding(3) var old_values: texture_storage_2d<rgba32float, read>;
@group(0) @binding(4) var old_momenta: texture_storage_2d<rgba32float, read>;
@group(0) @binding(5) var<storage, read> factor: array<f32>;
@group(0) @binding(6) var<storage, read_write> values: array<Item>;
@group(0) @binding(7) var<storage, read_write> momenta: array<Item>;
@group(0) @binding(8) var<storage, read_write> averages: array<Item>;
@group(0) @binding(9) var<storage, read_write> squares: array<f32>;

fn load_grad(i: u32) -> Value {
    let at = texel(2u * i);
    return Value(textureLoad(grads, at), textureLoad(grads, at + NEXT));
}

fn load_value(i: u32) -> Value {
    let at = texel(2u * i);
    return Value(textureLoad(old_values, at), textureLoad(old_values, at + NEXT));
}

fn load_momentum(i: u32) -> Value {
    let at = texel(2u * i);
    return Value(textureLoad(old_momenta, at), textureLoad(old_momenta, at + NEXT));
}
