// gemm_cols_broadcast: transposed matrix product and convolution weight gradient for adapters whose subgroups have eight lanes: software ones.
// Same meaning as torch.matmul(a.T, b) and torch.nn.grad.conv2d_weight.
//
//   C[m, n] = sum over pixels p of A(p, m) * B(p, n)      see gemm_cols, which is joined in front
//
//   a   [pixels][M]                in      output gradient
//   b   [pixels][channels]         in      input, gathered by tap
//   c   [M][taps][channels]        out
//
// Work: one workgroup is one subgroup and computes 32 rows by 32 columns; a lane owns four columns of all rows, which are 32 vec4 accumulators.
// Workgroup (x, y) is a tile, rows fastest; z is the group. In steps of eight pixels, lane l loads 32 rows of A at pixel p + l, and every lane
// the eight pixels by four columns of B that it owns. Lane l also keeps the position of pixel p + l, moved on without a division.
// The arithmetic is that of gemm_rows_broadcast: the transposed broadcasts are four pixels of one row.
// Host: src/ops/gemm/cols.rs.  Twins: matmul, conv2d_backward_weight.
// Variants: the loader of both operands.

@group(0) @binding(3) var<storage, read_write> c: array<vec4<f32>>;

// Four columns of B at the pixel of one lane.
fn b_row(origin: Origin, column: Column) -> vec4<f32> {
    let exists = is_inside(origin, column);
    return select(vec4<f32>(), b4(u32(select(0, origin.start + column.offset, exists))), exists);
}

