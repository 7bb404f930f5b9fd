// Expands axes of extent 1: the adjoint of a sum over axes.
// PyTorch: x.expand(N, C, H, W)
//
//   y[n, c, h, w] = x[n or 0, c or 0, h or 0, w or 0]
//
// | tensor | shape                                  | direction |
// |--------|----------------------------------------|-----------|
// | x      | (N, C, H, W), any extent may be 1      | in        |
// | y      | (N, C, H, W)                           | out       |
//
// Work: one vec4 of channels per invocation.
// Host: src/ops/reduce.rs   Twin: broadcast_axes

struct BroadcastAxesParams {
    // vec4 items of y: rows * columns.
    count: u32,
    // vec4 columns of a row of y.
    columns: u32,
    // Channels of y without padding.
    channels: u32,
    // Extents H and W of y.
    height: u32,
    width: u32,
    // 1 if x has one channel and y more.
    splat: u32,
    // Strides of x along N, H, W and columns in vec4 items, zero where its extent is 1.
    stride_n: u32,
    stride_h: u32,
    stride_w: u32,
    stride_c: u32,
    reserved0: u32,
    reserved1: u32,
}

@group(0) @binding(0) var<uniform> params: BroadcastAxesParams;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn broadcast_axes(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    let column = index % p.columns;
    let row = index / p.columns;
    let w = row % p.width;
    let h = row / p.width % p.height;
    let n = row / p.width / p.height;
    var value = x[n * p.stride_n + h * p.stride_h + w * p.stride_w + column * p.stride_c];
    value = select(value, value.xxxx, p.splat != 0u);
    let channel = vec4<u32>(column * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    y[index] = select(vec4<f32>(0.0), value, channel < vec4<u32>(p.channels));
}
