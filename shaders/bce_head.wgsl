// bce_head: bce_with_logits, and the gradient through the layer that makes a logit of each row: one product with one column is no work for
// a matrix kernel. Same meaning as torch.autograd.grad of binary_cross_entropy_with_logits(h @ weight.T) with respect to the logits and h.
//
//   loss_p      = mean over the rows r of part p of softplus(s_p logits[r])      s_p = -1 for target 1, +1 for target 0
//   dlogits[r]  = dy s_p sigmoid(s_p logits[r]) / rows_p
//   dx[r][k]    = dlogits[r] weight[k] f'(a[r][k])      f' from the output a of the activation f in front of the layer
//
// | tensor | shape | direction |
// |---|---|---|
// | a | that of dx; anything if there is no activation | in |
// | logits | (rows0 + rows1, 1) | in |
// | dy | (1, 1), gradient of the sum of the losses | in |
// | weight | one row of dx | in |
// | dlogits | (rows0 + rows1, 1) | out |
// | dx | (rows0 + rows1, ...) | out |
// | loss0, loss1 | (1, 1); loss1 is 0 if rows1 is 0 | out |
//
// One vec4 column of a run of rows per invocation, so that a software adapter, which pays for each load, reads weights once a run; elsewhere a
// run is one row. The first two also add up the losses, in row order.
// Parts: gemm_epilogue, gemm_a_vec4 or gemm_a_texture. Host: src/ops/bce.rs. Twins: bce::twin::bce_with_logits, bce::twin::bce_head.

struct BceHeadParams {
    rows0: u32,
    rows1: u32,
    sign0: f32,
    sign1: f32,
    columns: u32,  // vec4s of a row of dx
    run: u32,      // rows of a run
    activation: u32,
    slope: f32,
}

@group(0) @binding(0) var<uniform> params: BceHeadParams;
@group(0) @binding(2) var<storage, read> logits: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> dx: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> loss0: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> loss1: array<vec4<f32>>;

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
fn bce_head(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let p = params;
    let index = (wid.y * groups.x + wid.x) * 64u + lid;
    if index == 0u {
        loss0[0] = vec4(mean_loss(0u, p.rows0, p.sign0), 0.0, 0.0, 0.0);
    }
    if index == 1u {
        loss1[0] = vec4(mean_loss(p.rows0, p.rows1, p.sign1), 0.0, 0.0, 0.0);
    }
    let rows = p.rows0 + p.rows1;
    let column = index % p.columns;
    let start = index / p.columns * p.run;
    if start >= rows { return; }
    let scale = dy[0].x;
    let w = weight[column];
    for (var r = start; r < min(start + p.run, rows); r++) {
        let first = r < p.rows0;
        let sign = select(p.sign1, p.sign0, first);
        let d = scale * sign * sigmoid(sign * logits[r].x) / f32(select(p.rows1, p.rows0, first));
        let at = r * p.columns + column;
        var through = d * w;
        if p.activation != 0u {
            through *= derivative_from_output(a4(at * 4u), p.activation, p.slope);
        }
        dx[at] = through;
        if column == 0u {
            dlogits[r] = vec4(d, 0.0, 0.0, 0.0);
        }
    }
}
