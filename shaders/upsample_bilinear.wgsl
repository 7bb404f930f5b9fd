// Interpolates between the four nearest pixels.
// PyTorch: torch.nn.Upsample(scale_factor=scale, mode="bilinear", align_corners=False)
//
//   y[n, c, i, j] = x[n, c, u, v] interpolated at u = (i + 1/2) / scale_y - 1/2, v = (j + 1/2) / scale_x - 1/2, clamped to the outermost pixels
//
// | tensor | shape                             | direction |
// |--------|-----------------------------------|-----------|
// | x      | (N, C, H, W)                      | in        |
// | y      | (N, C, H * scale_y, W * scale_x)  | out       |
//
// Work: one vec4 of channels per invocation.
// Host: src/ops/upsample.rs   Twin: upsample_bilinear

// The part in front holds the parameters; binding 1 is x: in1_*.wgsl.
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn upsample_bilinear(
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
    let scale = vec2<u32>(2u * p.scale_y, 2u * p.scale_x);
    let source = vec2<u32>(source_of(at.y, p.scale_y, p.height), source_of(at.x, p.scale_x, p.width));
    let near = source / scale;
    let far = min(near + 1u, vec2<u32>(p.height, p.width) - 1u);
    let weight = vec2<f32>(source % scale) / vec2<f32>(scale);
    let top = item_of(Pixel(at.image, near.x, near.y, at.column), p.columns, p.height, p.width);
    let bottom = item_of(Pixel(at.image, far.x, near.y, at.column), p.columns, p.height, p.width);
    let right = (far.y - near.y) * p.columns;
    let above = load1(top) * (1.0 - weight.y) + load1(top + right) * weight.y;
    let below = load1(bottom) * (1.0 - weight.y) + load1(bottom + right) * weight.y;
    y[index] = above * (1.0 - weight.x) + below * weight.x;
}
