// bce_with_logits: mean binary cross-entropies of the parts of a batch of logits, and the gradient of their sum.
// Same meaning as torch.nn.functional.binary_cross_entropy_with_logits with targets of all ones or all zeros, for one or two runs of rows.
//
//   loss_p      = mean over the rows r of part p of softplus(s_p logits[r])      s_p = -1 for target 1, +1 for target 0
//   dlogits[r]  = dy s_p sigmoid(s_p logits[r]) / rows_p
//
// | tensor | shape | direction |
// |---|---|---|
// | logits | (rows0 + rows1, 1) | in |
// | dy | (1, 1), gradient of the sum of the losses | in |
// | dlogits | (rows0 + rows1, 1) | out |
// | loss0, loss1 | (1, 1); loss1 is 0 if rows1 is 0 | out |
//
// One row per invocation; the first two also add up the losses, in row order. Host: src/ops/bce.rs. Twin: bce::twin::bce_with_logits.

struct BceWithLogitsParams {
    rows0: u32,
    rows1: u32,
    sign0: f32,
    sign1: f32,
}

@group(0) @binding(0) var<uniform> params: BceWithLogitsParams;
@group(0) @binding(1) var<storage, read> logits: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> dlogits: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> loss0: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> loss1: array<vec4<f32>>;

fn softplus(x: f32) -> f32 {
    return max(x, 0.0) + log(1.0 + exp(-abs(x)));
}

fn sigmoid(x: f32) -> f32 {
    let e = exp(-abs(x));
    return select(e, 1.0, x >= 0.0) / (1.0 + e);
}

fn mean_loss(first: u32, rows: u32, sign: f32) -> f32 {
    var sum = 0.0;
    for (var r = first; r < first + rows; r++) {
        sum += softplus(sign * logits[r].x);
    }
    return sum / f32(max(rows, 1u));
}

@compute @workgroup_size(64)
fn bce_with_logits(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let p = params;
    let r = (wid.y * groups.x + wid.x) * 64u + lid;
    if r == 0u {
        loss0[0] = vec4(mean_loss(0u, p.rows0, p.sign0), 0.0, 0.0, 0.0);
    }
    if r == 1u {
        loss1[0] = vec4(mean_loss(p.rows0, p.rows1, p.sign1), 0.0, 0.0, 0.0);
    }
    if r >= p.rows0 + p.rows1 { return; }
    let first = r < p.rows0;
    let sign = select(p.sign1, p.sign0, first);
    let rows = f32(select(p.rows1, p.rows0, first));
    dlogits[r] = vec4(dy[0].x * sign * sigmoid(sign * logits[r].x) / rows, 0.0, 0.0, 0.0);
}
