// Gives every channel of a group the group's value: the adjoint of channel_group_sum.
// PyTorch: x.repeat_interleave(C // groups, 1)
//
//   y[row, c] = x[row, c / size]
//
// | tensor | shape                             | direction |
// |--------|-----------------------------------|-----------|
// | x      | (N, groups[, H, W]), as floats    | in        |
// | y      | (N, C[, H, W])                    | out       |
//
// Work: one vec4 of channels per invocation.
// Host: src/ops/channel_groups.rs   Twin: channel_group_broadcast

struct ChannelGroupBroadcastParams {
    // vec4 items of y: rows * columns.
    count: u32,
    // vec4 columns of a row of y.
    columns: u32,
    // Channels of y without padding, and of a group.
    channels: u32,
    size: u32,
    // Floats of a physical row of x.
    x_stride: u32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

@group(0) @binding(0) var<uniform> params: ChannelGroupBroadcastParams;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn channel_group_broadcast(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    let channel = vec4<u32>(index % p.columns * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    // Padding lanes repeat the last channel's address, and are masked below.
    let at = vec4<u32>(index / p.columns * p.x_stride) + min(channel, vec4<u32>(p.channels - 1u)) / vec4<u32>(p.size);
    let value = vec4<f32>(x[at.x], x[at.y], x[at.z], x[at.w]);
    y[index] = select(vec4<f32>(0.0), value, channel < vec4<u32>(p.channels));
}
