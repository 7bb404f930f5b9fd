// gemm_rows_narrow: gemm_rows_broadcast for results of few columns (the last layer's one or three channels), where its 32 columns would idle.
// Same meaning as torch.matmul, torch.nn.functional.conv2d and conv_transpose2d, with an epilogue.
//
//   C[m, n] = epilogue(sum over segments s, k of A(m, s, k) * B(s, k, n))      see gemm_rows, which is joined in front
//
//   a      [pixels][K]                               in     activations, k contiguous
//   b      [K][N] (gemm_narrow_n) or [N][K] (_t)     in     weights
//   walk   phases and segments                      in
//   bias   [channels]                                in     read only if params.bias
//   saved  as c                                      in     read only if params.mask
//   c      [pixels][N]                               out
//
// Work: one workgroup is one subgroup of eight lanes and computes 32 rows by four columns; a lane owns four rows, eight apart. In steps of
// eight k, a lane loads eight k of its rows and one vec4 of B, which reaches the other lanes by broadcast.
// Workgroup (x, y) is a tile, rows fastest; z is the phase.
// Host: src/ops/gemm/rows.rs.  Twins: matmul, conv2d_forward, conv2d_backward_input.
// Variants: <form>_<loader of A>.

@compute @workgroup_size(8)
fn gemm_rows_narrow(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let phase = phase_at(workgroup.z);
    let row_tiles = (phase.rows + 31u) / 32u;
    let tile = workgroup.y * workgroups.x + workgroup.x;
    let column_tile = tile / row_tiles;
    let n = column_tile * 4u;
    // Uniform: phases may have fewer tiles than the dispatch.
    if n >= params.columns {
        return;
    }
    let m = (tile - column_tile * row_tiles) * 32u + lane;
    let row0 = row_at(phase, m);
    let row1 = row_at(phase, m + 8u);
    let row2 = row_at(phase, m + 16u);
    let row3 = row_at(phase, m + 24u);
    let column = lane_column(n, lane);
    let depth = params.depth;

    var c0 = vec4<f32>();
    var c1 = vec4<f32>();
    var c2 = vec4<f32>();
    var c3 = vec4<f32>();
    for (var s = 0u; s < phase.segments; s++) {
        let segment = walk[phase.first_segment + s];
        let span0 = span_of(row0, phase, segment);
        let span1 = span_of(row1, phase, segment);
        let span2 = span_of(row2, phase, segment);
        let span3 = span_of(row3, phase, segment);
        for (var k = 0u; k < depth; k += 8u) {
            let part = lane_tile(column, u32(segment.z), k, lane);
            let near = near_tile(part);
            let far = far_tile(part);
            let a0 = row8(span0, k);
            let a1 = row8(span1, k);
            let a2 = row8(span2, k);
            let a3 = row8(span3, k);
            c0 = multiply_add(c0, near, a0.lo);
            c0 = multiply_add(c0, far, a0.hi);
            c1 = multiply_add(c1, near, a1.lo);
            c1 = multiply_add(c1, far, a1.hi);
            c2 = multiply_add(c2, near, a2.lo);
            c2 = multiply_add(c2, far, a2.hi);
            c3 = multiply_add(c3, near, a3.lo);
            c3 = multiply_add(c3, far, a3.hi);
        }
    }

    let quad = quad_at(phase, n);
    if row0.inside {
        store4(c0, quad, row0.out);
    }
    if row1.inside {
        store4(c1, quad, row1.out);
    }
    if row2.inside {
        store4(c2, quad, row2.out);
    }
    if row3.inside {
        store4(c3, quad, row3.out);
    }
}
