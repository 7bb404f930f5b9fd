// Last stage of the sums that batch norm's backward pass needs: adds the chunks in chunk order, then the groups in group order.
// PyTorch: the weight and bias gradients of batch_norm.
//
//   dweight[c] = sum over groups of sum_dy_xhat[g, c];   dbias[c] = sum over groups of sum_dy[g, c]
//
// | tensor      | shape                   | direction |
// |-------------|-------------------------|-----------|
// | partial     | [groups][chunks][2][C4] | in        |
// | sum_dy      | (groups, C)             | out       |
// | sum_dy_xhat | (groups, C)             | out       |
// | dweight     | (C)                     | out       |
// | dbias       | (C)                     | out       |
//
// Work: one vec4 column per invocation.
// Host: src/ops/batch_norm.rs   Twin: batch_norm_backward_sums

struct BatchNormBackwardSumsFinishParams {
    // vec4 columns of a row.
    columns: u32,
    groups: u32,
    // Chunks of a group.
    chunks: u32,
    reserved0: u32,
}

@group(0) @binding(0) var<uniform> params: BatchNormBackwardSumsFinishParams;
// Binding 1 is partial: in1_*.wgsl.
@group(0) @binding(2) var<storage, read_write> sum_dy: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> sum_dy_xhat: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dweight: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dbias: array<vec4<f32>>;

@compute @workgroup_size(64)
fn batch_norm_backward_sums_finish(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let column = (group.y * groups.x + group.x) * 64u + lane;
    if column >= p.columns {
        return;
    }
    var at = column;
    var all_dy = vec4<f32>(0.0);
    var all_dy_xhat = vec4<f32>(0.0);
    for (var g = 0u; g < p.groups; g++) {
        var of_dy = vec4<f32>(0.0);
        var of_dy_xhat = vec4<f32>(0.0);
        for (var k = 0u; k < p.chunks; k++) {
            of_dy += load1(at);
            of_dy_xhat += load1(at + p.columns);
            at += 2u * p.columns;
        }
        sum_dy[g * p.columns + column] = of_dy;
        sum_dy_xhat[g * p.columns + column] = of_dy_xhat;
        all_dy += of_dy;
        all_dy_xhat += of_dy_xhat;
    }
    dweight[column] = all_dy_xhat;
    dbias[column] = all_dy;
}
