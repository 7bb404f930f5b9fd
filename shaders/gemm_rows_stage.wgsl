// gemm_rows_stage: from memory to the tiles. A part of the gemm_rows_tile_* kernels; gemm_stage_n and gemm_stage_t know how B is stored.
//
// An invocation loads four vec4s a step: four rows by four k of A, which it turns over in registers (k is contiguous in memory, rows are in the
// tile), or four k by four columns of B. Lanes that are neighbours load neighbouring vec4s. Rows are found by division once per segment, not per step.

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

// The four lines that an invocation loads in one segment, in floats: at k, what is at `line + start + k * stride`, if `start + k * stride < limit`
// (unsigned), else zero. Of A they are spans, of B rows k or columns n.
struct Lines {
    line: vec4<u32>,
    start: vec4<u32>,
    limit: vec4<u32>,
    stride: u32,
}

fn lines_of(stager: Stager, phase: Phase, segment: vec4<i32>) -> Lines {
    if !stager.is_a {
        return b_lines(u32(segment.z), stager.first);
    }
    let span0 = span_of(row_at(phase, stager.first), phase, segment);
    let span1 = span_of(row_at(phase, stager.first + 1u), phase, segment);
    let span2 = span_of(row_at(phase, stager.first + 2u), phase, segment);
    let span3 = span_of(row_at(phase, stager.first + 3u), phase, segment);
    return Lines(
        vec4<u32>(span0.line, span1.line, span2.line, span3.line),
        bitcast<vec4<u32>>(vec4<i32>(span0.start, span1.start, span2.start, span3.start)),
        vec4<u32>(span0.limit, span1.limit, span2.limit, span3.limit),
        1u,
    );
}

// Loads for the step at k.
fn load(stager: Stager, lines: Lines, k: u32) -> Loaded {
    let at = lines.start + (k + stager.k) * lines.stride;
    let exists = at < lines.limit;
    return loaded_from(stager.is_a, lines.line + select(vec4<u32>(), at, exists), exists);
}

fn stage(stager: Stager, loaded: Loaded) {
    if stager.is_a {
        stage_a(stager.slot, transpose(masked_a(loaded)));
    } else {
        stage_b(stager.slot, b_block(masked_b(loaded)));
    }
}
