// gemm_tile_matrix: tiles of 64 rows and 64 columns in f16, and a strip of sums: 14 KiB of shared memory. A part of gemm_rows_matrix, joined behind
// gemm_fragment_16; what gemm_tile and gemm_tile_small are to the kernels without matrix units.
//
// A tile of A is 64 rows by 16 k, one of B 16 k by 64 columns, both k-major. Sums leave their fragments, whose lanes own what no text knows, through
// the strip: half of the tile's rows at a time, as all of them would not fit.
//
// Fragments start, and go on from row to row, at multiples of 16 bytes, which Vulkan asks for; therefore each array's size is one too. Eight numbers
// between two rows that nobody reads keep the rows of a fragment out of each other's memory banks.

const QUADS = 16u;   // groups of four rows or columns of a tile
const STAGERS = 64u; // invocations that load the tile of A; as many load that of B
const PITCH = 72u;   // numbers from one k, or one row of the strip, to the next

var<workgroup> tile_a: array<f16, 1152>;
var<workgroup> tile_b: array<f16, 1152>;
var<workgroup> strip: array<f32, 2304>;

// Where rows or columns 4 * quad to 4 * quad + 3 at k = 4 * k_quad are; k + 1 is PITCH further.
fn slot_at(k_quad: u32, quad: u32) -> u32 {
    return k_quad * 4u * PITCH + 4u * quad;
}

// Stores four k: column j is k + j. The numbers come from f16, so that none is rounded.
fn stage_a(slot: u32, block: mat4x4<f32>) {
    put_a(slot, vec4<f16>(block[0]));
    put_a(slot + PITCH, vec4<f16>(block[1]));
    put_a(slot + 2u * PITCH, vec4<f16>(block[2]));
    put_a(slot + 3u * PITCH, vec4<f16>(block[3]));
}

fn stage_b(slot: u32, block: mat4x4<f32>) {
    put_b(slot, vec4<f16>(block[0]));
    put_b(slot + PITCH, vec4<f16>(block[1]));
    put_b(slot + 2u * PITCH, vec4<f16>(block[2]));
    put_b(slot + 3u * PITCH, vec4<f16>(block[3]));
}

// Fragments are read from arrays of numbers: what a stride counts in an array of vectors, the back ends do not agree on.
fn put_a(slot: u32, four: vec4<f16>) {
    tile_a[slot] = four.x;
    tile_a[slot + 1u] = four.y;
    tile_a[slot + 2u] = four.z;
    tile_a[slot + 3u] = four.w;
}

fn put_b(slot: u32, four: vec4<f16>) {
    tile_b[slot] = four.x;
    tile_b[slot + 1u] = four.y;
    tile_b[slot + 2u] = four.z;
    tile_b[slot + 3u] = four.w;
}
