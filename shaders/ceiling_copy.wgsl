// Copies items and does nothing else: what memory and loads allow on this adapter. Equals torch's copied.copy_(source).
//
//   copied[i] <- in1[i]
//
// | tensor | shape | direction |
// |---|---|---|
// | in1 | flat, as a buffer or as a texture of vec4s | in |
// | copied | flat | out |
//
// One item (one, four or eight floats) per invocation. Filling a texture is part of the time, as it is of the kernels that read textures.
// Parts: an item (ceiling_item_f32, item_vec4 or item_u64) and a load (in1_buffer, in1_texel or in1_texture).
// Host: src/bench/ceiling.rs. Twin: the source itself.

struct CeilingCopyParams {
    items: u32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

@group(0) @binding(0) var<uniform> params: CeilingCopyParams;
@group(0) @binding(2) var<storage, read_write> copied: array<Item>;

@compute @workgroup_size(64)
fn ceiling_copy(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let i = (wid.y * groups.x + wid.x) * 64u + lid;
    if i >= params.items { return; }
    let value = load1(i);
    copied[i] = join(first(value), second(value));
}
