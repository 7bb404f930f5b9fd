// A scalar of the graph (a loss, a penalty) joins the tick; if it is not finite, that is latched and the step is not counted.
//
// | tensor | shape | direction |
// |---|---|---|
// | value | scalar | in |
// | stats | StatsLayout | inout |
// | events | 4 words | inout |
//
// One invocation. Parts: tick_stats. Host: src/ops/stats.rs. Twin: stats::twin::scalar_stats.

struct ScalarStatsParams {
    stat: u32,
    slot: u32,
    what: u32,
    store: u32,
}

@group(0) @binding(0) var<uniform> params: ScalarStatsParams;
@group(0) @binding(1) var<uniform> row: StepRow;
@group(0) @binding(2) var<storage, read> value: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> stats: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> events: array<vec4<u32>>;

@compute @workgroup_size(1)
fn scalar_stats() {
    let p = params;
    let x = value[0].x;
    if is_bad(x) {
        let at = row.slots[p.slot];
        latch(at.x, at.y, p.what, p.store);
        return;
    }
    add_stat(p.stat, x);
}
