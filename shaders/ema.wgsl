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
// Parts: items_vec4 or items_u64, ema_rule. Host: src/ops/optimiser.rs. Twin: optimiser::twin::ema.

struct EmaParams {
    items: u32,
    slot: u32,
    reserved0: u32,
    reserved1: u32,
}

struct StepRow { slots: array<vec4<u32>, 32> }

@group(0) @binding(0) var<uniform> params: EmaParams;
@group(0) @binding(1) var<uniform> row: StepRow;
@group(0) @binding(2) var<storage, read> values: array<Item>;
@group(0) @binding(3) var<storage, read_write> averages: array<Item>;

@compute @workgroup_size(64)
fn ema(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let p = params;
    let i = (wid.y * groups.x + wid.x) * 64u + lid;
    if i >= p.items { return; }

    let decay = bitcast<f32>(row.slots[p.slot].z);
    let value = unpack(values[i]);
    var average = unpack(averages[i]);
    for (var h = 0u; h < HALVES; h++) {
        average[h] = averaged(average[h], value[h], decay);
    }
    averages[i] = pack(average);
}
