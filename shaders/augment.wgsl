// Draws an augmentation for each image of a batch, and resamples the image by it. torchvision's RandomHorizontalFlip, RandomVerticalFlip and
// RandomAffine; the sampling is torch.nn.functional.grid_sample(affine_grid(theta), align_corners=False), bilinear.
//
//   (a, b)    = threefry(key, (4 image + k, draw)), k = 0..3: eight words an image
//   dice      mirror a.0, flip a.1, rotate a.2, scale a.3, translate b.2; a transform happens where its word / 2^8 is below its threshold
//   amounts   theta = angle signed(b.0), s = scale_low + scale_span unit(b.1), t = translate * side * signed(each half of b.3)
//   source    of the pixel (x, y), from the image's centre c:  p = R(theta)^-1 ((x, y) - c - t) / s, mirrored and flipped, + c
//   out       the pixels around p, weighted bilinearly; outside the image, its nearest pixel or a constant
//
// Where no rotation, scaling or translation happens, p is a pixel's centre to the bit, and out a copy of that pixel. Sine and cosine are
// polynomials of a quarter of the angle, doubled twice: WGSL only promises an absolute error of 2^-11 for sin.
//
// | tensor | shape | direction |
// |---|---|---|
// | x | (N, C, H, W) | in |
// | out | (N, C, H, W), or (N, C H W) in the same logical order; padding lanes zero | out |
//
// The draw counter comes from the step row, or from the parameters where slot is FIXED. The row also says how many images of the draw come before
// this batch's first one: a micro-batch takes its part of the whole batch's draw.
// Work: one vec4 of out per invocation, which draws its image's augmentation for itself. Parts: threefry.
// Host: src/ops/augment.rs   Twins: augment::twin::transforms, augment::twin::resample

struct AugmentParams {
    // vec4s of out, of an image of out, and of a pixel of x.
    count: u32,
    items: u32,
    columns: u32,
    channels: u32,
    height: u32,
    width: u32,
    key0: u32,
    key1: u32,
    slot: u32,
    draw: u32,
    // Thresholds: probabilities times 2^24.
    mirror: u32,
    flip: u32,
    rotate: u32,
    scale: u32,
    translate: u32,
    // 1 if pixels outside the image are `fill`, 0 if they repeat the nearest one.
    is_constant: u32,
    // A quarter of the largest angle, in radians.
    quarter_angle: f32,
    scale_low: f32,
    scale_span: f32,
    // Largest translations in pixels.
    translate_y: f32,
    translate_x: f32,
    fill: f32,
    reserved0: u32,
    reserved1: u32,
}

struct StepRow { slots: array<vec4<u32>, 32> }

@group(0) @binding(0) var<uniform> params: AugmentParams;
@group(0) @binding(1) var<uniform> row: StepRow;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

// 1 if out is (N, C H W).
override FLAT: u32;

const FIXED = 0xffffffffu;

// From output pixels to where they come from, both from the centre: source = matrix (position - shift).
struct Transform {
    matrix: mat2x2<f32>,
    shift: vec2<f32>,
}

// The four pixels around a source, their weights, and the weight of what lies outside the image.
struct Taps {
    pixel: vec4<u32>,
    weight: vec4<f32>,
    outside: f32,
}

fn happens(word: u32, threshold: u32) -> bool {
    return (word >> 8u) < threshold;
}

// Uniform on [-1, 1), exact.
fn signed_unit(word: u32) -> f32 {
    return f32(word >> 8u) * (1.0 / 8388608.0) - 1.0;
}

