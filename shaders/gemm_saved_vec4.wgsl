// gemm_saved_vec4: the saved activation output of an epilogue, as vec4s. A part of the gemm_rows_* kernels.

@group(0) @binding(5) var<storage, read> saved: array<vec4<f32>>;

// Four floats; the address is in floats and a multiple of four.
fn saved4(address: u32) -> vec4<f32> {
    return saved[address >> 2u];
}
