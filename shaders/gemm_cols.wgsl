// gemm_cols: parameters and addressing of the gemm kernels whose operand A has m contiguous (matmul tn, conv2d weight gradient).
// A part, not a kernel. Host: src/ops/gemm/cols.rs, which fills the parameters from shapes alone.
//
//   C[m, n] = sum over pixels p of A(p, m) * B(p, n)
//
// For a weight gradient p runs over the pixels (image, y, x) of the output gradient, m over its channels, and n over (kernel tap, input channel):
// B(p, n) is the input at the pixel that the tap sees from p, zero outside the image. A matmul has one pixel per image and one tap.
// Workgroup z is the group and, within it, the part of the pixels: m and n count within the group.

struct GemmColsParams {
    pixels: u32,       // the k of the product
    rows: u32,         // m that exist, for each group
    columns: u32,      // n that exist in memory, padding included: taps * tap_columns
    tap_columns: u32,  // n of a tap, padding included
    channels: u32,     // columns of each tap that are not padding (read by gemm_cols_scalar only: elsewhere the padding of B makes that of C)
    a_pixel: u32,      // floats of a pixel of A
    b_pixel: u32,      // floats of a pixel of B
    b_channel: u32,    // channels of B in a group
    grid_height: u32,  // pixels of A
    grid_width: u32,
    b_height: u32,     // pixels of B
    b_width: u32,
    stride_y: u32,
    stride_x: u32,
    padding_y: u32,
    padding_x: u32,
    dilation_y: u32,
    dilation_x: u32,
    kernel_width: u32,
    step_image: u32,   // the pixels by which a kernel goes on, as (image, y, x)
    step_y: u32,
    step_x: u32,
    splits: u32,       // parts of the pixels that are summed apart, to slabs (1 for gemm_cols_plain, which does not ask)
    split_pixels: u32, // pixels of a part: a multiple of 16, or all
}

@group(0) @binding(0) var<uniform> params: GemmColsParams;

// What a workgroup sums: its group, its first pixel and the one behind its last, and its row 0 in C, counted over all slabs.
struct Part {
    group: u32,
    first: u32,
    end: u32,
    row: u32,
}

fn part_at(z: u32, groups_and_splits: u32) -> Part {
    let group = z / params.splits;
    let split = z - group * params.splits;
    let first = split * params.split_pixels;
    let row = (split * (groups_and_splits / params.splits) + group) * params.rows;
    return Part(group, first, min(first + params.split_pixels, params.pixels), row);
}

// A pixel of A and what tap (0, 0) sees from it.
struct Pixel {
    image: u32,
    y: u32,
    x: u32,
}

fn pixel_at(index: u32) -> Pixel {
    let line = index / params.grid_width;
    let x = index - line * params.grid_width;
    let image = line / params.grid_height;
    return Pixel(image, line - image * params.grid_height, x);
}

// Where an invocation goes on after `pixel`: step_image, step_y and step_x further, as a sum of digits: no digit overflows more than once.
fn moved_on(pixel: Pixel) -> Pixel {
    let x = pixel.x + params.step_x;
    let next_line = x >= params.grid_width;
    let y = pixel.y + params.step_y + select(0u, 1u, next_line);
    let next_image = y >= params.grid_height;
    let image = pixel.image + params.step_image + select(0u, 1u, next_image);
    return Pixel(image, y - select(0u, params.grid_height, next_image), x - select(0u, params.grid_width, next_line));
}

// What a column keeps: its tap's offset in pixels of B, and the offset in floats of the tap and the channel.
struct Column {
    y: i32,
    x: i32,
    offset: i32,
}

fn column_at(n: u32, group: u32) -> Column {
    let inside = min(n, params.columns - 1u);
    let tap = inside / params.tap_columns;
    let channel = inside - tap * params.tap_columns + group * params.b_channel;
    let tap_y = tap / params.kernel_width;
    let y = i32(tap_y * params.dilation_y) - i32(params.padding_y);
    let x = i32((tap - tap_y * params.kernel_width) * params.dilation_x) - i32(params.padding_x);
    return Column(y, x, (y * i32(params.b_width) + x) * i32(params.b_pixel) + i32(channel));
}

// A pixel's address in B before a column's offset: its row and column there and its first float.
struct Origin {
    y: i32,
    x: i32,
    start: i32,
}

fn origin_of(pixel: Pixel) -> Origin {
    let y = pixel.y * params.stride_y;
    let x = pixel.x * params.stride_x;
    return Origin(i32(y), i32(x), i32(((pixel.image * params.b_height + y) * params.b_width + x) * params.b_pixel));
}

fn is_inside(origin: Origin, column: Column) -> bool {
    return u32(origin.y + column.y) < params.b_height && u32(origin.x + column.x) < params.b_width;
}
