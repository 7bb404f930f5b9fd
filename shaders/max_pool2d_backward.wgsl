// Gives each pixel the upstream gradients of the windows in which it is the largest: the input gradient of max_pool2d.
// PyTorch: torch.ops.aten.max_pool2d_with_indices_backward
//
//   dx[n, c, h, w] = sum of dy[n, c, i, j] over the windows (i, j) that hold (h, w) and whose index is its tap there
//
// | tensor | shape            | direction |
// |--------|------------------|-----------|
// | index  | (N, C, OH, OW)   | in        |
// | dy     | (N, C, OH, OW)   | in        |
// | dx     | (N, C, H, W)     | out       |
//
// Work: one vec4 of channels of one pixel per invocation, which visits its windows in order; nothing is scattered.
// Host: src/ops/pool.rs   Twin: max_pool2d_backward

// The part in front holds the parameters; bindings 1 and 2 are index and dy: in1_*.wgsl and in2_*.wgsl.
@group(0) @binding(3) var<storage, read_write> dx: array<vec4<f32>>;

@compute @workgroup_size(64)
fn max_pool2d_backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    let at = pixel_of(index, p.columns, p.height, p.width);
    let rows = holders_of(at.y, p.stride_y, p.padding_y, p.kernel_y, p.windows_y);
    let cells = holders_of(at.x, p.stride_x, p.padding_x, p.kernel_x, p.windows_x);
    var sum = vec4<f32>(0.0);
    for (var row = rows.x; row < rows.y; row++) {
        for (var cell = cells.x; cell < cells.y; cell++) {
            let window = item_of(Pixel(at.image, row, cell, at.column), p.columns, p.windows_y, p.windows_x);
            let tap_y = at.y + p.padding_y - row * p.stride_y;
            let tap = f32(tap_y * p.kernel_x + at.x + p.padding_x - cell * p.stride_x);
            sum += select(vec4<f32>(0.0), load2(window), load1(window) == vec4<f32>(tap));
        }
    }
    dx[index] = sum;
}
