// Part: the stores of an optimiser with one moment as buffers. momentum_textures is its counterpart.

@group(0) @binding(2) var<storage, read> grads: array<Item>;
@group(0) @binding(3) var<storage, read> factor: array<f32>;
@group(0) @binding(4) var<storage, read_write> values: array<Item>;
@group(0) @binding(5) var<storage, read_write> momenta: array<Item>;
@group(0) @binding(6) var<storage, read_write> averages: array<Item>;
@group(0) @binding(7) var<storage, read_write> squares: array<f32>;

fn load_grad(i: u32) -> Value {
    return unpack(grads[i]);
}

fn load_value(i: u32) -> Value {
    return unpack(values[i]);
}

fn load_momentum(i: u32) -> Value {
    return unpack(momenta[i]);
}
