// gemm_tile_f16: from memory to registers, where A or B or both are stored in f16. A part of the gemm_*_tile_* kernels; gemm_tile_f32 is its
// counterpart. Registers hold what memory does until the arithmetic on the step before is over: to widen a number is to wait for it.

struct Loaded {
    raw0: Raw,
    raw1: Raw,
    raw2: Raw,
    raw3: Raw,
    exists: vec4<bool>, // for each of the four, where the tile needs to know
}

// Loads four times four numbers of A or of B. All addresses are there before the first load.
fn loaded_from(is_a: bool, address: vec4<u32>, exists: vec4<bool>) -> Loaded {
    if is_a {
        return Loaded(a_raw(address.x), a_raw(address.y), a_raw(address.z), a_raw(address.w), exists);
    }
    return Loaded(b_raw(address.x), b_raw(address.y), b_raw(address.z), b_raw(address.w), exists);
}

// What has been loaded of A, in f32, with zeros for what does not exist.
fn masked_a(loaded: Loaded) -> mat4x4<f32> {
    let zero = vec4<f32>();
    return mat4x4<f32>(
        select(zero, a_wide(loaded.raw0), loaded.exists.x),
        select(zero, a_wide(loaded.raw1), loaded.exists.y),
        select(zero, a_wide(loaded.raw2), loaded.exists.z),
        select(zero, a_wide(loaded.raw3), loaded.exists.w),
    );
}

// The same of B.
fn masked_b(loaded: Loaded) -> mat4x4<f32> {
    let zero = vec4<f32>();
    return mat4x4<f32>(
        select(zero, b_wide(loaded.raw0), loaded.exists.x),
        select(zero, b_wide(loaded.raw1), loaded.exists.y),
        select(zero, b_wide(loaded.raw2), loaded.exists.z),
        select(zero, b_wide(loaded.raw3), loaded.exists.w),
    );
}
