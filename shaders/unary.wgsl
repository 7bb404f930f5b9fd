// Element-wise function of one tensor, f picked by FUNCTION.
// PyTorch: a * x + b, leaky_relu, tanh, sigmoid, softplus, sqrt, rsqrt, exp, log, elu, silu, gelu, abs, clamp, binary_cross_entropy.
//
//   y = f(x)
//
// | tensor | shape        | direction |
// |--------|--------------|-----------|
// | x      | any          | in        |
// | y      | that of x    | out       |
//
// Work: one item (one or two vec4 of channels, see item_*.wgsl) per invocation. Functions with f(0) != 0 mask the padding lanes.
// Parts: activations, curves. Host: src/ops/elementwise.rs, src/ops/curves.rs, src/ops/bce_probabilities.rs
// Twin: the value function of each op there

struct UnaryParams {
    // Items: rows * columns / WIDTH.
    count: u32,
    // vec4 columns of a row.
    columns: u32,
    // Channels of a row without padding.
    channels: u32,
    reserved0: u32,
    // Parameters of f: scale and shift, slope, alpha, least and most, or target.
    a: f32,
    b: f32,
    reserved1: u32,
    reserved2: u32,
}

@group(0) @binding(0) var<uniform> params: UnaryParams;
// Binding 1 is x: in1_*.wgsl.
@group(0) @binding(2) var<storage, read_write> y: array<Item>;

override FUNCTION: u32;

const AFFINE: u32 = 0u;
const LEAKY_RELU: u32 = 1u;
const TANH: u32 = 2u;
const SIGMOID: u32 = 3u;
const SOFTPLUS: u32 = 4u;
const SQRT: u32 = 5u;
const RSQRT: u32 = 6u;
const EXP: u32 = 7u;
const LOG: u32 = 8u;
const ELU: u32 = 9u;
const SILU: u32 = 10u;
const GELU: u32 = 11u;
const ABS: u32 = 12u;
const CLAMP: u32 = 13u;
const BCE: u32 = 14u;

// log(1 + e) for e in [0, 1]: two terms of the series where 1 + e would round e away.
fn log_1p(e: vec4<f32>) -> vec4<f32> {
    return select(log(1.0 + e), e - 0.5 * e * e, e < vec4<f32>(1e-3));
}

fn f(v: vec4<f32>, a: f32, b: f32) -> vec4<f32> {
    switch FUNCTION {
        case AFFINE: {
            return v * a + b;
        }
        case LEAKY_RELU: {
            return leaky_relu(v, a);
        }
        case TANH: {
            return stable_tanh(v);
        }
        case SIGMOID: {
            return stable_sigmoid(v);
        }
        case SOFTPLUS: {
            return keep_nan(v, max(v, vec4<f32>(0.0)) + log_1p(exp(-abs(v))));
        }
        case SQRT: {
            return sqrt(v);
        }
        case RSQRT: {
            return inverseSqrt(v);
        }
        case EXP: {
            return exp(v);
        }
        case LOG: {
            return log(v);
        }
        case ELU: {
            return elu(v, a);
        }
        case SILU: {
            return v * stable_sigmoid(v);
        }
        case GELU: {
            return keep_nan(v, v * normal_cdf(v));
        }
        case ABS: {
            return abs(v);
        }
        case CLAMP: {
            return keep_nan(v, clamp(v, vec4<f32>(a), vec4<f32>(b)));
        }
        default: {
            return -(a * bounded_log(v) + (1.0 - a) * bounded_log_rest(v));
        }
    }
}

// Zeroes the padding lanes of the vec4 at `at`.
fn masked(value: vec4<f32>, at: u32, columns: u32, channels: u32) -> vec4<f32> {
    switch FUNCTION {
        case LEAKY_RELU, TANH, SQRT, ELU, SILU, GELU, ABS: {
            return value;
        }
        default: {
            return mask_channels(value, at % columns, channels);
        }
    }
}

@compute @workgroup_size(64)
fn unary(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    let item = load1(index);
    y[index] = join(
        masked(f(first(item), p.a, p.b), index * WIDTH, p.columns, p.channels),
        masked(f(second(item), p.a, p.b), index * WIDTH + 1u, p.columns, p.channels),
    );
}
