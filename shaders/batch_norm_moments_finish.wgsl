// Last stage of batch-norm statistics: combines the chunks of each group and channel in chunk order.
// PyTorch: the statistics inside batch_norm. Method: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm" (1979).
//
//   d = mean_k - mean;  mean += d * n_k / n;  m2 += m2_k + d^2 * n_before * n_k / n;  var = m2 / rows;  rstd = 1 / sqrt(var + eps)
//
// | tensor  | shape                             | direction |
// |---------|-----------------------------------|-----------|
// | partial | [groups][chunks][2][C4]: mean, m2 | in        |
// | mean    | (groups, C)                       | out       |
// | var     | (groups, C), biased               | out       |
// | rstd    | (groups, C)                       | out       |
//
// Work: one vec4 column of one group per invocation.
// Host: src/ops/batch_norm.rs   Twin: batch_norm_moments

struct BatchNormMomentsFinishParams {
    // groups * columns.
    count: u32,
    // vec4 columns of a row.
    columns: u32,
    // Channels of a row without padding.
    channels: u32,
    // Rows of a group.
    rows: u32,
    // Chunks of a group.
    chunks: u32,
    // Rows of a chunk; the last may be shorter.
    chunk: u32,
    eps: f32,
    reserved0: u32,
}

@group(0) @binding(0) var<uniform> params: BatchNormMomentsFinishParams;
// Binding 1 is partial: in1_*.wgsl.
@group(0) @binding(2) var<storage, read_write> mean: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> variance: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> rstd: array<vec4<f32>>;

@compute @workgroup_size(64)
fn batch_norm_moments_finish(
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
    var at = index / p.columns * p.chunks * 2u * p.columns + column;
    var m = load1(at);
    var m2 = load1(at + p.columns);
    var before = min(p.chunk, p.rows);
    for (var k = 1u; k < p.chunks; k++) {
        at += 2u * p.columns;
        let n_k = min(p.chunk, p.rows - before);
        let share = f32(n_k) / f32(before + n_k);
        let d = load1(at) - m;
        m += d * share;
        m2 += load1(at + p.columns) + d * d * (f32(before) * share);
        before += n_k;
    }
    let v = m2 / f32(p.rows);
    mean[index] = m;
    variance[index] = v;
    // Padding lanes have variance 0, and 1 / sqrt(eps) is not.
    let channel = vec4<u32>(column * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    rstd[index] = select(vec4<f32>(0.0), inverseSqrt(v + p.eps), channel < vec4<u32>(p.channels));
}
