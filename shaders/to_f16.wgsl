// to_f16: rounds numbers to f16, for the products that read them in that form.
// Same meaning as torch.Tensor.half.
//
//   y[i] = f16(x[i])      to one of the two nearest; beyond 65504 to infinity or 65504, below 2^-14 possibly to zero: WGSL leaves these to the adapter
//
//   x   any shape       in      f32
//   y   the same        out     f16, two to a word, the first in the low half
//
// Work: one invocation rounds four numbers.
// Host: src/ops/gemm/half.rs.  Twin: to_f16.

struct ToF16Params {
    fours: u32, // numbers / 4
    reserved0: u32,
    reserved1: u32,
    reserved2: u32,
}

@group(0) @binding(0) var<uniform> params: ToF16Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec2<u32>>;

@compute @workgroup_size(64)
fn to_f16(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (workgroup.y * workgroups.x + workgroup.x) * 64u + local;
    if i >= params.fours {
        return;
    }
    let value = x[i];
    y[i] = vec2<u32>(pack2x16float(value.xy), pack2x16float(value.zw));
}
