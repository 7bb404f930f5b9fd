// gemm_cols_scalar: convolution weight gradient where a group's channels are not a multiple of four (depthwise convolution).
// Same meaning as torch.nn.grad.conv2d_weight with groups.
//
//   C[m, n] = sum over pixels p of A(p, m) * B(p, n)      see gemm_cols, which is joined in front
//
//   a   [pixels][M]                in      output gradient
//   b   [pixels][channels]         in      input, gathered by tap
//   c   [M][taps][channels]        out
//
// Work: one invocation computes one element, padding included. Workgroup z is the group.
// Host: src/ops/gemm/cols.rs.  Twin: conv2d_backward_weight.

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
    let out = (workgroup.z * p.rows + m) * p.columns + n;
    if n % p.tap_columns >= p.channels {
        c[out] = 0.0;
        return;
    }
    let column = column_at(n, workgroup.z);
    var pixel = pixel_at(0u);
    var a_address = workgroup.z * p.rows + m;
    var sum = 0.0;
    for (var k = 0u; k < p.pixels; k++) {
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
