// gemm_rows_broadcast: matrix product and convolution (forward, input gradient) for adapters whose subgroups have eight lanes: software ones.
// Same meaning as torch.matmul, torch.nn.functional.conv2d and conv_transpose2d, with an epilogue.
//
//   C[m, n] = epilogue(sum over segments s, k of A(m, s, k) * B(s, k, n))      see gemm_rows, which is joined in front
//
//   a      [pixels][K]                              in     activations, k contiguous
//   b      [K][N] (gemm_quad_n) or [N][K] (_t)      in     weights
//   walk   phases and segments                      in
//   bias   [channels]                               in     read only if params.bias
//   saved  as c                                     in     read only if params.mask
//   c      [pixels][N]                              out
//
// Work: one workgroup is one subgroup and computes 32 rows by 32 columns; a lane owns four columns of all rows, which are 32 vec4 accumulators.
// Workgroup (x, y) is a tile, rows fastest; z is the phase. In steps of eight k, a lane loads eight k of four rows of A and the eight k by four columns
// of B that it owns, so that nothing is loaded twice; a row's k reach the other lanes by broadcast. No shared memory, no barrier, no loop over
// rows: on the adapters this is for, memory operations cost ten times an arithmetic one, and indexed accumulators would live in memory.
// Host: src/ops/gemm/rows.rs.  Twins: matmul, conv2d_forward, conv2d_backward_input.
// Variants: <form>_<loader>.

