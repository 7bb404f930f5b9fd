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

// Loads for the step at k, of which pixels from `end` on do not exist; `pixel` is the invocation's first.
fn load(stager: Stager, pixel: Pixel, step_k: u32, end: u32) -> Loaded {
    let k = vec4<u32>(0u, 1u, 2u, 3u) + (step_k + stager.k);
    var exists = k < vec4<u32>(end);
    var address = select(vec4<u32>(), k, exists) * params.a_pixel + stager.a_row;
    if !stager.is_a {
        let column = stager.column;
        let pixel1 = next_of(pixel);
        let pixel2 = next_of(pixel1);
        let origin0 = origin_of(pixel);
        let origin1 = origin_of(pixel1);
        let origin2 = origin_of(pixel2);
        let origin3 = origin_of(next_of(pixel2));
        exists &= vec4<bool>(is_inside(origin0, column), is_inside(origin1, column), is_inside(origin2, column), is_inside(origin3, column));
        let start = vec4<i32>(origin0.start, origin1.start, origin2.start, origin3.start);
        // Where the tap sees nothing, any address that exists will do.
        address = bitcast<vec4<u32>>(select(vec4<i32>(), start + column.offset, exists));
    }
    return loaded_from(stager.is_a, address, exists);
}

fn stage(stager: Stager, loaded: Loaded) {
    if stager.is_a {
        stage_a(stager.slot, masked_a(loaded));
    } else {
        stage_b(stager.slot, masked_b(loaded));
    }
}
