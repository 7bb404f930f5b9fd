// Gradient statistics, first stage: for each block of 64 floats of a flat store, the sum of squares of the finite ones and how many are not.
//
//   sumsq[b] = sum of g^2 over the finite g of block b
//   bad[b]   = number of NaN and infinities in block b, by bit pattern
//
// | tensor | shape | direction |
// |---|---|---|
// | grads g | flat store, a multiple of 64 floats | in |
// | sumsq | blocks, f32 | out |
// | bad | blocks, u32 | out |
//
// One block per invocation. Parts: item_*, in1_*. Host: src/ops/stats.rs. Twin: stats::twin::grad_blocks.

struct GradBlocksParams {
    blocks: u32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

@group(0) @binding(0) var<uniform> params: GradBlocksParams;
// Binding 1 is grads: in1_*.wgsl.
@group(0) @binding(2) var<storage, read_write> sumsq: array<f32>;
@group(0) @binding(3) var<storage, read_write> bad: array<u32>;

const ITEMS_PER_BLOCK = 16u / WIDTH;

struct Sums { squares: vec4<f32>, bad: vec4<u32> }

fn add(sums: Sums, g: vec4<f32>) -> Sums {
    let wrong = (bitcast<vec4<u32>>(g) & vec4<u32>(0x7fffffffu)) >= vec4<u32>(0x7f800000u);
    let finite = select(g, vec4<f32>(0.0), wrong);
    return Sums(sums.squares + finite * finite, sums.bad + select(vec4<u32>(0u), vec4<u32>(1u), wrong));
}

@compute @workgroup_size(64)
fn grad_blocks(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let blocks = params.blocks;
    let b = (wid.y * groups.x + wid.x) * 64u + lid;
    if b >= blocks { return; }

    var sums = Sums();
    for (var k = 0u; k < ITEMS_PER_BLOCK; k++) {
        let g = load1(b * ITEMS_PER_BLOCK + k);
        sums = add(sums, first(g));
        if WIDTH == 2u {
            sums = add(sums, second(g));
        }
    }
    sumsq[b] = (sums.squares.x + sums.squares.y) + (sums.squares.z + sums.squares.w);
    bad[b] = (sums.bad.x + sums.bad.y) + (sums.bad.z + sums.bad.w);
}
