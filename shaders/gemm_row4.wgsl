// gemm_row4: four k of one row of A, zero where the row does not exist. A part of gemm_rows_broadcast and gemm_rows_quad.

fn row4(span: Span, k: u32) -> vec4<f32> {
    let start = u32(span.start) + k;
    return a4_if(start < span.limit, span.line + start);
}
