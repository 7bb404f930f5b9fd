// gemm_cols_broadcast: transposed matrix product and convolution weight gradient for adapters whose subgroups have eight lanes: software ones.
// Same meaning as torch.matmul(a.T, b) and torch.nn.grad.conv2d_weight.
//
//   C[m, n] = sum over pixels p of A(p, m) * B(p, n)      see gemm_cols, which is joined in front
//
//   a   [pixels][M]                in      output gradient
//   b   [pixels][channels]         in      input, gathered by tap
//   c   [M][taps][channels]        out     or slabs of it in scratch, one for each part of a split sum (gemm_split_finish)
//
// Work: one workgroup is one subgroup of eight lanes and computes 32 rows by 32 columns. Each of its two quads owns sixteen rows; a lane owns eight
// columns of its quad's rows, which are 32 vec4 accumulators. In steps of four pixels, lane l of a quad loads the quad's rows of A at pixel p + l; of
// the lane's columns of B, quad 0 loads the even and quad 1 the odd pixels (gemm_cols_patch). The arithmetic is that of gemm_rows_broadcast: the
// transposed broadcasts are four pixels of one row. Each lane keeps the position of pixel p + l, moved on without a division.
// Workgroup (x, y) is a tile, rows fastest; z is the group and, within it, the part of the pixels.
// Host: src/ops/gemm/cols.rs.  Twins: matmul, conv2d_backward_weight.
// Variants: the loader of both operands, and whether the sum is split.

@compute @workgroup_size(8)
fn gemm_cols_broadcast(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32, // a constant to the compiler, unlike local_invocation_index: shuffles become single instructions
) {
    let p = params;
    let part = part_at(workgroup.z, workgroups.z);
    let row_tiles = (p.rows + 31u) / 32u;
    let tile_index = workgroup.y * workgroups.x + workgroup.x;
    let column_tile = tile_index / row_tiles;
    // Uniform: the grid may be folded.
    if column_tile * 32u >= p.columns {
        return;
    }
    let m = (tile_index - column_tile * row_tiles) * 32u + (lane >> 2u) * 16u;
    let n = column_tile * 32u + (lane & 3u) * 8u;
    let left = column_at(n, part.group);
    let right = column_at(n + 4u, part.group);

    // Rows of A beyond the group or the pixel are loaded from the pixel's end, and their sums are not stored.
    let a_row = part.group * p.rows + m;
    let a_last = p.a_pixel - 4u;

    // The lane's pixel.
    var pixel = pixel_at(part.first + (lane & 3u));

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

    for (var k = part.first; k < part.end; k += 4u) {
        // Pixels beyond the last: B is read outside the image, which is zero, and A at the first pixel. If that is not finite, neither are the sums.
        let exists = k + (lane & 3u) < part.end;
        let a_pixel = select(0u, k + (lane & 3u), exists) * p.a_pixel;
        let a0 = a4(a_pixel + min(a_row, a_last));
        let a1 = a4(a_pixel + min(a_row + 4u, a_last));
        let a2 = a4(a_pixel + min(a_row + 8u, a_last));
        let a3 = a4(a_pixel + min(a_row + 12u, a_last));

        var origin = origin_of(pixel);
        origin.y = select(-0x40000000, origin.y, exists);
        let block = patch_at(origin, left, right, lane);

        var x: mat4x4<f32>;
        x = transpose(mat4x4<f32>(quadBroadcast(a0, 0u), quadBroadcast(a0, 1u), quadBroadcast(a0, 2u), quadBroadcast(a0, 3u)));
        l0 = multiply_add(l0, block.left, x[0]);
        r0 = multiply_add(r0, block.right, x[0]);
        l1 = multiply_add(l1, block.left, x[1]);
        r1 = multiply_add(r1, block.right, x[1]);
        l2 = multiply_add(l2, block.left, x[2]);
        r2 = multiply_add(r2, block.right, x[2]);
        l3 = multiply_add(l3, block.left, x[3]);
        r3 = multiply_add(r3, block.right, x[3]);
        x = transpose(mat4x4<f32>(quadBroadcast(a1, 0u), quadBroadcast(a1, 1u), quadBroadcast(a1, 2u), quadBroadcast(a1, 3u)));
        l4 = multiply_add(l4, block.left, x[0]);
        r4 = multiply_add(r4, block.right, x[0]);
        l5 = multiply_add(l5, block.left, x[1]);
        r5 = multiply_add(r5, block.right, x[1]);
        l6 = multiply_add(l6, block.left, x[2]);
        r6 = multiply_add(r6, block.right, x[2]);
        l7 = multiply_add(l7, block.left, x[3]);
        r7 = multiply_add(r7, block.right, x[3]);
        x = transpose(mat4x4<f32>(quadBroadcast(a2, 0u), quadBroadcast(a2, 1u), quadBroadcast(a2, 2u), quadBroadcast(a2, 3u)));
        l8 = multiply_add(l8, block.left, x[0]);
        r8 = multiply_add(r8, block.right, x[0]);
        l9 = multiply_add(l9, block.left, x[1]);
        r9 = multiply_add(r9, block.right, x[1]);
        l10 = multiply_add(l10, block.left, x[2]);
        r10 = multiply_add(r10, block.right, x[2]);
        l11 = multiply_add(l11, block.left, x[3]);
        r11 = multiply_add(r11, block.right, x[3]);
        x = transpose(mat4x4<f32>(quadBroadcast(a3, 0u), quadBroadcast(a3, 1u), quadBroadcast(a3, 2u), quadBroadcast(a3, 3u)));
        l12 = multiply_add(l12, block.left, x[0]);
        r12 = multiply_add(r12, block.right, x[0]);
        l13 = multiply_add(l13, block.left, x[1]);
        r13 = multiply_add(r13, block.right, x[1]);
        l14 = multiply_add(l14, block.left, x[2]);
        r14 = multiply_add(r14, block.right, x[2]);
        l15 = multiply_add(l15, block.left, x[3]);
        r15 = multiply_add(r15, block.right, x[3]);

        pixel = moved_on(pixel);
    }

    // Four rows at a time, the others moving up: an array of sums would be read from memory, lane by lane.
    for (var r = 0u; r < 16u; r += 4u) {
        store8(l0, r0, part.row, m + r, n);
        store8(l1, r1, part.row, m + r + 1u, n);
        store8(l2, r2, part.row, m + r + 2u, n);
        store8(l3, r3, part.row, m + r + 3u, n);
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
