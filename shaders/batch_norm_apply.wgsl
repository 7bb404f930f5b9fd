// Batch norm with given statistics, and the activation behind it.
// PyTorch: act(batch_norm(x)) with the statistics of each batch group.
//
//   y = act((x - mean) * rstd * weight + bias),   act = none, leaky_relu, tanh or sigmoid
//
// | tensor | shape            | direction |
// |--------|------------------|-----------|
// | x      | (N, C[, H, W])   | in        |
// | mean   | (groups, C)      | in        |
// | rstd   | (groups, C)      | in        |
// | weight | (C)              | in        |
// | bias   | (C)              | in        |
// | y      | that of x        | out       |
//
// Work: one item column (one or two vec4 of channels, see item_*.wgsl) of one run of rows per invocation, so that a software adapter,
// which pays for each load, reads the vectors once a run; elsewhere a run is one row.
// Host: src/ops/batch_norm.rs   Twin: batch_norm_apply

struct BatchNormApplyParams {
    // groups * runs * columns.
    count: u32,
    // Items of a row.
    columns: u32,
    // Channels of a row without padding.
    channels: u32,
    // Rows of a group.
    rows: u32,
    // Runs of rows of a group.
    runs: u32,
    // Rows of a run; the last of a group may be shorter.
    run: u32,
    // Slope of leaky_relu.
    slope: f32,
    reserved0: u32,
}

@group(0) @binding(0) var<uniform> params: BatchNormApplyParams;
// Binding 1 is x: in1_*.wgsl.
@group(0) @binding(2) var<storage, read> mean: array<Item>;
@group(0) @binding(3) var<storage, read> rstd: array<Item>;
@group(0) @binding(4) var<storage, read> weight: array<Item>;
@group(0) @binding(5) var<storage, read> bias: array<Item>;
@group(0) @binding(6) var<storage, read_write> y: array<Item>;

// 0 none, 1 leaky_relu, 2 tanh, 3 sigmoid: fixed in the pipeline, because software adapters work off every branch of a switch.
override ACTIVATION: u32;

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

@compute @workgroup_size(64)
fn batch_norm_apply(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    let column = index % p.columns;
    let k = index / p.columns % p.runs;
    let g = index / p.columns / p.runs;
    let start = k * p.run;
    let rows = min(p.run, p.rows - start);
    let m = unpack(mean[g * p.columns + column]);
    let r = unpack(rstd[g * p.columns + column]);
    let w = unpack(weight[column]);
    let b = unpack(bias[column]);
    let scale_low = first(r) * first(w);
    let scale_high = second(r) * second(w);
    var at = (g * p.rows + start) * p.columns + column;
    for (var i = 0u; i < rows; i++) {
        let v = load1(at);
        let low = act((first(v) - first(m)) * scale_low + first(b), p.slope);
        let high = act((second(v) - second(m)) * scale_high + second(b), p.slope);
        // The mask is for sigmoid, which is not zero at zero.
        y[at] = join(mask_channels(low, column * WIDTH, p.channels), mask_channels(high, column * WIDTH + 1u, p.channels));
        at += p.columns;
    }
}
