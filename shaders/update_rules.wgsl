// Part: what every optimiser does before and after its own rule, each only where it is asked for: clipping of gradients (as
// torch.nn.utils.clip_grad_norm_ and clip_grad_value_), weight decay as PyTorch's L2 term, clipping of weights (as Tensor.clamp_), and the
// moving average. Needs ema_rule, and with the kernel: the step row, `factor` and `averages`.

// 0: none; 1: times factor[0], which clip_factor has made; 2: each gradient to [-limit, limit].
override CLIP: u32 = 0u;
// 0: none; 1: added to the gradient; 2: apart from the gradient, by the kernel.
override DECAY: u32 = 0u;
// Whether weights are kept in [-bound, bound].
override BOUND: bool = false;

const DECOUPLED = 2u;
const NONE = 0xffffffffu;

// The value in [-limit, limit]; comparisons keep a NaN.
fn within(x: vec4<f32>, limit: f32) -> vec4<f32> {
    let high = vec4<f32>(limit);
    return select(select(x, high, x > high), -high, x < -high);
}

// The gradient as the optimiser takes it.
fn taken(g: vec4<f32>, value: vec4<f32>, limit: f32, weight_decay: f32) -> vec4<f32> {
    var d = g;
    if CLIP == 1u {
        d = factor[0] * d;
    }
    if CLIP == 2u {
        d = within(d, limit);
    }
    if DECAY == 1u {
        d = d + weight_decay * value;
    }
    return d;
}

// The value as it is kept.
fn kept(value: vec4<f32>, bound: f32) -> vec4<f32> {
    if BOUND {
        return within(value, bound);
    }
    return value;
}

// Moves the average of item i, if there is one, by the item's new value.
fn average(i: u32, low: vec4<f32>, high: vec4<f32>, slot: u32) {
    if slot != NONE {
        let decay = bitcast<f32>(row.slots[slot].z);
        let old = unpack(averages[i]);
        averages[i] = join(averaged(first(old), low, decay), averaged(second(old), high, decay));
    }
}
