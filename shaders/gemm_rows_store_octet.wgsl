// gemm_rows_store_octet: epilogue and store of eight columns of C as two vec4s, joined behind gemm_rows_store. A part of gemm_rows_broadcast;
// gemm_rows_store_u64 is its counterpart.

// Columns n to n + 7.
struct Octet {
    left: Quad,
    right: Quad,
}

fn octet_at(phase: Phase, n: u32, lane: u32) -> Octet {
    return Octet(quad_at(phase, n), quad_at(phase, n + 4u));
}

// Where a row starts in C, in floats; NOWHERE if it does not exist.
const NOWHERE: u32 = 0xffffffffu;

fn place_of(row: Row) -> u32 {
    return select(NOWHERE, row.out, row.inside);
}

fn store8(left: vec4<f32>, right: vec4<f32>, octet: Octet, place: u32) {
    if place != NOWHERE {
        store4(left, octet.left, place);
        store4(right, octet.right, place);
    }
}