@compute @workgroup_size(8)
fn gemm_rows_broadcast(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let phase = phase_at(workgroup.z);
    let row_tiles = (phase.rows + 31u) / 32u;
    let tile = workgroup.y * workgroups.x + workgroup.x;
    let column_tile = tile / row_tiles;
    // Uniform: phases may have fewer tiles than the dispatch.
    if column_tile * 32u >= params.columns {
        return;
    }
    let m = (tile - column_tile * row_tiles) * 32u;
    let n = column_tile * 32u + lane * 4u;
    let row0 = row_at(phase, m + lane);
    let row1 = row_at(phase, m + 8u + lane);
    let row2 = row_at(phase, m + 16u + lane);
    let row3 = row_at(phase, m + 24u + lane);
    let depth = params.depth;

    var c0 = vec4<f32>();
    var c1 = vec4<f32>();
    var c2 = vec4<f32>();
    var c3 = vec4<f32>();
    var c4 = vec4<f32>();
    var c5 = vec4<f32>();
    var c6 = vec4<f32>();
    var c7 = vec4<f32>();
    var c8 = vec4<f32>();
    var c9 = vec4<f32>();
    var c10 = vec4<f32>();
    var c11 = vec4<f32>();
    var c12 = vec4<f32>();
    var c13 = vec4<f32>();
    var c14 = vec4<f32>();
    var c15 = vec4<f32>();
    var c16 = vec4<f32>();
    var c17 = vec4<f32>();
    var c18 = vec4<f32>();
    var c19 = vec4<f32>();
    var c20 = vec4<f32>();
    var c21 = vec4<f32>();
    var c22 = vec4<f32>();
    var c23 = vec4<f32>();
    var c24 = vec4<f32>();
    var c25 = vec4<f32>();
    var c26 = vec4<f32>();
    var c27 = vec4<f32>();
    var c28 = vec4<f32>();
    var c29 = vec4<f32>();
    var c30 = vec4<f32>();
    var c31 = vec4<f32>();

    for (var s = 0u; s < phase.segments; s++) {
        let segment = walk[phase.first_segment + s];
        let span0 = span_of(row0, phase, segment);
        let span1 = span_of(row1, phase, segment);
        let span2 = span_of(row2, phase, segment);
        let span3 = span_of(row3, phase, segment);
        let base = u32(segment.z);
        for (var k = 0u; k < depth; k += 8u) {
            let a0 = row8(span0, k);
            let a1 = row8(span1, k);
            let a2 = row8(span2, k);
            let a3 = row8(span3, k);
            let near = tile_at(base, k, n);
            let far = tile_at(base, k + 4u, n);

            c0 += near * subgroupBroadcast(a0.lo, 0u);
            c0 += far * subgroupBroadcast(a0.hi, 0u);
            c1 += near * subgroupBroadcast(a0.lo, 1u);
            c1 += far * subgroupBroadcast(a0.hi, 1u);
            c2 += near * subgroupBroadcast(a0.lo, 2u);
            c2 += far * subgroupBroadcast(a0.hi, 2u);
            c3 += near * subgroupBroadcast(a0.lo, 3u);
            c3 += far * subgroupBroadcast(a0.hi, 3u);
            c4 += near * subgroupBroadcast(a0.lo, 4u);
            c4 += far * subgroupBroadcast(a0.hi, 4u);
            c5 += near * subgroupBroadcast(a0.lo, 5u);
            c5 += far * subgroupBroadcast(a0.hi, 5u);
            c6 += near * subgroupBroadcast(a0.lo, 6u);
            c6 += far * subgroupBroadcast(a0.hi, 6u);
            c7 += near * subgroupBroadcast(a0.lo, 7u);
            c7 += far * subgroupBroadcast(a0.hi, 7u);
            c8 += near * subgroupBroadcast(a1.lo, 0u);
            c8 += far * subgroupBroadcast(a1.hi, 0u);
            c9 += near * subgroupBroadcast(a1.lo, 1u);
            c9 += far * subgroupBroadcast(a1.hi, 1u);
            c10 += near * subgroupBroadcast(a1.lo, 2u);
            c10 += far * subgroupBroadcast(a1.hi, 2u);
            c11 += near * subgroupBroadcast(a1.lo, 3u);
            c11 += far * subgroupBroadcast(a1.hi, 3u);
            c12 += near * subgroupBroadcast(a1.lo, 4u);
            c12 += far * subgroupBroadcast(a1.hi, 4u);
            c13 += near * subgroupBroadcast(a1.lo, 5u);
            c13 += far * subgroupBroadcast(a1.hi, 5u);
            c14 += near * subgroupBroadcast(a1.lo, 6u);
            c14 += far * subgroupBroadcast(a1.hi, 6u);
            c15 += near * subgroupBroadcast(a1.lo, 7u);
            c15 += far * subgroupBroadcast(a1.hi, 7u);
            c16 += near * subgroupBroadcast(a2.lo, 0u);
            c16 += far * subgroupBroadcast(a2.hi, 0u);
            c17 += near * subgroupBroadcast(a2.lo, 1u);
            c17 += far * subgroupBroadcast(a2.hi, 1u);
            c18 += near * subgroupBroadcast(a2.lo, 2u);
            c18 += far * subgroupBroadcast(a2.hi, 2u);
            c19 += near * subgroupBroadcast(a2.lo, 3u);
            c19 += far * subgroupBroadcast(a2.hi, 3u);
            c20 += near * subgroupBroadcast(a2.lo, 4u);
            c20 += far * subgroupBroadcast(a2.hi, 4u);
            c21 += near * subgroupBroadcast(a2.lo, 5u);
            c21 += far * subgroupBroadcast(a2.hi, 5u);
            c22 += near * subgroupBroadcast(a2.lo, 6u);
            c22 += far * subgroupBroadcast(a2.hi, 6u);
            c23 += near * subgroupBroadcast(a2.lo, 7u);
            c23 += far * subgroupBroadcast(a2.hi, 7u);
            c24 += near * subgroupBroadcast(a3.lo, 0u);
            c24 += far * subgroupBroadcast(a3.hi, 0u);
            c25 += near * subgroupBroadcast(a3.lo, 1u);
            c25 += far * subgroupBroadcast(a3.hi, 1u);
            c26 += near * subgroupBroadcast(a3.lo, 2u);
            c26 += far * subgroupBroadcast(a3.hi, 2u);
            c27 += near * subgroupBroadcast(a3.lo, 3u);
            c27 += far * subgroupBroadcast(a3.hi, 3u);
            c28 += near * subgroupBroadcast(a3.lo, 4u);
            c28 += far * subgroupBroadcast(a3.hi, 4u);
            c29 += near * subgroupBroadcast(a3.lo, 5u);
            c29 += far * subgroupBroadcast(a3.hi, 5u);
            c30 += near * subgroupBroadcast(a3.lo, 6u);
            c30 += far * subgroupBroadcast(a3.hi, 6u);
            c31 += near * subgroupBroadcast(a3.lo, 7u);
            c31 += far * subgroupBroadcast(a3.hi, 7u);
        }
    }

    // One row at a time, the others moving up: this compiles the epilogue once, and an array of sums would be read from memory, lane by lane.
    let quad = quad_at(phase, n);
    let rows = min(32u, phase.rows - m);
    for (var r = 0u; r < rows; r++) {
        let out = select(select(row3.out, row2.out, r < 24u), select(row1.out, row0.out, r < 8u), r < 16u);
        store4(c0, quad, subgroupShuffle(out, r & 7u));
        c0 = c1;
        c1 = c2;
        c2 = c3;
        c3 = c4;
        c4 = c5;
        c5 = c6;
        c6 = c7;
        c7 = c8;
        c8 = c9;
        c9 = c10;
        c10 = c11;
        c11 = c12;
        c12 = c13;
        c13 = c14;
        c14 = c15;
        c15 = c16;
        c16 = c17;
        c17 = c18;
        c18 = c19;
        c19 = c20;
        c20 = c21;
        c21 = c22;
        c22 = c23;
        c23 = c24;
        c24 = c25;
        c25 = c26;
        c26 = c27;
        c27 = c28;
        c28 = c29;
        c29 = c30;
        c30 = c31;
    }
}
