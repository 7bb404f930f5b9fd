// gemm_tile: how the tiles that a workgroup shares are laid out, and the arithmetic on them. A part of the gemm_*_tile_* kernels, joined behind
// gemm_tile_large or gemm_tile_small, which say how large they are, and gemm_tile_f32 or gemm_tile_f16, which load.
//
// A tile of A is 4 * QUADS rows by 16 k, one of B 16 k by 4 * QUADS columns. Both are k-major, so that an invocation reads its rows and its columns
// at one k as vec4s. Neighbouring lanes store different groups of four k, which would meet in the same memory banks: the exclusive or spreads them.
// (Padded rows would do so too, but go beyond the 16 KiB of shared memory that WebGPU guarantees.)
//
// One pair of tiles, not two: what hides the latency of memory is that the next pair is on its way to registers while this one is multiplied.

// Where rows or columns 4 * quad to 4 * quad + 3 at k = 4 * k_quad are; k + 1 is QUADS further.
fn slot_at(k_quad: u32, quad: u32) -> u32 {
    return k_quad * 4u * QUADS + (quad ^ (2u * k_quad));
}

// Stores four k: column j is k + j.
fn stage_a(slot: u32, block: mat4x4<f32>) {
    tile_a[slot] = block[0];
    tile_a[slot + QUADS] = block[1];
    tile_a[slot + 2u * QUADS] = block[2];
    tile_a[slot + 3u * QUADS] = block[3];
}

fn stage_b(slot: u32, block: mat4x4<f32>) {
    tile_b[slot] = block[0];
    tile_b[slot + QUADS] = block[1];
    tile_b[slot + 2u * QUADS] = block[2];
    tile_b[slot + 3u * QUADS] = block[3];
}

// Four rows by four columns at one k: column i is row i.
fn outer(a: vec4<f32>, b: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(a.x * b, a.y * b, a.z * b, a.w * b);
}

// The next row in front, so that the stores are a loop without indexed registers.
fn moved_up(rows: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(rows[1], rows[2], rows[3], rows[0]);
}
