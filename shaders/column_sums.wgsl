// Sums over the rows of up to four tensors: the bias gradients of a network in one dispatch. torch: x.sum((0, 2, 3)) of each, or w.T @ x.
//
//   y_j[c] = sum over the rows r of x_j[r][c], or of w[r] x_j[r][c] where another of the tensors, (N, 1), is the weights w: the gradient of
//            the weights of a layer with one output is such a sum
//
// | tensor     | shape                  | direction |
// |------------|------------------------|-----------|
// | x0 .. x3   | (N, C[, H, W])         | in        |
// | y0 .. y3   | (1, C)                 | out       |
//
// Work: one vec4 column of one tensor per workgroup; its lanes take rows in turn. A tensor with no columns is left out.
// Parts: column_sums_vec4 and tally_shared, or column_sums_texture and tally_subgroup. Host: src/ops/column_sums.rs
// Twins: group_sum, matmul

struct ColumnSumsParams {
    // vec4 columns of each tensor.
    columns0: u32,
    columns1: u32,
    columns2: u32,
    columns3: u32,
    rows0: u32,
    rows1: u32,
    rows2: u32,
    rows3: u32,
    // 1 + the tensor that is the weights of each; 0 for none.
    weights0: u32,
    weights1: u32,
    weights2: u32,
    weights3: u32,
}

@group(0) @binding(0) var<uniform> params: ColumnSumsParams;
@group(0) @binding(5) var<storage, read_write> y0: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y1: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> y2: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> y3: array<vec4<f32>>;

// Sums of the rows of both; they need no count.
fn merge(a: Tally, b: Tally) -> Tally {
    return Tally(0.0, a.low + b.low, a.high);
}

@compute @workgroup_size(LANES)
fn column_sums(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let columns = vec4<u32>(params.columns0, params.columns1, params.columns2, params.columns3);
    let rows = vec4<u32>(params.rows0, params.rows1, params.rows2, params.rows3);
    var column = group.y * workgroups.x + group.x;
    var job = 0u;
    while job < 4u && column >= columns[job] {
        column -= columns[job];
        job++;
    }
    // Uniform: the grid may be folded.
    if job == 4u {
        return;
    }
    let weights = vec4<u32>(params.weights0, params.weights1, params.weights2, params.weights3)[job];
    var own = Tally();
    if weights == 0u {
        for (var r = lane; r < rows[job]; r += LANES) {
            own.low += load(job, r * columns[job] + column);
        }
    } else {
        for (var r = lane; r < rows[job]; r += LANES) {
            own.low += load(weights - 1u, r).x * load(job, r * columns[job] + column);
        }
    }
    let sum = total(own, lane).low;
    if lane == 0u {
        switch job {
            case 0u: {
                y0[column] = sum;
            }
            case 1u: {
                y1[column] = sum;
            }
            case 2u: {
                y2[column] = sum;
            }
            default: {
                y3[column] = sum;
            }
        }
    }
}
