// Part: activation functions that keep NaN and do not overflow.

// min and max may drop a NaN, and comparisons may assume that there is none: ask the bits.
fn keep_nan(v: vec4<f32>, value: vec4<f32>) -> vec4<f32> {
    return select(value, v, (bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u));
}

fn leaky_relu(v: vec4<f32>, slope: f32) -> vec4<f32> {
    return select(v * slope, v, v > vec4<f32>(0.0));
}

// Overflow of exp inside tanh gives NaN on some drivers; tanh(15) rounds to 1.
fn stable_tanh(v: vec4<f32>) -> vec4<f32> {
    return keep_nan(v, tanh(clamp(v, vec4<f32>(-15.0), vec4<f32>(15.0))));
}

// 1 / (1 + e^-v) for v >= 0, e^v / (1 + e^v) below: the exponential never exceeds 1.
fn stable_sigmoid(v: vec4<f32>) -> vec4<f32> {
    let e = exp(-abs(v));
    return keep_nan(v, select(e, vec4<f32>(1.0), v >= vec4<f32>(0.0)) / (1.0 + e));
}
