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
// Parts: items_vec4 or items_u64. Host: src/ops/optimiser.rs. Twin: optimiser::twin::sgd.

struct SgdParams {
    items: u32,
    slot: u32,
    momentum: f32,
    nesterov: u32,
}

struct StepRow { slots: array<vec4<u32>, 32> }

@group(0) @binding(0) var<uniform> params: SgdParams;
@group(0) @binding(1) var<uniform> row: StepRow;
@group(0) @binding(2) var<storage, read> grads: array<Item>;
@group(0) @binding(3) var<storage, read_write> values: array<Item>;
@group(0) @binding(4) var<storage, read_write> buf: array<Item>;

@compute @workgroup_size(64)
fn sgd(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let p = params;
    let i = (wid.y * groups.x + wid.x) * 64u + lid;
    if i >= p.items { return; }

    let lr = bitcast<f32>(row.slots[p.slot].x);
    let g = unpack(grads[i]);
    var value = unpack(values[i]);
    var b = unpack(buf[i]);
    for (var h = 0u; h < HALVES; h++) {
        b[h] = p.momentum * b[h] + g[h];
        value[h] -= lr * select(b[h], g[h] + p.momentum * b[h], p.nesterov != 0u);
    }
    values[i] = pack(value);
    buf[i] = pack(b);
}
