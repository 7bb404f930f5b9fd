// Sum over any axes, which keep extent 1; with several chunks, its first stage.
// PyTorch: x.sum(axes, keepdim=True)
//
//   y[n, c, h, w] = sum of x over the summed axes;   partial[output row, k, column] = the terms of chunk k only
//
// | tensor  | shape                                                        | direction |
// |---------|--------------------------------------------------------------|-----------|
// | x       | (N, C, H, W)                                                 | in        |
// | partial | [output rows][chunks][C4], C4 = 4 if channels are summed     | out       |
//
// Work: one vec4 column of one chunk of one output row per invocation. The terms of an output are vec4 items, counted along N, H, W,
// columns (the last fastest) of the summed axes, and are visited in that order. With a single chunk, `partial` is the result; several are
// added by group_sum_finish.
// Host: src/ops/reduce.rs   Twin: sum_axes

struct SumAxesParams {
    // Output rows * chunks * columns.
    count: u32,
    // vec4 columns of an output row.
    columns: u32,
    chunks: u32,
    // Terms of a chunk; the last may be shorter.
    chunk: u32,
    // Terms of an output: term_n * term_h * term_w * term_c.
    terms: u32,
    // Output extents H and W.
    height: u32,
    width: u32,
    // Extents of the summed axes, 1 where an axis is kept; term_c counts vec4 columns. term_n follows from `terms`.
    term_h: u32,
    term_w: u32,
    term_c: u32,
    // Strides of x along N, H and W in vec4 items.
    stride_n: u32,
    stride_h: u32,
    stride_w: u32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

@group(0) @binding(0) var<uniform> params: SumAxesParams;
// Binding 1 is x: in1_*.wgsl.
@group(0) @binding(2) var<storage, read_write> partial: array<vec4<f32>>;

// 1 if channels are summed too and there is a single chunk: the four lanes are added into lane 0.
override LANES: u32;

@compute @workgroup_size(64)
fn sum_axes(
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
    let row = index / p.columns / p.chunks;
    let base = row / p.width / p.height * p.stride_n + row / p.width % p.height * p.stride_h + row % p.width * p.stride_w + column;

    let first = k * p.chunk;
    let terms = min(p.chunk, p.terms - first);
    var c = first % p.term_c;
    var w = first / p.term_c % p.term_w;
    var h = first / p.term_c / p.term_w % p.term_h;
    var n = first / p.term_c / p.term_w / p.term_h;
    var sum = vec4<f32>(0.0);
    for (var t = 0u; t < terms; t++) {
        sum += load1(base + n * p.stride_n + h * p.stride_h + w * p.stride_w + c);
        // Carry by selects: divisions in the loop would cost more than the load.
        c++;
        w += select(0u, 1u, c == p.term_c);
        c = select(c, 0u, c == p.term_c);
        h += select(0u, 1u, w == p.term_w);
        w = select(w, 0u, w == p.term_w);
        n += select(0u, 1u, h == p.term_h);
        h = select(h, 0u, h == p.term_h);
    }
    if LANES != 0u {
        sum = vec4<f32>((sum.x + sum.y) + (sum.z + sum.w), 0.0, 0.0, 0.0);
    }
    partial[index] = sum;
}
