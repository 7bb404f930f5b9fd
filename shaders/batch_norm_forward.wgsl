// Batch norm with batch statistics, the activation behind it, and the running statistics, in one dispatch.
// PyTorch: act(batch_norm(x, training=True)) for each batch group, with BatchNorm2d's update of its running statistics.
//
//   mean = sum(x) / n;   var = sum((x - mean)^2) / n;   rstd = 1 / sqrt(var + eps)      over the n rows of a group
//   y = act((x - mean) * rstd * weight + bias),   act = none, leaky_relu, tanh or sigmoid
//   running_mean <- (1 - momentum) running_mean + momentum mean               one group after another
//   running_var  <- (1 - momentum) running_var + momentum var n / (n - 1)
//
// | tensor                    | shape                       | direction |
// |---------------------------|-----------------------------|-----------|
// | a: x                      | (N, C[, H, W])              | in        |
// | weight, bias              | (C)                         | in        |
// | y                         | that of x                   | out       |
// | mean, rstd                | (groups, C)                 | out       |
// | running_mean, running_var | (C); unused if not tracked  | inout     |
//
// Each lane gathers chunks of its rows as deviations from the chunk's first row, so that one pass suffices: a sample differs from the mean
// by at most sqrt(m2), so the difference cancels about log2(n) bits at most, and a chunk has at most 16 rows. Chunks and lanes join by
// Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm" (1979).
//
// Work: one column of items (one or two vec4, see item_*.wgsl) of all rows per workgroup; its lanes take rows in turn, first for the
// statistics, then for y. Parts: item_vec4, activations, gemm_a_vec4 and tally_shared; or gemm_a_texture and tally_subgroup, with either item.
// Host: src/ops/batch_norm_whole.rs   Twins: batch_norm_moments, batch_norm_apply, running_stats

struct BatchNormForwardParams {
    // Columns of a row, of one item each.
    columns: u32,
    // Channels of a row without padding.
    channels: u32,
    // Rows of a group.
    rows: u32,
    groups: u32,
    // Of leaky_relu.
    slope: f32,
    eps: f32,
    // 1 if there are running statistics.
    tracked: u32,
    momentum: f32,
    // 1 - momentum.
    keep: f32,
    // n / (n - 1).
    unbias: f32,
    reserved0: u32,
    reserved1: u32,
}

@group(0) @binding(0) var<uniform> params: BatchNormForwardParams;
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<Item>;
@group(0) @binding(5) var<storage, read_write> mean: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> rstd: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> running_mean: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> running_var: array<vec4<f32>>;

// 0 none, 1 leaky_relu, 2 tanh, 3 sigmoid. Software adapters run every case of a switch over a variable.
override ACTIVATION: u32;

// Rows of a lane that are gathered as deviations from one row.
const CHUNK = 16u;

// Count, mean and sum of squared deviations of the rows of both.
fn merge(a: Tally, b: Tally) -> Tally {
    let count = a.count + b.count;
    let share = b.count / max(count, 1.0);
    let d = b.low - a.low;
    return Tally(count, a.low + d * share, a.high + b.high + d * d * (a.count * share));
}

// Rounding may leave a tiny negative number; a NaN stays.
fn at_least_zero(v: vec4<f32>) -> vec4<f32> {
    return select(v, vec4<f32>(0.0), v < vec4<f32>(0.0));
}

// Moments of a lane's rows from `start` up to `end` of the floats at `base`, `stride` of them a row.
fn moments(base: u32, start: u32, end: u32, stride: u32) -> Tally {
    let shift = a4(base + start * stride);
    var count = 1.0;
    var sum = vec4<f32>(0.0);
    var square = vec4<f32>(0.0);
    for (var r = start + LANES; r < end; r += LANES) {
        let d = a4(base + r * stride) - shift;
        count += 1.0;
        sum += d;
        square += d * d;
    }
    return Tally(count, shift + sum / count, at_least_zero(square - sum * sum / count));
}

// What a vec4 of channels is normalised by.
struct Norm {
    mean: vec4<f32>,
    // rstd * weight.
    scale: vec4<f32>,
    bias: vec4<f32>,
    is_channel: vec4<bool>,
}

// Joins the lanes' moments of vec4 `at` of the channels in group `g`, and keeps them.
fn finish(own: Tally, at: u32, g: u32, lane: u32) -> Norm {
    let p = params;
    // Padding lanes have variance 0, and 1 / sqrt(eps) is not; nor is sigmoid at zero.
    let is_channel = vec4<u32>(at * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.channels);
    let all = total(own, lane);
    let variance = all.high / all.count;
    let r = select(vec4<f32>(0.0), inverseSqrt(variance + p.eps), is_channel);
    if lane == 0u {
        mean[g * p.columns * WIDTH + at] = all.low;
        rstd[g * p.columns * WIDTH + at] = r;
        if p.tracked != 0u {
            running_mean[at] = p.keep * running_mean[at] + p.momentum * all.low;
            running_var[at] = p.keep * running_var[at] + p.momentum * (p.unbias * variance);
        }
    }
    return Norm(all.low, r * weight[at], bias[at], is_channel);
}

fn act(v: vec4<f32>, slope: f32) -> vec4<f32> {
    switch ACTIVATION {
        case 1u: {
            return leaky_relu(v, slope);
        }
        case 2u: {
            return stable_tanh(v);
        }
        case 3u: {
            return stable_sigmoid(v);
        }
        default: {
            return v;
        }
    }
}

fn normalised(v: vec4<f32>, by: Norm) -> vec4<f32> {
    return select(vec4<f32>(0.0), act((v - by.mean) * by.scale + by.bias, params.slope), by.is_channel);
}

@compute @workgroup_size(LANES)
fn batch_norm_forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let column = group.y * workgroups.x + group.x;
    // Uniform: the grid may be folded.
    if column >= p.columns {
        return;
    }
    let stride = p.columns * WIDTH * 4u;
    let reach = CHUNK * LANES;
    for (var g = 0u; g < p.groups; g++) {
        let base = (g * p.rows * p.columns + column) * WIDTH * 4u;
        var own = Tally();
        var next = Tally();
        for (var start = lane; start < p.rows; start += reach) {
            let end = min(start + reach, p.rows);
            own = merge(own, moments(base, start, end, stride));
            if WIDTH == 2u {
                next = merge(next, moments(base + 4u, start, end, stride));
            }
        }
        let low = finish(own, column * WIDTH, g, lane);
        var high = low;
        if WIDTH == 2u {
            high = finish(next, column * WIDTH + 1u, g, lane);
        }
        for (var i = lane; i < p.rows; i += LANES) {
            let at = base + i * stride;
            y[(g * p.rows + i) * p.columns + column] = join(normalised(a4(at), low), normalised(a4(at + 4u), high));
        }
    }
}
