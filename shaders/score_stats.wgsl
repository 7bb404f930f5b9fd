// Statistics of a discriminator's logits over a range of rows: mean loss, mean score, share of positive logits; they join the tick.
// torch: binary_cross_entropy_with_logits(x, target), sigmoid(x).mean(), (x > 0).float().mean().
//
//   loss  = mean softplus(-x) for real targets, mean softplus(x) for fake ones
//   score = mean 1 / (1 + exp(-x))
//   signs = mean [x > 0]
//
// | tensor | shape | direction |
// |---|---|---|
// | logits x | (N, 1) | in |
// | stats | StatsLayout | inout |
// | events | 4 words | inout |
//
// If a logit is NaN or infinite, that is latched and the step is not counted. softplus(t) = max(t, 0) + log1p(exp(-|t|)), and log1p(e) is the
// series of 2 artanh(e / (2 + e)), which keeps its relative accuracy where exp(-|t|) is tiny.
// One invocation: batches are small. Parts: tick_stats. Host: src/ops/stats.rs. Twin: stats::twin::score_stats.

struct ScoreStatsParams {
    start: u32,
    rows: u32,
    is_real: u32,
    slot: u32,
    loss_stat: u32,
    score_stat: u32,
    sign_stat: u32,
    what: u32,
    store: u32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

@group(0) @binding(0) var<uniform> params: ScoreStatsParams;
@group(0) @binding(1) var<uniform> row: StepRow;
@group(0) @binding(2) var<storage, read> logits: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> stats: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> events: array<vec4<u32>>;

@compute @workgroup_size(1)
fn score_stats() {
    let p = params;
    var loss = 0.0;
    var score = 0.0;
    var positive = 0.0;
    var bad = 0u;
    for (var r = 0u; r < p.rows; r++) {
        let x = logits[p.start + r].x;
        bad += select(0u, 1u, is_bad(x));
        let e = exp(-abs(x));
        let s = e / (2.0 + e);
        let s2 = s * s;
        let log1p_e = 2.0 * s * (1.0 + s2 * (1.0 / 3.0 + s2 * (0.2 + s2 * (1.0 / 7.0 + s2 * (1.0 / 9.0 + s2 * (1.0 / 11.0 + s2 / 13.0))))));
        loss += max(select(x, -x, p.is_real != 0u), 0.0) + log1p_e;
        score += select(e, 1.0, x >= 0.0) / (1.0 + e);
        positive += select(0.0, 1.0, x > 0.0);
    }
    if bad != 0u {
        let at = row.slots[p.slot];
        latch(at.x, at.y, p.what, p.store);
        return;
    }
    let share = 1.0 / f32(p.rows);
    add_stat(p.loss_stat, loss * share);
    add_stat(p.score_stat, score * share);
    add_stat(p.sign_stat, positive * share);
}
