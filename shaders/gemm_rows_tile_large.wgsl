// gemm_rows_tile_large: matrix product and convolution (forward, input gradient) for GPUs: tiles in shared memory, register blocks.
// Same meaning as torch.matmul, torch.nn.functional.conv2d and conv_transpose2d, with an epilogue.
//
//   C[m, n] = epilogue(sum over segments s, k of A(m, s, k) * B(s, k, n))      see gemm_rows, which is joined in front
//
//   a      [pixels][K]                              in     activations, k contiguous
//   b      [K][N] (gemm_stage_n) or [N][K] (_t)     in     weights
//   walk   phases and segments                      in
//   bias   [channels]                               in     read only if params.bias
//   saved  as c                                     in     read only if params.mask
//   c      [pixels][N]                              out
//
// Work: one workgroup computes 128 rows by 128 columns in steps of 16 k. An invocation owns eight rows by eight columns,
// as four blocks of 4 x 4 in the tile's quarters; 32 neighbours read four vec4s of A and eight of B, which lie in different memory banks. Half of the
// invocations load the tile of A, the other half that of B (gemm_rows_stage). Workgroup (x, y) is a tile, columns fastest, so that tiles that read
// the same rows of A run together; z is the phase. Steps go on over segments. A split product is phases that share their rows and divide their
// steps, and that write to slabs of scratch (gemm_split_finish).
// Host: src/ops/gemm/rows.rs.  Twins: matmul, conv2d_forward, conv2d_backward_input.
// Variants: the form of B, and whether the sum is split.

@compute @workgroup_size(256)
fn gemm_rows_tile_large(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let phase = phase_at(workgroup.z);
    let column_tiles = (params.columns + 127u) / 128u;
    let tile = workgroup.y * workgroups.x + workgroup.x;
    let row_tile = tile / column_tiles;
    // Uniform: phases may have fewer tiles than the dispatch.
    if row_tile * 128u >= phase.rows {
        return;
    }
    let m = row_tile * 128u;
    let n = (tile - row_tile * column_tiles) * 128u;
    let row_quad = ((local >> 3u) & 3u) | ((local >> 6u) << 2u);
    let column_quad = (local & 7u) | ((local >> 2u) & 8u);
    let stager = stager_at(local, m, n);

    let depth = params.depth;
    let segment_steps = (depth + 15u) / 16u;
    var s = phase.first_step / segment_steps;
    var k = (phase.first_step - s * segment_steps) * 16u;
    var lines: Lines;
    var loaded: Loaded;
    if phase.steps > 0u {
        lines = lines_of(stager, phase, walk[phase.first_segment + s]);
        loaded = load(stager, lines, k);
    }

    var top_left = mat4x4<f32>();
    var top_right = mat4x4<f32>();
    var bottom_left = mat4x4<f32>();
    var bottom_right = mat4x4<f32>();
    for (var step = 1u; step <= phase.steps; step++) {
        workgroupBarrier();
        stage(stager, loaded);
        workgroupBarrier();
        // Behind the last step too: a branch around the loads would have registers merged, and wait for them.
        k += 16u;
        if k >= depth && step < phase.steps {
            k = 0u;
            s++;
            lines = lines_of(stager, phase, walk[phase.first_segment + s]);
        }
        loaded = load(stager, lines, k);
        for (var q = 0u; q < 4u; q++) {
            let at_a = slot_at(q, row_quad);
            let at_b = slot_at(q, column_quad);
            let top0 = tile_a[at_a];
            let bottom0 = tile_a[at_a + 16u];
            let left0 = tile_b[at_b];
            let right0 = tile_b[at_b + 16u];
            top_left += outer(top0, left0);
            top_right += outer(top0, right0);
            bottom_left += outer(bottom0, left0);
            bottom_right += outer(bottom0, right0);
            let top1 = tile_a[at_a + QUADS];
            let bottom1 = tile_a[at_a + QUADS + 16u];
            let left1 = tile_b[at_b + QUADS];
            let right1 = tile_b[at_b + QUADS + 16u];
            top_left += outer(top1, left1);
            top_right += outer(top1, right1);
            bottom_left += outer(bottom1, left1);
            bottom_right += outer(bottom1, right1);
            let top2 = tile_a[at_a + 2u * QUADS];
            let bottom2 = tile_a[at_a + 2u * QUADS + 16u];
            let left2 = tile_b[at_b + 2u * QUADS];
            let right2 = tile_b[at_b + 2u * QUADS + 16u];
            top_left += outer(top2, left2);
            top_right += outer(top2, right2);
            bottom_left += outer(bottom2, left2);
            bottom_right += outer(bottom2, right2);
            let top3 = tile_a[at_a + 3u * QUADS];
            let bottom3 = tile_a[at_a + 3u * QUADS + 16u];
            let left3 = tile_b[at_b + 3u * QUADS];
            let right3 = tile_b[at_b + 3u * QUADS + 16u];
            top_left += outer(top3, left3);
            top_right += outer(top3, right3);
            bottom_left += outer(bottom3, left3);
            bottom_right += outer(bottom3, right3);
        }
    }

    // A row of each half at a time, the others moving up: this compiles the epilogue four times, not sixteen.
    let left = quad_at(phase, n + 4u * column_quad);
    let right = quad_at(phase, n + 64u + 4u * column_quad);
    for (var r = 0u; r < 4u; r++) {
        let above = row_at(phase, m + 4u * row_quad + r);
        if above.inside {
            store4(top_left[0], left, above.out);
            store4(top_right[0], right, above.out);
        }
        let below = row_at(phase, m + 64u + 4u * row_quad + r);
        if below.inside {
            store4(bottom_left[0], left, below.out);
            store4(bottom_right[0], right, below.out);
        }
        top_left = moved_up(top_left);
        top_right = moved_up(top_right);
        bottom_left = moved_up(bottom_left);
        bottom_right = moved_up(bottom_right);
    }
}
