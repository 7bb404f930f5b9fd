// gemm_cols_stage: from memory to the tiles. A part of the gemm_cols_tile_* kernels.
//
// An invocation loads four vec4s a step: four rows of A or four columns of B, at four pixels in a row. Lanes that are neighbours load
// neighbouring vec4s of one pixel. A column's tap is found by division once; pixels are moved on without one.

// Which part of the tiles an invocation stages: rows or columns, and pixels from `k`.
struct Stager {
    is_a: bool,
    a_row: u32,
    column: Column,
    k: u32,
    slot: u32,
}

// Rows of A beyond the group or the pixel are loaded from the pixel's end, and columns beyond the last as the last: their sums are not stored.
fn stager_at(local: u32, m: u32, n: u32, group: u32) -> Stager {
    let is_a = local < STAGERS;
    let lane = select(local - STAGERS, local, is_a);
    let k_quad = lane / QUADS;
    let quad = lane - k_quad * QUADS;
    let a_row = min(group * params.rows + m + 4u * quad, params.a_pixel - 4u);
    return Stager(is_a, a_row, column_at(n + 4u * quad, group), 4u * k_quad, slot_at(k_quad, quad));
}

fn next_of(pixel: Pixel) -> Pixel {
    let next_line = pixel.x + 1u == params.grid_width;
    let y = pixel.y + select(0u, 1u, next_line);
    let next_image = y == params.grid_height;
    return Pixel(pixel.image + select(0u, 1u, next_image), select(y, 0u, next_image), select(pixel.x + 1u, 0u, next_line));
}

// Eight pixels on, as a sum of digits: no digit overflows more than once.
fn eight_on(pixel: Pixel) -> Pixel {
    let x = pixel.x + params.step_x;
    let next_line = x >= params.grid_width;
    let y = pixel.y + params.step_y + select(0u, 1u, next_line);
    let next_image = y >= params.grid_height;
    let image = pixel.image + params.step_image + select(0u, 1u, next_image);
    return Pixel(image, y - select(0u, params.grid_height, next_image), x - select(0u, params.grid_width, next_line));
}

// Four rows of A at pixel k, zero from `end` on.
fn a_rows(a_row: u32, k: u32, end: u32) -> vec4<f32> {
    let exists = k < end;
    return select(vec4<f32>(), a4(select(0u, k, exists) * params.a_pixel + a_row), exists);
}

// Four columns of B at a pixel, zero where `exists` is false or the tap falls outside.
fn b_columns(column: Column, pixel: Pixel, exists: bool) -> vec4<f32> {
    let origin = origin_of(pixel);
    let inside = exists && is_inside(origin, column);
    return select(vec4<f32>(), b4(u32(select(0, origin.start + column.offset, inside))), inside);
}

// What an invocation stages of the step at k, where `pixel` is its first: column j is j pixels further.
fn block_of(stager: Stager, pixel: Pixel, step_k: u32, end: u32) -> mat4x4<f32> {
    let k = step_k + stager.k;
    if stager.is_a {
        return mat4x4<f32>(
            a_rows(stager.a_row, k, end),
            a_rows(stager.a_row, k + 1u, end),
            a_rows(stager.a_row, k + 2u, end),
            a_rows(stager.a_row, k + 3u, end),
        );
    }
    let pixel1 = next_of(pixel);
    let pixel2 = next_of(pixel1);
    let pixel3 = next_of(pixel2);
    return mat4x4<f32>(
        b_columns(stager.column, pixel, k < end),
        b_columns(stager.column, pixel1, k + 1u < end),
        b_columns(stager.column, pixel2, k + 2u < end),
        b_columns(stager.column, pixel3, k + 3u < end),
    );
}

fn stage(stager: Stager, block: mat4x4<f32>) {
    if stager.is_a {
        stage_a(stager.slot, block);
    } else {
        stage_b(stager.slot, block);
    }
}
