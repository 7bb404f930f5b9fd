// gemm_rows_plain: matrix product and convolution (forward, input gradient) for any adapter: no subgroups, no shared memory.
// Same meaning as torch.matmul, torch.nn.functional.conv2d and conv_transpose2d, with an epilogue.
//
//   C[m, n] = epilogue(sum over segments s, k of A(m, s, k) * B(s, k, n))      see gemm_rows, which is joined in front
//
//   a      [pixels][K]                              in     activations, k contiguous
//   b      [K][N] (gemm_quad_n)  or [N][K] (_t)     in     weights
//   walk   phases and segments                     in
//   bias   [channels]                               in     read only if params.bias
//   saved  as c                                     in     read only if params.mask
//   c      [pixels][N]                              out
//
// Work: one invocation computes four rows by eight columns in registers, four k a step. Neighbouring invocations own neighbouring columns, so
// that their loads of B and stores of C are contiguous and their loads of A are the same. Workgroup z is the phase.
// Host: src/ops/gemm/rows.rs.  Twins: matmul, conv2d_forward, conv2d_backward_input.
// Variants: the form of B.

// Four k of one row of A, zero where the row does not exist.
fn row4(span: Span, k: u32) -> vec4<f32> {
    let at = u32(span.start) + k;
    let exists = at < span.limit;
    return select(vec4<f32>(), a4(span.line + select(0u, at, exists)), exists);
}

@compute @workgroup_size(64)
fn gemm_rows_plain(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let phase = phase_at(workgroup.z);
    let index = (workgroup.y * workgroups.x + workgroup.x) * 64u + local;
    let column_tiles = (params.columns + 7u) / 8u;
    let row_tile = index / column_tiles;
    let m = row_tile * 4u;
    let n = (index - row_tile * column_tiles) * 8u;
    if m >= phase.rows {
        return;
    }
    let row0 = row_at(phase, m);
    let row1 = row_at(phase, m + 1u);
    let row2 = row_at(phase, m + 2u);
    let row3 = row_at(phase, m + 3u);
    let depth = params.depth;

    var c0_lo = vec4<f32>();
    var c0_hi = vec4<f32>();
    var c1_lo = vec4<f32>();
    var c1_hi = vec4<f32>();
    var c2_lo = vec4<f32>();
    var c2_hi = vec4<f32>();
    var c3_lo = vec4<f32>();
    var c3_hi = vec4<f32>();
    for (var s = 0u; s < phase.segments; s++) {
        let segment = walk[phase.first_segment + s];
        let base = u32(segment.z);
        let span0 = span_of(row0, phase, segment);
        let span1 = span_of(row1, phase, segment);
        let span2 = span_of(row2, phase, segment);
        let span3 = span_of(row3, phase, segment);
        for (var k = 0u; k < depth; k += 4u) {
            let lo = tile_at(base, k, n);
            let hi = tile_at(base, k, n + 4u);
            let a0 = row4(span0, k);
            let a1 = row4(span1, k);
            let a2 = row4(span2, k);
            let a3 = row4(span3, k);
            c0_lo += lo * a0;
            c0_hi += hi * a0;
            c1_lo += lo * a1;
            c1_hi += hi * a1;
            c2_lo += lo * a2;
            c2_hi += hi * a2;
            c3_lo += lo * a3;
            c3_hi += hi * a3;
        }
    }

    let lo_quad = quad_at(phase, n);
    let hi_quad = quad_at(phase, n + 4u);
    store4(c0_lo, lo_quad, row0.out);
    store4(c0_hi, hi_quad, row0.out);
    if row1.inside {
        store4(c1_lo, lo_quad, row1.out);
        store4(c1_hi, hi_quad, row1.out);
    }
    if row2.inside {
        store4(c2_lo, lo_quad, row2.out);
        store4(c2_hi, hi_quad, row2.out);
    }
    if row3.inside {
        store4(c3_lo, lo_quad, row3.out);
        store4(c3_hi, hi_quad, row3.out);
    }
}
