// Adds one to a word: as little as a dispatch can do that can still be checked. Equals torch's count.add_(1).
//
//   count <- count + 1
//
// | tensor | shape | direction |
// |---|---|---|
// | count | one word | inout |
//
// One workgroup of one invocation. Host: src/bench/overhead.rs. Twin: the number of dispatches.

@group(0) @binding(0) var<storage, read_write> count: array<u32>;

@compute @workgroup_size(1)
fn overhead_count() {
    count[0] += 1u;
}
