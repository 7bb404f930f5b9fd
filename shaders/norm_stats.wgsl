// Gradient statistics, last stage: the norm of a network's gradient joins the tick, and the first bad tensor of the run is latched.
// torch.nn.utils.get_total_norm over all gradients of a network.
//
//   norm = sqrt(sum of sumsq over the tensors of all segments)
//   a tensor is bad if it has a NaN or an infinity, or if its sum of squares overflowed
//
// | tensor | shape | direction |
// |---|---|---|
// | sumsq, bad | tensors of one segment | in |
// | stats | StatsLayout | inout |
// | events | 4 words | inout |
//
// A store of several segments runs this once for each; the sum so far waits in the stats buffer between them. A norm that is not finite
// is latched and not counted. One invocation. Parts: tick_stats. Host: src/ops/stats.rs. Twin: stats::twin::norm_stats.

struct NormStatsParams {
    tensors: u32,
    first_tensor: u32,
    store: u32,
    slot: u32,
    stat: u32,
    carry: u32,
    starts: u32,
    ends: u32,
}

@group(0) @binding(0) var<uniform> params: NormStatsParams;
@group(0) @binding(1) var<uniform> row: StepRow;
@group(0) @binding(2) var<storage, read> sumsq: array<f32>;
@group(0) @binding(3) var<storage, read> bad: array<u32>;
@group(0) @binding(4) var<storage, read_write> stats: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> events: array<vec4<u32>>;

@compute @workgroup_size(1)
fn norm_stats() {
    let p = params;
    let at = row.slots[p.slot];
    // (sum of squares, tensors found bad) of the segments before this one.
    var total = select(stats[p.carry], vec4<f32>(0.0), p.starts != 0u);
    for (var t = 0u; t < p.tensors; t++) {
        let s = sumsq[t];
        if bad[t] != 0u || is_bad(s) {
            latch(at.x, at.y, p.first_tensor + t + 1u, p.store);
            total.y += 1.0;
        } else {
            total.x += s;
        }
    }
    stats[p.carry] = total;
    if p.ends != 0u && total.y == 0.0 && !is_bad(total.x) {
        add_stat(p.stat, sqrt(total.x));
    }
}
