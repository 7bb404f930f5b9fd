// Sums of rows by index: the adjoint of embedding.
// PyTorch: the gradient of nn.functional.embedding(indices, weight) by weight
//
//   y[k] = sum over the n with round(indices[n]) = k, in increasing order, of x[n]
//
// | tensor  | shape  | direction |
// |---------|--------|-----------|
// | x       | (N, E) | in        |
// | indices | (N, 1) | in        |
// | y       | (K, E) | out       |
//
// Work: one vec4 of one row of y per invocation, which walks the indices: a fixed order, and no two write one place.
// Host: src/ops/embedding.rs   Twin: embedding_backward

struct EmbeddingBackwardParams {
    // vec4 items of y: K * columns.
    count: u32,
    // vec4 columns of a row of x and y.
    columns: u32,
    // Rows of x.
    rows: u32,
    reserved0: u32,
}

@group(0) @binding(0) var<uniform> params: EmbeddingBackwardParams;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> indices: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn embedding_backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    let column = index % p.columns;
    let entry = f32(index / p.columns);
    var sum = vec4<f32>(0.0);
    for (var n = 0u; n < p.rows; n++) {
        if floor(indices[n].x + 0.5) == entry {
            sum += x[n * p.columns + column];
        }
    }
    y[index] = sum;
}
