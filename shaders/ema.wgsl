// One step of an exponential moving average over a flat store, in place. Equals torch's ema.lerp_(value, 1 - decay).
//
//   ema <- ema + (1 - decay) (p - ema)
//
// | tensor | shape | direction |
// |---|---|---|
// | values p | flat store | in |
// | ema | flat store | inout |
//
// decay comes from the step row. One item (four or eight floats) per invocation.
// Parts: item_*, ema_buffers or ema_textures, ema_rule. Host: src/ops/optimiser/average.rs. Twin: optimiser::twin::ema.

struct EmaParams {
    items: u32,
    slot: u32,
    reserved0: u32,
    reserved1: u32,
}

struct StepRow { slots: array<vec4<u32>, 32> }

@group(0) @binding(0) var<uniform> params: EmaParams;
@group(0) @binding(1) var<uniform> row: StepRow;
// Bindings from 2 on are the stores: ema_buffers.wgsl or ema_textures.wgsl.

@compute @workgroup_size(64)
fn ema(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let p = params;
    let i = (wid.y * groups.x + wid.x) * 64u + lid;
    if i >= p.items { return; }

    let decay = bitcast<f32>(row.slots[p.slot].z);
    let value = load_value(i);
    let average = load_average(i);
    averages[i] = join(averaged(first(average), first(value), decay), averaged(second(average), second(value), decay));
}
