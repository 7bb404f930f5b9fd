// A window over the channels of each row, zero where it reaches beyond them: a slice of channels, and its adjoint.
// PyTorch: x[:, first : first + count];   y = zeros(N, count, ...); y[:, first : first + C] = x
//
//   y[row, c] = x[row, c + start] where 0 <= c + start < C, else 0
//
// | tensor | shape                 | direction |
// |--------|-----------------------|-----------|
// | x      | (N, C[, H, W])        | in        |
// | y      | (N, count[, H, W])    | out       |
//
// Work: one vec4 of channels per invocation.
// Parts: item_vec4, in1_buffer or texel and in1_texel, straddle.
// Host: src/ops/channels.rs   Twin: window_channels

struct WindowChannelsParams {
    // vec4 items of y: rows * columns.
    count: u32,
    // vec4 columns of a row of y, and of x.
    columns: u32,
    x_columns: u32,
    // Channels of y without padding.
    channels: u32,
    // The column of x in which the first channel of y lies: start / 4, rounded down.
    first: i32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

@group(0) @binding(0) var<uniform> params: WindowChannelsParams;
// Binding 1 is x: in1_*.wgsl.
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

// A column of a row of x, zero beside the row. Padding lanes are zero already.
fn column_of_x(row: u32, column: i32, columns: u32) -> vec4<f32> {
    let value = load1(row * columns + u32(clamp(column, 0, i32(columns) - 1)));
    return select(vec4<f32>(0.0), value, column >= 0 && column < i32(columns));
}

@compute @workgroup_size(64)
fn window_channels(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    let column = index % p.columns;
    let row = index / p.columns;
    let at = i32(column) + p.first;
    var value = column_of_x(row, at, p.x_columns);
    if SHIFT != 0u {
        value = straddle(value, column_of_x(row, at + 1, p.x_columns));
    }
    // A slice may end where x goes on.
    y[index] = mask_channels(value, column, p.channels);
}
