// Part: one step of an exponential moving average, ema + (1 - decay) (p - ema). A decay below one half is computed from the other end,
// p - decay (p - ema), as torch does, so that decay 0 copies p and decay 1 keeps ema exactly.

fn averaged(average: vec4<f32>, value: vec4<f32>, decay: f32) -> vec4<f32> {
    let from_average = average + (1.0 - decay) * (value - average);
    let from_value = value - decay * (value - average);
    return select(from_average, from_value, decay < 0.5);
}
