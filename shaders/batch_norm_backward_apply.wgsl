// Input gradient of batch norm with batch statistics.
// PyTorch: the input gradient of batch_norm(x, training=True).
//
//   dx = weight * rstd * (dy - sum_dy / n - xhat * sum_dy_xhat / n),   xhat = (x - mean) * rstd,   n = elements of a channel in a group
//
// | tensor      | shape            | direction |
// |-------------|------------------|-----------|
// | dy          | (N, C[, H, W])   | in        |
// | x           | that of dy       | in        |
// | mean        | (groups, C)      | in        |
// | rstd        | (groups, C)      | in        |
// | weight      | (C)              | in        |
// | sum_dy      | (groups, C)      | in        |
// | sum_dy_xhat | (groups, C)      | in        |
// | dx          | that of dy       | out       |
//
// Work: one item column (one or two vec4 of channels, see item_*.wgsl) of one run of rows per invocation, so that a software adapter,
// which pays for each load, reads the vectors once a run; elsewhere a run is one row. Padding lanes are zero because weight's are.
// Host: src/ops/batch_norm.rs   Twin: batch_norm_backward_apply

struct BatchNormBackwardApplyParams {
    // groups * runs * columns.
    count: u32,
    // Items of a row.
    columns: u32,
    // Rows of a group.
    rows: u32,
    // Runs of rows of a group.
    runs: u32,
    // Rows of a run; the last of a group may be shorter.
    run: u32,
    // 1 / n.
    scale: f32,
    reserved0: u32,
    reserved1: u32,
}

@group(0) @binding(0) var<uniform> params: BatchNormBackwardApplyParams;
// Bindings 1 and 2 are dy and x: in1_*.wgsl and in2_*.wgsl.
@group(0) @binding(3) var<storage, read> mean: array<Item>;
@group(0) @binding(4) var<storage, read> rstd: array<Item>;
@group(0) @binding(5) var<storage, read> weight: array<Item>;
@group(0) @binding(6) var<storage, read> sum_dy: array<Item>;
@group(0) @binding(7) var<storage, read> sum_dy_xhat: array<Item>;
@group(0) @binding(8) var<storage, read_write> dx: array<Item>;

@compute @workgroup_size(64)
fn batch_norm_backward_apply(
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
    let k = index / p.columns % p.runs;
    let g = index / p.columns / p.runs;
    let start = k * p.run;
    let rows = min(p.run, p.rows - start);
    let vector = g * p.columns + column;
    let m = unpack(mean[vector]);
    let r = unpack(rstd[vector]);
    let w = unpack(weight[column]);
    let s = unpack(sum_dy[vector]);
    let s_xhat = unpack(sum_dy_xhat[vector]);
    let mean_dy_low = first(s) * p.scale;
    let mean_dy_high = second(s) * p.scale;
    let slope_low = first(r) * first(s_xhat) * p.scale;
    let slope_high = second(r) * second(s_xhat) * p.scale;
    var at = (g * p.rows + start) * p.columns + column;
    for (var i = 0u; i < rows; i++) {
        let d = load1(at);
        let v = load2(at);
        let low = first(d) - mean_dy_low - (first(v) - first(m)) * slope_low;
        let high = second(d) - mean_dy_high - (second(v) - second(m)) * slope_high;
        dx[at] = join(first(w) * first(r) * low, second(w) * second(r) * high);
        at += p.columns;
    }
}
