// gemm_patch_t: patches of B stored [n][k]. A part of gemm_rows_broadcast; gemm_patch_n is its counterpart.
// Columns beyond those that exist are read as the last one, and their sums are stored as padding zeros or not at all.

// Where the four columns that the lane loads start: quad 0 loads left columns, quad 1 right ones.
struct PatchColumns {
    starts: vec4<u32>,
}

fn patch_columns_at(n: u32, lane: u32) -> PatchColumns {
    let first = n + (lane & 4u);
    let existing = min(vec4<u32>(first, first + 1u, first + 2u, first + 3u), vec4<u32>(params.b_extent - 1u));
    return PatchColumns(existing * params.b_stride);
}

fn patch_at(columns: PatchColumns, base: u32, k: u32, lane: u32) -> Patch {
    let starts = columns.starts + vec4<u32>(base + k);
    let part = transpose(mat4x4<f32>(b4(starts.x), b4(starts.y), b4(starts.z), b4(starts.w)));
    return Patch(
        mat4x4<f32>(first_quad(part[0], lane), first_quad(part[1], lane), first_quad(part[2], lane), first_quad(part[3], lane)),
        mat4x4<f32>(second_quad(part[0], lane), second_quad(part[1], lane), second_quad(part[2], lane), second_quad(part[3], lane)),
    );
}
