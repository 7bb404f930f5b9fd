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
// Work: one item (one or two vec4 of channels, see item_*.wgsl) per invocation. Padding lanes are zero because weight's are.
// Host: src/ops/batch_norm.rs   Twin: batch_norm_backward_apply

struct BatchNormBackwardApplyParams {
    // Items of x.
    count: u32,
    // Items of a row.
    columns: u32,
    // Items of a batch group.
    group_items: u32,
    // 1 / n.
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: BatchNormBackwardApplyParams;
@group(0) @binding(1) var<storage, read> dy: array<Item>;
@group(0) @binding(2) var<storage, read> x: array<Item>;
@group(0) @binding(3) var<storage, read> mean: array<Item>;
@group(0) @binding(4) var<storage, read> rstd: array<Item>;
@group(0) @binding(5) var<storage, read> weight: array<Item>;
@group(0) @binding(6) var<storage, read> sum_dy: array<Item>;
@group(0) @binding(7) var<storage, read> sum_dy_xhat: array<Item>;
@group(0) @binding(8) var<storage, read_write> dx: array<Item>;

fn gradient(
    d: vec4<f32>,
    xc: vec4<f32>,
    r: vec4<f32>,
    w: vec4<f32>,
    s: vec4<f32>,
    s_xhat: vec4<f32>,
    scale: f32,
) -> vec4<f32> {
    return w * r * (d - s * scale - xc * (r * s_xhat * scale));
}

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
    let at = index / p.group_items * p.columns + column;
    let d = dy[index];
    let v = x[index];
    let m = mean[at];
    let r = rstd[at];
    let w = weight[column];
    let s = sum_dy[at];
    let s_xhat = sum_dy_xhat[at];
    dx[index] = join(
        gradient(first(d), first(v) - first(m), first(r), first(w), first(s), first(s_xhat), p.scale),
        gradient(second(d), second(v) - second(m), second(r), second(w), second(s), second(s_xhat), p.scale),
    );
}
