// gemm_cols_tile_small: transposed matrix product and convolution weight gradient for GPUs: tiles in shared memory, register blocks.
// Same meaning as torch.matmul(a.T, b) and torch.nn.grad.conv2d_weight.
//
//   C[m, n] = sum over pixels p of A(p, m) * B(p, n)      see gemm_cols, which is joined in front
//
//   a   [pixels][M]                in      output gradient
//   b   [pixels][channels]         in      input, gathered by tap
//   c   [M][taps][channels]        out     or slabs of it in scratch, one for each part of a split sum (gemm_split_finish)
//
// Work: one workgroup computes 64 rows by 64 columns in steps of 16 pixels, with the register blocks of gemm_rows_tile_small. Half of the
// invocations load the tile of A, the other half that of B (gemm_cols_stage). Workgroup (x, y) is a tile, columns fastest; z is the group and, within
// it, the part of the pixels.
// Host: src/ops/gemm/cols.rs.  Twins: matmul, conv2d_backward_weight.
// Variants: whether the sum is split.

@group(0) @binding(3) var<storage, read_write> c: array<vec4<f32>>;

@compute @workgroup_size(128)
fn gemm_cols_tile_small(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let p = params;
    let part = part_at(workgroup.z, workgroups.z);
    let column_tiles = (p.columns + 63u) / 64u;
    let tile = workgroup.y * workgroups.x + workgroup.x;
    let row_tile = tile / column_tiles;
    // Uniform: the grid may be folded.
    if row_tile * 64u >= p.rows {
        return;
    }
    let m = row_tile * 64u;
    let n = (tile - row_tile * column_tiles) * 64u;
    let row_quad = ((local >> 3u) & 3u) | ((local >> 6u) << 2u);
    let column_quad = (local & 7u) | ((local >> 2u) & 8u);
    let stager = stager_at(local, m, n, part.group);

    var k = part.first;
    let end = part.end;
    var pixel = pixel_at(k + stager.k);
    var loaded = load(stager, pixel, k, end);

    var upper = mat4x4<f32>();
    var lower = mat4x4<f32>();
    for (; k < end; k += 16u) {
        workgroupBarrier();
        stage(stager, loaded);
        workgroupBarrier();
        // Behind the last step too: a branch around the loads would have registers merged, and wait for them.
        pixel = moved_on(moved_on(pixel));
        loaded = load(stager, pixel, k + 16u, end);
        for (var q = 0u; q < 4u; q++) {
            let at_a = slot_at(q, row_quad);
            let at_b = slot_at(q, column_quad);
            let top0 = tile_a[at_a];
            let bottom0 = tile_a[at_a + 8u];
            let b0 = tile_b[at_b];
            upper += outer(top0, b0);
            lower += outer(bottom0, b0);
            let top1 = tile_a[at_a + QUADS];
            let bottom1 = tile_a[at_a + QUADS + 8u];
            let b1 = tile_b[at_b + QUADS];
            upper += outer(top1, b1);
            lower += outer(bottom1, b1);
            let top2 = tile_a[at_a + 2u * QUADS];
            let bottom2 = tile_a[at_a + 2u * QUADS + 8u];
            let b2 = tile_b[at_b + 2u * QUADS];
            upper += outer(top2, b2);
            lower += outer(bottom2, b2);
            let top3 = tile_a[at_a + 3u * QUADS];
            let bottom3 = tile_a[at_a + 3u * QUADS + 8u];
            let b3 = tile_b[at_b + 3u * QUADS];
            upper += outer(top3, b3);
            lower += outer(bottom3, b3);
        }
    }

    let column = n + 4u * column_quad;
    for (var r = 0u; r < 4u; r++) {
        let above = m + 4u * row_quad + r;
        let below = above + 32u;
        let above_at = (part.row + above) * p.columns + column;
        let below_at = above_at + 32u * p.columns;
        if above < p.rows && column < p.columns {
            c[above_at >> 2u] = upper[0];
        }
        if below < p.rows && column < p.columns {
            c[below_at >> 2u] = lower[0];
        }
        upper = moved_up(upper);
        lower = moved_up(lower);
    }
}
