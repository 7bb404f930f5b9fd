// Indices as rows with a single one.
// PyTorch: nn.functional.one_hot(indices, classes)
//
//   y[n, c] = 1 where c = round(indices[n]), else 0
//
// | tensor  | shape        | direction |
// |---------|--------------|-----------|
// | indices | (N, 1)       | in        |
// | y       | (N, classes) | out       |
//
// Work: one vec4 of classes per invocation.
// Host: src/ops/embedding.rs   Twin: one_hot

struct OneHotParams {
    // vec4 items of y: N * columns.
    count: u32,
    // vec4 columns of a row of y.
    columns: u32,
    // Classes.
    channels: u32,
    reserved0: u32,
}

@group(0) @binding(0) var<uniform> params: OneHotParams;
@group(0) @binding(1) var<storage, read> indices: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn one_hot(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    let channel = vec4<u32>(index % p.columns * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    let hit = vec4<f32>(channel) == vec4<f32>(floor(indices[index / p.columns].x + 0.5));
    y[index] = select(vec4<f32>(0.0), vec4<f32>(1.0), hit & (channel < vec4<u32>(p.channels)));
}
