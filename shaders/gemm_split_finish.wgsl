// gemm_split_finish: adds the slabs of a split matrix product or convolution in a fixed order, then does what the epilogue does.
// Same meaning as torch.sum(partials, 0), with the epilogue of gemm_epilogue, which is joined in front.
//
//   c[i] = epilogue(sum over splits s of partials[s][i])
//
//   partials  [splits][pixels][N]     in     sums of parts of k; padding is zero
//   bias      [channels]              in     read only if params.bias
//   saved     as c                    in     read only if params.mask
//   c         [pixels][N]             out
//
// Work: one workgroup finishes eight vec4s. Row r of its eight rows of invocations adds splits r, r + 8, and so on, and the first row adds the rows,
// in order: with hundreds of splits and few sums, one invocation a sum would wait for memory in line.
// Host: src/ops/gemm/split.rs.  Twins: matmul, conv2d_forward, conv2d_backward_input, conv2d_backward_weight.

struct GemmSplitFinishParams {
    count: u32,    // vec4s of c
    splits: u32,
    pixel: u32,    // floats of a pixel of c
    period: u32,   // floats of a pixel after which channels start anew
    channels: u32, // floats of each period that are not padding
    bias: u32,     // as in gemm_rows
    activation: u32,
    slope: f32,
    mask: u32,
    mask_slope: f32,
    reserved0: u32,
    reserved1: u32,
}

@group(0) @binding(0) var<uniform> params: GemmSplitFinishParams;
@group(0) @binding(1) var<storage, read> partials: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> saved: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> c: array<vec4<f32>>;

var<workgroup> sums: array<vec4<f32>, 64>;

@compute @workgroup_size(64)
fn gemm_split_finish(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let p = params;
    let item = (workgroup.y * workgroups.x + workgroup.x) * 8u + (local & 7u);
    let inside = min(item, p.count - 1u);
    var sum = vec4<f32>();
    for (var s = local >> 3u; s < p.splits; s += 8u) {
        sum += partials[s * p.count + inside];
    }
    sums[local] = sum;
    workgroupBarrier();
    if local < 8u && item < p.count {
        for (var row = 1u; row < 8u; row++) {
            sum += sums[row * 8u + local];
        }
        let channel = item * 4u % p.pixel % p.period;
        if p.bias != 0u {
            sum += bias[channel >> 2u];
        }
        sum = activate(sum, p.activation, p.slope);
        if p.mask != 0u {
            sum *= derivative_from_output(saved[item], p.mask, p.mask_slope);
        }
        let exists = vec4<u32>(channel, channel + 1u, channel + 2u, channel + 3u) < vec4<u32>(p.channels);
        c[item] = select(vec4<f32>(), sum, exists);
    }
}
