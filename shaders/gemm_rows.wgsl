// gemm_rows: parameters and addressing of the gemm kernels whose operand A has k contiguous (matmul nn and nt, conv2d forward and input gradient).
// A part, not a kernel. Host: src/ops/gemm/rows.rs, which fills the parameters and the table `walk` from shapes alone.
//
//   C[m, n] = epilogue(sum over segments s, k < depth of  A(m, s, k) * B(s, k, n))
//
// A *phase* is a set of rows that share their segments: the one phase of a matmul, a group of a convolution, an output phase of a strided input
// gradient. Row m of a phase is the pixel (image, y, x) of the phase's grid. A *segment* is a run of `depth` consecutive k: the whole row of a
// matmul, a kernel tap, or a kernel row where the taps' pixels are neighbours in memory. Taps that fall outside of A read as zero.
//
// walk: three vec4<i32> for each phase, then one for each segment
//   rows        grid_height  grid_width  first_segment
//   segments    out_y        out_x       a_channel
//   out_channel columns      first_step  steps      (the kernels that go by steps count them over all segments; others do not read them)
//   -- segment --
//   a_y         a_x          b_base      0

struct GemmRowsParams {
    columns: u32,      // columns of C that exist in memory, padding included, in the phase that has most
    period: u32,       // columns after which channels start anew (padded channels; `columns` but for flattened outputs)
    channels: u32,     // columns of each period that are not padding
    depth: u32,        // k of a segment (a multiple of four, but for gemm_rows_scalar)
    b_extent: u32,     // form n: rows k of B that exist in a segment; form t: rows n of B that exist
    b_stride: u32,     // floats between two rows of B
    a_height: u32,     // pixels of A
    a_width: u32,
    a_pixel: u32,      // floats of a pixel of A
    a_step_y: u32,     // pixels of A from one grid row to the next
    a_step_x: u32,
    out_height: u32,   // pixels of C
    out_width: u32,
    out_pixel: u32,    // floats of a pixel of C
    out_step_y: u32,   // pixels of C from one grid row to the next
    out_step_x: u32,
    bias: u32,         // 1: add bias[channel]
    activation: u32,   // 0 none, 1 leaky relu, 2 tanh, 3 sigmoid
    slope: f32,        // of the leaky relu
    mask: u32,         // 0 none; else multiply by the derivative of this activation, given its output
    mask_slope: f32,
    a_k_stride: u32,   // gemm_rows_scalar: floats between two k of A and of B, and between two n of B
    b_k_stride: u32,
    b_n_stride: u32,
}

@group(0) @binding(0) var<uniform> params: GemmRowsParams;
@group(0) @binding(3) var<storage, read> walk: array<vec4<i32>>;

struct Phase {
    rows: u32,
    grid_height: u32,
    grid_width: u32,
    first_segment: u32,
    segments: u32,
    out_y: u32,
    out_x: u32,
    a_channel: u32,
    out_channel: u32,
    columns: u32,    // read by gemm_rows_scalar only: elsewhere every phase has as many
    first_step: u32, // read by the gemm_rows_tile_* kernels and gemm_rows_reduce only
    steps: u32,
}

fn phase_at(index: u32) -> Phase {
    let p = bitcast<vec4<u32>>(walk[index * 3u]);
    let q = bitcast<vec4<u32>>(walk[index * 3u + 1u]);
    let r = bitcast<vec4<u32>>(walk[index * 3u + 2u]);
    return Phase(p.x, p.y, p.z, p.w, q.x, q.y, q.z, q.w, r.x, r.y, r.z, r.w);
}

// A row of C: whether it exists, where it reads and where it writes.
struct Row {
    inside: bool,
    image: u32,
    y: i32, // of A, before the segment's offset
    x: i32,
    out: u32, // floats from the start of C to the row's column 0
}

fn row_at(phase: Phase, m: u32) -> Row {
    let inside = m < phase.rows;
    let index = select(0u, m, inside);
    let line = index / phase.grid_width;
    let x = index - line * phase.grid_width;
    let image = line / phase.grid_height;
    let y = line - image * phase.grid_height;
    let out_line = image * params.out_height + y * params.out_step_y + phase.out_y;
    let out = (out_line * params.out_width + x * params.out_step_x + phase.out_x) * params.out_pixel + phase.out_channel;
    return Row(inside, image, i32(y * params.a_step_y), i32(x * params.a_step_x), out);
}

// Where a row starts in C, in floats; NOWHERE if it does not exist.
const NOWHERE: u32 = 0xffffffffu;

fn place_of(row: Row) -> u32 {
    return select(NOWHERE, row.out, row.inside);
}

// The k of one row in one segment: floats `line + start + k`, of which those with `start + k < limit` (unsigned) exist.
struct Span {
    line: u32,
    start: i32,
    limit: u32,
}

fn span_of(row: Row, phase: Phase, segment: vec4<i32>) -> Span {
    let pitch = params.a_width * params.a_pixel;
    let y = u32(row.y + segment.x);
    let inside = row.inside && y < params.a_height;
    let start = (row.x + segment.y) * i32(params.a_pixel) + i32(phase.a_channel);
    let end = u32(clamp(start + i32(params.depth), 0, i32(pitch)));
    return Span(select(0u, (row.image * params.a_height + y) * pitch, inside), start, select(0u, end, inside));
}
