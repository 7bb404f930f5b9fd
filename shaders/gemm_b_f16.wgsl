// gemm_b_f16: operand A in f32, B in f16, two to a word. Addresses are in numbers and multiples of four.
// A part of the gemm kernels; gemm_ab_f16 and gemm_a_f16 are its counterparts.

// What one load brings into registers.
alias Raw = vec4<u32>;

@group(0) @binding(1) var<storage, read> a: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> b: array<vec2<u32>>;

fn a_raw(address: u32) -> Raw {
    return a[address >> 2u];
}

fn a_wide(raw: Raw) -> vec4<f32> {
    return bitcast<vec4<f32>>(raw);
}

fn a4(address: u32) -> vec4<f32> {
    return a_wide(a_raw(address));
}

fn b_raw(address: u32) -> Raw {
    return vec4<u32>(b[address >> 2u], 0u, 0u);
}

fn b_wide(raw: Raw) -> vec4<f32> {
    return widened(raw.xy);
}

fn b4(address: u32) -> vec4<f32> {
    return b_wide(b_raw(address));
}

// Four numbers in f16 as f32, exactly.
fn widened(bits: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(bits.x), unpack2x16float(bits.y));
}
