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
// Work: one item (one or two vec4 of channels, see item_*.wgsl) per invocation.
// Host: src/ops/batch_norm.rs   Twin: batch_norm_apply

struct BatchNormApplyParams {
    // Items of x.
    count: u32,
    // Items of a row.
    columns: u32,
    // Channels of a row without padding.
    channels: u32,
    // Items of a batch group.
    group_items: u32,
    // 0 none, 1 leaky_relu, 2 tanh, 3 sigmoid.
    activation: u32,
    slope: f32,
    reserved0: u32,
    reserved1: u32,
}

@group(0) @binding(0) var<uniform> params: BatchNormApplyParams;
@group(0) @binding(1) var<storage, read> x: array<Item>;
@group(0) @binding(2) var<storage, read> mean: array<Item>;
@group(0) @binding(3) var<storage, read> rstd: array<Item>;
@group(0) @binding(4) var<storage, read> weight: array<Item>;
@group(0) @binding(5) var<storage, read> bias: array<Item>;
@group(0) @binding(6) var<storage, read_write> y: array<Item>;

fn act(v: vec4<f32>, activation: u32, slope: f32) -> vec4<f32> {
    switch activation {
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
    let at = index / p.group_items * p.columns + column;
    let v = x[index];
    let m = mean[at];
    let r = rstd[at];
    let w = weight[column];
    let b = bias[column];
    let low = (first(v) - first(m)) * (first(r) * first(w)) + first(b);
    let high = (second(v) - second(m)) * (second(r) * second(w)) + second(b);
    // The mask is for sigmoid, which is not zero at zero.
    y[index] = join(
        mask_channels(act(low, p.activation, p.slope), column * WIDTH, p.channels),
        mask_channels(act(high, p.activation, p.slope), column * WIDTH + 1u, p.channels),
    );
}
