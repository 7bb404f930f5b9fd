// Joins two tensors along the batch axis.
// PyTorch: torch.cat((a, b), 0)
//
// | tensor | shape                  | direction |
// |--------|------------------------|-----------|
// | a      | (Na, C[, H, W])        | in        |
// | b      | (Nb, C[, H, W])        | in        |
// | y      | (Na + Nb, C[, H, W])   | out       |
//
// Work: one vec4 of channels per invocation.
// Host: src/ops/batch.rs   Twin: concat_batch

struct ConcatBatchParams {
    // vec4 items of y.
    count: u32,
    // vec4 items of a.
    split: u32,
    reserved0: u32,
    reserved1: u32,
}

@group(0) @binding(0) var<uniform> params: ConcatBatchParams;
// Bindings 1 and 2 are a and b: in1_*.wgsl and in2_*.wgsl.
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn concat_batch(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    if index < p.split {
        y[index] = load1(index);
    } else {
        y[index] = load2(index - p.split);
    }
}
