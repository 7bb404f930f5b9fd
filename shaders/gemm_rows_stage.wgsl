// gemm_rows_stage: from memory to the tiles. A part of the gemm_rows_tile_* kernels; gemm_stage_n and gemm_stage_t know how B is stored.
//
// An invocation loads four vec4s a step: four rows by four k of A, which it turns over in registers (k is contiguous in memory, rows are in the tile), or
// four k by four columns of B. Lanes that are neighbours load neighbouring vec4s. Rows are found by division once per segment, not per step.

// Which part of the tiles an invocation stages: rows or columns from `first`, k from `k`.
struct Stager {
    is_a: bool,
    first: u32,
    k: u32,
    slot: u32,
}

fn stager_at(local: u32, m: u32, n: u32) -> Stager {
    let is_a = local < STAGERS;
    let part = select(b_part(local - STAGERS), vec2<u32>(local >> 2u, local & 3u), is_a);
    return Stager(is_a, select(n, m, is_a) + 4u * part.x, 4u * part.y, slot_at(part.y, part.x));
}

// The four lines that an invocation loads in one segment: spans of A, or what the form of B makes of them.
struct Lines {
    line: vec4<u32>,
    start: vec4<i32>,
    limit: vec4<u32>,
}

fn lines_of(stager: Stager, phase: Phase, segment: vec4<i32>) -> Lines {
    if !stager.is_a {
        return Lines(b_lines(u32(segment.z), stager.first), vec4<i32>(), vec4<u32>());
    }
    let span0 = span_of(row_at(phase, stager.first), phase, segment);
    let span1 = span_of(row_at(phase, stager.first + 1u), phase, segment);
    let span2 = span_of(row_at(phase, stager.first + 2u), phase, segment);
    let span3 = span_of(row_at(phase, stager.first + 3u), phase, segment);
    return Lines(
        vec4<u32>(span0.line, span1.line, span2.line, span3.line),
        vec4<i32>(span0.start, span1.start, span2.start, span3.start),
        vec4<u32>(span0.limit, span1.limit, span2.limit, span3.limit),
    );
}

// What an invocation stages of the step at k: column j is at its k + j.
fn block_of(stager: Stager, lines: Lines, k: u32) -> mat4x4<f32> {
    if !stager.is_a {
        return b_block(lines.line, k + stager.k);
    }
    let at = bitcast<vec4<u32>>(lines.start) + (k + stager.k);
    let exists = at < lines.limit;
    let address = lines.line + select(vec4<u32>(), at, exists);
    return transpose(mat4x4<f32>(
        select(vec4<f32>(), a4(address.x), exists.x),
        select(vec4<f32>(), a4(address.y), exists.y),
        select(vec4<f32>(), a4(address.z), exists.z),
        select(vec4<f32>(), a4(address.w), exists.w),
    ));
}

fn stage(stager: Stager, block: mat4x4<f32>) {
    if stager.is_a {
        stage_a(stager.slot, block);
    } else {
        stage_b(stager.slot, block);
    }
}
