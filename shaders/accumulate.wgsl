// Adds the gradients of one micro-batch to those of the batch so far, over a flat store, in place. PyTorch's gradient accumulation.
//
//   sums <- scale g               for the first micro-batch
//   sums <- sums + scale g        for the others
//
// | tensor | shape | direction |
// |---|---|---|
// | grads g | flat store | in |
// | sums | flat store | inout |
//
// The index of the micro-batch comes from the step row. The first one overwrites what is there, be it NaN. One item (four or eight floats)
// per invocation. Parts: item_*, accumulate_buffers or accumulate_textures. Host: src/ops/optimiser/average.rs. Twin: optimiser::twin::accumulate.

struct AccumulateParams {
    items: u32,
    slot: u32,
    scale: f32,
    reserved: u32,
}

struct StepRow { slots: array<vec4<u32>, 32> }

@group(0) @binding(0) var<uniform> params: AccumulateParams;
@group(0) @binding(1) var<uniform> row: StepRow;
// Bindings from 2 on are the stores: accumulate_buffers.wgsl or accumulate_textures.wgsl.

fn added(grad: vec4<f32>, sum: vec4<f32>, is_first: bool) -> vec4<f32> {
    return select(sum, vec4<f32>(0.0), is_first) + params.scale * grad;
}

@compute @workgroup_size(64)
fn accumulate(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let p = params;
    let i = (wid.y * groups.x + wid.x) * 64u + lid;
    if i >= p.items { return; }

    let is_first = row.slots[p.slot].w == 0u;
    let grad = load_grad(i);
    let sum = load_sum(i);
    sums[i] = join(added(first(grad), first(sum), is_first), added(second(grad), second(sum), is_first));
}
