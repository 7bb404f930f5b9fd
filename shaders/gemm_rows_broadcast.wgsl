// gemm_rows_broadcast: matrix product and convolution (forward, input gradient) for adapters whose subgroups have eight lanes: software ones.
// Same meaning as torch.matmul, torch.nn.functional.conv2d and conv_transpose2d, with an epilogue.
//
//   C[m, n] = epilogue(sum over segments s, k of A(m, s, k) * B(s, k, n))      see gemm_rows, which is joined in front
//
//   a      [pixels][K]                              in     activations, k contiguous
//   b      [K][N] (gemm_tiles_n) or [N][K] (_t)     in     weights
//   walk   phases and segments                     in
//   bias   [channels]                               in     read only if params.bias
//   saved  as c                                     in     read only if params.mask
//   c      [pixels][N]                              out
//
// Work: one workgroup is one subgroup and computes 16 rows by 64 columns; a lane owns eight columns of all rows, which are 32 vec4 accumulators.
// Workgroup (x, y) is a tile, rows fastest; z is the phase. In steps of eight k, a lane loads eight k of two rows of A and the eight k by eight columns
// of B that it owns, so that nothing is loaded twice; a row's k reach the other lanes by broadcast. No shared memory, no barrier, no loop over
// rows: on the adapters this is for, memory operations cost ten times an arithmetic one, and indexed accumulators would live in memory.
// Host: src/ops/gemm/rows.rs.  Twins: matmul, conv2d_forward, conv2d_backward_input.
// Variants: <form>_<loader of A>_<loader of B>.

