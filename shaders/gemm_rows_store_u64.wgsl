// gemm_rows_store_u64: epilogue and store of eight columns of C, two floats a word: software adapters pay per word, not per byte. A part of
// gemm_rows_broadcast; gemm_rows_store is its counterpart.

@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> c: array<vec2<u64>>;

// What the epilogue knows of four columns, whatever the row.
struct Quad {
    n: u32,
    is_stored: bool,
    exists: vec4<bool>, // false for padding
    bias: vec4<f32>,
}

// Columns n to n + 7.
struct Octet {
    left: Quad,
    right: Quad,
}

// Columns n to n + 7. Each quad of lanes loads the bias of one half.
fn octet_at(phase: Phase, n: u32, lane: u32) -> Octet {
    let half = n + (lane & 4u);
    var shift = vec4<f32>();
    if params.bias != 0u && half < params.columns {
        shift = bias[(phase.out_channel + half % params.period) >> 2u];
    }
    return Octet(quad_at(n, first_quad(shift, lane)), quad_at(n + 4u, second_quad(shift, lane)));
}

fn quad_at(n: u32, shift: vec4<f32>) -> Quad {
    let channel = n % params.period;
    let exists = vec4<u32>(channel, channel + 1u, channel + 2u, channel + 3u) < vec4<u32>(params.channels);
    return Quad(n, n < params.columns, exists, shift);
}

fn word(low: f32, high: f32) -> u64 {
    return u64(bitcast<u32>(low)) | (u64(bitcast<u32>(high)) << 32u);
}

// Stores `sum` at the quad's columns of the row that starts at float `place`; padding columns are stored as zero.
fn store4(sum: vec4<f32>, quad: Quad, place: u32) {
    if quad.is_stored && place != NOWHERE {
        var value = activate(sum + quad.bias, params.activation, params.slope);
        if MASKED && params.mask != 0u {
            value *= derivative_from_output(saved4(place + quad.n), params.mask, params.mask_slope);
        }
        value = select(vec4<f32>(), value, quad.exists);
        c[(place + quad.n) >> 2u] = vec2<u64>(word(value.x, value.y), word(value.z, value.w));
    }
}

fn store8(left: vec4<f32>, right: vec4<f32>, octet: Octet, place: u32) {
    store4(left, octet.left, place);
    store4(right, octet.right, place);
}
