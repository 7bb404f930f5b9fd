// Fills a tensor with random numbers: raw words, uniform on [0, 1) or [-1, 1), or standard normal. torch.rand and torch.randn, counter-based.
//
//   (w0, w1) = threefry(key, (pair, draw))           pair = e / 2 for the logical element e = ((n C + c) H + h) W + w
//   bits      w0 for even e, w1 for odd e
//   uniform   floor(word / 2^8) / 2^24               and 2 u - 1 on [-1, 1); exact
//   normal    u1 = (floor(w0 / 2^8) + 1) / 2^24 in (0, 1], u2 = floor(w1 / 2^8) / 2^24 in [0, 1)
//             sqrt(-2 ln u1) cos(2 pi u2) for even e, sin for odd e (Box and Muller, 1958)
//
// | tensor | shape | direction |
// |---|---|---|
// | out | (N, C) or (N, C, H, W), padding lanes zero; 32-bit words, so that raw bits survive | out |
//
// The draw counter comes from the step row, or from the parameters where slot is FIXED. The row also says how many images of the draw come before
// this tensor's first one: a micro-batch takes its part of the whole batch's draw. Logarithm and sine are computed here: WGSL only promises
// an absolute error of 2^-21 for log and 2^-11 for sin, and numbers should not depend on the driver beyond f32 rounding.
// Four channels of one pixel per invocation. Parts: threefry. Host: src/ops/noise.rs. Twin: noise::noise_twin.

struct NoiseParams {
    items: u32,
    channels: u32,
    groups: u32,
    pixels: u32,
    key0: u32,
    key1: u32,
    slot: u32,
    draw: u32,
    distribution: u32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

struct StepRow { slots: array<vec4<u32>, 32> }

@group(0) @binding(0) var<uniform> params: NoiseParams;
@group(0) @binding(1) var<uniform> row: StepRow;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<u32>>;

const FIXED = 0xffffffffu;

const BITS = 0u;
const UNIFORM = 1u;
const UNIFORM_SIGNED = 2u;

// sqrt(-2 ln u1). The argument is (word >> 8) + 1, so u1 is in (0, 1] and the result in [0, 5.77].
fn radius(word: vec4<u32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(vec4<f32>((word >> vec4<u32>(8u)) + vec4<u32>(1u)));
    // u1 = 2^e m with m in [1/sqrt 2, sqrt 2), so that nothing cancels where u1 is near 1.
    var e = vec4<f32>(vec4<i32>(bits >> vec4<u32>(23u)) - vec4<i32>(127 + 24));
    var m = bitcast<vec4<f32>>((bits & vec4<u32>(0x007fffffu)) | vec4<u32>(0x3f800000u));
    let high = m >= vec4<f32>(1.41421356);
    m = select(m, 0.5 * m, high);
    e = select(e, e + 1.0, high);
    // ln m = 2 artanh s
    let s = (m - 1.0) / (m + 1.0);
    let s2 = s * s;
    let ln_m = 2.0 * s * (1.0 + s2 * (1.0 / 3.0 + s2 * (0.2 + s2 * (1.0 / 7.0 + s2 * (1.0 / 9.0)))));
    return sqrt(max(-2.0 * (e * 0.69314718 + ln_m), vec4<f32>(0.0)));
}

// cos(2 pi u2) where `odd` is 0, sin(2 pi u2) where it is 1; u2 = (word >> 8) / 2^24. The quadrant is exact integer arithmetic.
fn circle(word: vec4<u32>, odd: vec4<u32>) -> vec4<f32> {
    let turn = word >> vec4<u32>(8u);
    let nearest = (turn + vec4<u32>(1u << 21u)) >> vec4<u32>(22u);
    let x = vec4<f32>(vec4<i32>(turn) - vec4<i32>(nearest << vec4<u32>(22u))) * (6.28318531 / 16777216.0);
    let x2 = x * x;
    let sine = x * (1.0 + x2 * (-1.0 / 6.0 + x2 * (1.0 / 120.0 + x2 * (-1.0 / 5040.0 + x2 * (1.0 / 362880.0)))));
    let cosine = 1.0 + x2 * (-0.5 + x2 * (1.0 / 24.0 + x2 * (-1.0 / 720.0 + x2 * (1.0 / 40320.0 - x2 * (1.0 / 3628800.0)))));
    // sin is cos a quarter turn earlier; cos of the quadrants is cos, -sin, -cos, sin.
    let quadrant = (nearest + 3u * odd) & vec4<u32>(3u);
    let size = select(cosine, sine, (quadrant & vec4<u32>(1u)) == vec4<u32>(1u));
    return select(size, -size, ((quadrant + vec4<u32>(1u)) & vec4<u32>(2u)) == vec4<u32>(2u));
}

@compute @workgroup_size(64)
fn noise(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let p = params;
    let i = (wid.y * groups.x + wid.x) * 64u + lid;
    if i >= p.items { return; }

    let is_fixed = p.slot == FIXED;
    let from_row = row.slots[select(p.slot, 0u, is_fixed)];
    let draw = select(from_row.z, p.draw, is_fixed);
    let skipped = select(from_row.w, 0u, is_fixed);

    let pixel = i / p.groups;
    let image = skipped + pixel / p.pixels;
    let channel = vec4<u32>(4u * (i % p.groups)) + vec4<u32>(0u, 1u, 2u, 3u);
    let element = (image * p.channels + channel) * p.pixels + vec4<u32>(pixel % p.pixels);
    let odd = element & vec4<u32>(1u);

    let words = threefry(vec2<u32>(p.key0, p.key1), element >> vec4<u32>(1u), vec4<u32>(draw));
    let word = select(words.a, words.b, odd == vec4<u32>(1u));

    var bits = word;
    if p.distribution == UNIFORM {
        bits = bitcast<vec4<u32>>(vec4<f32>(word >> vec4<u32>(8u)) * (1.0 / 16777216.0));
    } else if p.distribution == UNIFORM_SIGNED {
        bits = bitcast<vec4<u32>>(vec4<f32>(word >> vec4<u32>(8u)) * (1.0 / 8388608.0) - 1.0);
    } else if p.distribution != BITS {
        bits = bitcast<vec4<u32>>(radius(words.a) * circle(words.b, odd));
    }
    out[i] = select(vec4<u32>(0u), bits, channel < vec4<u32>(p.channels));
}
