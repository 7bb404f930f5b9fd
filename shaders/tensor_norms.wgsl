// Gradient statistics, second stage: sums runs of partial results, in order. Run until there is one pair per tensor.
//
//   sumsq_out[t] = sum of sumsq[first[t] .. first[t] + count[t]],   bad_out[t] likewise
//
// | tensor | shape | direction |
// |---|---|---|
// | table | runs x (first, count) | in |
// | sumsq, bad | partials | in |
// | sumsq_out, bad_out | runs | out |
//
// A run has at most 64 partials: the host adds stages until that holds, so that no invocation walks a long tensor alone.
// One run per invocation. Host: src/ops/stats.rs. Twin: stats::twin::tensor_norms.

struct TensorNormsParams {
    runs: u32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

@group(0) @binding(0) var<uniform> params: TensorNormsParams;
@group(0) @binding(1) var<storage, read> table: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> sumsq: array<f32>;
@group(0) @binding(3) var<storage, read> bad: array<u32>;
@group(0) @binding(4) var<storage, read_write> sumsq_out: array<f32>;
@group(0) @binding(5) var<storage, read_write> bad_out: array<u32>;

@compute @workgroup_size(64)
fn tensor_norms(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let runs = params.runs;
    let t = (wid.y * groups.x + wid.x) * 64u + lid;
    if t >= runs { return; }

    let run = table[t];
    var sum = 0.0;
    var count = 0u;
    for (var k = 0u; k < run.y; k++) {
        sum += sumsq[run.x + k];
        count += bad[run.x + k];
    }
    sumsq_out[t] = sum;
    bad_out[t] = count;
}
