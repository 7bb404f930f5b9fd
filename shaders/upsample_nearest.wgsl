// Repeats each pixel as a block of pixels.
// PyTorch: torch.nn.Upsample(scale_factor=scale, mode="nearest")
//
//   y[n, c, i, j] = x[n, c, i / scale_y, j / scale_x]
//
// | tensor | shape                             | direction |
// |--------|-----------------------------------|-----------|
// | x      | (N, C, H, W)                      | in        |
// | y      | (N, C, H * scale_y, W * scale_x)  | out       |
//
// Work: one vec4 of channels per invocation.
// Host: src/ops/upsample.rs   Twin: upsample_nearest

// The part in front holds the parameters; binding 1 is x: in1_*.wgsl.
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn upsample_nearest(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    let at = pixel_of(index, p.columns, p.height * p.scale_y, p.width * p.scale_x);
    y[index] = load1(item_of(Pixel(at.image, at.y / p.scale_y, at.x / p.scale_x, at.column), p.columns, p.height, p.width));
}
