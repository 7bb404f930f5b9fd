// Joins two tensors along the channel axis.
// PyTorch: torch.cat((a, b), 1)
//
//   y[row, c] = a[row, c] for c < Ca, else b[row, c - Ca]
//
// | tensor | shape                  | direction |
// |--------|------------------------|-----------|
// | a      | (N, Ca[, H, W])        | in        |
// | b      | (N, Cb[, H, W])        | in        |
// | y      | (N, Ca + Cb[, H, W])   | out       |
//
// Work: one vec4 of channels per invocation. Where Ca is a multiple of 4 it is a copy of one vec4; elsewhere the channels of b move to other lanes.
// Parts: item_vec4, in1_buffer and in2_buffer or texel, in1_texel and in2_texel, straddle.
// Host: src/ops/channels.rs   Twin: concat_channels

struct ConcatChannelsParams {
    // vec4 items of y: rows * columns.
    count: u32,
    // vec4 columns of a row of y, of a and of b.
    columns: u32,
    a_columns: u32,
    b_columns: u32,
    // Channels of a without padding.
    a_channels: u32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

@group(0) @binding(0) var<uniform> params: ConcatChannelsParams;
// Bindings 1 and 2 are a and b: in1_*.wgsl and in2_*.wgsl.
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

// A column of a row of b, zero beside the row. Padding lanes are zero already.
fn column_of_b(row: u32, column: i32, columns: u32) -> vec4<f32> {
    let value = load2(row * columns + u32(clamp(column, 0, i32(columns) - 1)));
    return select(vec4<f32>(0.0), value, column >= 0 && column < i32(columns));
}

@compute @workgroup_size(64)
fn concat_channels(
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
    // The last columns of a and the first of b share a vec4 if a has padding.
    if column + 1u < p.a_columns || (SHIFT == 0u && column < p.a_columns) {
        y[index] = load1(row * p.a_columns + column);
        return;
    }
    let at = i32(column) - i32(p.a_columns);
    var value = column_of_b(row, at, p.b_columns);
    if SHIFT != 0u {
        let a = load1(row * p.a_columns + min(column, p.a_columns - 1u));
        let channel = vec4<u32>(column * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
        value = select(straddle(value, column_of_b(row, at + 1, p.b_columns)), a, channel < vec4<u32>(p.a_channels));
    }
    y[index] = value;
}
