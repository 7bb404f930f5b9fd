// gemm_rows_reduce: matrix product and convolution (forward, input gradient) with few columns for GPUs: the last layers, with one or three channels.
// Same meaning as torch.matmul, torch.nn.functional.conv2d and conv_transpose2d, with an epilogue.
//
//   C[m, n] = epilogue(sum over segments s, k of A(m, s, k) * B(s, k, n))      see gemm_rows, which is joined in front
//
//   a      [pixels][K]                             in     activations, k contiguous
//   b      [K][N] (gemm_quad_n) or [N][K] (_t)     in     weights
//   walk   phases and segments                     in
//   bias   [channels]                              in     read only if params.bias
//   saved  as c                                    in     read only if params.mask
//   c      [pixels][N]                             out
//
// Work: one workgroup computes 16 rows by four columns in steps of 64 k. Lane l of sixteen owns k = 4 l to 4 l + 3 of each step for four rows, so
// that sixteen lanes load 256 bytes of each row in a piece; their sums are added by a tree in shared memory, whose order is fixed. Workgroup (x, y)
// is a tile, columns fastest; z is the phase. Steps go on over segments, and may be split, as in gemm_rows_tile_small.
// Host: src/ops/gemm/rows.rs.  Twins: matmul, conv2d_forward, conv2d_backward_input.
// Variants: the form of B, and whether the sum is split.

var<workgroup> sums: array<vec4<f32>, 256>;

// Four k of one row of A, zero where the row does not exist.
fn row4(span: Span, k: u32) -> vec4<f32> {
    let at = u32(span.start) + k;
    let exists = at < span.limit;
    return select(vec4<f32>(), a4(span.line + select(0u, at, exists)), exists);
}

@compute @workgroup_size(64)
fn gemm_rows_reduce(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let phase = phase_at(workgroup.z);
    let column_tiles = (params.columns + 3u) / 4u;
    let tile = workgroup.y * workgroups.x + workgroup.x;
    let row_tile = tile / column_tiles;
    // Uniform: phases may have fewer tiles than the dispatch.
    if row_tile * 16u >= phase.rows {
        return;
    }
    let n = (tile - row_tile * column_tiles) * 4u;
    let lane = local & 15u;
    let m = row_tile * 16u + (local >> 4u) * 4u;
    let row0 = row_at(phase, m);
    let row1 = row_at(phase, m + 1u);
    let row2 = row_at(phase, m + 2u);
    let row3 = row_at(phase, m + 3u);

    let depth = params.depth;
    let segment_steps = (depth + 63u) / 64u;
    let last_step = phase.first_step + phase.steps;
    var c0 = vec4<f32>();
    var c1 = vec4<f32>();
    var c2 = vec4<f32>();
    var c3 = vec4<f32>();
    for (var step = phase.first_step; step < last_step;) {
        let s = step / segment_steps;
        let segment = walk[phase.first_segment + s];
        let base = u32(segment.z);
        let span0 = span_of(row0, phase, segment);
        let span1 = span_of(row1, phase, segment);
        let span2 = span_of(row2, phase, segment);
        let span3 = span_of(row3, phase, segment);
        let next = min((s + 1u) * segment_steps, last_step);
        for (; step < next; step++) {
            let k = (step - s * segment_steps) * 64u + lane * 4u;
            let b = tile_at(base, k, n);
            c0 += b * row4(span0, k);
            c1 += b * row4(span1, k);
            c2 += b * row4(span2, k);
            c3 += b * row4(span3, k);
        }
    }

    sums[local] = c0;
    sums[local + 64u] = c1;
    sums[local + 128u] = c2;
    sums[local + 192u] = c3;
    for (var reach = 8u; reach > 0u; reach >>= 1u) {
        workgroupBarrier();
        if lane < reach {
            sums[local] += sums[local + reach];
            sums[local + 64u] += sums[local + 64u + reach];
            sums[local + 128u] += sums[local + 128u + reach];
            sums[local + 192u] += sums[local + 192u + reach];
        }
    }
    workgroupBarrier();

    // The first four lanes store a row each.
    let row = row_at(phase, m + lane);
    if lane < 4u && row.inside {
        store4(sums[lane * 64u + (local & 48u)], quad_at(phase, n), row.out);
    }
}
