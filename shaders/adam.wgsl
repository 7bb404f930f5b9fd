// One update of a flat parameter store by Adam or AdamW, in place, the moving average of the parameters, and the squares of the gradient.
// Equals torch.optim.Adam(betas, eps, weight_decay) or AdamW without amsgrad, then ema.lerp_(p, 1 - decay).
//
//   d <- g clipped, and with Adam's weight decay  + weight_decay p
//   m <- beta1 m + (1 - beta1) d
//   v <- beta2 v + (1 - beta2) d^2
//   p <- p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps), and with AdamW's weight decay  - lr weight_decay p
//   ema <- ema + (1 - decay) (p - ema)
//   squares[b] = sum of g^2 over block b of 64 floats: not finite if a g is not
//
// | tensor | shape | direction |
// |---|---|---|
// | grads g | flat store | in |
// | factor | 1; unused unless CLIP is 1 | in |
// | values p, first moments m, second moments v | flat store | inout |
// | averages ema | flat store; unused if ema_slot is NONE | inout |
// | squares | blocks | out |
//
// lr, the reciprocals of the bias corrections and decay come from the step row: the host computes them in f64. Words between tensors are
// zero in all stores and stay zero. One item (four or eight floats) per invocation, or a block of them where that is no slower.
// AdamW's decay is part of the one subtraction: in f32, 1 - lr weight_decay would lose most of a small product.
// Parts: item_vec4, moments_buffers and squares_group, or item_u64, moments_buffers or moments_textures, and squares_lane; squares_rule,
// ema_rule, update_rules. Host: src/ops/optimiser/update.rs.
// Twins: optimiser::twin::adam, optimiser::twin::update, optimiser::twin::ema, optimiser::twin::squares.

struct AdamParams {
    items: u32,
    slot: u32,
    blocks: u32,
    ema_slot: u32,
    limit: f32,
    weight_decay: f32,
    bound: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    eps: f32,
}

struct StepRow { slots: array<vec4<u32>, 32> }

@group(0) @binding(0) var<uniform> params: AdamParams;
@group(0) @binding(1) var<uniform> row: StepRow;
// Bindings from 2 on are the stores: moments_buffers.wgsl or moments_textures.wgsl.

struct Update { value: vec4<f32>, m: vec4<f32>, v: vec4<f32> }

fn moved(g: vec4<f32>, value: vec4<f32>, m0: vec4<f32>, v0: vec4<f32>, p: AdamParams, scalars: vec4<f32>) -> Update {
    let lr = scalars.x;
    let inverse_bias1 = scalars.y;
    let inverse_bias2 = scalars.z;
    let d = taken(g, value, p.limit, p.weight_decay);
    let m = p.beta1 * m0 + p.one_minus_beta1 * d;
    let v = p.beta2 * v0 + p.one_minus_beta2 * d * d;
    var change = lr * (m * inverse_bias1) / (sqrt(v * inverse_bias2) + vec4<f32>(p.eps));
    if DECAY == DECOUPLED {
        change = change + lr * p.weight_decay * value;
    }
    return Update(kept(value - change, p.bound), m, v);
}

// Updates an item, and returns the sum of its gradients' squares.
fn update(i: u32, p: AdamParams) -> f32 {
    let scalars = bitcast<vec4<f32>>(row.slots[p.slot]);
    let g = load_grad(i);
    let value = load_value(i);
    let m = load_m(i);
    let v = load_v(i);
    let low = moved(first(g), first(value), first(m), first(v), p, scalars);
    let high = moved(second(g), second(value), second(m), second(v), p, scalars);
    values[i] = join(low.value, high.value);
    moments1[i] = join(low.m, high.m);
    moments2[i] = join(low.v, high.v);
    average(i, low.value, high.value, p.ema_slot);
    return squared(g);
}

@compute @workgroup_size(64)
fn adam(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let p = params;
    let index = (wid.y * groups.x + wid.x) * 64u + lid;
    var sum = 0.0;
    for (var k = 0u; k < REPEAT; k++) {
        let i = index * REPEAT + k;
        if i < p.items {
            sum += update(i, p);
        }
    }
    keep_squares(sum, index, lid, p.blocks);
}
