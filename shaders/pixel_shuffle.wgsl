// Spreads groups of channels over blocks of pixels.
// PyTorch: torch.nn.PixelShuffle(r)
//
//   y[n, c, h * r + i, w * r + j] = x[n, (c * r + i) * r + j, h, w]
//
// | tensor | shape                | direction |
// |--------|----------------------|-----------|
// | x      | (N, C * r * r, H, W) | in        |
// | y      | (N, C, H * r, W * r) | out       |
//
// Work: one vec4 of channels of y per invocation.
// Host: src/ops/pixel_shuffle.rs   Twin: pixel_shuffle

struct PixelShuffleParams {
    // vec4 items of y.
    count: u32,
    // vec4 columns of a row of y, and its channels without padding.
    columns: u32,
    channels: u32,
    // Pixels of the map with more channels.
    height: u32,
    width: u32,
    // Pixels of the other along each axis for one of them.
    factor: u32,
    // Floats of a physical row of x.
    x_stride: u32,
    reserved0: u32,
}

@group(0) @binding(0) var<uniform> params: PixelShuffleParams;
// Binding 1 is x: scalar1_*.wgsl.
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn pixel_shuffle(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    let at = pixel_of(index, p.columns, p.height * p.factor, p.width * p.factor);
    let row = (at.image * p.height + at.y / p.factor) * p.width + at.x / p.factor;
    // Padding lanes repeat the last channel's address, and are masked below.
    let channel = min(vec4<u32>(at.column * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.channels - 1u));
    let shuffled = (channel * p.factor + at.y % p.factor) * p.factor + at.x % p.factor;
    let place = row * p.x_stride + shuffled;
    let value = vec4<f32>(scalar1(place.x), scalar1(place.y), scalar1(place.z), scalar1(place.w));
    y[index] = mask_channels(value, at.column, p.channels);
}
