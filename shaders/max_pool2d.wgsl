// Largest value of each window; with INDEX, where in the window it is.
// PyTorch: torch.nn.functional.max_pool2d(x, kernel, stride, padding), return_indices
//
//   y[n, c, i, j] = max over r, s of x[n, c, i * stride - padding + r, ...],   index = r * kernel_x + s of the first largest
//
// A NaN counts as larger than everything, as in PyTorch: the last NaN of a window wins.
//
// | tensor   | shape            | direction |
// |----------|------------------|-----------|
// | x        | (N, C, H, W)     | in        |
// | y, index | (N, C, OH, OW)   | out       |
//
// Work: one vec4 of channels of one window per invocation.
// Host: src/ops/pool.rs   Twin: max_pool2d, max_pool2d_index

// The part in front holds the parameters; binding 1 is x: in1_*.wgsl.
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

override INDEX: u32;

// Comparisons may assume that there is no NaN: ask the bits.
fn is_nan(v: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
}

@compute @workgroup_size(64)
fn max_pool2d(
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
    // Tap 0 of the window, counted from the padded corner.
    let corner_y = at.y * p.stride_y;
    let corner_x = at.x * p.stride_x;
    var best = load1(item_of(Pixel(at.image, rows.x, cells.x, at.column), p.columns, p.height, p.width));
    var is_missing = is_nan(best);
    var tap = vec4<f32>(f32((rows.x + p.padding_y - corner_y) * p.kernel_x + cells.x + p.padding_x - corner_x));
    for (var row = rows.x; row < rows.y; row++) {
        for (var cell = cells.x; cell < cells.y; cell++) {
            let value = load1(item_of(Pixel(at.image, row, cell, at.column), p.columns, p.height, p.width));
            let wins = ((value > best) & !is_missing) | is_nan(value);
            best = select(best, value, wins);
            is_missing = is_missing | is_nan(value);
            if INDEX != 0u {
                tap = select(tap, vec4<f32>(f32((row + p.padding_y - corner_y) * p.kernel_x + cell + p.padding_x - corner_x)), wins);
            }
        }
    }
    // The largest of padding lanes is their zero.
    if INDEX != 0u {
        best = mask_channels(tap, at.column, p.channels);
    }
    y[index] = best;
}
