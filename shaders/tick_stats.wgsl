// Adding to the statistics of a tick, and latching the first bad event of a run. Joined in front of the kernels that do, which bind
// `stats: array<vec4<f32>>` and `events: array<vec4<u32>>`. The layout of both is described at `stats::StatsLayout`.

struct StepRow { slots: array<vec4<u32>, 32> }

const NO_STAT = 0xffffffffu;

fn is_bad(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) >= 0x7f800000u;
}

// One more value of a statistic: (count, mean, sum of squared deviations, latest) by Welford's update (Technometrics 4, 1962).
fn add_stat(stat: u32, x: f32) {
    if stat == NO_STAT { return; }
    let old = stats[stat];
    let count = old.x + 1.0;
    let delta = x - old.y;
    let mean = old.y + delta / count;
    stats[stat] = vec4<f32>(count, mean, old.z + delta * (x - mean), x);
}

// Keeps (step low, step high, what, store) if nothing is kept yet; `what` is never zero.
fn latch(step_low: u32, step_high: u32, what: u32, store: u32) {
    if events[0].z == 0u {
        events[0] = vec4<u32>(step_low, step_high, what, store);
    }
}
