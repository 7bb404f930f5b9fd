// One update of a flat parameter store by RMSprop, in place, the moving average of the parameters, and the squares of the gradient.
// Equals torch.optim.RMSprop(alpha, eps, weight_decay, momentum, centered=False).
//
//   d   <- g clipped + weight_decay p
//   v   <- alpha v + (1 - alpha) d^2
//   buf <- momentum buf + d / (sqrt(v) + eps)
//   p   <- p - lr d / (sqrt(v) + eps)    without momentum (MOMENTUM 0),
//          p - lr buf                    with momentum (1)
//   ema <- ema + (1 - decay) (p - ema)
//   squares[b] = sum of g^2 over block b of 64 floats: not finite if a g is not
//
// | tensor | shape | direction |
// |---|---|---|
// | grads g | flat store | in |
// | factor | 1; unused unless CLIP is 1 | in |
// | values p, second moments v | flat store | inout |
// | first moments buf | flat store; unused without momentum | inout |
// | averages ema | flat store; unused if ema_slot is NONE | inout |
// | squares | blocks | out |
//
// lr and decay come from the step row. Work is split as in adam.
// Parts: item_vec4, moments_buffers and squares_group, or item_u64, moments_buffers or moments_textures, and squares_lane; squares_rule,
// ema_rule, update_rules. Host: src/ops/optimiser/update.rs.
// Twins: optimiser::twin::rmsprop, optimiser::twin::update, optimiser::twin::ema, optimiser::twin::squares.

override MOMENTUM: u32 = 0u;

struct RmsPropParams {
    items: u32,
    slot: u32,
    blocks: u32,
    ema_slot: u32,
    limit: f32,
    weight_decay: f32,
    bound: f32,
    momentum: f32,
    alpha: f32,
    one_minus_alpha: f32,
    eps: f32,
    reserved: u32,
}

struct StepRow { slots: array<vec4<u32>, 32> }

@group(0) @binding(0) var<uniform> params: RmsPropParams;
@group(0) @binding(1) var<uniform> row: StepRow;
// Bindings from 2 on are the stores: moments_buffers.wgsl or moments_textures.wgsl.

struct Update { value: vec4<f32>, m: vec4<f32>, v: vec4<f32> }

fn moved(g: vec4<f32>, value: vec4<f32>, m0: vec4<f32>, v0: vec4<f32>, p: RmsPropParams, lr: f32) -> Update {
    let d = taken(g, value, p.limit, p.weight_decay);
    let v = p.alpha * v0 + p.one_minus_alpha * d * d;
    var m = d / (sqrt(v) + vec4<f32>(p.eps));
    if MOMENTUM != 0u {
        m = p.momentum * m0 + m;
    }
    return Update(kept(value - lr * m, p.bound), m, v);
}

// Updates an item, and returns the sum of its gradients' squares.
fn update(i: u32, p: RmsPropParams) -> f32 {
    let lr = bitcast<f32>(row.slots[p.slot].x);
    let g = load_grad(i);
    let value = load_value(i);
    let v = load_v(i);
    var m = g;
    if MOMENTUM != 0u {
        m = load_m(i);
    }
    let low = moved(first(g), first(value), first(m), first(v), p, lr);
    let high = moved(second(g), second(value), second(m), second(v), p, lr);
    values[i] = join(low.value, high.value);
    if MOMENTUM != 0u {
        moments1[i] = join(low.m, high.m);
    }
    moments2[i] = join(low.v, high.v);
    average(i, low.value, high.value, p.ema_slot);
    return squared(g);
}

@compute @workgroup_size(64)
fn rmsprop(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
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
