// gemm_row4: four k of one row of A, zero where the row does not exist. A part of gemm_rows_broadcast.

fn row4(span: Span, k: u32) -> vec4<f32> {
    let start = u32(span.start) + k;
    let exists = start < span.limit;
    return select(vec4<f32>(), a4(span.line + select(0u, start, exists)), exists);
}
