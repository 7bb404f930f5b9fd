// Part: an item is two vec4, moved as four 64-bit words (software adapters pay per word, not per byte).

// An item in memory, and its value.
alias Item = vec4<u64>;
alias Value = mat2x4<f32>;

// vec4 groups of an item.
const WIDTH: u32 = 2u;

fn floats(low: u64, high: u64) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(u32(low), u32(low >> 32u), u32(high), u32(high >> 32u)));
}

fn unpack(item: Item) -> Value {
    return Value(floats(item.x, item.y), floats(item.z, item.w));
}

fn first(value: Value) -> vec4<f32> {
    return value[0];
}

fn second(value: Value) -> vec4<f32> {
    return value[1];
}

fn join(a: vec4<f32>, b: vec4<f32>) -> Item {
    let low = bitcast<vec4<u32>>(a);
    let high = bitcast<vec4<u32>>(b);
    return vec4<u64>(
        u64(low.x) | (u64(low.y) << 32u),
        u64(low.z) | (u64(low.w) << 32u),
        u64(high.x) | (u64(high.y) << 32u),
        u64(high.z) | (u64(high.w) << 32u),
    );
}

// Zeroes the padding lanes of a vec4 in column `column` of a row.
fn mask_channels(value: vec4<f32>, column: u32, channels: u32) -> vec4<f32> {
    let channel = vec4<u32>(column * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    return select(vec4<f32>(0.0), value, channel < vec4<u32>(channels));
}
