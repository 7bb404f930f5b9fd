// Part: an item is one vec4. `second` and the second argument of `join` are dead code, which compilers drop.

// An item in memory, and its value.
alias Item = vec4<f32>;
alias Value = vec4<f32>;

// vec4 groups of an item.
const WIDTH: u32 = 1u;

fn unpack(item: Item) -> Value {
    return item;
}

fn first(value: Value) -> vec4<f32> {
    return value;
}

fn second(value: Value) -> vec4<f32> {
    return value;
}

fn join(a: vec4<f32>, b: vec4<f32>) -> Item {
    return a;
}

// Zeroes the padding lanes of a vec4 in column `column` of a row.
fn mask_channels(value: vec4<f32>, column: u32, channels: u32) -> vec4<f32> {
    let channel = vec4<u32>(column * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    return select(vec4<f32>(0.0), value, channel < vec4<u32>(channels));
}
