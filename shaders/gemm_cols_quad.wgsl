// gemm_cols_quad: transposed matrix product and convolution weight gradient for adapters whose subgroups have four lanes: software ones.
// Same meaning as torch.matmul(a.T, b) and torch.nn.grad.conv2d_weight.
//
//   C[m, n] = sum over pixels p of A(p, m) * B(p, n)      see gemm_cols, which is joined in front
//
//   a   [pixels][M]                in      output gradient
//   b   [pixels][channels]         in      input, gathered by tap
//   c   [M][taps][channels]        out     or slabs of it in scratch, one for each part of a split sum (gemm_split_finish)
//
// Work: one workgroup is one subgroup of four lanes and computes 32 rows by 32 columns. A lane owns eight columns of all rows, as matrices of four
// columns by four rows. In steps of four pixels, lane l loads the rows of A at pixel p + l, which reach the others by broadcast, and its own columns
// of B at all four. Each lane keeps the position of pixel p + l, moved on without a division.
// Workgroup (x, y) is a tile, rows fastest; z is the group and, within it, the part of the pixels.
// Host: src/ops/gemm/cols.rs.  Twins: matmul, conv2d_backward_weight.
// Variants: whether the sum is split.

@group(0) @binding(3) var<storage, read_write> c: array<vec4<f32>>;

// Four columns of B at a pixel.
fn b_row(origin: Origin, column: Column) -> vec4<f32> {
    return b4_if(is_inside(origin, column), u32(origin.start + column.offset));
}

// What the lane that keeps a pixel of the step knows of it.
fn origin0(origin: Origin) -> Origin {
    return Origin(quadBroadcast(origin.y, 0u), quadBroadcast(origin.x, 0u), quadBroadcast(origin.start, 0u));
}

fn origin1(origin: Origin) -> Origin {
    return Origin(quadBroadcast(origin.y, 1u), quadBroadcast(origin.x, 1u), quadBroadcast(origin.start, 1u));
}

fn origin2(origin: Origin) -> Origin {
    return Origin(quadBroadcast(origin.y, 2u), quadBroadcast(origin.x, 2u), quadBroadcast(origin.start, 2u));
}

fn origin3(origin: Origin) -> Origin {
    return Origin(quadBroadcast(origin.y, 3u), quadBroadcast(origin.x, 3u), quadBroadcast(origin.start, 3u));
}

// The step's four pixels of four rows, of which each lane has loaded a pixel: column i is row i.
fn rows_of(a: vec4<f32>) -> mat4x4<f32> {
    return transpose(mat4x4<f32>(quadBroadcast(a, 0u), quadBroadcast(a, 1u), quadBroadcast(a, 2u), quadBroadcast(a, 3u)));
}

// Stores eight columns of a row.
fn store8(left: vec4<f32>, right: vec4<f32>, first_row: u32, row: u32, n: u32) {
    if row < params.rows {
        let place = ((first_row + row) * params.columns + n) >> 2u;
        if n < params.columns {
            c[place] = left;
        }
        if n + 4u < params.columns {
            c[place + 1u] = right;
        }
    }
}

@compute @workgroup_size(4)
fn gemm_cols_quad(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
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
    let m = (tile_index - column_tile * row_tiles) * 32u;
    let n = column_tile * 32u + lane * 8u;
    let left_column = column_at(n, part.group);
    let right_column = column_at(n + 4u, part.group);

    // Rows of A beyond the group or the pixel are loaded from the pixel's end, and their sums are not stored.
    let a_row = part.group * p.rows + m;
    let a_last = p.a_pixel - 4u;

    // The lane's pixel.
    var pixel = pixel_at(part.first + lane);

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

    for (var k = part.first; k < part.end; k += 4u) {
        // Pixels beyond the last: B is read outside the image, which is zero, and A at the first pixel. If that is not finite, neither are the sums.
        let exists = k + lane < part.end;
        let a_pixel = select(0u, k + lane, exists) * p.a_pixel;
        var origin = origin_of(pixel);
        origin.y = select(-0x40000000, origin.y, exists);
        let o0 = origin0(origin);
        let o1 = origin1(origin);
        let o2 = origin2(origin);
        let o3 = origin3(origin);
        let left = mat4x4<f32>(b_row(o0, left_column), b_row(o1, left_column), b_row(o2, left_column), b_row(o3, left_column));
        let right = mat4x4<f32>(b_row(o0, right_column), b_row(o1, right_column), b_row(o2, right_column), b_row(o3, right_column));

        let rows0 = rows_of(a4(a_pixel + min(a_row, a_last)));
        left0 += left * rows0;
        right0 += right * rows0;
        let rows1 = rows_of(a4(a_pixel + min(a_row + 4u, a_last)));
        left1 += left * rows1;
        right1 += right * rows1;
        let rows2 = rows_of(a4(a_pixel + min(a_row + 8u, a_last)));
        left2 += left * rows2;
        right2 += right * rows2;
        let rows3 = rows_of(a4(a_pixel + min(a_row + 12u, a_last)));
        left3 += left * rows3;
        right3 += right * rows3;
        let rows4 = rows_of(a4(a_pixel + min(a_row + 16u, a_last)));
        left4 += left * rows4;
        right4 += right * rows4;
        let rows5 = rows_of(a4(a_pixel + min(a_row + 20u, a_last)));
        left5 += left * rows5;
        right5 += right * rows5;
        let rows6 = rows_of(a4(a_pixel + min(a_row + 24u, a_last)));
        left6 += left * rows6;
        right6 += right * rows6;
        let rows7 = rows_of(a4(a_pixel + min(a_row + 28u, a_last)));
        left7 += left * rows7;
        right7 += right * rows7;

        pixel = moved_on(pixel);
    }

    // Four rows at a time, the others moving up: indexed sums would be slower to reach.
    for (var r = 0u; r < 32u; r += 4u) {
        store8(left0[0], right0[0], part.row, m + r, n);
        store8(left0[1], right0[1], part.row, m + r + 1u, n);
        store8(left0[2], right0[2], part.row, m + r + 2u, n);
        store8(left0[3], right0[3], part.row, m + r + 3u, n);
        left0 = left1;
        right0 = right1;
        left1 = left2;
        right1 = right2;
        left2 = left3;
        right2 = right3;
        left3 = left4;
        right3 = right4;
        left4 = left5;
        right4 = right5;
        left5 = left6;
        right5 = right6;
        left6 = left7;
        right6 = right7;
    }
}
