// The input gradient of max_pool2d where windows do not overlap: stride >= kernel along both axes, any padding.
// PyTorch: torch.ops.aten.max_pool2d_with_indices_backward
//
//   dx[n, c, h, w] = dy[n, c, i, j] if (h, w) is in window (i, j) and at its index, else 0;   i = (h + padding) / stride, j likewise
//
// | tensor | shape            | direction |
// |--------|------------------|-----------|
// | index  | (N, C, OH, OW)   | in        |
// | dy     | (N, C, OH, OW)   | in        |
// | dx     | (N, C, H, W)     | out       |
//
// Work: one item of channels (one or two vec4, see item_*.wgsl) of one area of stride x stride pixels per invocation: what it reads and where
// it is are found once for all of them. Areas cover the map; those at its end may have no window.
// Host: src/ops/pool.rs   Twin: max_pool2d_backward

// The part in front holds the parameters; bindings 1 and 2 are index and dy: in1_*.wgsl and in2_*.wgsl.
@group(0) @binding(3) var<storage, read_write> dx: array<Item>;

// Those of the window in the parameters, as constants: a loop of fixed length needs no mask.
override STRIDE_Y: u32;
override STRIDE_X: u32;

// Negative zeros become zeros, as in a sum, and a NaN stays: comparisons may assume that there is none, so ask the bits.
fn is_not_zero(v: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu)) != vec4<u32>(0u);
}

@compute @workgroup_size(64)
fn max_pool2d_backward_apart(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    let at = pixel_of(index, p.columns, p.areas_y, p.areas_x);
    let window = Pixel(at.image, min(at.y, p.windows_y - 1u), min(at.x, p.windows_x - 1u), at.column);
    let item = item_of(window, p.columns, p.windows_y, p.windows_x);
    let place = load1(item);
    let upstream = load2(item);
    let is_window = at.y < p.windows_y && at.x < p.windows_x;
    let zero = vec4<f32>(0.0);
    let low = select(zero, first(upstream), is_not_zero(first(upstream)) & vec4<bool>(is_window));
    let high = select(zero, second(upstream), is_not_zero(second(upstream)) & vec4<bool>(is_window));
    // Above or left of the map these wrap to numbers beyond its extents.
    let top = at.y * STRIDE_Y - p.padding_y;
    let left = at.x * STRIDE_X - p.padding_x;
    for (var r = 0u; r < STRIDE_Y; r++) {
        for (var s = 0u; s < STRIDE_X; s++) {
            let y = top + r;
            let x = left + s;
            if y < p.height && x < p.width {
                // No index is negative: between windows nothing is taken.
                let tap = vec4<f32>(select(-1.0, f32(r * p.kernel_x + s), r < p.kernel_y && s < p.kernel_x));
                let pixel = item_of(Pixel(at.image, y, x, at.column), p.columns, p.height, p.width);
                dx[pixel] = join(select(zero, low, first(place) == tap), select(zero, high, second(place) == tap));
            }
        }
    }
}
