// Copies a texture to a buffer and does nothing else: what loads from operand textures allow. No framework function equals it.
//
//   copied[i] <- texel (i % 1024, i / 1024)
//
// | tensor | shape | direction |
// |---|---|---|
// | source | flat, as a texture of vec4s | in |
// | copied | flat | out |
//
// One vec4 per invocation. Filling the texture is part of its time, as it is of the kernels that read textures.
// Host: src/bench/ceiling.rs. Twin: the source itself.

struct CeilingCopyTextureParams {
    items: u32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

@group(0) @binding(0) var<uniform> params: CeilingCopyTextureParams;
@group(0) @binding(1) var source: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var<storage, read_write> copied: array<vec4<f32>>;

@compute @workgroup_size(64)
fn ceiling_copy_texture(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let i = (wid.y * groups.x + wid.x) * 64u + lid;
    if i >= params.items { return; }
    copied[i] = textureLoad(source, vec2<u32>(i & 1023u, i >> 10u));
}
