// gemm_row8: eight k of one row of A, zero where the row does not exist. A part of gemm_rows_narrow.

struct Row8 {
    lo: vec4<f32>,
    hi: vec4<f32>,
}

fn row8(span: Span, k: u32) -> Row8 {
    let lo = u32(span.start) + k;
    let hi = lo + 4u;
    return Row8(a4_if(lo < span.limit, span.line + lo), a4_if(hi < span.limit, span.line + hi));
}
