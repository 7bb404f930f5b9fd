// Last stage of a sum in chunks: adds the partial sums of each output in chunk order.
//
//   sum[g, c] = sum over k of partial[g, k, c];   with LANES, the four lanes are then added into lane 0
//
// | tensor  | shape                 | direction |
// |---------|-----------------------|-----------|
// | partial | [outputs][chunks][C4] | in        |
// | sum     | [outputs][C4]         | out       |
//
// Work: one vec4 column of one output per invocation.
// Host: src/ops/reduce.rs   Twin: group_sum, sum_axes

struct GroupSumFinishParams {
    // outputs * columns.
    count: u32,
    // vec4 columns of a row.
    columns: u32,
    // Partial sums of an output.
    chunks: u32,
    reserved0: u32,
}

@group(0) @binding(0) var<uniform> params: GroupSumFinishParams;
// Binding 1 is partial: in1_*.wgsl.
@group(0) @binding(2) var<storage, read_write> sum: array<vec4<f32>>;

// 1 if channels are summed too.
override LANES: u32;

@compute @workgroup_size(64)
fn group_sum_finish(
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
    let output = index / p.columns;
    var at = output * p.chunks * p.columns + column;
    var total = vec4<f32>(0.0);
    for (var k = 0u; k < p.chunks; k++) {
        total += load1(at);
        at += p.columns;
    }
    if LANES != 0u {
        total = vec4<f32>((total.x + total.y) + (total.z + total.w), 0.0, 0.0, 0.0);
    }
    sum[index] = total;
}
