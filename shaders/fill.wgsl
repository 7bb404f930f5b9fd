// Sets a buffer to one 32-bit pattern: clears the statistics of a tick. Equals torch's tensor.fill_(value).
//
//   out[i] = bits
//
// | tensor | shape | direction |
// |---|---|---|
// | out | flat, a multiple of four words | out |
//
// Four words per invocation.
// Host: src/ops/stats.rs. Twin: none, the cases state the constant.

struct FillParams {
    items: u32,
    bits: u32,
    reserved0: u32,
    reserved1: u32,
}

@group(0) @binding(0) var<uniform> params: FillParams;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<u32>>;

@compute @workgroup_size(64)
fn fill(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let p = params;
    let i = (wid.y * groups.x + wid.x) * 64u + lid;
    if i >= p.items { return; }
    out[i] = vec4<u32>(p.bits);
}
