// Gives every row of a batch group the group's row: the adjoint of a sum over batch groups.
// PyTorch: x.repeat_interleave(N // groups, 0).view(N, C, 1, 1).expand(N, C, H, W)
//
//   y[row, c] = x[row / rows, c]
//
// | tensor | shape                                 | direction |
// |--------|---------------------------------------|-----------|
// | x      | (groups, C)                           | in        |
// | y      | (N, C[, H, W]) as [groups * rows][C4] | out       |
//
// Work: one vec4 of channels per invocation.
// Host: src/ops/reduce.rs   Twin: group_broadcast

struct GroupBroadcastParams {
    // vec4 items of y.
    count: u32,
    // vec4 columns of a row.
    columns: u32,
    // vec4 items of a group of y: its rows * columns.
    group_items: u32,
    reserved0: u32,
}

@group(0) @binding(0) var<uniform> params: GroupBroadcastParams;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn group_broadcast(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    y[index] = x[index / p.group_items * p.columns + index % p.columns];
}
