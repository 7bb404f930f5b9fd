// Part: windows that slide over the pixels of a map, as in torch.nn.MaxPool2d.

struct PoolParams {
    // Items of the result, or items of areas.
    count: u32,
    // Items of a row of channels, and the channels without padding.
    columns: u32,
    channels: u32,
    // Pixels of the map.
    height: u32,
    width: u32,
    // Windows over it.
    windows_y: u32,
    windows_x: u32,
    kernel_y: u32,
    kernel_x: u32,
    stride_y: u32,
    stride_x: u32,
    padding_y: u32,
    padding_x: u32,
    // Factor of sums.
    scale: f32,
    // Areas of one stride that cover the padded map from its corner, where windows do not overlap.
    areas_y: u32,
    areas_x: u32,
}

@group(0) @binding(0) var<uniform> params: PoolParams;

// Pixels of window `o` along an axis: the first, and the one behind the last. None of its padding; at least one pixel.
fn pixels_of(o: u32, stride: u32, padding: u32, kernel: u32, extent: u32) -> vec2<u32> {
    let start = o * stride;
    return vec2<u32>(max(start, padding), min(start + kernel, padding + extent)) - vec2<u32>(padding);
}

// Windows along an axis that hold pixel `i`: the first, and the one behind the last. None where the stride leaves gaps.
fn holders_of(i: u32, stride: u32, padding: u32, kernel: u32, windows: u32) -> vec2<u32> {
    let at = i + padding;
    return vec2<u32>(select(0u, (at - kernel) / stride + 1u, at >= kernel), min(at / stride + 1u, windows));
}
