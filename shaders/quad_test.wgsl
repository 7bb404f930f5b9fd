// Start-up self-test: is a workgroup of 4 one subgroup, a quad whose lanes are the invocations in order?
//
// No framework function equals it. Word w of invocation l in group g:
//   0: subgroup_invocation_id (expected l)    1: subgroup_size (expected 4)
//   2 + k: what lane k of the quad broadcasts, v(k) = g * 64 + 7 * k + 1, for k in 0..4
//
// | tensor | shape | direction |
// |---|---|---|
// | words | [groups][4][6] | out |
//
// Work split: one workgroup of 4 invocations, nothing shared.
// Host: src/gpu/device.rs, `quad_test`. Twin: the formula above, in the same function.

@group(0) @binding(0) var<storage, read_write> words: array<u32>;

@compute @workgroup_size(4)
fn quad_test(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) size: u32,
) {
    let mine = wid.x * 64u + 7u * lid + 1u;
    let base = (wid.x * 4u + lid) * 6u;
    let q0 = quadBroadcast(mine, 0u);
    let q1 = quadBroadcast(mine, 1u);
    let q2 = quadBroadcast(mine, 2u);
    let q3 = quadBroadcast(mine, 3u);
    words[base] = lane;
    words[base + 1u] = size;
    words[base + 2u] = q0;
    words[base + 3u] = q1;
    words[base + 4u] = q2;
    words[base + 5u] = q3;
}
