// gemm_cols_plain: transposed matrix product and convolution weight gradient for any adapter: no subgroups, no shared memory.
// Same meaning as torch.matmul(a.T, b) and torch.nn.grad.conv2d_weight.
//
//   C[m, n] = sum over pixels p of A(p, m) * B(p, n)      see gemm_cols, which is joined in front
//
//   a   [pixels][M]                in      output gradient
//   b   [pixels][channels]         in      input, gathered by tap
//   c   [M][taps][channels]        out
//
// Work: one invocation computes four rows by eight columns in registers, one pixel a step. Neighbouring invocations own neighbouring columns, so
// that their loads of B and stores of C are contiguous and their loads of A are the same. Workgroup z is the group.
// Host: src/ops/gemm/cols.rs.  Twins: matmul, conv2d_backward_weight.

@group(0) @binding(3) var<storage, read_write> c: array<vec4<f32>>;

// Four columns of B at one pixel.
fn b_row4(origin: Origin, column: Column) -> vec4<f32> {
    let exists = is_inside(origin, column);
    return select(vec4<f32>(), b4(u32(select(0, origin.start + column.offset, exists))), exists);
}

fn store_row(m: u32, rows: u32, group: u32, n: u32, lo: vec4<f32>, hi: vec4<f32>) {
    if m >= rows {
        return;
    }
    let row = (group * rows + m) * params.columns;
    c[(row + n) >> 2u] = lo;
    if n + 4u < params.columns {
        c[(row + n + 4u) >> 2u] = hi;
    }
}

@compute @workgroup_size(64)
fn gemm_cols_plain(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let p = params;
    let group = workgroup.z;
    let index = (workgroup.y * workgroups.x + workgroup.x) * 64u + local;
    let column_tiles = (p.columns + 7u) / 8u;
    let row_tile = index / column_tiles;
    let m = row_tile * 4u;
    let n = (index - row_tile * column_tiles) * 8u;
    if m >= p.rows {
        return;
    }
    let lo = column_at(n, group);
    let hi = column_at(n + 4u, group);

    var c0_lo = vec4<f32>();
    var c0_hi = vec4<f32>();
    var c1_lo = vec4<f32>();
    var c1_hi = vec4<f32>();
    var c2_lo = vec4<f32>();
    var c2_hi = vec4<f32>();
    var c3_lo = vec4<f32>();
    var c3_hi = vec4<f32>();
    var pixel = pixel_at(0u);
    var a_address = group * p.rows + m;
    for (var k = 0u; k < p.pixels; k++) {
        let a_rows = a4(a_address);
        let origin = origin_of(pixel);
        let b_lo = b_row4(origin, lo);
        let b_hi = b_row4(origin, hi);
        c0_lo += a_rows.x * b_lo;
        c0_hi += a_rows.x * b_hi;
        c1_lo += a_rows.y * b_lo;
        c1_hi += a_rows.y * b_hi;
        c2_lo += a_rows.z * b_lo;
        c2_hi += a_rows.z * b_hi;
        c3_lo += a_rows.w * b_lo;
        c3_hi += a_rows.w * b_hi;
        a_address += p.a_pixel;
        pixel.x++;
        if pixel.x == p.grid_width {
            pixel.x = 0u;
            pixel.y++;
            if pixel.y == p.grid_height {
                pixel.y = 0u;
                pixel.image++;
            }
        }
    }

    store_row(m, p.rows, group, n, c0_lo, c0_hi);
    store_row(m + 1u, p.rows, group, n, c1_lo, c1_hi);
    store_row(m + 2u, p.rows, group, n, c2_lo, c2_hi);
    store_row(m + 3u, p.rows, group, n, c3_lo, c3_hi);
}
