// Part: a map and the larger one that it is resized to by whole factors.

struct UpsampleParams {
    // vec4 items of the result.
    count: u32,
    // vec4 columns of a row of channels.
    columns: u32,
    // Pixels of the smaller map.
    height: u32,
    width: u32,
    // Pixels of the larger map for each of them.
    scale_y: u32,
    scale_x: u32,
    reserved0: u32,
    reserved1: u32,
}

@group(0) @binding(0) var<uniform> params: UpsampleParams;

// Where on an axis of the smaller map pixel `o` of the larger one is read by interpolation: (o + 1/2) / scale - 1/2 in units of 1 / (2 * scale), so that
// it is a whole number, and not beyond the outermost pixels.
fn source_of(o: u32, scale: u32, extent: u32) -> u32 {
    return clamp(2u * o + 1u, scale, (2u * extent - 1u) * scale) - scale;
}
