// The gradients of batch norm with batch statistics, in one dispatch.
// PyTorch: the input, weight and bias gradients of batch_norm(x, training=True) for each batch group.
//
//   dx = weight * rstd * (dy - sum(dy) / n - xhat * sum(dy * xhat) / n),   xhat = (x - mean) * rstd,   sums over the n rows of a group
//   dweight = sum over groups of sum(dy * xhat);   dbias = sum over groups of sum(dy)
//
// | tensor         | shape          | direction |
// |----------------|----------------|-----------|
// | a: dy          | (N, C[, H, W]) | in        |
// | b: x           | that of dy     | in        |
// | mean, rstd     | (groups, C)    | in        |
// | weight         | (C)            | in        |
// | dx             | that of dy     | out       |
// | dweight, dbias | (C)            | out       |
//
// Work: one vec4 column of all rows per workgroup; its lanes take rows in turn, first for the sums, then for dx. Padding lanes are zero
// because weight's are. Parts: gemm_a_vec4, gemm_b_vec4 and tally_shared, or gemm_a_texture, gemm_b_texture and
// tally_subgroup. Host: src/ops/batch_norm_whole.rs   Twins: batch_norm_backward_sums, batch_norm_backward_apply

struct BatchNormBackwardParams {
    // vec4 columns of a row.
    columns: u32,
    // Rows of a group.
    rows: u32,
    groups: u32,
    // 1 / n.
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: BatchNormBackwardParams;
@group(0) @binding(3) var<storage, read> mean: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> rstd: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> dx: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> dweight: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> dbias: array<vec4<f32>>;

// Sums of the rows of both; they need no count.
fn merge(a: Tally, b: Tally) -> Tally {
    return Tally(0.0, a.low + b.low, a.high + b.high);
}

@compute @workgroup_size(LANES)
fn batch_norm_backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let column = group.y * workgroups.x + group.x;
    // Uniform: the grid may be folded.
    if column >= p.columns {
        return;
    }
    let w = weight[column];
    var all_dy = vec4<f32>(0.0);
    var all_dy_xhat = vec4<f32>(0.0);
    for (var g = 0u; g < p.groups; g++) {
        let base = g * p.rows * p.columns + column;
        let m = mean[g * p.columns + column];
        let r = rstd[g * p.columns + column];
        var of_dy = vec4<f32>(0.0);
        var of_dy_xc = vec4<f32>(0.0);
        for (var i = lane; i < p.rows; i += LANES) {
            let at = (base + i * p.columns) * 4u;
            let d = a4(at);
            of_dy += d;
            of_dy_xc += d * (b4(at) - m);
        }
        let all = total(Tally(0.0, of_dy, of_dy_xc * r), lane);
        all_dy += all.low;
        all_dy_xhat += all.high;

        let mean_dy = all.low * p.scale;
        let slope = r * all.high * p.scale;
        for (var i = lane; i < p.rows; i += LANES) {
            let at = base + i * p.columns;
            dx[at] = w * r * (a4(at * 4u) - mean_dy - (b4(at * 4u) - m) * slope);
        }
    }
    if lane == 0u {
        dweight[column] = all_dy_xhat;
        dbias[column] = all_dy;
    }
}
