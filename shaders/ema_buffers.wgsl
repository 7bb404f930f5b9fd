// Part: the stores of ema as buffers. ema_textures is its counterpart.

@group(0) @binding(2) var<storage, read> values: array<Item>;
@group(0) @binding(3) var<storage, read_write> averages: array<Item>;

fn load_value(i: u32) -> Value {
    return unpack(values[i]);
}

fn load_average(i: u32) -> Value {
    return unpack(averages[i]);
}
