// gemm_cols_broadcast: transposed matrix product and convolution weight gradient for adapters whose subgroups have eight lanes: software ones.
// Same meaning as torch.matmul(a.T, b) and torch.nn.grad.conv2d_weight.
//
//   C[m, n] = sum over pixels p of A(p, m) * B(p, n)      see gemm_cols, which is joined in front
//
//   a   [pixels][M]                in      output gradient
//   b   [pixels][channels]         in      input, gathered by tap
//   c   [M][taps][channels]        out
//
// Work: one workgroup is one subgroup and computes 16 rows by 64 columns; a lane owns eight columns of all rows, which are 32 vec4 accumulators.
// Workgroup (x, y) is a tile, rows fastest; z is the group. In steps of eight pixels, lane l loads 16 rows of A at pixel p + l, and every lane
// the eight pixels by eight columns of B that it owns. Lane l also keeps the position of pixel p + l, moved on without a division.
// The arithmetic is that of gemm_rows_broadcast: the transposed broadcasts are four pixels of one row.
// Host: src/ops/gemm/cols.rs.  Twins: matmul, conv2d_backward_weight.
// Variants: the loader of both operands.

@group(0) @binding(3) var<storage, read_write> c: array<vec4<f32>>;

// Columns n to n + 7 of B at the pixel of one lane.
fn b_row(origin: Origin, lo: Column, hi: Column) -> Vec8 {
    let lo_exists = is_inside(origin, lo);
    let hi_exists = is_inside(origin, hi);
    let v = b8(u32(select(0, origin.start + lo.offset, lo_exists)), u32(select(0, origin.start + hi.offset, hi_exists)));
    return Vec8(select(vec4<f32>(), v.lo, lo_exists), select(vec4<f32>(), v.hi, hi_exists));
}

