// gemm_rows_store: epilogue and store of four columns of C. A part of the gemm_rows_* kernels.

@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> c: array<vec4<f32>>;

// What the epilogue knows of columns n to n + 3, whatever the row.
struct Quad {
    n: u32,
    is_stored: bool,
    exists: vec4<bool>, // false for padding
    bias: vec4<f32>,
}

fn quad_at(phase: Phase, n: u32) -> Quad {
    let channel = n % params.period;
    var shift = vec4<f32>();
    if params.bias != 0u && n < params.columns {
        shift = bias[(phase.out_channel + channel) >> 2u];
    }
    let exists = vec4<u32>(channel, channel + 1u, channel + 2u, channel + 3u) < vec4<u32>(params.channels);
    return Quad(n, n < params.columns, exists, shift);
}

// Stores `sum` at the quad's columns of the row that starts at float `row`; padding columns are stored as zero.
fn store4(sum: vec4<f32>, quad: Quad, row: u32) {
    if quad.is_stored {
        var value = activate(sum + quad.bias, params.activation, params.slope);
        if MASKED && params.mask != 0u {
            value *= derivative_from_output(saved4(row + quad.n), params.mask, params.mask_slope);
        }
        c[(row + quad.n) >> 2u] = select(vec4<f32>(), value, quad.exists);
    }
}
