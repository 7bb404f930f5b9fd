// Rows of a table by index.
// PyTorch: nn.functional.embedding(indices, weight)
//
//   y[n] = weight[round(indices[n])], zero for an index that names no row
//
// | tensor  | shape  | direction |
// |---------|--------|-----------|
// | weight  | (K, E) | in        |
// | indices | (N, 1) | in        |
// | y       | (N, E) | out       |
//
// Work: one vec4 of E per invocation.
// Host: src/ops/embedding.rs   Twin: embedding

struct EmbeddingParams {
    // vec4 items of y: N * columns.
    count: u32,
    // vec4 columns of a row of y and of the table.
    columns: u32,
    // Rows of the table.
    entries: u32,
    reserved0: u32,
}

@group(0) @binding(0) var<uniform> params: EmbeddingParams;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> indices: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn embedding(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    let entry = floor(indices[index / p.columns].x + 0.5);
    let value = weight[u32(clamp(entry, 0.0, f32(p.entries - 1u))) * p.columns + index % p.columns];
    y[index] = select(vec4<f32>(0.0), value, entry >= 0.0 && entry < f32(p.entries));
}
