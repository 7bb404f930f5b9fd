// gemm_row8: eight k of one row of A, zero where the row does not exist. A part of gemm_rows_narrow.

struct Row8 {
    lo: vec4<f32>,
    hi: vec4<f32>,
}

fn row8(span: Span, k: u32) -> Row8 {
    let lo = u32(span.start) + k;
    let hi = lo + 4u;
    let lo_exists = lo < span.limit;
    let hi_exists = hi < span.limit;
    return Row8(
        select(vec4<f32>(), a4(span.line + select(0u, lo, lo_exists)), lo_exists),
        select(vec4<f32>(), a4(span.line + select(0u, hi, hi_exists)), hi_exists),
    );
}
