// Updates batch normalisation's running statistics, one group of the batch after another. torch.nn.BatchNorm2d in training mode.
//
//   running_mean <- (1 - momentum) running_mean + momentum mean[g]
//   running_var  <- (1 - momentum) running_var + momentum var[g] n / (n - 1)        for g = 0, 1, ...
//
// | tensor | shape | direction |
// |---|---|---|
// | mean, var (biased) | (groups, C) | in |
// | running_mean, running_var | (C) | inout |
//
// n is the number of elements that each mean was taken over; torch keeps the unbiased variance. Padding lanes stay zero.
// Four channels per invocation. Host: src/ops/running_stats.rs. Twin: running_stats::twin::running_stats.

struct RunningStatsParams {
    items: u32,
    groups: u32,
    momentum: f32,
    keep: f32,
    unbias: f32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

@group(0) @binding(0) var<uniform> params: RunningStatsParams;
@group(0) @binding(1) var<storage, read> mean: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> variance: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> running_mean: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> running_var: array<vec4<f32>>;

@compute @workgroup_size(64)
fn running_stats(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let p = params;
    let i = (wid.y * groups.x + wid.x) * 64u + lid;
    if i >= p.items { return; }

    var m = running_mean[i];
    var v = running_var[i];
    for (var g = 0u; g < p.groups; g++) {
        m = p.keep * m + p.momentum * mean[g * p.items + i];
        v = p.keep * v + p.momentum * (p.unbias * variance[g * p.items + i]);
    }
    running_mean[i] = m;
    running_var[i] = v;
}
