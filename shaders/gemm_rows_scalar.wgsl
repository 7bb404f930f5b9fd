// gemm_rows_scalar: matrix product and convolution (forward, input gradient) where channels cannot be addressed in fours.
// Same meaning as torch.matmul, torch.nn.functional.conv2d and conv_transpose2d with groups, with an epilogue. It serves the product of two transposed
// matrices and groups whose channels are not a multiple of four (depthwise convolution), and is slow.
//
//   C[m, n] = epilogue(sum over segments s, k of A(m, s, k) * B(s, k, n))      see gemm_rows, which is joined in front
//
//   a      [pixels][K] or [K][M]     in
//   b      [K][N] or [N][K]          in
//   walk   phases and segments      in
//   bias   [channels]                in     read only if params.bias
//   saved  as c                      in     read only if params.mask
//   c      [pixels][N]               out
//
// Work: one invocation computes one element. The columns of the last group go on over the padding of C, which is stored as zero.
// Workgroup z is the phase.
// Host: src/ops/gemm/rows.rs.  Twins: matmul, conv2d_forward, conv2d_backward_input.

@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read> saved: array<f32>;
@group(0) @binding(6) var<storage, read_write> c: array<f32>;

@compute @workgroup_size(64)
fn gemm_rows_scalar(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let p = params;
    let phase = phase_at(workgroup.z);
    let index = (workgroup.y * workgroups.x + workgroup.x) * 64u + local;
    let m = index / p.columns;
    let n = index - m * p.columns;
    if m >= phase.rows || n >= phase.columns {
        return;
    }
    let row = row_at(phase, m);
    if n >= p.channels {
        c[row.out + n] = 0.0;
        return;
    }

    var sum = 0.0;
    for (var s = 0u; s < phase.segments; s++) {
        let segment = walk[phase.first_segment + s];
        let y = u32(row.y + segment.x);
        let x = u32(row.x + segment.y);
        if y < p.a_height && x < p.a_width {
            let a_base = ((row.image * p.a_height + y) * p.a_width + x) * p.a_pixel + phase.a_channel;
            let b_base = u32(segment.z) + n * p.b_n_stride;
            for (var k = 0u; k < p.depth; k++) {
                sum += a[a_base + k * p.a_k_stride] * b[b_base + k * p.b_k_stride];
            }
        }
    }

    if p.bias != 0u {
        sum += bias[phase.out_channel + n];
    }
    sum = activate(vec4<f32>(sum), p.activation, p.slope).x;
    if MASKED && p.mask != 0u {
        sum *= derivative_from_output(vec4<f32>(saved[row.out + n]), p.mask, p.mask_slope).x;
    }
    c[row.out + n] = sum;
}
