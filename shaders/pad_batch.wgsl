// Places a batch inside a larger one, zero elsewhere: the adjoint of slice_batch.
// PyTorch: y = zeros(total, ...); y[start : start + N] = x
//
// | tensor | shape               | direction |
// |--------|---------------------|-----------|
// | x      | (N, C[, H, W])      | in        |
// | y      | (total, C[, H, W])  | out       |
//
// Work: one vec4 of channels per invocation.
// Host: src/ops/batch.rs   Twin: pad_batch

struct PadBatchParams {
    // vec4 items of y.
    count: u32,
    // vec4 items of y before x.
    start: u32,
    // vec4 items of x.
    len: u32,
    reserved0: u32,
}

@group(0) @binding(0) var<uniform> params: PadBatchParams;
// Binding 1 is x: in1_*.wgsl.
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn pad_batch(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    var value = vec4<f32>(0.0);
    if index >= p.start && index - p.start < p.len {
        value = load1(index - p.start);
    }
    y[index] = value;
}
