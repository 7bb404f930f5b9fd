// Gives each pixel the upstream gradients of all windows that hold it, times a factor: the adjoint of avg_pool2d.
// PyTorch: torch.ops.aten.avg_pool2d_backward, count_include_pad
//
//   dx[n, c, h, w] = scale * sum of dy[n, c, i, j] over the windows (i, j) that hold (h, w);   scale = 1 / (KH * KW)
//
// | tensor | shape            | direction |
// |--------|------------------|-----------|
// | dy     | (N, C, OH, OW)   | in        |
// | dx     | (N, C, H, W)     | out       |
//
// Work: one vec4 of channels of one pixel per invocation, which visits its windows in order; nothing is scattered.
// Host: src/ops/pool.rs   Twin: avg_pool2d_backward

// The part in front holds the parameters; binding 1 is dy: in1_*.wgsl.
@group(0) @binding(2) var<storage, read_write> dx: array<vec4<f32>>;

@compute @workgroup_size(64)
fn avg_pool2d_backward(
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
            sum += load1(item_of(Pixel(at.image, row, cell, at.column), p.columns, p.windows_y, p.windows_x));
        }
    }
    dx[index] = sum * p.scale;
}
