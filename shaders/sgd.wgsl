// One update of a flat parameter store by stochastic gradient descent, in place, the moving average of the parameters, and the squares of
// the gradient. Equals torch.optim.SGD(momentum, nesterov, weight_decay) with dampening 0; its first step, buf = d, falls out of buf = 0.
//
//   d   <- g clipped + weight_decay p
//   buf <- momentum buf + d
//   p   <- p - lr d                      without momentum (MOMENTUM 0),
//          p - lr buf                    with momentum (1),
//          p - lr (d + momentum buf)     with Nesterov's (2)
//   ema <- ema + (1 - decay) (p - ema)
//   squares[b] = sum of g^2 over block b of 64 floats: not finite if a g is not
//
// | tensor | shape | direction |
// |---|---|---|
// | grads g | flat store | in |
// | factor | 1; unused unless CLIP is 1 | in |
// | values p | flat store | inout |
// | momenta buf | flat store; unused without momentum | inout |
// | averages ema | flat store; unused if ema_slot is NONE | inout |
// | squares | blocks | out |
//
// lr and decay come from the step row. Work is split as in adam.
// Parts: item_vec4, momentum_buffers and squares_group, or item_u64, momentum_buffers or momentum_textures, and squares_lane; squares_rule,
// ema_rule, update_rules. Host: src/ops/optimiser/update.rs.
// Twins: optimiser::twin::sgd, optimiser::twin::update, optimiser::twin::ema, optimiser::twin::squares.

override MOMENTUM: u32 = 0u;

struct SgdParams {
    items: u32,
    slot: u32,
    blocks: u32,
    ema_slot: u32,
    limit: f32,
    weight_decay: f32,
    bound: f32,
    momentum: f32,
}

struct StepRow { slots: array<vec4<u32>, 32> }

@group(0) @binding(0) var<uniform> params: SgdParams;
@group(0) @binding(1) var<uniform> row: StepRow;
// Bindings from 2 on are the stores: momentum_buffers.wgsl or momentum_textures.wgsl.

struct Update { value: vec4<f32>, momentum: vec4<f32> }

fn moved(g: vec4<f32>, value: vec4<f32>, momentum: vec4<f32>, p: SgdParams, lr: f32) -> Update {
    let d = taken(g, value, p.limit, p.weight_decay);
    var b = d;
    var along = d;
    if MOMENTUM != 0u {
        b = p.momentum * momentum + d;
        along = b;
    }
    if MOMENTUM == 2u {
        along = d + p.momentum * b;
    }
    return Update(kept(value - lr * along, p.bound), b);
}

// Updates an item, and returns the sum of its gradients' squares.
fn update(i: u32, p: SgdParams) -> f32 {
    let lr = bitcast<f32>(row.slots[p.slot].x);
    let g = load_grad(i);
    let value = load_value(i);
    var momentum = g;
    if MOMENTUM != 0u {
        momentum = load_momentum(i);
    }
    let low = moved(first(g), first(value), first(momentum), p, lr);
    let high = moved(second(g), second(value), second(momentum), p, lr);
    values[i] = join(low.value, high.value);
    if MOMENTUM != 0u {
        momenta[i] = join(low.momentum, high.momentum);
    }
    average(i, low.value, high.value, p.ema_slot);
    return squared(g);
}

@compute @workgroup_size(64)
fn sgd(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
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
