// gemm_rows_quad: matrix product and convolution (forward, input gradient) for adapters whose subgroups have four lanes: software ones.
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
// Work: one workgroup is one subgroup of four lanes and computes 32 rows by 32 columns. A lane owns eight columns of all rows, as matrices of four
// columns by four rows. In steps of four k, it loads four k of eight rows of A, which reach the others by broadcast, and of its own columns of B.
// Registers do not hold the sums, but loads and broadcasts cost more than that: with 16 rows a step has 12 loads for half the arithmetic, instead of
// 16. Workgroup (x, y) is a tile, rows fastest; z is the phase. No shared memory, no barrier, no loop over rows: indexed sums would be slower to reach.
// Host: src/ops/gemm/rows.rs.  Twins: matmul, conv2d_forward, conv2d_backward_input.
// Variants: the form of B.

// Four k of the four rows that the lanes hold.
fn rows_of(a: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(quadBroadcast(a, 0u), quadBroadcast(a, 1u), quadBroadcast(a, 2u), quadBroadcast(a, 3u));
}

fn store8(left: vec4<f32>, right: vec4<f32>, left_quad: Quad, right_quad: Quad, place: u32) {
    if place != NOWHERE {
        store4(left, left_quad, place);
        store4(right, right_quad, place);
    }
}

@compute @workgroup_size(4)
fn gemm_rows_quad(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let phase = phase_at(workgroup.z);
    let row_tiles = (phase.rows + 31u) / 32u;
    let tile_index = workgroup.y * workgroups.x + workgroup.x;
    let column_tile = tile_index / row_tiles;
    // Uniform: phases may have fewer tiles than the dispatch.
    if column_tile * 32u >= params.columns {
        return;
    }
    let m = (tile_index - column_tile * row_tiles) * 32u + lane;
    let n = column_tile * 32u + lane * 8u;
    let own0 = row_at(phase, m);
    let own1 = row_at(phase, m + 4u);
    let own2 = row_at(phase, m + 8u);
    let own3 = row_at(phase, m + 12u);
    let own4 = row_at(phase, m + 16u);
    let own5 = row_at(phase, m + 20u);
    let own6 = row_at(phase, m + 24u);
    let own7 = row_at(phase, m + 28u);
    let depth = params.depth;

    var left0 = mat4x4<f32>();
    var right0 = mat4x4<f32>();
    var left1 = mat4x4<f32>();
    var right1 = mat4x4<f32>();
    var left2 = mat4x4<f32>();
    var right2 = mat4x4<f32>();
    var left3 = mat4x4<f32>();
    var right3 = mat4x4<f32>();
    var left4 = mat4x4<f32>();
    var right4 = mat4x4<f32>();
    var left5 = mat4x4<f32>();
    var right5 = mat4x4<f32>();
    var left6 = mat4x4<f32>();
    var right6 = mat4x4<f32>();
    var left7 = mat4x4<f32>();
    var right7 = mat4x4<f32>();

    for (var s = 0u; s < phase.segments; s++) {
        let segment = walk[phase.first_segment + s];
        let span0 = span_of(own0, phase, segment);
        let span1 = span_of(own1, phase, segment);
        let span2 = span_of(own2, phase, segment);
        let span3 = span_of(own3, phase, segment);
        let span4 = span_of(own4, phase, segment);
        let span5 = span_of(own5, phase, segment);
        let span6 = span_of(own6, phase, segment);
        let span7 = span_of(own7, phase, segment);
        let base = u32(segment.z);
        for (var k = 0u; k < depth; k += 4u) {
            let left = tile_at(base, k, n);
            let right = tile_at(base, k, n + 4u);
            let rows0 = rows_of(row4(span0, k));
            left0 += left * rows0;
            right0 += right * rows0;
            let rows1 = rows_of(row4(span1, k));
            left1 += left * rows1;
            right1 += right * rows1;
            let rows2 = rows_of(row4(span2, k));
            left2 += left * rows2;
            right2 += right * rows2;
            let rows3 = rows_of(row4(span3, k));
            left3 += left * rows3;
            right3 += right * rows3;
            let rows4 = rows_of(row4(span4, k));
            left4 += left * rows4;
            right4 += right * rows4;
            let rows5 = rows_of(row4(span5, k));
            left5 += left * rows5;
            right5 += right * rows5;
            let rows6 = rows_of(row4(span6, k));
            left6 += left * rows6;
            right6 += right * rows6;
            let rows7 = rows_of(row4(span7, k));
            left7 += left * rows7;
            right7 += right * rows7;
        }
    }

    // Four rows at a time, the others moving up: this compiles the epilogue four times and not 32.
    let left_quad = quad_at(phase, n);
    let right_quad = quad_at(phase, n + 4u);
    var place0 = place_of(own0);
    var place1 = place_of(own1);
    var place2 = place_of(own2);
    var place3 = place_of(own3);
    var place4 = place_of(own4);
    var place5 = place_of(own5);
    var place6 = place_of(own6);
    var place7 = place_of(own7);
    for (var group = 0u; group < 8u; group++) {
        store8(left0[0], right0[0], left_quad, right_quad, quadBroadcast(place0, 0u));
        store8(left0[1], right0[1], left_quad, right_quad, quadBroadcast(place0, 1u));
        store8(left0[2], right0[2], left_quad, right_quad, quadBroadcast(place0, 2u));
        store8(left0[3], right0[3], left_quad, right_quad, quadBroadcast(place0, 3u));
        place0 = place1;
        left0 = left1;
        right0 = right1;
        place1 = place2;
        left1 = left2;
        right1 = right2;
        place2 = place3;
        left2 = left3;
        right2 = right3;
        place3 = place4;
        left3 = left4;
        right3 = right4;
        place4 = place5;
        left4 = left5;
        right4 = right5;
        place5 = place6;
        left5 = left6;
        right5 = right6;
        place6 = place7;
        left6 = left7;
        right6 = right7;
    }
}
