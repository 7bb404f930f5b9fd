// gemm_tile_small: tiles of 64 rows and 64 columns, 8 KiB of shared memory. A part of the gemm_*_tile_small kernels; gemm_tile_large is its
// counterpart, and gemm_tile says how they are laid out.

const QUADS = 16u;   // vec4s in a row of a tile
const STAGERS = 64u; // invocations that load the tile of A; as many load that of B

var<workgroup> tile_a: array<vec4<f32>, 256>;
var<workgroup> tile_b: array<vec4<f32>, 256>;
