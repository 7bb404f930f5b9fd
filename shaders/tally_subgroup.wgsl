// Part: a workgroup that is one subgroup of eight lanes adds up what each has gathered, for software adapters. There, shared memory costs
// as much as a buffer, and a barrier suspends eight lanes at a time. tally_shared is its counterpart.

const LANES = 8u;

// What an invocation has gathered of its rows; the kernel says by `merge` how two of them join.
struct Tally {
    count: f32,
    low: vec4<f32>,
    high: vec4<f32>,
}

// The tallies of all lanes, merged in lane order. Every invocation of the workgroup must call it.
fn total(own: Tally, lane: u32) -> Tally {
    var all = Tally(subgroupBroadcast(own.count, 0u), subgroupBroadcast(own.low, 0u), subgroupBroadcast(own.high, 0u));
    all = merge(all, Tally(subgroupBroadcast(own.count, 1u), subgroupBroadcast(own.low, 1u), subgroupBroadcast(own.high, 1u)));
    all = merge(all, Tally(subgroupBroadcast(own.count, 2u), subgroupBroadcast(own.low, 2u), subgroupBroadcast(own.high, 2u)));
    all = merge(all, Tally(subgroupBroadcast(own.count, 3u), subgroupBroadcast(own.low, 3u), subgroupBroadcast(own.high, 3u)));
    all = merge(all, Tally(subgroupBroadcast(own.count, 4u), subgroupBroadcast(own.low, 4u), subgroupBroadcast(own.high, 4u)));
    all = merge(all, Tally(subgroupBroadcast(own.count, 5u), subgroupBroadcast(own.low, 5u), subgroupBroadcast(own.high, 5u)));
    all = merge(all, Tally(subgroupBroadcast(own.count, 6u), subgroupBroadcast(own.low, 6u), subgroupBroadcast(own.high, 6u)));
    all = merge(all, Tally(subgroupBroadcast(own.count, 7u), subgroupBroadcast(own.low, 7u), subgroupBroadcast(own.high, 7u)));
    return all;
}
