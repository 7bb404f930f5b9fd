// Softmax or its logarithm over the channels of each row. torch.softmax(x, 1), torch.log_softmax(x, 1).
//
//   m = max_c x[c];   s = sum_c e^(x[c] - m);   y[c] = e^(x[c] - m) / s,   or x[c] - m - log s with LOG
//
// | tensor | shape                  | direction |
// |--------|------------------------|-----------|
// | x      | (N, C[, H, W])         | in        |
// | y      | that of x              | out       |
//
// Work: one row of channels per invocation, in three walks over its vec4 columns: the maximum, the sum, the result. The padding lanes take
// no part.
// Host: src/ops/softmax.rs   Twin: the value function of each op there

struct SoftmaxParams {
    rows: u32,
    // vec4 columns of a row.
    columns: u32,
    // Channels of a row without padding.
    channels: u32,
    reserved0: u32,
}

@group(0) @binding(0) var<uniform> params: SoftmaxParams;
// Binding 1 is x: in1_*.wgsl.
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

override LOG: u32;

const LOWEST: f32 = -3.40282347e38;

@compute @workgroup_size(64)
fn softmax(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let row = (group.y * groups.x + group.x) * 64u + lane;
    if row >= p.rows {
        return;
    }
    let start = row * p.columns;
    // Only the last column has padding lanes: they repeat its first channel, which changes no maximum.
    let last = p.columns - 1u;
    let is_real = vec4<u32>(4u * last) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.channels);

    var most = vec4<f32>(LOWEST);
    for (var j = 0u; j < last; j++) {
        most = max(most, load1(start + j));
    }
    let end = load1(start + last);
    most = max(most, select(end.xxxx, end, is_real));
    let m = max(max(most.x, most.y), max(most.z, most.w));

    var sums = vec4<f32>(0.0);
    for (var j = 0u; j < last; j++) {
        sums += exp(load1(start + j) - m);
    }
    sums += select(vec4<f32>(0.0), exp(end - m), is_real);
    let s = (sums.x + sums.y) + (sums.z + sums.w);

    if LOG == 0u {
        for (var j = 0u; j < last; j++) {
            y[start + j] = exp(load1(start + j) - m) / s;
        }
        y[start + last] = select(vec4<f32>(0.0), exp(end - m) / s, is_real);
    } else {
        let log_s = log(s);
        for (var j = 0u; j < last; j++) {
            y[start + j] = (load1(start + j) - m) - log_s;
        }
        y[start + last] = select(vec4<f32>(0.0), (end - m) - log_s, is_real);
    }
}
