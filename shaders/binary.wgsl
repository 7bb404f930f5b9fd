// Element-wise function of two tensors with numpy-style broadcasting, f picked by FUNCTION.
// PyTorch: a + b, a - b, a * b, and the input gradients of element-wise functions.
//
//   y = f(a, b);   for input gradients b = dy, and y = b * f'(a):
//   leaky_relu_backward   a = output   f' = a > 0 ? 1 : slope
//   elu_backward          a = output   f' = a > 0 ? 1 : a + alpha
//   silu_backward         a = input    f' = s (1 + a (1 - s)), s = sigmoid(a)
//   gelu_backward         a = input    f' = Phi(a) + a phi(a), the normal distribution and its density
//   abs_backward          a = input    f' = sign(a), 0 at 0
//   clamp_backward        a = input    f' = least < a < most ? 1 : 0
//   bce_backward          a = input    f' = (a - target) / max(a (1 - a), 1e-12)
//
// | tensor | shape                                             | direction |
// |--------|---------------------------------------------------|-----------|
// | a      | (N, C, H, W), any extent may be 1 if BROADCAST    | in        |
// | b      | (N, C, H, W), any extent may be 1 if BROADCAST    | in        |
// | y      | (N, C, H, W), on each axis the larger extent      | out       |
//
// Work: one item (one or two vec4 of channels, see item_*.wgsl) per invocation; with BROADCAST always one vec4. Equal shapes are read
// straight through; with BROADCAST each operand has a stride per axis in vec4 items, zero where its extent is 1, and lane 0 stands for
// all channels of an operand that has only one.
// Parts: activations, curves. Host: src/ops/elementwise.rs, src/ops/curves.rs, src/ops/bce_probabilities.rs
// Twin: the value function of each op there

struct BinaryParams {
    // Items of y: rows * columns / WIDTH.
    count: u32,
    // vec4 columns of a row of y.
    columns: u32,
    // Channels of y without padding.
    channels: u32,
    // Extents H and W of y.
    height: u32,
    width: u32,
    // Parameter of f: slope, alpha, least, or target.
    k0: f32,
    // 1 if the operand has one channel and y more.
    a_splat: u32,
    b_splat: u32,
    // Strides of the operands along N, H, W and columns, in vec4 items.
    a_n: u32,
    a_h: u32,
    a_w: u32,
    a_c: u32,
    b_n: u32,
    b_h: u32,
    b_w: u32,
    b_c: u32,
    // Second parameter of f: most.
    k1: f32,
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

@group(0) @binding(0) var<uniform> params: BinaryParams;
// Bindings 1 and 2 are a and b: in1_*.wgsl and in2_*.wgsl.
@group(0) @binding(3) var<storage, read_write> y: array<Item>;

override FUNCTION: u32;
override BROADCAST: u32;

const ADD: u32 = 0u;
const SUB: u32 = 1u;
const MUL: u32 = 2u;
const LEAKY_RELU_BACKWARD: u32 = 3u;
const ELU_BACKWARD: u32 = 4u;
const SILU_BACKWARD: u32 = 5u;
const GELU_BACKWARD: u32 = 6u;
const ABS_BACKWARD: u32 = 7u;
const CLAMP_BACKWARD: u32 = 8u;
const BCE_BACKWARD: u32 = 9u;

fn f(u: vec4<f32>, v: vec4<f32>, k0: f32, k1: f32) -> vec4<f32> {
    switch FUNCTION {
        case ADD: {
            return u + v;
        }
        case SUB: {
            return u - v;
        }
        case MUL: {
            return u * v;
        }
        case LEAKY_RELU_BACKWARD: {
            return select(v * k0, v, u > vec4<f32>(0.0));
        }
        case ELU_BACKWARD: {
            return select(v * (u + k0), v, u > vec4<f32>(0.0));
        }
        case SILU_BACKWARD: {
            return v * silu_slope(u);
        }
        case GELU_BACKWARD: {
            return v * gelu_slope(u);
        }
        case ABS_BACKWARD: {
            return v * sign(u);
        }
        case CLAMP_BACKWARD: {
            return select(vec4<f32>(0.0), v, (u > vec4<f32>(k0)) & (u < vec4<f32>(k1)));
        }
        default: {
            return v * ((u - k0) / max(u * (1.0 - u), vec4<f32>(1e-12)));
        }
    }
}

@compute @workgroup_size(64)
fn binary(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let index = (group.y * groups.x + group.x) * 64u + lane;
    if index >= p.count {
        return;
    }
    if BROADCAST == 0u {
        let u = load1(index);
        let v = load2(index);
        y[index] = join(f(first(u), first(v), p.k0, p.k1), f(second(u), second(v), p.k0, p.k1));
    } else {
        let column = index % p.columns;
        let row = index / p.columns;
        let w = row % p.width;
        let h = row / p.width % p.height;
        let n = row / p.width / p.height;
        var u = first(load1(n * p.a_n + h * p.a_h + w * p.a_w + column * p.a_c));
        var v = first(load2(n * p.b_n + h * p.b_h + w * p.b_w + column * p.b_c));
        u = select(u, u.xxxx, p.a_splat != 0u);
        v = select(v, v.xxxx, p.b_splat != 0u);
        let value = mask_channels(f(u, v, p.k0, p.k1), column, p.channels);
        y[index] = join(value, value);
    }
}
