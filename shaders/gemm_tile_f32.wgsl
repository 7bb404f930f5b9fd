// gemm_tile_f32: from memory to registers, where A and B are stored in f32. A part of the gemm_*_tile_* kernels; gemm_tile_f16 is its counterpart.

// What an invocation has loaded for the next step, untouched: to select from it or to turn it over at once would be to wait for it before the
// arithmetic that is meant to hide the wait.
struct Loaded {
    raw: mat4x4<f32>,
    exists: vec4<bool>, // for each vec4 of `raw`, where the tile needs to know
}

// Loads four vec4s of A or of B. All addresses are there before the first load, so that nothing waits for a register that is being loaded.
fn loaded_from(is_a: bool, address: vec4<u32>, exists: vec4<bool>) -> Loaded {
    var raw: mat4x4<f32>;
    if is_a {
        raw = mat4x4<f32>(a4(address.x), a4(address.y), a4(address.z), a4(address.w));
    } else {
        raw = mat4x4<f32>(b4(address.x), b4(address.y), b4(address.z), b4(address.w));
    }
    return Loaded(raw, exists);
}

fn masked_a(loaded: Loaded) -> mat4x4<f32> {
    return masked(loaded);
}

fn masked_b(loaded: Loaded) -> mat4x4<f32> {
    return masked(loaded);
}

// What has been loaded, with zeros for what does not exist.
fn masked(loaded: Loaded) -> mat4x4<f32> {
    let zero = vec4<f32>();
    return mat4x4<f32>(
        select(zero, loaded.raw[0], loaded.exists.x),
        select(zero, loaded.raw[1], loaded.exists.y),
        select(zero, loaded.raw[2], loaded.exists.z),
        select(zero, loaded.raw[3], loaded.exists.w),
    );
}
