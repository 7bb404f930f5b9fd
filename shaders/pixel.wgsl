// Part: which image, pixel and columns an item of a map (N, C, H, W) belongs to.

struct Pixel {
    image: u32,
    y: u32,
    x: u32,
    // Item of the row of channels.
    column: u32,
}

fn pixel_of(index: u32, columns: u32, height: u32, width: u32) -> Pixel {
    let row = index / columns;
    let line = row / width;
    return Pixel(line / height, line % height, row % width, index % columns);
}

// The item of a pixel.
fn item_of(pixel: Pixel, columns: u32, height: u32, width: u32) -> u32 {
    return ((pixel.image * height + pixel.y) * width + pixel.x) * columns + pixel.column;
}
