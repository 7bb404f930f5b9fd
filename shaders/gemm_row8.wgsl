// gemm_row8: eight k of one row of A, zero where the row does not exist. A part of gemm_rows_broadcast and gemm_rows_narrow.

fn row8(span: Span, k: u32) -> Vec8 {
    let lo = u32(span.start) + k;
    let hi = lo + 4u;
    let lo_exists = lo < span.limit;
    let hi_exists = hi < span.limit;
    let v = a8(span.line + select(0u, lo, lo_exists), span.line + select(0u, hi, hi_exists));
    return Vec8(select(vec4<f32>(), v.lo, lo_exists), select(vec4<f32>(), v.hi, hi_exists));
}
