// Takes from each window the value at a given place: the adjoint of max_pool2d_backward.
// PyTorch: x.flatten(2).gather(2, indices.flatten(2))
//
//   y[n, c, i, j] = x[n, c, i * stride - padding + index / kernel_x, j * stride - padding + index % kernel_x]
//
// | tensor | shape            | direction |
// |--------|------------------|-----------|
// | index  | (N, C, OH, OW)   | in        |
// | x      | (N, C, H, W)     | in        |
// | y      | (N, C, OH, OW)   | out       |
//
// Work: one vec4 of channels of one window per invocation; each lane has a pixel of its own.
// Host: src/ops/pool.rs   Twin: max_pool2d_pick

// The part in front holds the parameters; bindings 1 and 2 are index and x: in1_*.wgsl and scalar2_*.wgsl.
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn max_pool2d_pick(
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
    let tap = vec4<u32>(load1(index));
    // Padding lanes have index 0, which may be outside the map: they read the zero of a pixel inside.
    let row = max(tap / p.kernel_x + at.y * p.stride_y, vec4<u32>(p.padding_y)) - p.padding_y;
    let cell = max(tap % p.kernel_x + at.x * p.stride_x, vec4<u32>(p.padding_x)) - p.padding_x;
    let line = at.image * p.height + min(row, vec4<u32>(p.height - 1u));
    let item = (line * p.width + min(cell, vec4<u32>(p.width - 1u))) * p.columns + at.column;
    y[index] = vec4<f32>(scalar2(item.x * 4u), scalar2(item.y * 4u + 1u), scalar2(item.z * 4u + 2u), scalar2(item.w * 4u + 3u));
}
