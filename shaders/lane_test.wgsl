// Start-up self-test: is a workgroup of 8 one subgroup whose lanes are the invocations in order?
//
// No framework function equals it. Word w of invocation l in group g:
//   0: subgroup_invocation_id (expected l)    1: subgroup_size (expected 8)
//   2 + k: what lane k broadcasts, v(k) = g * 64 + 7 * k + 1, for k in 0..8
//   10 + k: what lane k of the own quad broadcasts, v((l & 4) + k), for k in 0..4
//   14: what a shuffle fetches from the lane of quad 0 in the own place, v(l & 3)     15: of quad 1, v(l | 4)
//
// | tensor | shape | direction |
// |---|---|---|
// | words | [groups][8][16] | out |
//
// Work split: one workgroup of 8 invocations, nothing shared.
// Host: src/gpu/device.rs, `lane_test`. Twin: the formula above, in the same function.

@group(0) @binding(0) var<storage, read_write> words: array<u32>;

@compute @workgroup_size(8)
fn lane_test(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) size: u32,
) {
    let mine = wid.x * 64u + 7u * lid + 1u;
    let base = (wid.x * 8u + lid) * 16u;
    let b0 = subgroupBroadcast(mine, 0u);
    let b1 = subgroupBroadcast(mine, 1u);
    let b2 = subgroupBroadcast(mine, 2u);
    let b3 = subgroupBroadcast(mine, 3u);
    let b4 = subgroupBroadcast(mine, 4u);
    let b5 = subgroupBroadcast(mine, 5u);
    let b6 = subgroupBroadcast(mine, 6u);
    let b7 = subgroupBroadcast(mine, 7u);
    let q0 = quadBroadcast(mine, 0u);
    let q1 = quadBroadcast(mine, 1u);
    let q2 = quadBroadcast(mine, 2u);
    let q3 = quadBroadcast(mine, 3u);
    let first = subgroupShuffle(mine, lane & 3u);
    let second = subgroupShuffle(mine, lane | 4u);
    words[base] = lane;
    words[base + 1u] = size;
    words[base + 2u] = b0;
    words[base + 3u] = b1;
    words[base + 4u] = b2;
    words[base + 5u] = b3;
    words[base + 6u] = b4;
    words[base + 7u] = b5;
    words[base + 8u] = b6;
    words[base + 9u] = b7;
    words[base + 10u] = q0;
    words[base + 11u] = q1;
    words[base + 12u] = q2;
    words[base + 13u] = q3;
    words[base + 14u] = first;
    words[base + 15u] = second;
}
