// Reshape in logical (NCHW) element order, between physical images that differ.
// PyTorch: x.reshape(shape), flatten, unflatten
//
//   y[i] = x[i] for every logical index i
//
// | tensor | shape                                  | direction |
// |--------|----------------------------------------|-----------|
// | x      | (N, C, H, W), as floats                | in        |
// | y      | (N', C', H', W'), as vec4 of channels  | out       |
//
// Work: one vec4 of y per invocation, gathering its four scalars.
// Host: src/ops/reshape.rs   Twin: reshape

struct ReshapeParams {
    // vec4 items of y: rows * columns.
    count: u32,
    // vec4 columns of a row of y.
    columns: u32,
    // Channels and pixels (H * W) of y.
    channels: u32,
    pixels: u32,
    // The same of x.
    x_channels: u32,
    x_pixels: u32,
    // Floats of a physical row of x.
    x_stride: u32,
    reserved0: u32,
}

@group(0) @binding(0) var<uniform> params: ReshapeParams;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn reshape(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    let row = index / p.columns;
    let channel = vec4<u32>(index % p.columns * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    // Padding lanes repeat the last channel's address, and are masked below.
    let c = min(channel, vec4<u32>(p.channels - 1u));
    let logical = (row / p.pixels * p.channels + c) * p.pixels + row % p.pixels;
    let plane = logical / p.x_pixels;
    let n = plane / p.x_channels;
    let at = (n * p.x_pixels + logical - plane * p.x_pixels) * p.x_stride + plane - n * p.x_channels;
    let value = vec4<f32>(x[at.x], x[at.y], x[at.z], x[at.w]);
    y[index] = select(vec4<f32>(0.0), value, channel < vec4<u32>(p.channels));
}
