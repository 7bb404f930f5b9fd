// A run of images of a batch.
// PyTorch: x[start : start + len]
//
// | tensor | shape             | direction |
// |--------|-------------------|-----------|
// | x      | (N, C[, H, W])    | in        |
// | y      | (len, C[, H, W])  | out       |
//
// Work: one vec4 of channels per invocation.
// Host: src/ops/batch.rs   Twin: slice_batch

struct SliceBatchParams {
    // vec4 items of y.
    count: u32,
    // vec4 items of x before the slice.
    start: u32,
    reserved0: u32,
    reserved1: u32,
}

@group(0) @binding(0) var<uniform> params: SliceBatchParams;
// Binding 1 is x: in1_*.wgsl.
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn slice_batch(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    y[index] = load1(index + p.start);
}
