// gemm_rows_broadcast: matrix product and convolution (forward, input gradient) for adapters whose subgroups have eight lanes: software ones.
// Same meaning as torch.matmul, torch.nn.functional.conv2d and conv_transpose2d, with an epilogue.
//
//   C[m, n] = epilogue(sum over segments s, k of A(m, s, k) * B(s, k, n))      see gemm_rows, which is joined in front
//
//   a      [pixels][K]                              in     activations, k contiguous
//   b      [K][N] (gemm_patch_n) or [N][K] (_t)     in     weights
//   walk   phases and segments                      in
//   bias   [channels]                               in     read only if params.bias
//   saved  as c                                     in     read only if params.mask
//   c      [pixels][N]                              out
//
// Work: one workgroup is one subgroup of eight lanes and computes 32 rows by 32 columns. Each of its two quads owns sixteen rows; a lane owns eight
// columns of its quad's rows, which are 32 vec4 accumulators. In steps of four k, a lane loads four k of four rows of A. Its first sums are over the
// row that it has itself, the second over its neighbour's, and so on around the quad, so that l0 is not the same row in every lane: a quarter of the
// shuffles is not needed. Of the 4 x 8 numbers of B that it needs, a lane loads half, so that nothing is loaded twice, and has the rest from the
// other quad by a shuffle. On the adapters this is for, a shuffle within a quad is one instruction, a broadcast within a subgroup two, and a memory
// operation is sixty.
// Workgroup (x, y) is a tile, rows fastest; z is the phase. No shared memory, no barrier, no loop over rows: indexed accumulators would live in
// memory. Products of matrices would be shorter to write, but are compiled to slower code.
// Host: src/ops/gemm/rows.rs.  Twins: matmul, conv2d_forward, conv2d_backward_input.
// Variants: <form>_<loader>.

// A value of the lane `by` places further in the quad.
fn turned(value: vec4<f32>, lane: u32, by: u32) -> vec4<f32> {
    return subgroupShuffle(value, (lane & 4u) | ((lane + by) & 3u));
}

// The same of the four places, the lane's own first.
fn turned_places(place: u32, lane: u32) -> vec4<u32> {
    let quad = lane & 4u;
    return vec4<u32>(
        place,
        subgroupShuffle(place, quad | ((lane + 1u) & 3u)),
        subgroupShuffle(place, quad | ((lane + 2u) & 3u)),
        subgroupShuffle(place, quad | ((lane + 3u) & 3u)),
    );
}

@compute @workgroup_size(8)
fn gemm_rows_broadcast(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32, // a constant to the compiler, unlike local_invocation_index: shuffles become single instructions
) {
    let phase = phase_at(workgroup.z);
    let row_tiles = (phase.rows + 31u) / 32u;
    let tile_index = workgroup.y * workgroups.x + workgroup.x;
    let column_tile = tile_index / row_tiles;
    // Uniform: phases may have fewer tiles than the dispatch.
    if column_tile * 32u >= params.columns {
        return;
    }
    let m = (tile_index - column_tile * row_tiles) * 32u + (lane >> 2u) * 16u + (lane & 3u);
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

            l0 = multiply_add(l0, block.left, a0);
            r0 = multiply_add(r0, block.right, a0);
            let x1 = turned(a0, lane, 1u);
            l1 = multiply_add(l1, block.left, x1);
            r1 = multiply_add(r1, block.right, x1);
            let x2 = turned(a0, lane, 2u);
            l2 = multiply_add(l2, block.left, x2);
            r2 = multiply_add(r2, block.right, x2);
            let x3 = turned(a0, lane, 3u);
            l3 = multiply_add(l3, block.left, x3);
            r3 = multiply_add(r3, block.right, x3);
            l4 = multiply_add(l4, block.left, a1);
            r4 = multiply_add(r4, block.right, a1);
            let x5 = turned(a1, lane, 1u);
            l5 = multiply_add(l5, block.left, x5);
            r5 = multiply_add(r5, block.right, x5);
            let x6 = turned(a1, lane, 2u);
            l6 = multiply_add(l6, block.left, x6);
            r6 = multiply_add(r6, block.right, x6);
            let x7 = turned(a1, lane, 3u);
            l7 = multiply_add(l7, block.left, x7);
            r7 = multiply_add(r7, block.right, x7);
            l8 = multiply_add(l8, block.left, a2);
            r8 = multiply_add(r8, block.right, a2);
            let x9 = turned(a2, lane, 1u);
            l9 = multiply_add(l9, block.left, x9);
            r9 = multiply_add(r9, block.right, x9);
            let x10 = turned(a2, lane, 2u);
            l10 = multiply_add(l10, block.left, x10);
            r10 = multiply_add(r10, block.right, x10);
            let x11 = turned(a2, lane, 3u);
            l11 = multiply_add(l11, block.left, x11);
            r11 = multiply_add(r11, block.right, x11);
            l12 = multiply_add(l12, block.left, a3);
            r12 = multiply_add(r12, block.right, a3);
            let x13 = turned(a3, lane, 1u);
            l13 = multiply_add(l13, block.left, x13);
            r13 = multiply_add(r13, block.right, x13);
            let x14 = turned(a3, lane, 2u);
            l14 = multiply_add(l14, block.left, x14);
            r14 = multiply_add(r14, block.right, x14);
            let x15 = turned(a3, lane, 3u);
            l15 = multiply_add(l15, block.left, x15);
            r15 = multiply_add(r15, block.right, x15);
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
        let places = turned_places(place0, lane);
        store8(l0, r0, octet, places.x);
        store8(l1, r1, octet, places.y);
        store8(l2, r2, octet, places.z);
        store8(l3, r3, octet, places.w);
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
