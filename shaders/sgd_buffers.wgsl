// Part: the stores of sgd as buffers. sgd_textures is its counterpart.

@group(0) @binding(2) var<storage, read> grads: array<Item>;
@group(0) @binding(3) var<storage, read_write> values: array<Item>;
@group(0) @binding(4) var<storage, read_write> momenta: array<Item>;

fn load_grad(i: u32) -> Value {
    return unpack(grads[i]);
}

fn load_value(i: u32) -> Value {
    return unpack(values[i]);
}

fn load_momentum(i: u32) -> Value {
    return unpack(momenta[i]);
}
