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
// this tensor's first one: a micro-batch takes its part of the whole batch's draw.
// Four channels of one pixel per invocation. Parts: threefry, normal. Host: src/ops/noise.rs. Twin: noise::noise_twin.

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
