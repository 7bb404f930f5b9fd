// What a step adds to the statistics of a tick: a list of jobs, done in order by one workgroup.
// torch: binary_cross_entropy_with_logits(x, target), sigmoid(x).mean(), (x > 0).float().mean(); torch.nn.utils.get_total_norm.
//
//   score job   loss  = mean softplus(-x) for real targets, mean softplus(x) for fake ones
//               score = mean 1 / (1 + exp(-x));   signs = mean [x > 0]                    over a range of rows of logits
//   norm job    norm  = sqrt(sum of squares)                                               over the gradient of a network
//
// | tensor | shape | direction |
// |---|---|---|
// | table | jobs, three vec4 each, then the first block of each tensor; see stats::lower_step_stats | in |
// | logits0, logits1 | (N, 1) | in |
// | squares0, squares1 | sum of squares of each block of 64 floats of a gradient store | in |
// | stats | StatsLayout | inout |
// | events | 4 words | inout |
//
// If a logit is NaN or infinite, that is latched and the range is not counted. A gradient is bad if the squares of a block are not finite, or
// their sum up to a block is not; the tensor of the first such block is latched, and the norm is not counted.
// softplus(t) = max(t, 0) + log1p(exp(-|t|)), and log1p(e) is the series of 2 artanh(e / (2 + e)), which keeps its relative accuracy where
// exp(-|t|) is tiny. Work: one workgroup; lanes take rows or blocks in turn, and two levels of sixteen add up what they have.
// Parts: tick_stats. Host: src/ops/stats.rs. Twins: stats::twin::score_stats, stats::twin::norm_stats.

struct StepStatsParams {
    jobs: u32,
    slot: u32,
    reserved0: u32,
    reserved1: u32,
}

@group(0) @binding(0) var<uniform> params: StepStatsParams;
@group(0) @binding(1) var<uniform> row: StepRow;
@group(0) @binding(2) var<storage, read> table: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> logits0: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> logits1: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> squares0: array<f32>;
@group(0) @binding(6) var<storage, read> squares1: array<f32>;
@group(0) @binding(7) var<storage, read_write> stats: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> events: array<vec4<u32>>;

const LANES = 256u;
const SCORE = 0u;
// Code of bad logits.
const LOGITS = 0xffffffffu;

var<workgroup> sums: array<vec4<f32>, LANES>;

// Sum over the lanes, for lane 0. Every invocation must call it.
fn total(own: vec4<f32>, lane: u32) -> vec4<f32> {
    sums[lane] = own;
    workgroupBarrier();
    if lane < 16u {
        var some = vec4<f32>(0.0);
        for (var k = 0u; k < 16u; k++) {
            some += sums[lane * 16u + k];
        }
        sums[lane * 16u] = some;
    }
    workgroupBarrier();
    var all = vec4<f32>(0.0);
    if lane == 0u {
        for (var k = 0u; k < 16u; k++) {
            all += sums[k * 16u];
        }
    }
    workgroupBarrier();
    return all;
}

fn logit(source: u32, at: u32) -> f32 {
    if source == 0u {
        return logits0[at].x;
    }
    return logits1[at].x;
}

fn squares(source: u32, at: u32) -> f32 {
    if source == 0u {
        return squares0[at];
    }
    return squares1[at];
}

// Loss, score, sign and badness of a logit.
fn score_of(x: f32, is_real: bool) -> vec4<f32> {
    let e = exp(-abs(x));
    let s = e / (2.0 + e);
    let s2 = s * s;
    let log1p_e = 2.0 * s * (1.0 + s2 * (1.0 / 3.0 + s2 * (0.2 + s2 * (1.0 / 7.0 + s2 * (1.0 / 9.0 + s2 * (1.0 / 11.0 + s2 / 13.0))))));
    let loss = max(select(x, -x, is_real), 0.0) + log1p_e;
    let score = select(e, 1.0, x >= 0.0) / (1.0 + e);
    return vec4<f32>(loss, score, select(0.0, 1.0, x > 0.0), select(0.0, 1.0, is_bad(x)));
}

// The first block at which the squares, or their sum up to it, are not finite.
fn first_bad_block(source: u32, blocks: u32) -> u32 {
    var sum = 0.0;
    for (var b = 0u; b < blocks; b++) {
        sum += squares(source, b);
        if is_bad(sum) {
            return b;
        }
    }
    return blocks - 1u;
}

@compute @workgroup_size(LANES)
fn step_stats(@builtin(local_invocation_index) lane: u32) {
    let p = params;
    let at = row.slots[p.slot];
    for (var j = 0u; j < p.jobs; j++) {
        // (kind, source, first row, rows) or (kind, source, first tensor in the table, blocks).
        let job = table[3u * j];
        // Score: real, and where loss, score and signs go. Norm: where the norm goes, tensors.
        let what = table[3u * j + 1u];
        let store = table[3u * j + 2u].x;
        var own = vec4<f32>(0.0);
        for (var i = lane; i < job.w; i += LANES) {
            if job.x == SCORE {
                own += score_of(logit(job.y, job.z + i), what.x != 0u);
            } else {
                own.x += squares(job.y, i);
            }
        }
        let all = total(own, lane);
        if lane == 0u {
            if job.x == SCORE {
                if all.w != 0.0 {
                    latch(at.x, at.y, LOGITS, store);
                } else {
                    let share = 1.0 / f32(job.w);
                    add_stat(what.y, all.x * share);
                    add_stat(what.z, all.y * share);
                    add_stat(what.w, all.z * share);
                }
            } else if is_bad(all.x) {
                let block = first_bad_block(job.y, job.w);
                var tensor = 0u;
                while tensor + 1u < what.y && table[job.z + tensor + 1u].x <= block {
                    tensor++;
                }
                latch(at.x, at.y, tensor + 1u, store);
            } else {
                add_stat(what.x, sqrt(all.x));
            }
        }
    }
}
