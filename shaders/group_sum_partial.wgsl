// First stage of a sum over batch groups: column sums of one chunk of rows.
// PyTorch: x.view(groups, -1, C).sum(1), with channels last.
//
//   partial[g, k, c] = sum of x[row, c] over the rows of chunk k of group g
//
// | tensor  | shape                                      | direction |
// |---------|--------------------------------------------|-----------|
// | x       | (N, C[, H, W]) as [groups * rows][C4]      | in        |
// | partial | [groups][chunks][C4]                       | out       |
//
// Work: one item column (one or two vec4, see item_*.wgsl) of one chunk per invocation, rows in order. With a single chunk, `partial` is
// the result.
// Host: src/ops/reduce.rs   Twin: group_sum

struct GroupSumPartialParams {
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

@group(0) @binding(0) var<uniform> params: GroupSumPartialParams;
// Binding 1 is x: in1_*.wgsl.
@group(0) @binding(2) var<storage, read_write> partial: array<Item>;

@compute @workgroup_size(64)
fn group_sum_partial(
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
    var low = vec4<f32>(0.0);
    var high = vec4<f32>(0.0);
    for (var r = 0u; r < rows; r++) {
        let item = load1(at);
        low += first(item);
        high += second(item);
        at += p.columns;
    }
    partial[index] = join(low, high);
}
