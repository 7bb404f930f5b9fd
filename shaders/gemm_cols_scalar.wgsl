// gemm_cols_scalar: convolution weight gradient where a group's channels are not a multiple of four (depthwise convolution).
// Same meaning as torch.nn.grad.conv2d_weight with groups.
//
//   C[m, n] = sum over pixels p of A(p, m) * B(p, n)      see gemm_cols, which is joined in front
//
//   a   [pixels][M]                in      output gradient
//   b   [pixels][channels]         in      input, gathered by tap
//   c   [M][taps][channels]        out     or slabs of it in scratch, one for each part of a split sum (gemm_split_finish)
//
// Work: one invocation computes one element, padding included. Workgroup z is the group and, within it, the part of the pixels.
// Host: src/ops/gemm/cols.rs.  Twin: conv2d_backward_weight.
// Variants: whether the sum is split.

@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

@compute @workgroup_size(64)
fn gemm_cols_scalar(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let p = params;
    let index = (workgroup.y * workgroups.x + workgroup.x) * 64u + local;
    let m = index / p.columns;
    let n = index - m * p.columns;
    if m >= p.rows {
        return;
    }
    let part = part_at(workgroup.z, workgroups.z);
    let out = (part.row + m) * p.columns + n;
    if n % p.tap_columns >= p.channels {
        c[out] = 0.0;
        return;
    }
    let column = column_at(n, part.group);
    var pixel = pixel_at(part.first);
    var a_address = part.first * p.a_pixel + part.group * p.rows + m;
    var sum = 0.0;
    for (var k = part.first; k < part.end; k++) {
        let origin = origin_of(pixel);
        if is_inside(origin, column) {
            sum += a[a_address] * b[u32(origin.start + column.offset)];
        }
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
    c[out] = sum;
}
