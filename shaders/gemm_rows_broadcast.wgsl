// gemm_rows_broadcast: matrix product and convolution (forward, input gradient) for adapters whose subgroups have eight or four lanes: software ones.
// Same meaning as torch.matmul, torch.nn.functional.conv2d and conv_transpose2d, with an epilogue.
//
//   C[m, n] = epilogue(sum over segments s, k of A(m, s, k) * B(s, k, n))      see gemm_rows, which is joined in front
//
//   a      [pixels][K]                              in     activations, k contiguous
//   b      [K][N] or [N][K]                          in     weights, read by gemm_patch_n or _t, or by gemm_patch_quad with gemm_quad_n or _t
//   walk   phases and segments                      in
//   bias   [channels]                               in     read only if params.bias
//   saved  as c                                     in     read only if params.mask
//   c      [pixels][N]                              out
//
// Work: one workgroup is one subgroup of LANES lanes and computes 4 * LANES rows by 32 columns. Each of its quads, two or one, owns sixteen rows; a lane
// owns eight columns of its quad's rows, which are 32 vec4 accumulators. In steps of four k, a lane loads four k of four rows of A, which reach the other
// lanes of the quad by broadcast. Of the 4 x 8 numbers of B that it needs, a lane of two quads loads half, so that nothing is loaded twice, and has the
// rest from the other quad by a shuffle. On the adapters this is for, a broadcast within a quad is one instruction, within a subgroup two, and a memory
// operation is sixty.
// Workgroup (x, y) is a tile, rows fastest; z is the phase. No shared memory, no barrier, no loop over rows: indexed accumulators would live in
// memory.
// Host: src/ops/gemm/rows.rs.  Twins: matmul, conv2d_forward, conv2d_backward_input.
// Variants: <form>_<loader>, where `quad` is four lanes and buffers.