fn transform_of(image: u32, draw: u32, p: AugmentParams) -> Transform {
    let words = threefry(vec2<u32>(p.key0, p.key1), vec4<u32>(4u * image) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(draw));
    let side = vec2<f32>(
        select(1.0, -1.0, happens(words.a.x, p.mirror)),
        select(1.0, -1.0, happens(words.a.y, p.flip)),
    );

    let q = signed_unit(words.b.x) * p.quarter_angle;
    let q2 = q * q;
    let s1 = q * (1.0 + q2 * (-1.0 / 6.0 + q2 * (1.0 / 120.0 + q2 * (-1.0 / 5040.0 + q2 * (1.0 / 362880.0)))));
    let c1 = 1.0 + q2 * (-0.5 + q2 * (1.0 / 24.0 + q2 * (-1.0 / 720.0 + q2 * (1.0 / 40320.0 - q2 * (1.0 / 3628800.0)))));
    let s2 = 2.0 * s1 * c1;
    let c2 = 1.0 - 2.0 * s1 * s1;
    let turns = happens(words.a.z, p.rotate);
    let sine = select(0.0, 2.0 * s2 * c2, turns);
    let cosine = select(1.0, 1.0 - 2.0 * s2 * s2, turns);

    // A quotient of 1 by 1 need not be 1.
    let zoom = p.scale_low + p.scale_span * (f32(words.b.y >> 8u) * (1.0 / 16777216.0));
    let inverse = select(1.0, 1.0 / zoom, happens(words.a.w, p.scale));

    // The middle of one of 2^16 steps from -1 to 1, exact.
    let halves = vec2<f32>(vec2<u32>(words.b.w & 0xffffu, words.b.w >> 16u) * 2u + vec2<u32>(1u));
    let shift = (halves * (1.0 / 65536.0) - 1.0) * vec2<f32>(p.translate_x, p.translate_y);

    // Columns.
    let matrix = mat2x2<f32>(side * inverse * vec2<f32>(cosine, -sine), side * inverse * vec2<f32>(sine, cosine));
    return Transform(matrix, select(vec2<f32>(0.0), shift, happens(words.b.z, p.translate)));
}

fn taps_of(pixel: u32, t: Transform, p: AugmentParams) -> Taps {
    let size = vec2<f32>(f32(p.width), f32(p.height));
    let centre = 0.5 * (size - 1.0);
    let at = t.matrix * (vec2<f32>(f32(pixel % p.width), f32(pixel / p.width)) - centre - t.shift) + centre;
    let low = floor(at);
    let part = at - low;
    let across = vec4<f32>(low.x, low.x + 1.0, low.x, low.x + 1.0);
    let down = vec4<f32>(low.y, low.y, low.y + 1.0, low.y + 1.0);
    let weight = vec4<f32>(1.0 - part.x, part.x, 1.0 - part.x, part.x) * vec4<f32>(1.0 - part.y, 1.0 - part.y, part.y, part.y);
    let last = size - 1.0;
    let column = clamp(across, vec4<f32>(0.0), vec4<f32>(last.x));
    let line = clamp(down, vec4<f32>(0.0), vec4<f32>(last.y));
    let is_out = (column != across) | (line != down);
    let lost = select(vec4<f32>(0.0), weight, is_out & vec4<bool>(p.is_constant != 0u));
    return Taps(vec4<u32>(line) * p.width + vec4<u32>(column), weight - lost, dot(lost, vec4<f32>(1.0)));
}

@compute @workgroup_size(64)
fn augment(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if i >= p.count {
        return;
    }
    let is_fixed = p.slot == FIXED;
    let from_row = row.slots[select(p.slot, 0u, is_fixed)];
    let draw = select(from_row.z, p.draw, is_fixed);
    let skipped = select(from_row.w, 0u, is_fixed);

    let image = i / p.items;
    let pixels = p.height * p.width;
    let first = image * pixels;
    let item = i % p.items;
    let t = transform_of(skipped + image, draw, p);

    if FLAT != 0u {
        // Four logical elements, each a channel of a pixel of its own.
        var value = vec4<f32>(0.0);
        for (var k = 0u; k < 4u; k++) {
            let element = 4u * item + k;
            if element < p.channels * pixels {
                let taps = taps_of(element % pixels, t, p);
                let channel = element / pixels;
                let at = (vec4<u32>(first) + taps.pixel) * p.columns + vec4<u32>(channel >> 2u);
                let c = channel & 3u;
                let near = vec4<f32>(x[at.x][c], x[at.y][c], x[at.z][c], x[at.w][c]);
                value[k] = dot(taps.weight, near) + taps.outside * p.fill;
            }
        }
        out[i] = value;
        return;
    }
    let taps = taps_of(item / p.columns, t, p);
    let column = item % p.columns;
    let at = (vec4<u32>(first) + taps.pixel) * p.columns + vec4<u32>(column);
    let value = taps.weight.x * x[at.x] + taps.weight.y * x[at.y] + taps.weight.z * x[at.z] + taps.weight.w * x[at.w];
    let channel = vec4<u32>(4u * column) + vec4<u32>(0u, 1u, 2u, 3u);
    out[i] = select(vec4<f32>(0.0), value + taps.outside * p.fill, channel < vec4<u32>(p.channels));
}
