// Gives each pixel the upstream gradients of the pixels that were interpolated from it: the adjoint of upsample_bilinear.
// PyTorch: torch.ops.aten.upsample_bilinear2d_backward, align_corners=False
//
//   dx[n, c, h, w] = sum over i, j of dy[n, c, i, j] * hat(u(i) - h) * hat(v(j) - w);   hat(t) = max(0, 1 - |t|), u and v as in upsample_bilinear
//
// | tensor | shape                             | direction |
// |--------|-----------------------------------|-----------|
// | dy     | (N, C, H * scale_y, W * scale_x)  | in        |
// | dx     | (N, C, H, W)                      | out       |
//
// Work: one vec4 of channels of one pixel per invocation, which visits its readers in order; nothing is scattered.
// Host: src/ops/upsample.rs   Twin: upsample_bilinear_backward

// The part in front holds the parameters; binding 1 is dy: in1_*.wgsl.
@group(0) @binding(2) var<storage, read_write> dx: array<vec4<f32>>;

// Pixels of the larger map, along an axis, that may read pixel `i`: the first, and the one behind the last.
fn readers_of(i: u32, scale: u32, extent: u32) -> vec2<u32> {
    let half = scale / 2u;
    return vec2<u32>(max(i * scale, half) - half, min((i + 1u) * scale + half, extent * scale));
}

// What pixel `o` of the larger map takes of pixel `i`.
fn hat(o: u32, i: u32, scale: u32, extent: u32) -> f32 {
    let source = source_of(o, scale, extent);
    let peak = 2u * scale * i;
    let distance = max(source, peak) - min(source, peak);
    return 1.0 - f32(min(distance, 2u * scale)) / f32(2u * scale);
}

@compute @workgroup_size(64)
fn upsample_bilinear_backward(
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
    let rows = readers_of(at.y, p.scale_y, p.height);
    let cells = readers_of(at.x, p.scale_x, p.width);
    var sum = vec4<f32>(0.0);
    for (var row = rows.x; row < rows.y; row++) {
        var line = vec4<f32>(0.0);
        for (var cell = cells.x; cell < cells.y; cell++) {
            let reader = Pixel(at.image, row, cell, at.column);
            let value = load1(item_of(reader, p.columns, p.height * p.scale_y, p.width * p.scale_x));
            line += value * hat(cell, at.x, p.scale_x, p.width);
        }
        sum += line * hat(row, at.y, p.scale_y, p.height);
    }
    dx[index] = sum;
}
