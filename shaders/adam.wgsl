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
// Parts: item_*, adam_buffers or adam_textures. Host: src/ops/optimiser.rs. Twin: optimiser::twin::adam.

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
// Bindings from 2 on are the stores: adam_buffers.wgsl or adam_textures.wgsl.

struct Update { value: vec4<f32>, m: vec4<f32>, v: vec4<f32> }

fn update(g: vec4<f32>, value: vec4<f32>, m0: vec4<f32>, v0: vec4<f32>, p: AdamParams, scalars: vec4<f32>) -> Update {
    let lr = scalars.x;
    let inverse_bias1 = scalars.y;
    let inverse_bias2 = scalars.z;
    let m = p.beta1 * m0 + p.one_minus_beta1 * g;
    let v = p.beta2 * v0 + p.one_minus_beta2 * g * g;
    return Update(value - lr * (m * inverse_bias1) / (sqrt(v * inverse_bias2) + vec4<f32>(p.eps)), m, v);
}

@compute @workgroup_size(64)
fn adam(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let p = params;
    let i = (wid.y * groups.x + wid.x) * 64u + lid;
    if i >= p.items { return; }

    let scalars = bitcast<vec4<f32>>(row.slots[p.slot]);
    let g = load_grad(i);
    let value = load_value(i);
    let m = load_m(i);
    let v = load_v(i);
    let low = update(first(g), first(value), first(m), first(v), p, scalars);
    let high = update(second(g), second(value), second(m), second(v), p, scalars);
    values[i] = join(low.value, high.value);
    moments1[i] = join(low.m, high.m);
    moments2[i] = join(low.v, high.v);
}