@compute @workgroup_size(LANES)
fn gemm_rows_broadcast(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32, // a constant to the compiler, unlike local_invocation_index: shuffles become single instructions
) {
    let phase = phase_at(workgroup.z);
    let row_tiles = (phase.rows + 4u * LANES - 1u) / (4u * LANES);
    let tile_index = workgroup.y * workgroups.x + workgroup.x;
    let column_tile = tile_index / row_tiles;
    // Uniform: phases may have fewer tiles than the dispatch.
    if column_tile * 32u >= params.columns {
        return;
    }
    let m = (tile_index - column_tile * row_tiles) * (4u * LANES) + (lane >> 2u) * 16u + (lane & 3u);
    let n = column_tile * 32u + (lane & 3u) * 8u;
    let row0 = row_at(phase, m);
    let row1 = row_at(phase, m + 4u);
    let row2 = row_at(phase, m + 8u);
    let row3 = row_at(phase, m + 12u);
    let columns = patch_columns_at(n, lane);
    let depth = params.depth;

    var l0 = vec4<f32>();
    var r0 = vec4<f32>();
    var l1 = vec4<f32>();
    var r1 = vec4<f32>();
    var l2 = vec4<f32>();
    var r2 = vec4<f32>();
    var l3 = vec4<f32>();
    var r3 = vec4<f32>();
    var l4 = vec4<f32>();
    var r4 = vec4<f32>();
    var l5 = vec4<f32>();
    var r5 = vec4<f32>();
    var l6 = vec4<f32>();
    var r6 = vec4<f32>();
    var l7 = vec4<f32>();
    var r7 = vec4<f32>();
    var l8 = vec4<f32>();
    var r8 = vec4<f32>();
    var l9 = vec4<f32>();
    var r9 = vec4<f32>();
    var l10 = vec4<f32>();
    var r10 = vec4<f32>();
    var l11 = vec4<f32>();
    var r11 = vec4<f32>();
    var l12 = vec4<f32>();
    var r12 = vec4<f32>();
    var l13 = vec4<f32>();
    var r13 = vec4<f32>();
    var l14 = vec4<f32>();
    var r14 = vec4<f32>();
    var l15 = vec4<f32>();
    var r15 = vec4<f32>();

    for (var s = 0u; s < phase.segments; s++) {
        let segment = walk[phase.first_segment + s];
        let span0 = span_of(row0, phase, segment);
        let span1 = span_of(row1, phase, segment);
        let span2 = span_of(row2, phase, segment);
        let span3 = span_of(row3, phase, segment);
        let base = u32(segment.z);
        for (var k = 0u; k < depth; k += 4u) {
            let a0 = row4(span0, k);
            let a1 = row4(span1, k);
            let a2 = row4(span2, k);
            let a3 = row4(span3, k);
            let block = patch_at(columns, base, k, lane);

            l0 += block.left * quadBroadcast(a0, 0u);
            r0 += block.right * quadBroadcast(a0, 0u);
            l1 += block.left * quadBroadcast(a0, 1u);
            r1 += block.right * quadBroadcast(a0, 1u);
            l2 += block.left * quadBroadcast(a0, 2u);
            r2 += block.right * quadBroadcast(a0, 2u);
            l3 += block.left * quadBroadcast(a0, 3u);
            r3 += block.right * quadBroadcast(a0, 3u);
            l4 += block.left * quadBroadcast(a1, 0u);
            r4 += block.right * quadBroadcast(a1, 0u);
            l5 += block.left * quadBroadcast(a1, 1u);
            r5 += block.right * quadBroadcast(a1, 1u);
            l6 += block.left * quadBroadcast(a1, 2u);
            r6 += block.right * quadBroadcast(a1, 2u);
            l7 += block.left * quadBroadcast(a1, 3u);
            r7 += block.right * quadBroadcast(a1, 3u);
            l8 += block.left * quadBroadcast(a2, 0u);
            r8 += block.right * quadBroadcast(a2, 0u);
            l9 += block.left * quadBroadcast(a2, 1u);
            r9 += block.right * quadBroadcast(a2, 1u);
            l10 += block.left * quadBroadcast(a2, 2u);
            r10 += block.right * quadBroadcast(a2, 2u);
            l11 += block.left * quadBroadcast(a2, 3u);
            r11 += block.right * quadBroadcast(a2, 3u);
            l12 += block.left * quadBroadcast(a3, 0u);
            r12 += block.right * quadBroadcast(a3, 0u);
            l13 += block.left * quadBroadcast(a3, 1u);
            r13 += block.right * quadBroadcast(a3, 1u);
            l14 += block.left * quadBroadcast(a3, 2u);
            r14 += block.right * quadBroadcast(a3, 2u);
            l15 += block.left * quadBroadcast(a3, 3u);
            r15 += block.right * quadBroadcast(a3, 3u);
        }
    }

    // Four rows at a time, the others moving up: this compiles the epilogue four times and not sixteen, and an array of sums would be read from
    // memory, lane by lane.
    let octet = octet_at(phase, n, lane);
    var place0 = place_of(row0);
    var place1 = place_of(row1);
    var place2 = place_of(row2);
    var place3 = place_of(row3);
    for (var group = 0u; group < 4u; group++) {
        store8(l0, r0, octet, quadBroadcast(place0, 0u));
        store8(l1, r1, octet, quadBroadcast(place0, 1u));
        store8(l2, r2, octet, quadBroadcast(place0, 2u));
        store8(l3, r3, octet, quadBroadcast(place0, 3u));
        place0 = place1;
        place1 = place2;
        place2 = place3;
        l0 = l4;
        r0 = r4;
        l1 = l5;
        r1 = r5;
        l2 = l6;
        r2 = r6;
        l3 = l7;
        r3 = r7;
        l4 = l8;
        r4 = r8;
        l5 = l9;
        r5 = r9;
        l6 = l10;
        r6 = r10;
        l7 = l11;
        r7 = r11;
        l8 = l12;
        r8 = r12;
        l9 = l13;
        r9 = r13;
        l10 = l14;
        r10 = r14;
        l11 = l15;
        r11 = r15;
    }
}
