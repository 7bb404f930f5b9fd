// gemm_b_u64: operand B as eight floats a load, carried by four 64-bit integers. Addresses are in floats and multiples of eight.
// A part of the gemm kernels. A load costs a software adapter a loop over the lanes whatever its width, so a wide one pays: see gemm_rows_broadcast.

@group(0) @binding(2) var<storage, read> b: array<vec4<u64>>;

// The eight floats at `lo`; `hi` is `lo` + 4 wherever this loader is chosen, or the caller drops what is loaded for it.
fn b8(lo: u32, hi: u32) -> Vec8 {
    let wide = b[lo >> 3u];
    let even = vec4<u32>(wide);
    let odd = vec4<u32>(wide >> vec4<u32>(32u));
    return Vec8(
        bitcast<vec4<f32>>(vec4<u32>(even.x, odd.x, even.y, odd.y)),
        bitcast<vec4<f32>>(vec4<u32>(even.z, odd.z, even.w, odd.w)),
    );
}
