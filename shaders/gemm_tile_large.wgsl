// gemm_tile_large: tiles of 128 rows and 128 columns, 16 KiB of shared memory. A part of the gemm_*_tile_large kernels; gemm_tile_small is its
// counterpart, and gemm_tile says how they are laid out.

const QUADS = 32u;    // vec4s in a row of a tile
const STAGERS = 128u; // invocations that load the tile of A; as many load that of B

var<workgroup> tile_a: array<vec4<f32>, 512>;
var<workgroup> tile_b: array<vec4<f32>, 512>;
