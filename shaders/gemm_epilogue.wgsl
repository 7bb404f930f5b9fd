// gemm_epilogue: what happens to a finished sum before it is stored. A part of the gemm_rows_* kernels.
//
//   activate:                    leaky relu  x > 0 ? x : slope * x     tanh              sigmoid
//   derivative, from y = f(x):               y > 0 ? 1 : slope         1 - y * y         y * (1 - y)
//
// Kinds are uniform values, not pipeline overrides: a pipeline of this size takes a software adapter up to half a second to compile. Two overrides
// leave out what most products do not need, because such adapters execute every branch, whatever its condition: without them the epilogue takes a
// third of the time of a first layer's forward product.

override SMOOTH: bool = true; // tanh and sigmoid may be asked for
override MASKED: bool = true; // params.mask may be set

fn activate(x: vec4<f32>, kind: u32, slope: f32) -> vec4<f32> {
    if kind == 1u {
        return select(slope * x, x, x > vec4<f32>());
    }
    if !SMOOTH {
        return x;
    }
    switch kind {
        case 2u: {
            // Some drivers' tanh overflows for large arguments; NaN must stay NaN.
            let is_nan = (bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
            return select(tanh(clamp(x, vec4<f32>(-15.0), vec4<f32>(15.0))), x, is_nan);
        }
        case 3u: {
            let e = exp(-abs(x));
            return select(e, vec4<f32>(1.0), x >= vec4<f32>()) / (1.0 + e);
        }
        default: {
            return x;
        }
    }
}

fn derivative_from_output(y: vec4<f32>, kind: u32, slope: f32) -> vec4<f32> {
    if kind == 1u {
        return select(vec4<f32>(slope), vec4<f32>(1.0), y > vec4<f32>());
    }
    switch kind {
        case 2u: {
            return 1.0 - y * y;
        }
        case 3u: {
            return y * (1.0 - y);
        }
        default: {
            return vec4<f32>(1.0);
        }
    }
}
