// Sums of equal groups of channels within each row: of the first C / groups channels, of the next, and so on.
// PyTorch: x.view(N, groups, C // groups, H, W).sum(2)
//
//   y[row, g] = sum over the channels c of group g of x[row, c]
//
// | tensor | shape                             | direction |
// |--------|-----------------------------------|-----------|
// | x      | (N, C[, H, W])                    | in        |
// | y      | (N, groups[, H, W]), as floats    | out       |
//
// Work: one float of y, padding included, per invocation, which walks the vec4 columns that its group touches.
// Host: src/ops/channel_groups.rs   Twin: channel_group_sum

struct ChannelGroupSumParams {
    // Floats of y: rows * stride.
    count: u32,
    // Floats of a physical row of y.
    stride: u32,
    // Groups of channels, and channels of a group.
    groups: u32,
    size: u32,
    // vec4 columns of a row of x.
    columns: u32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

@group(0) @binding(0) var<uniform> params: ChannelGroupSumParams;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn channel_group_sum(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    let channels = index % p.stride;
    let row = index / p.stride;
    // The group's first channel and the one behind its last; none for a padding lane.
    let first = min(channels, p.groups) * p.size;
    let end = min(channels + 1u, p.groups) * p.size;
    var sum = vec4<f32>(0.0);
    for (var column = first / 4u; column * 4u < end; column++) {
        let value = x[row * p.columns + column];
        let channel = vec4<u32>(column * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
        sum += select(vec4<f32>(0.0), value, (channel >= vec4<u32>(first)) & (channel < vec4<u32>(end)));
    }
    y[index] = (sum.x + sum.y) + (sum.z + sum.w);
}
