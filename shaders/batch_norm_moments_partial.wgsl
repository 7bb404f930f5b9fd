// First stage of batch-norm statistics: mean and sum of squared deviations of one chunk of rows.
// PyTorch: torch.var_mean(x, (0, 2, 3)) of a part of x.
//
//   mean = sum(x) / n;   m2 = sum((x - mean)^2)   over the n rows of chunk k of group g, from deviations d from the chunk's first row:
//   mean = first + sum(d) / n;   m2 = sum(d^2) - sum(d)^2 / n
//
// One pass suffices: a sample differs from the mean by at most sqrt(m2), so the difference cancels about log2(n) bits at most, and a
// chunk has at most 256 rows; it is half the time of two passes on a software adapter.
//
// | tensor  | shape                                             | direction |
// |---------|---------------------------------------------------|-----------|
// | x       | (N, C[, H, W]) as [groups * rows][C4]             | in        |
// | partial | [groups][chunks][2][C4]: mean, m2                 | out       |
//
// Work: one item column (one or two vec4, see item_*.wgsl) of one chunk per invocation.
// Host: src/ops/batch_norm.rs   Twin: batch_norm_moments

struct BatchNormMomentsPartialParams {
    // groups * chunks * columns.
    count: u32,
    // Items of a row.
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
// Binding 1 is x: in1_*.wgsl.
@group(0) @binding(2) var<storage, read_write> partial: array<Item>;

// Rounding may leave a tiny negative number; a NaN stays.
fn at_least_zero(v: vec4<f32>) -> vec4<f32> {
    return select(v, vec4<f32>(0.0), v < vec4<f32>(0.0));
}

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
    var at = (g * p.rows + start) * p.columns + column;

    let shift = load1(at);
    let shift_low = first(shift);
    let shift_high = second(shift);
    var low = vec4<f32>(0.0);
    var high = vec4<f32>(0.0);
    var square_low = vec4<f32>(0.0);
    var square_high = vec4<f32>(0.0);
    for (var r = 1u; r < rows; r++) {
        at += p.columns;
        let item = load1(at);
        let d_low = first(item) - shift_low;
        let d_high = second(item) - shift_high;
        low += d_low;
        high += d_high;
        square_low += d_low * d_low;
        square_high += d_high * d_high;
    }

    let share = 1.0 / f32(rows);
    let out = (g * p.chunks + k) * 2u * p.columns + column;
    partial[out] = join(shift_low + low * share, shift_high + high * share);
    partial[out + p.columns] = join(at_least_zero(square_low - low * low * share), at_least_zero(square_high - high * high * share));
}