@compute @workgroup_size(8)
fn gemm_cols_broadcast(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let row_tiles = (p.rows + 15u) / 16u;
    let tile = workgroup.y * workgroups.x + workgroup.x;
    let column_tile = tile / row_tiles;
    // Uniform: the grid may be folded.
    if column_tile * 64u >= p.columns {
        return;
    }
    let m = (tile - column_tile * row_tiles) * 16u;
    let n = column_tile * 64u + lane * 8u;
    let lo = column_at(n, workgroup.z);
    let hi = column_at(n + 4u, workgroup.z);

    // Rows of A beyond the group or the pixel are loaded from the pixel's end, and their sums are not stored.
    let a_row = workgroup.z * p.rows + m;
    let a_last = p.a_pixel - 4u;
    let a0 = min(a_row, a_last);
    let a1 = min(a_row + 4u, a_last);
    let a2 = min(a_row + 8u, a_last);
    let a3 = min(a_row + 12u, a_last);

    // The lane's pixel.
    var pixel = pixel_at(lane);

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

    for (var k = 0u; k < p.pixels; k += 8u) {
        // Pixels beyond the last: A is zero, B is read outside the image, which is zero too.
        let exists = k + lane < p.pixels;
        let a_pixel = select(0u, k + lane, exists) * p.a_pixel;
        let a_near = a8(a_pixel + a0, a_pixel + a1);
        let a_far = a8(a_pixel + a2, a_pixel + a3);
        let q0 = select(vec4<f32>(), a_near.lo, exists);
        let q1 = select(vec4<f32>(), a_near.hi, exists);
        let q2 = select(vec4<f32>(), a_far.lo, exists);
        let q3 = select(vec4<f32>(), a_far.hi, exists);

        var origin = origin_of(pixel);
        origin.y = select(-0x40000000, origin.y, exists);

        let b0 = b_row(Origin(subgroupBroadcast(origin.y, 0u), subgroupBroadcast(origin.x, 0u), subgroupBroadcast(origin.start, 0u)), lo, hi);
        let b1 = b_row(Origin(subgroupBroadcast(origin.y, 1u), subgroupBroadcast(origin.x, 1u), subgroupBroadcast(origin.start, 1u)), lo, hi);
        let b2 = b_row(Origin(subgroupBroadcast(origin.y, 2u), subgroupBroadcast(origin.x, 2u), subgroupBroadcast(origin.start, 2u)), lo, hi);
        let b3 = b_row(Origin(subgroupBroadcast(origin.y, 3u), subgroupBroadcast(origin.x, 3u), subgroupBroadcast(origin.start, 3u)), lo, hi);
        let b4 = b_row(Origin(subgroupBroadcast(origin.y, 4u), subgroupBroadcast(origin.x, 4u), subgroupBroadcast(origin.start, 4u)), lo, hi);
        let b5 = b_row(Origin(subgroupBroadcast(origin.y, 5u), subgroupBroadcast(origin.x, 5u), subgroupBroadcast(origin.start, 5u)), lo, hi);
        let b6 = b_row(Origin(subgroupBroadcast(origin.y, 6u), subgroupBroadcast(origin.x, 6u), subgroupBroadcast(origin.start, 6u)), lo, hi);
        let b7 = b_row(Origin(subgroupBroadcast(origin.y, 7u), subgroupBroadcast(origin.x, 7u), subgroupBroadcast(origin.start, 7u)), lo, hi);
        let near_lo = mat4x4<f32>(b0.lo, b1.lo, b2.lo, b3.lo);
        let near_hi = mat4x4<f32>(b0.hi, b1.hi, b2.hi, b3.hi);
        let far_lo = mat4x4<f32>(b4.lo, b5.lo, b6.lo, b7.lo);
        let far_hi = mat4x4<f32>(b4.hi, b5.hi, b6.hi, b7.hi);
        var near: mat4x4<f32>;
        var far: mat4x4<f32>;

        near = transpose(mat4x4<f32>(subgroupBroadcast(q0, 0u), subgroupBroadcast(q0, 1u), subgroupBroadcast(q0, 2u), subgroupBroadcast(q0, 3u)));
        far = transpose(mat4x4<f32>(subgroupBroadcast(q0, 4u), subgroupBroadcast(q0, 5u), subgroupBroadcast(q0, 6u), subgroupBroadcast(q0, 7u)));
        c0_lo += near_lo * near[0];
        c0_lo += far_lo * far[0];
        c0_hi += near_hi * near[0];
        c0_hi += far_hi * far[0];
        c1_lo += near_lo * near[1];
        c1_lo += far_lo * far[1];
        c1_hi += near_hi * near[1];
        c1_hi += far_hi * far[1];
        c2_lo += near_lo * near[2];
        c2_lo += far_lo * far[2];
        c2_hi += near_hi * near[2];
        c2_hi += far_hi * far[2];
        c3_lo += near_lo * near[3];
        c3_lo += far_lo * far[3];
        c3_hi += near_hi * near[3];
        c3_hi += far_hi * far[3];
        near = transpose(mat4x4<f32>(subgroupBroadcast(q1, 0u), subgroupBroadcast(q1, 1u), subgroupBroadcast(q1, 2u), subgroupBroadcast(q1, 3u)));
        far = transpose(mat4x4<f32>(subgroupBroadcast(q1, 4u), subgroupBroadcast(q1, 5u), subgroupBroadcast(q1, 6u), subgroupBroadcast(q1, 7u)));
        c4_lo += near_lo * near[0];
        c4_lo += far_lo * far[0];
        c4_hi += near_hi * near[0];
        c4_hi += far_hi * far[0];
        c5_lo += near_lo * near[1];
        c5_lo += far_lo * far[1];
        c5_hi += near_hi * near[1];
        c5_hi += far_hi * far[1];
        c6_lo += near_lo * near[2];
        c6_lo += far_lo * far[2];
        c6_hi += near_hi * near[2];
        c6_hi += far_hi * far[2];
        c7_lo += near_lo * near[3];
        c7_lo += far_lo * far[3];
        c7_hi += near_hi * near[3];
        c7_hi += far_hi * far[3];
        near = transpose(mat4x4<f32>(subgroupBroadcast(q2, 0u), subgroupBroadcast(q2, 1u), subgroupBroadcast(q2, 2u), subgroupBroadcast(q2, 3u)));
        far = transpose(mat4x4<f32>(subgroupBroadcast(q2, 4u), subgroupBroadcast(q2, 5u), subgroupBroadcast(q2, 6u), subgroupBroadcast(q2, 7u)));
        c8_lo += near_lo * near[0];
        c8_lo += far_lo * far[0];
        c8_hi += near_hi * near[0];
        c8_hi += far_hi * far[0];
        c9_lo += near_lo * near[1];
        c9_lo += far_lo * far[1];
        c9_hi += near_hi * near[1];
        c9_hi += far_hi * far[1];
        c10_lo += near_lo * near[2];
        c10_lo += far_lo * far[2];
        c10_hi += near_hi * near[2];
        c10_hi += far_hi * far[2];
        c11_lo += near_lo * near[3];
        c11_lo += far_lo * far[3];
        c11_hi += near_hi * near[3];
        c11_hi += far_hi * far[3];
        near = transpose(mat4x4<f32>(subgroupBroadcast(q3, 0u), subgroupBroadcast(q3, 1u), subgroupBroadcast(q3, 2u), subgroupBroadcast(q3, 3u)));
        far = transpose(mat4x4<f32>(subgroupBroadcast(q3, 4u), subgroupBroadcast(q3, 5u), subgroupBroadcast(q3, 6u), subgroupBroadcast(q3, 7u)));
        c12_lo += near_lo * near[0];
        c12_lo += far_lo * far[0];
        c12_hi += near_hi * near[0];
        c12_hi += far_hi * far[0];
        c13_lo += near_lo * near[1];
        c13_lo += far_lo * far[1];
        c13_hi += near_hi * near[1];
        c13_hi += far_hi * far[1];
        c14_lo += near_lo * near[2];
        c14_lo += far_lo * far[2];
        c14_hi += near_hi * near[2];
        c14_hi += far_hi * far[2];
        c15_lo += near_lo * near[3];
        c15_lo += far_lo * far[3];
        c15_hi += near_hi * near[3];
        c15_hi += far_hi * far[3];

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
    let rows = min(16u, p.rows - m);
    for (var r = 0u; r < rows; r++) {
        let row = (a_row + r) * p.columns;
        if n < p.columns {
            c[(row + n) >> 2u] = without_padding(c0_lo, n);
        }
        if n + 4u < p.columns {
            c[(row + n + 4u) >> 2u] = without_padding(c0_hi, n + 4u);
        }
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
