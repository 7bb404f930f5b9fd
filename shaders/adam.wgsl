// One Adam update of a flat parameter store, in place. Equals torch.optim.Adam(betas, eps) without weight decay or amsgrad.
//
//   m <- beta1 m + (1 - beta1) g
//   v <- beta2 v + (1 - beta2) g^2
//   p <- p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
//
// | tensor | shape | direction |
// |---|---|---|
// | grads g | flat store | in |
// | values p, first moments m, second moments v | flat store | inout |
//
// lr and the reciprocals of the bias corrections come from the step row: the host computes them in f64. Words between tensors are zero in
// all four stores and stay zero. One item (four or eight floats) per invocation.
// Parts: items_vec4 or items_u64. Host: src/ops/optimiser.rs. Twin: optimiser::twin::adam.

struct AdamParams {
    items: u32,
    slot: u32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    eps: f32,
    reserved: u32,
}

struct StepRow { slots: array<vec4<u32>, 32> }

@group(0) @binding(0) var<uniform> params: AdamParams;
@group(0) @binding(1) var<uniform> row: StepRow;
@group(0) @binding(2) var<storage, read> grads: array<Item>;
@group(0) @binding(3) var<storage, read_write> values: array<Item>;
@group(0) @binding(4) var<storage, read_write> first: array<Item>;
@group(0) @binding(5) var<storage, read_write> second: array<Item>;

@compute @workgroup_size(64)
fn adam(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let p = params;
    let i = (wid.y * groups.x + wid.x) * 64u + lid;
    if i >= p.items { return; }

    let scalars = bitcast<vec4<f32>>(row.slots[p.slot]);
    let lr = scalars.x;
    let inverse_bias1 = scalars.y;
    let inverse_bias2 = scalars.z;

    let g = unpack(grads[i]);
    var value = unpack(values[i]);
    var m = unpack(first[i]);
    var v = unpack(second[i]);
    for (var h = 0u; h < HALVES; h++) {
        m[h] = p.beta1 * m[h] + p.one_minus_beta1 * g[h];
        v[h] = p.beta2 * v[h] + p.one_minus_beta2 * g[h] * g[h];
        value[h] -= lr * (m[h] * inverse_bias1) / (sqrt(v[h] * inverse_bias2) + vec4<f32>(p.eps));
    }
    values[i] = pack(value);
    first[i] = pack(m);
    second[i] = pack(v);
}
