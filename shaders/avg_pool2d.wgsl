// Sum of each window times a factor.
// PyTorch: torch.nn.functional.avg_pool2d(x, kernel, stride, padding), count_include_pad
//
//   y[n, c, i, j] = scale * sum over r, s of x[n, c, i * stride - padding + r, j * stride - padding + s];   scale = 1 / (KH * KW)
//
// | tensor | shape            | direction |
// |--------|------------------|-----------|
// | x      | (N, C, H, W)     | in        |
// | y      | (N, C, OH, OW)   | out       |
//
// Work: one vec4 of channels of one window per invocation.
// Host: src/ops/pool.rs   Twin: avg_pool2d, upsample_nearest_backward

// The part in front holds the parameters; binding 1 is x: in1_*.wgsl.
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn avg_pool2d(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    let at = pixel_of(index, p.columns, p.windows_y, p.windows_x);
    let rows = pixels_of(at.y, p.stride_y, p.padding_y, p.kernel_y, p.height);
    let cells = pixels_of(at.x, p.stride_x, p.padding_x, p.kernel_x, p.width);
    var sum = vec4<f32>(0.0);
    for (var row = rows.x; row < rows.y; row++) {
        for (var cell = cells.x; cell < cells.y; cell++) {
            sum += load1(item_of(Pixel(at.image, row, cell, at.column), p.columns, p.height, p.width));
        }
    }
    y[index] = sum * p.scale;
}
