// Part: a workgroup of 256 invocations that adds up what each has gathered, for any adapter. tally_subgroup is its counterpart.
//
// Two levels of sixteen, in lane order: a fixed order, so that equal shapes give equal bits.

const LANES = 256u;

// What an invocation has gathered of its rows; the kernel says by `merge` how two of them join.
struct Tally {
    count: f32,
    low: vec4<f32>,
    high: vec4<f32>,
}

var<workgroup> counts: array<f32, LANES>;
var<workgroup> lows: array<vec4<f32>, LANES>;
var<workgroup> highs: array<vec4<f32>, LANES>;

// Tallies `first`, `first + step`, ... up to sixteen of them, merged into slot `first`.
fn merge_sixteen(first: u32, step: u32) {
    var all = Tally(counts[first], lows[first], highs[first]);
    for (var k = 1u; k < 16u; k++) {
        let at = first + k * step;
        all = merge(all, Tally(counts[at], lows[at], highs[at]));
    }
    counts[first] = all.count;
    lows[first] = all.low;
    highs[first] = all.high;
}

// The tallies of all lanes, merged. Every invocation of the workgroup must call it.
fn total(own: Tally, lane: u32) -> Tally {
    counts[lane] = own.count;
    lows[lane] = own.low;
    highs[lane] = own.high;
    workgroupBarrier();
    if lane < 16u {
        merge_sixteen(lane * 16u, 1u);
    }
    workgroupBarrier();
    if lane == 0u {
        merge_sixteen(0u, 16u);
    }
    workgroupBarrier();
    let all = Tally(counts[0], lows[0], highs[0]);
    // The next call writes where others may still read.
    workgroupBarrier();
    return all;
}