@compute @workgroup_size(8)
fn gemm_rows_broadcast(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let phase = phase_at(workgroup.z);
    let row_tiles = (phase.rows + 15u) / 16u;
    let tile = workgroup.y * workgroups.x + workgroup.x;
    let column_tile = tile / row_tiles;
    // Uniform: phases may have fewer tiles than the dispatch.
    if column_tile * 64u >= params.columns {
        return;
    }
    let m = (tile - column_tile * row_tiles) * 16u;
    let n = column_tile * 64u + lane * 8u;
    let top = row_at(phase, m + lane);
    let bottom = row_at(phase, m + 8u + lane);
    let columns = columns_at(n);
    let depth = params.depth;

    var c0_lo = vec4<f32>();
    var c0_hi = vec4<f32>();
    var c1_lo = vec4<f32>();
    var c1_hi = vec4<f32>();
    var c2_lo = vec4<f32>();
    var c2_hi = vec4<f32>();
    var c3_lo = vec4<f32>();
    var c3_hi = vec4<f32>();
    var c4_lo = vec4<f32>();
    var c4_hi = vec4<f32>();
    var c5_lo = vec4<f32>();
    var c5_hi = vec4<f32>();
    var c6_lo = vec4<f32>();
    var c6_hi = vec4<f32>();
    var c7_lo = vec4<f32>();
    var c7_hi = vec4<f32>();
    var c8_lo = vec4<f32>();
    var c8_hi = vec4<f32>();
    var c9_lo = vec4<f32>();
    var c9_hi = vec4<f32>();
    var c10_lo = vec4<f32>();
    var c10_hi = vec4<f32>();
    var c11_lo = vec4<f32>();
    var c11_hi = vec4<f32>();
    var c12_lo = vec4<f32>();
    var c12_hi = vec4<f32>();
    var c13_lo = vec4<f32>();
    var c13_hi = vec4<f32>();
    var c14_lo = vec4<f32>();
    var c14_hi = vec4<f32>();
    var c15_lo = vec4<f32>();
    var c15_hi = vec4<f32>();

    for (var s = 0u; s < phase.segments; s++) {
        let segment = walk[phase.first_segment + s];
        let top_span = span_of(top, phase, segment);
        let bottom_span = span_of(bottom, phase, segment);
        let base = u32(segment.z);
        for (var k = 0u; k < depth; k += 8u) {
            let a_top = row8(top_span, k);
            let a_bottom = row8(bottom_span, k);
            let b = tiles_at(columns, base, k);
            var near: vec4<f32>;
            var far: vec4<f32>;

            near = subgroupBroadcast(a_top.lo, 0u);
            far = subgroupBroadcast(a_top.hi, 0u);
            c0_lo += b.near_lo * near;
            c0_lo += b.far_lo * far;
            c0_hi += b.near_hi * near;
            c0_hi += b.far_hi * far;
            near = subgroupBroadcast(a_top.lo, 1u);
            far = subgroupBroadcast(a_top.hi, 1u);
            c1_lo += b.near_lo * near;
            c1_lo += b.far_lo * far;
            c1_hi += b.near_hi * near;
            c1_hi += b.far_hi * far;
            near = subgroupBroadcast(a_top.lo, 2u);
            far = subgroupBroadcast(a_top.hi, 2u);
            c2_lo += b.near_lo * near;
            c2_lo += b.far_lo * far;
            c2_hi += b.near_hi * near;
            c2_hi += b.far_hi * far;
            near = subgroupBroadcast(a_top.lo, 3u);
            far = subgroupBroadcast(a_top.hi, 3u);
            c3_lo += b.near_lo * near;
            c3_lo += b.far_lo * far;
            c3_hi += b.near_hi * near;
            c3_hi += b.far_hi * far;
            near = subgroupBroadcast(a_top.lo, 4u);
            far = subgroupBroadcast(a_top.hi, 4u);
            c4_lo += b.near_lo * near;
            c4_lo += b.far_lo * far;
            c4_hi += b.near_hi * near;
            c4_hi += b.far_hi * far;
            near = subgroupBroadcast(a_top.lo, 5u);
            far = subgroupBroadcast(a_top.hi, 5u);
            c5_lo += b.near_lo * near;
            c5_lo += b.far_lo * far;
            c5_hi += b.near_hi * near;
            c5_hi += b.far_hi * far;
            near = subgroupBroadcast(a_top.lo, 6u);
            far = subgroupBroadcast(a_top.hi, 6u);
            c6_lo += b.near_lo * near;
            c6_lo += b.far_lo * far;
            c6_hi += b.near_hi * near;
            c6_hi += b.far_hi * far;
            near = subgroupBroadcast(a_top.lo, 7u);
            far = subgroupBroadcast(a_top.hi, 7u);
            c7_lo += b.near_lo * near;
            c7_lo += b.far_lo * far;
            c7_hi += b.near_hi * near;
            c7_hi += b.far_hi * far;
            near = subgroupBroadcast(a_bottom.lo, 0u);
            far = subgroupBroadcast(a_bottom.hi, 0u);
            c8_lo += b.near_lo * near;
            c8_lo += b.far_lo * far;
            c8_hi += b.near_hi * near;
            c8_hi += b.far_hi * far;
            near = subgroupBroadcast(a_bottom.lo, 1u);
            far = subgroupBroadcast(a_bottom.hi, 1u);
            c9_lo += b.near_lo * near;
            c9_lo += b.far_lo * far;
            c9_hi += b.near_hi * near;
            c9_hi += b.far_hi * far;
            near = subgroupBroadcast(a_bottom.lo, 2u);
            far = subgroupBroadcast(a_bottom.hi, 2u);
            c10_lo += b.near_lo * near;
            c10_lo += b.far_lo * far;
            c10_hi += b.near_hi * near;
            c10_hi += b.far_hi * far;
            near = subgroupBroadcast(a_bottom.lo, 3u);
            far = subgroupBroadcast(a_bottom.hi, 3u);
            c11_lo += b.near_lo * near;
            c11_lo += b.far_lo * far;
            c11_hi += b.near_hi * near;
            c11_hi += b.far_hi * far;
            near = subgroupBroadcast(a_bottom.lo, 4u);
            far = subgroupBroadcast(a_bottom.hi, 4u);
            c12_lo += b.near_lo * near;
            c12_lo += b.far_lo * far;
            c12_hi += b.near_hi * near;
            c12_hi += b.far_hi * far;
            near = subgroupBroadcast(a_bottom.lo, 5u);
            far = subgroupBroadcast(a_bottom.hi, 5u);
            c13_lo += b.near_lo * near;
            c13_lo += b.far_lo * far;
            c13_hi += b.near_hi * near;
            c13_hi += b.far_hi * far;
            near = subgroupBroadcast(a_bottom.lo, 6u);
            far = subgroupBroadcast(a_bottom.hi, 6u);
            c14_lo += b.near_lo * near;
            c14_lo += b.far_lo * far;
            c14_hi += b.near_hi * near;
            c14_hi += b.far_hi * far;
            near = subgroupBroadcast(a_bottom.lo, 7u);
            far = subgroupBroadcast(a_bottom.hi, 7u);
            c15_lo += b.near_lo * near;
            c15_lo += b.far_lo * far;
            c15_hi += b.near_hi * near;
            c15_hi += b.far_hi * far;
        }
    }

    // One row at a time, the others moving up: this compiles the epilogue once, and an array of sums would be read from memory, lane by lane.
    let lo = quad_at(phase, n);
    let hi = quad_at(phase, n + 4u);
    let rows = min(16u, phase.rows - m);
    for (var r = 0u; r < rows; r++) {
        let out = subgroupShuffle(select(bottom.out, top.out, r < 8u), r & 7u);
        store4(c0_lo, lo, out);
        store4(c0_hi, hi, out);
        c0_lo = c1_lo;
        c0_hi = c1_hi;
        c1_lo = c2_lo;
        c1_hi = c2_hi;
        c2_lo = c3_lo;
        c2_hi = c3_hi;
        c3_lo = c4_lo;
        c3_hi = c4_hi;
        c4_lo = c5_lo;
        c4_hi = c5_hi;
        c5_lo = c6_lo;
        c5_hi = c6_hi;
        c6_lo = c7_lo;
        c6_hi = c7_hi;
        c7_lo = c8_lo;
        c7_hi = c8_hi;
        c8_lo = c9_lo;
        c8_hi = c9_hi;
        c9_lo = c10_lo;
        c9_hi = c10_hi;
        c10_lo = c11_lo;
        c10_hi = c11_hi;
        c11_lo = c12_lo;
        c11_hi = c12_hi;
        c12_lo = c13_lo;
        c12_hi = c13_hi;
        c13_lo = c14_lo;
        c13_hi = c14_hi;
        c14_lo = c15_lo;
        c14_hi = c15_hi;
    }
}
