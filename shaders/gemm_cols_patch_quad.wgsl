// gemm_cols_patch_quad: the part of B that a lane multiplies by, and the store, for one quad. A part of gemm_cols_broadcast; gemm_cols_patch is its
// counterpart.

@group(0) @binding(3) var<storage, read_write> c: array<vec4<f32>>;

// Four pixels by eight columns: column kk of each matrix is the vec4 at pixel kk of the step over the four left or right columns.
struct Patch {
    left: mat4x4<f32>,
    right: mat4x4<f32>,
}

// Four columns of B at a pixel.
fn b_row(origin: Origin, column: Column) -> vec4<f32> {
    let exists = is_inside(origin, column);
    return select(vec4<f32>(), b4(u32(select(0, origin.start + column.offset, exists))), exists);
}

fn patch_at(origin: Origin, left: Column, right: Column, lane: u32) -> Patch {
    let o0 = Origin(quadBroadcast(origin.y, 0u), quadBroadcast(origin.x, 0u), quadBroadcast(origin.start, 0u));
    let o1 = Origin(quadBroadcast(origin.y, 1u), quadBroadcast(origin.x, 1u), quadBroadcast(origin.start, 1u));
    let o2 = Origin(quadBroadcast(origin.y, 2u), quadBroadcast(origin.x, 2u), quadBroadcast(origin.start, 2u));
    let o3 = Origin(quadBroadcast(origin.y, 3u), quadBroadcast(origin.x, 3u), quadBroadcast(origin.start, 3u));
    return Patch(
        mat4x4<f32>(b_row(o0, left), b_row(o1, left), b_row(o2, left), b_row(o3, left)),
        mat4x4<f32>(b_row(o0, right), b_row(o1, right), b_row(o2, right), b_row(o3, right)),
    );
}

// Stores eight columns of a row.
fn store8(left: vec4<f32>, right: vec4<f32>, group_row: u32, row: u32, n: u32) {
    if row < params.rows {
        let place = ((group_row + row) * params.columns + n) >> 2u;
        if n < params.columns {
            c[place] = left;
        }
        if n + 4u < params.columns {
            c[place + 1u] = right;
        }
    }
}
