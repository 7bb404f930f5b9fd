// The classes of a batch of the resident data set, by the batch order that draw_batch has. torch: labels[index].
//
//   out[k rows + r] = labels[index(r)] for every k < copies
//
// | tensor | shape                              | direction |
// |--------|------------------------------------|-----------|
// | labels | (images): u32                      | in        |
// | out    | (copies rows, 1), padding zero     | out       |
//
// A discriminator that sees reals and fakes as one batch takes the labels twice. Epoch and start are in the step row.
// Work: one row of the batch per invocation, with all its copies.
// Parts: threefry, batch_order. Host: src/ops/labels.rs   Twin: labels::twin::draw_labels

struct DrawLabelsParams {
    slot: u32,
    rows: u32,
    copies: u32,
    images: u32,
    half_bits: u32,
    seed0: u32,
    seed1: u32,
    reserved0: u32,
}

struct StepRow { slots: array<vec4<u32>, 32> }

@group(0) @binding(0) var<uniform> params: DrawLabelsParams;
@group(0) @binding(1) var<uniform> row: StepRow;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn draw_labels(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let r = (group.y * groups.x + group.x) * 64u + lane;
    if r >= p.rows {
        return;
    }
    let place = row.slots[p.slot].xy;
    let label = f32(labels[batch_index(vec2<u32>(p.seed0, p.seed1), place, r, p.images, p.half_bits)]);
    for (var k = 0u; k < p.copies; k++) {
        out[k * p.rows + r] = vec4<f32>(label, 0.0, 0.0, 0.0);
    }
}
