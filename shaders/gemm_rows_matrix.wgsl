// gemm_rows_matrix: matrix product and convolution (forward) for GPUs with matrix units: tiles of f16 in shared memory, sums in f32.
// Same meaning as torch.matmul, torch.nn.functional.conv2d and conv_transpose2d, with an epilogue.
//
//   C[m, n] = epilogue(sum over segments s, k of A(m, s, k) * B(s, k, n))      see gemm_rows, which is joined in front
//
//   a      [pixels][K]                              in     activations in f16, k contiguous
//   b      [K][N] (gemm_stage_n) or [N][K] (_t)     in     weights in f16
//   walk   phases and segments                      in
//   bias   [channels]                               in     read only if params.bias
//   saved  as c                                     in     read only if params.mask
//   c      [pixels][N]                              out
//
// Work: one workgroup computes 64 rows by 64 columns in steps of 16 k. A subgroup owns a square of two by two fragments (gemm_fragment_16); four of
// 32 lanes make the tile. Half of the invocations load the tile of A, the other half that of B (gemm_rows_stage). Behind the last step the sums go
// through shared memory, a strip at a time, to invocations that own four columns each, for the epilogue. Workgroup (x, y) is a tile, columns fastest;
// z is the phase. Steps, phases and splits are those of gemm_rows_tile_small.
// Host: src/ops/gemm/rows.rs.  Twins: matmul, conv2d_forward, conv2d_backward_input.
// Variants: the form of B, and whether the sum is split.

const ACROSS = 64u / (2u * FRAGMENT); // subgroups in a row of the tile, and in a column
const_assert ACROSS * ACROSS * LANES == 128u;

@compute @workgroup_size(128)
fn gemm_rows_matrix(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let phase = phase_at(workgroup.z);
    let column_tiles = (params.columns + 63u) / 64u;
    let tile = workgroup.y * workgroups.x + workgroup.x;
    let row_tile = tile / column_tiles;
    // Uniform: phases may have fewer tiles than the dispatch. These are phase.rows, read in place: naga wants to see that all go on to cooperate, and
    // does not look into functions.
    if row_tile * 64u >= bitcast<u32>(walk[workgroup.z * 3u].x) {
        return;
    }
    let m = row_tile * 64u;
    let n = (tile - row_tile * column_tiles) * 64u;
    let stager = stager_at(local, m, n);
    // Where the subgroup's square is in the tile.
    let top = subgroup / ACROSS * 2u * FRAGMENT;
    let left = subgroup % ACROSS * 2u * FRAGMENT;

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

    var top_left = Sums();
    var top_right = Sums();
    var bottom_left = Sums();
    var bottom_right = Sums();
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
        for (var q = 0u; q < 16u; q += FRAGMENT) {
            let at_a = q * PITCH + top;
            let at_b = q * PITCH + left;
            let above = coopLoad<FragmentA>(&tile_a[at_a], PITCH);
            let below = coopLoad<FragmentA>(&tile_a[at_a + FRAGMENT], PITCH);
            let here = coopLoadT<FragmentB>(&tile_b[at_b], PITCH);
            let beside = coopLoadT<FragmentB>(&tile_b[at_b + FRAGMENT], PITCH);
            top_left = coopMultiplyAdd(above, here, top_left);
            top_right = coopMultiplyAdd(above, beside, top_right);
            bottom_left = coopMultiplyAdd(below, here, bottom_left);
            bottom_right = coopMultiplyAdd(below, beside, bottom_right);
        }
    }

    // The upper fragments of all squares make a strip of 32 rows, then the lower ones do.
    let quad = quad_at(phase, n + 4u * (local & 15u));
    let at = top / 2u * PITCH + left;
    for (var half = 0u; half < 2u; half++) {
        workgroupBarrier();
        coopStoreT(top_left, &strip[at], PITCH);
        coopStoreT(top_right, &strip[at + FRAGMENT], PITCH);
        workgroupBarrier();
        for (var r = local >> 4u; r < 32u; r += 8u) {
            let square = r / FRAGMENT;
            let row = row_at(phase, m + (2u * square + half) * FRAGMENT + (r - square * FRAGMENT));
            let first = r * PITCH + 4u * (local & 15u);
            let sum = vec4<f32>(strip[first], strip[first + 1u], strip[first + 2u], strip[first + 3u]);
            if row.inside {
                store4(sum, quad, row.out);
            }
        }
        top_left = bottom_left;
        top_right = bottom_right;
    }
}
