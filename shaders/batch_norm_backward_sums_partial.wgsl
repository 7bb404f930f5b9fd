// First stage of the sums that batch norm's backward pass needs: those of one chunk of rows.
//
//   partial[g, k, 0, c] = sum(dy);   partial[g, k, 1, c] = sum(dy * (x - mean) * rstd)   over the rows of chunk k of group g
//
// | tensor  | shape                                    | direction |
// |---------|------------------------------------------|-----------|
// | dy      | (N, C[, H, W]) as [groups * rows][C4]    | in        |
// | x       | that of dy                               | in        |
// | mean    | (groups, C)                              | in        |
// | rstd    | (groups, C)                              | in        |
// | partial | [groups][chunks][2][C4]                  | out       |
//
// Work: one item column (one or two vec4, see item_*.wgsl) of one chunk per invocation, rows in order.
// Host: src/ops/batch_norm.rs   Twin: batch_norm_backward_sums

struct BatchNormBackwardSumsPartialParams {
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

@group(0) @binding(0) var<uniform> params: BatchNormBackwardSumsPartialParams;
// Bindings 1 and 2 are dy and x: in1_*.wgsl and in2_*.wgsl.
@group(0) @binding(3) var<storage, read> mean: array<Item>;
@group(0) @binding(4) var<storage, read> rstd: array<Item>;
@group(0) @binding(5) var<storage, read_write> partial: array<Item>;

@compute @workgroup_size(64)
fn batch_norm_backward_sums_partial(
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
    let mean_item = unpack(mean[g * p.columns + column]);
    let rstd_item = unpack(rstd[g * p.columns + column]);
    let mean_low = first(mean_item);
    let mean_high = second(mean_item);

    var at = (g * p.rows + start) * p.columns + column;
    var dy_low = vec4<f32>(0.0);
    var dy_high = vec4<f32>(0.0);
    var dy_xc_low = vec4<f32>(0.0);
    var dy_xc_high = vec4<f32>(0.0);
    for (var r = 0u; r < rows; r++) {
        let d = load1(at);
        let v = load2(at);
        dy_low += first(d);
        dy_high += second(d);
        dy_xc_low += first(d) * (first(v) - mean_low);
        dy_xc_high += second(d) * (second(v) - mean_high);
        at += p.columns;
    }

    let out = (g * p.chunks + k) * 2u * p.columns + column;
    partial[out] = join(dy_low, dy_high);
    partial[out + p.columns] = join(dy_xc_low * first(rstd_item), dy_xc_high * second(rstd_item));
}
