// gemm_rows_store: epilogue and store of four columns of C. A part of gemm_rows_broadcast, gemm_rows_narrow and gemm_rows_plain.

@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> saved: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> c: array<vec4<f32>>;

// Stores `sum` at columns n to n + 3 of the row that starts at float `row`; padding columns are stored as zero.
fn store4(sum: vec4<f32>, phase: Phase, row: u32, n: u32) {
    if n >= params.columns {
        return;
    }
    let channel = n % params.period;
    let index = (row + n) >> 2u;
    var value = sum;
    if params.bias != 0u {
        value += bias[(phase.out_channel + channel) >> 2u];
    }
    value = activate(value, params.activation, params.slope);
    if params.mask != 0u {
        value *= derivative_from_output(saved[index], params.mask, params.mask_slope);
    }
    let exists = vec4<u32>(channel, channel + 1u, channel + 2u, channel + 3u) < vec4<u32>(params.channels);
    c[index] = select(vec4<f32>(), value, exists);
}
