// Dropout: x times a random mask of zeros and 1 / (1 - p), drawn here. torch.nn.functional.dropout, counter-based.
//
//   (w0, w1) = threefry(key, (pair, draw))      pair = e / 2 for the logical element e = ((image C + c) H + h) W + w
//   word     = w0 for even e, w1 for odd e
//   y        = x * (word >= threshold ? scale : 0)      threshold = p 2^32, scale = 1 / (1 - p)
//
// | tensor | shape                  | direction |
// |--------|------------------------|-----------|
// | x      | (N, C[, H, W])         | in        |
// | y      | that of x              | out       |
//
// The draw counter comes from the step row, or from the parameters where slot is FIXED. The row also says how many images of the draw come
// before this tensor's first one. A batch of several groups (reals and fakes) numbers its images in turn, so that a micro-batch of every
// group takes its part of the whole batch's mask: image j of group g is number (skipped + j) * groups + g.
// Work: one item (one or two vec4 of channels, see item_*.wgsl) per invocation. Parts: threefry.
// Host: src/ops/dropout.rs   Twin: dropout_mask

struct DropoutParams {
    // Items: rows * columns / WIDTH.
    count: u32,
    // vec4 columns of a row.
    columns: u32,
    // Channels of a row without padding.
    channels: u32,
    // H * W.
    pixels: u32,
    key0: u32,
    key1: u32,
    slot: u32,
    draw: u32,
    threshold: u32,
    scale: f32,
    groups: u32,
    // Images of a group.
    images: u32,
}

struct StepRow { slots: array<vec4<u32>, 32> }

@group(0) @binding(0) var<uniform> params: DropoutParams;
@group(0) @binding(1) var<uniform> row: StepRow;
// Binding 2 is x: in2_*.wgsl.
@group(0) @binding(3) var<storage, read_write> y: array<Item>;

const FIXED = 0xffffffffu;

// The mask of the vec4 at `at`.
fn mask(p: DropoutParams, draw: u32, skipped: u32, at: u32) -> vec4<f32> {
    let position = at / p.columns;
    let image = position / p.pixels;
    let number = (skipped + image % p.images) * p.groups + image / p.images;
    let channel = vec4<u32>(4u * (at % p.columns)) + vec4<u32>(0u, 1u, 2u, 3u);
    let element = (number * p.channels + channel) * p.pixels + vec4<u32>(position % p.pixels);
    let words = threefry(vec2<u32>(p.key0, p.key1), element >> vec4<u32>(1u), vec4<u32>(draw));
    let word = select(words.a, words.b, (element & vec4<u32>(1u)) == vec4<u32>(1u));
    return select(vec4<f32>(0.0), vec4<f32>(p.scale), word >= vec4<u32>(p.threshold));
}

@compute @workgroup_size(64)
fn dropout(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    let is_fixed = p.slot == FIXED;
    let from_row = row.slots[select(p.slot, 0u, is_fixed)];
    let draw = select(from_row.z, p.draw, is_fixed);
    let skipped = select(from_row.w, 0u, is_fixed);

    let item = load2(index);
    y[index] = join(
        first(item) * mask(p, draw, skipped, index * WIDTH),
        second(item) * mask(p, draw, skipped, index * WIDTH + 1u),
    );
}
