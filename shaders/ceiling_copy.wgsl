// Copies items and does nothing else: what memory and loads allow on this adapter. Equals torch's copied.copy_(source).
//
//   copied[i] <- source[i]
//
// | tensor | shape | direction |
// |---|---|---|
// | source | flat | in |
// | copied | flat | out |
//
// One item (one, four or eight floats) per invocation.
// Parts: ceiling_item_f32, items_vec4 or items_u64. Host: src/bench/ceiling.rs. Twin: the source itself.

struct CeilingCopyParams {
    items: u32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

@group(0) @binding(0) var<uniform> params: CeilingCopyParams;
@group(0) @binding(1) var<storage, read> source: array<Item>;
@group(0) @binding(2) var<storage, read_write> copied: array<Item>;

@compute @workgroup_size(64)
fn ceiling_copy(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let i = (wid.y * groups.x + wid.x) * 64u + lid;
    if i >= params.items { return; }
    copied[i] = source[i];
}
