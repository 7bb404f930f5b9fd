// gemm_cols_patch: the part of B that a lane multiplies by, and the store. A part of gemm_cols_broadcast, joined behind gemm_patch.

@group(0) @binding(3) var<storage, read_write> c: array<vec2<u64>>;

// Four columns of B at a pixel.
fn b_row(origin: Origin, column: Column) -> vec4<f32> {
    return b4_if(is_inside(origin, column), u32(origin.start + column.offset));
}

// What the lane of this quad that keeps pixel `index` of the step knows.
fn origin_at(origin: Origin, index: u32, lane: u32) -> Origin {
    let keeper = (lane & 4u) | index;
    return Origin(subgroupShuffle(origin.y, keeper), subgroupShuffle(origin.x, keeper), subgroupShuffle(origin.start, keeper));
}

// Four pixels: quad 0 loads pixels 0 and 2 of the step, quad 1 loads 1 and 3.
fn patch_at(origin: Origin, left: Column, right: Column, lane: u32) -> Patch {
    let early = origin_at(origin, lane >> 2u, lane);
    let late = origin_at(origin, 2u + (lane >> 2u), lane);
    return patch_of_rows(b_row(early, left), b_row(early, right), b_row(late, left), b_row(late, right), lane);
}

fn word(low: f32, high: f32) -> u64 {
    return u64(bitcast<u32>(low)) | (u64(bitcast<u32>(high)) << 32u);
}

// Stores eight columns of a row, two floats a word: software adapters pay per word, not per byte.
fn store8(left: vec4<f32>, right: vec4<f32>, first_row: u32, row: u32, n: u32) {
    if row < params.rows {
        let place = ((first_row + row) * params.columns + n) >> 2u;
        if n < params.columns {
            c[place] = vec2<u64>(word(left.x, left.y), word(left.z, left.w));
        }
        if n + 4u < params.columns {
            c[place + 1u] = vec2<u64>(word(right.x, right.y), word(right.z, right.w));
        }
    }
}
