// One update of stochastic gradient descent with momentum over a flat parameter store, in place.
// Equals torch.optim.SGD(momentum, nesterov) with dampening 0 and no weight decay; its first step, buf = g, falls out of buf = 0.
//
//   buf <- momentum buf + g
//   p   <- p - lr buf                    or, with Nesterov, p - lr (g + momentum buf)
//
// | tensor | shape | direction |
// |---|---|---|
// | grads g | flat store | in |
// | values p, buf | flat store | inout |
//
// lr comes from the step row. One item (four or eight floats) per invocation.
// Parts: item_*, sgd_buffers or sgd_textures. Host: src/ops/optimiser.rs. Twin: optimiser::twin::sgd.

struct SgdParams {
    items: u32,
    slot: u32,
    momentum: f32,
    nesterov: u32,
}

struct StepRow { slots: array<vec4<u32>, 32> }

@group(0) @binding(0) var<uniform> params: SgdParams;
@group(0) @binding(1) var<uniform> row: StepRow;
// Bindings from 2 on are the stores: sgd_buffers.wgsl or sgd_textures.wgsl.

struct Update { value: vec4<f32>, momentum: vec4<f32> }

fn update(g: vec4<f32>, value: vec4<f32>, momentum: vec4<f32>, p: SgdParams, lr: f32) -> Update {
    let b = p.momentum * momentum + g;
    return Update(value - lr * select(b, g + p.momentum * b, p.nesterov != 0u), b);
}

@compute @workgroup_size(64)
fn sgd(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let p = params;
    let i = (wid.y * groups.x + wid.x) * 64u + lid;
    if i >= p.items { return; }

    let lr = bitcast<f32>(row.slots[p.slot].x);
    let g = load_grad(i);
    let value = load_value(i);
    let momentum = load_momentum(i);
    let low = update(first(g), first(value), first(momentum), p, lr);
    let high = update(second(g), second(value), second(momentum), p, lr);
    values[i] = join(low.value, high.value);
    momenta[i] = join(low.momentum, high.momentum);
}
