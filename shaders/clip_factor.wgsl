// The factor that brings a network's gradient down to a norm. Equals the one in torch.nn.utils.clip_grad_norm_.
//
//   norm = sqrt(sum of squares);   factor = min(1, max_norm / (norm + 1e-6)); NaN if the norm is
//
// | tensor | shape | direction |
// |---|---|---|
// | squares | sum of squares of each block of 64 floats of a gradient store | in |
// | factor | factor, norm, two zeros | out |
//
// Work: one workgroup; lanes take blocks in turn, and two levels of sixteen add up what they have.
// Host: src/ops/optimiser/clip.rs. Twin: optimiser::twin::clip_factor.

struct ClipFactorParams {
    blocks: u32,
    max_norm: f32,
    reserved0: u32,
    reserved1: u32,
}

@group(0) @binding(0) var<uniform> params: ClipFactorParams;
@group(0) @binding(1) var<storage, read> squares: array<f32>;
@group(0) @binding(2) var<storage, read_write> factor: array<vec4<f32>>;

const LANES = 256u;

var<workgroup> sums: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn clip_factor(@builtin(local_invocation_index) lane: u32) {
    let p = params;
    var own = 0.0;
    for (var b = lane; b < p.blocks; b += LANES) {
        own += squares[b];
    }
    sums[lane] = own;
    workgroupBarrier();
    if lane < 16u {
        var some = 0.0;
        for (var k = 0u; k < 16u; k++) {
            some += sums[lane * 16u + k];
        }
        sums[lane * 16u] = some;
    }
    workgroupBarrier();
    if lane == 0u {
        var all = 0.0;
        for (var k = 0u; k < 16u; k++) {
            all += sums[k * 16u];
        }
        let norm = sqrt(all);
        let ratio = p.max_norm / (norm + 1e-6);
        factor[0] = vec4<f32>(select(ratio, 1.0, ratio > 1.0), norm, 0.0, 0.0);
    }
}
