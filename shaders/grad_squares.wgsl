// Squares of a gradient in a flat store, added up in blocks of 64 floats, for clipping that must know all gradients before a parameter moves.
// torch: p.grad.pow(2) in the parts of torch.nn.utils.get_total_norm.
//
//   squares[b] = sum of g^2 over block b: not finite if a g is not
//
// | tensor | shape | direction |
// |---|---|---|
// | in1 g | flat store | in |
// | squares | blocks | out |
//
// The same sums in the same order as the optimisers write. One item (four or eight floats) per invocation, or a block of them where that is
// no slower. Parts: item_vec4, in1_buffer and squares_group, or item_u64, in1_buffer or in1_texture, and squares_lane; squares_rule.
// Host: src/ops/optimiser/clip.rs. Twin: optimiser::twin::squares.

struct GradSquaresParams {
    items: u32,
    blocks: u32,
    reserved0: u32,
    reserved1: u32,
}

@group(0) @binding(0) var<uniform> params: GradSquaresParams;
// Binding 1 is the input: in1_buffer.wgsl or in1_texture.wgsl.
@group(0) @binding(2) var<storage, read_write> squares: array<f32>;

@compute @workgroup_size(64)
fn grad_squares(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let p = params;
    let index = (wid.y * groups.x + wid.x) * 64u + lid;
    var sum = 0.0;
    for (var k = 0u; k < REPEAT; k++) {
        let i = index * REPEAT + k;
        if i < p.items {
            sum += squared(load1(i));
        }
    }
    keep_squares(sum, index, lid, p.blocks);
}
