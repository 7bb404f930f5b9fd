// Part: the stores of accumulate as buffers. accumulate_textures is its counterpart.

@group(0) @binding(2) var<storage, read> grads: array<Item>;
@group(0) @binding(3) var<storage, read_write> sums: array<Item>;

fn load_grad(i: u32) -> Value {
    return unpack(grads[i]);
}

fn load_sum(i: u32) -> Value {
    return unpack(sums[i]);
}
