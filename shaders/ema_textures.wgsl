// Part: the stores of ema as textures that mirror them to read, and the averages as a buffer to write.

@group(0) @binding(2) var values: texture_storage_2d<rgba32float, read>;
@group(0) @binding(3) var old_averages: texture_storage_2d<rgba32float, read>;
@group(0) @binding(4) var<storage, read_write> averages: array<Item>;

fn load_value(i: u32) -> Value {
    let at = texel(2u * i);
    return Value(textureLoad(values, at), textureLoad(values, at + NEXT));
}

fn load_average(i: u32) -> Value {
    let at = texel(2u * i);
    return Value(textureLoad(old_averages, at), textureLoad(old_averages, at + NEXT));
}