@compute @workgroup_size(8)
fn gemm_cols_broadcast(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let row_tiles = (p.rows + 31u) / 32u;
    let tile = workgroup.y * workgroups.x + workgroup.x;
    let column_tile = tile / row_tiles;
    // Uniform: the grid may be folded.
    if column_tile * 32u >= p.columns {
        return;
    }
    let m = (tile - column_tile * row_tiles) * 32u;
    let n = column_tile * 32u + lane * 4u;
    let column = column_at(n, workgroup.z);

    // Rows of A beyond the group or the pixel are loaded from the pixel's end, and their sums are not stored.
    let a_row = workgroup.z * p.rows + m;
    let a_last = p.a_pixel - 4u;

    // The lane's pixel.
    var pixel = pixel_at(lane);

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

    for (var k = 0u; k < p.pixels; k += 8u) {
        // Pixels beyond the last: A is zero, B is read outside the image, which is zero too.
        let exists = k + lane < p.pixels;
        let a_pixel = select(0u, k + lane, exists) * p.a_pixel;
        let q0 = select(vec4<f32>(), a4(a_pixel + min(a_row, a_last)), exists);
        let q1 = select(vec4<f32>(), a4(a_pixel + min(a_row + 4u, a_last)), exists);
        let q2 = select(vec4<f32>(), a4(a_pixel + min(a_row + 8u, a_last)), exists);
        let q3 = select(vec4<f32>(), a4(a_pixel + min(a_row + 12u, a_last)), exists);
        let q4 = select(vec4<f32>(), a4(a_pixel + min(a_row + 16u, a_last)), exists);
        let q5 = select(vec4<f32>(), a4(a_pixel + min(a_row + 20u, a_last)), exists);
        let q6 = select(vec4<f32>(), a4(a_pixel + min(a_row + 24u, a_last)), exists);
        let q7 = select(vec4<f32>(), a4(a_pixel + min(a_row + 28u, a_last)), exists);

        var origin = origin_of(pixel);
        origin.y = select(-0x40000000, origin.y, exists);

        let r0 = b_row(Origin(subgroupBroadcast(origin.y, 0u), subgroupBroadcast(origin.x, 0u), subgroupBroadcast(origin.start, 0u)), column);
        let r1 = b_row(Origin(subgroupBroadcast(origin.y, 1u), subgroupBroadcast(origin.x, 1u), subgroupBroadcast(origin.start, 1u)), column);
        let r2 = b_row(Origin(subgroupBroadcast(origin.y, 2u), subgroupBroadcast(origin.x, 2u), subgroupBroadcast(origin.start, 2u)), column);
        let r3 = b_row(Origin(subgroupBroadcast(origin.y, 3u), subgroupBroadcast(origin.x, 3u), subgroupBroadcast(origin.start, 3u)), column);
        let r4 = b_row(Origin(subgroupBroadcast(origin.y, 4u), subgroupBroadcast(origin.x, 4u), subgroupBroadcast(origin.start, 4u)), column);
        let r5 = b_row(Origin(subgroupBroadcast(origin.y, 5u), subgroupBroadcast(origin.x, 5u), subgroupBroadcast(origin.start, 5u)), column);
        let r6 = b_row(Origin(subgroupBroadcast(origin.y, 6u), subgroupBroadcast(origin.x, 6u), subgroupBroadcast(origin.start, 6u)), column);
        let r7 = b_row(Origin(subgroupBroadcast(origin.y, 7u), subgroupBroadcast(origin.x, 7u), subgroupBroadcast(origin.start, 7u)), column);
        let b_near = mat4x4<f32>(r0, r1, r2, r3);
        let b_far = mat4x4<f32>(r4, r5, r6, r7);
        var near: mat4x4<f32>;
        var far: mat4x4<f32>;

        near = transpose(mat4x4<f32>(subgroupBroadcast(q0, 0u), subgroupBroadcast(q0, 1u), subgroupBroadcast(q0, 2u), subgroupBroadcast(q0, 3u)));
        far = transpose(mat4x4<f32>(subgroupBroadcast(q0, 4u), subgroupBroadcast(q0, 5u), subgroupBroadcast(q0, 6u), subgroupBroadcast(q0, 7u)));
        c0 += b_near * near[0];
        c0 += b_far * far[0];
        c1 += b_near * near[1];
        c1 += b_far * far[1];
        c2 += b_near * near[2];
        c2 += b_far * far[2];
        c3 += b_near * near[3];
        c3 += b_far * far[3];
        near = transpose(mat4x4<f32>(subgroupBroadcast(q1, 0u), subgroupBroadcast(q1, 1u), subgroupBroadcast(q1, 2u), subgroupBroadcast(q1, 3u)));
        far = transpose(mat4x4<f32>(subgroupBroadcast(q1, 4u), subgroupBroadcast(q1, 5u), subgroupBroadcast(q1, 6u), subgroupBroadcast(q1, 7u)));
        c4 += b_near * near[0];
        c4 += b_far * far[0];
        c5 += b_near * near[1];
        c5 += b_far * far[1];
        c6 += b_near * near[2];
        c6 += b_far * far[2];
        c7 += b_near * near[3];
        c7 += b_far * far[3];
        near = transpose(mat4x4<f32>(subgroupBroadcast(q2, 0u), subgroupBroadcast(q2, 1u), subgroupBroadcast(q2, 2u), subgroupBroadcast(q2, 3u)));
        far = transpose(mat4x4<f32>(subgroupBroadcast(q2, 4u), subgroupBroadcast(q2, 5u), subgroupBroadcast(q2, 6u), subgroupBroadcast(q2, 7u)));
        c8 += b_near * near[0];
        c8 += b_far * far[0];
        c9 += b_near * near[1];
        c9 += b_far * far[1];
        c10 += b_near * near[2];
        c10 += b_far * far[2];
        c11 += b_near * near[3];
        c11 += b_far * far[3];
        near = transpose(mat4x4<f32>(subgroupBroadcast(q3, 0u), subgroupBroadcast(q3, 1u), subgroupBroadcast(q3, 2u), subgroupBroadcast(q3, 3u)));
        far = transpose(mat4x4<f32>(subgroupBroadcast(q3, 4u), subgroupBroadcast(q3, 5u), subgroupBroadcast(q3, 6u), subgroupBroadcast(q3, 7u)));
        c12 += b_near * near[0];
        c12 += b_far * far[0];
        c13 += b_near * near[1];
        c13 += b_far * far[1];
        c14 += b_near * near[2];
        c14 += b_far * far[2];
        c15 += b_near * near[3];
        c15 += b_far * far[3];
        near = transpose(mat4x4<f32>(subgroupBroadcast(q4, 0u), subgroupBroadcast(q4, 1u), subgroupBroadcast(q4, 2u), subgroupBroadcast(q4, 3u)));
        far = transpose(mat4x4<f32>(subgroupBroadcast(q4, 4u), subgroupBroadcast(q4, 5u), subgroupBroadcast(q4, 6u), subgroupBroadcast(q4, 7u)));
        c16 += b_near * near[0];
        c16 += b_far * far[0];
        c17 += b_near * near[1];
        c17 += b_far * far[1];
        c18 += b_near * near[2];
        c18 += b_far * far[2];
        c19 += b_near * near[3];
        c19 += b_far * far[3];
        near = transpose(mat4x4<f32>(subgroupBroadcast(q5, 0u), subgroupBroadcast(q5, 1u), subgroupBroadcast(q5, 2u), subgroupBroadcast(q5, 3u)));
        far = transpose(mat4x4<f32>(subgroupBroadcast(q5, 4u), subgroupBroadcast(q5, 5u), subgroupBroadcast(q5, 6u), subgroupBroadcast(q5, 7u)));
        c20 += b_near * near[0];
        c20 += b_far * far[0];
        c21 += b_near * near[1];
        c21 += b_far * far[1];
        c22 += b_near * near[2];
        c22 += b_far * far[2];
        c23 += b_near * near[3];
        c23 += b_far * far[3];
        near = transpose(mat4x4<f32>(subgroupBroadcast(q6, 0u), subgroupBroadcast(q6, 1u), subgroupBroadcast(q6, 2u), subgroupBroadcast(q6, 3u)));
        far = transpose(mat4x4<f32>(subgroupBroadcast(q6, 4u), subgroupBroadcast(q6, 5u), subgroupBroadcast(q6, 6u), subgroupBroadcast(q6, 7u)));
        c24 += b_near * near[0];
        c24 += b_far * far[0];
        c25 += b_near * near[1];
        c25 += b_far * far[1];
        c26 += b_near * near[2];
        c26 += b_far * far[2];
        c27 += b_near * near[3];
        c27 += b_far * far[3];
        near = transpose(mat4x4<f32>(subgroupBroadcast(q7, 0u), subgroupBroadcast(q7, 1u), subgroupBroadcast(q7, 2u), subgroupBroadcast(q7, 3u)));
        far = transpose(mat4x4<f32>(subgroupBroadcast(q7, 4u), subgroupBroadcast(q7, 5u), subgroupBroadcast(q7, 6u), subgroupBroadcast(q7, 7u)));
        c28 += b_near * near[0];
        c28 += b_far * far[0];
        c29 += b_near * near[1];
        c29 += b_far * far[1];
        c30 += b_near * near[2];
        c30 += b_far * far[2];
        c31 += b_near * near[3];
        c31 += b_far * far[3];

        // Eight pixels on, as a sum of digits: no digit overflows more than once.
        pixel.x += p.step_x;
        let next_line = pixel.x >= p.grid_width;
        pixel.x -= select(0u, p.grid_width, next_line);
        pixel.y += p.step_y + select(0u, 1u, next_line);
        let next_image = pixel.y >= p.grid_height;
        pixel.y -= select(0u, p.grid_height, next_image);
        pixel.image += p.step_image + select(0u, 1u, next_image);
    }

    // One row at a time, the others moving up: an array of sums would be read from memory, lane by lane.
    let rows = min(32u, p.rows - m);
    for (var r = 0u; r < rows; r++) {
        if n < p.columns {
            c[((a_row + r) * p.columns + n) >> 2u] = c0;
        }
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
