// Part: smooth activations and their slopes, and the bounded logarithms of binary cross-entropy. Uses activations.wgsl.

// e^v - 1 for v <= 0: the series where the difference would cancel.
fn exp_minus_1(v: vec4<f32>) -> vec4<f32> {
    let series = 1.0 + v * (1.0 / 2.0) * (1.0 + v * (1.0 / 3.0) * (1.0 + v * (1.0 / 4.0) * (1.0 + v * (1.0 / 5.0)
        * (1.0 + v * (1.0 / 6.0) * (1.0 + v * (1.0 / 7.0) * (1.0 + v * (1.0 / 8.0)))))));
    return select(exp(v) - 1.0, v * series, v > vec4<f32>(-0.5));
}

fn elu(v: vec4<f32>, alpha: f32) -> vec4<f32> {
    return keep_nan(v, select(alpha * exp_minus_1(min(v, vec4<f32>(0.0))), v, v > vec4<f32>(0.0)));
}

fn silu_slope(v: vec4<f32>) -> vec4<f32> {
    let s = stable_sigmoid(v);
    return s * (1.0 + v * (1.0 - s));
}

// The normal density has underflowed beyond.
const FAR: f32 = 16.0;

// e^(-v^2 / 2)
fn bell(v: vec4<f32>) -> vec4<f32> {
    let t = min(abs(v), vec4<f32>(FAR));
    return exp(-0.5 * t * t);
}

// The normal distribution Phi(v) = (1 + erf(v / sqrt 2)) / 2, to a few units in the last place on either side of 0. No cancellation where
// it is small: Phi(-t) = e^(-t^2 / 2) r(t) for t >= 0, with r(t) = erfcx(t / sqrt 2) / 2 as a polynomial in u = 1 / (1 + 0.3 t), the
// Chebyshev fit of relative error 3.5e-9 on [0, 14].
fn normal_cdf(v: vec4<f32>) -> vec4<f32> {
    let u = 1.0 / (1.0 + 0.3 * min(abs(v), vec4<f32>(FAR)));
    var r = -0.0206129476 * u + 0.112376422;
    r = r * u - 0.228069037;
    r = r * u + 0.191583738;
    r = r * u - 0.0792490393;
    r = r * u + 0.0960587412;
    r = r * u + 0.0784252658;
    r = r * u + 0.110227391;
    r = r * u + 0.119572833;
    r = r * u + 0.119686633;
    let tail = bell(v) * (r * u);
    return select(1.0 - tail, tail, v < vec4<f32>(0.0));
}

// Phi(v) + v phi(v)
fn gelu_slope(v: vec4<f32>) -> vec4<f32> {
    const DENSITY_AT_0 = 0.398942280;
    let near = clamp(v, vec4<f32>(-FAR), vec4<f32>(FAR));
    return keep_nan(v, normal_cdf(v) + near * (DENSITY_AT_0 * bell(v)));
}

// Below the smallest normal number an adapter may take a value for 0, whose logarithm WGSL leaves open.
const TINY: f32 = 1.17549435e-38;

// log(p), at least -100 as in torch.nn.functional.binary_cross_entropy.
fn bounded_log(p: vec4<f32>) -> vec4<f32> {
    let l = log(p);
    return select(keep_nan(l, max(l, vec4<f32>(-100.0))), vec4<f32>(-100.0), abs(p) < vec4<f32>(TINY));
}

// log(1 - p), at least -100: three terms of the series where 1 - p would round p away.
fn bounded_log_rest(p: vec4<f32>) -> vec4<f32> {
    let series = -p * (1.0 + p * (0.5 + p * (1.0 / 3.0)));
    return select(bounded_log(1.0 - p), series, abs(p) < vec4<f32>(1e-3));
}
