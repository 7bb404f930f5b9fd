// First stage of batch-norm statistics: mean and sum of squared deviations of one chunk of rows.
// PyTorch: torch.var_mean(x, (0, 2, 3)) of a part of x.
//
//   mean[k, c] = sum(x) / n_k;   m2[k, c] = sum((x - mean[k, c])^2)   over the n_k rows of chunk k of group g
//
// | tensor  | shape                                             | direction |
// |---------|---------------------------------------------------|-----------|
// | x       | (N, C[, H, W]) as [groups * rows][C4]             | in        |
// | partial | [groups][chunks][2][C4]: mean, m2                 | out       |
//
// Work: one vec4 column of one chunk per invocation, in two passes over the chunk (no cancellation).
// Host: src/ops/batch_norm.rs   Twin: batch_norm_moments

struct BatchNormMomentsPartialParams {
    // groups * chunks * columns.
    count: u32,
    // vec4 columns of a row.
    columns: u32,
    // Rows of a group.
    rows: u32,
    // Chunks of a group.
    chunks: u32,
    // Rows of a chunk; the last may be shorter.
    chunk: u32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

@group(0) @binding(0) var<uniform> params: BatchNormMomentsPartialParams;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> partial: array<vec4<f32>>;

@compute @workgroup_size(64)
fn batch_norm_moments_partial(
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
    let k = index / p.columns % p.chunks;
    let g = index / p.columns / p.chunks;
    let start = k * p.chunk;
    let rows = min(p.chunk, p.rows - start);
    let begin = (g * p.rows + start) * p.columns + column;

    var at = begin;
    var sum = vec4<f32>(0.0);
    for (var r = 0u; r < rows; r++) {
        sum += x[at];
        at += p.columns;
    }
    let mean = sum / f32(rows);

    at = begin;
    var m2 = vec4<f32>(0.0);
    for (var r = 0u; r < rows; r++) {
        let d = x[at] - mean;
        m2 += d * d;
        at += p.columns;
    }

    let out = (g * p.chunks + k) * 2u * p.columns + column;
    partial[out] = mean;
    partial[out + p.columns] = m2;
}
