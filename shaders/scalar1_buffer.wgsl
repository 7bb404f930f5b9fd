// Part: the input at binding 1 is a storage buffer that is read by single floats. scalar1_texel is its counterpart.

@group(0) @binding(1) var<storage, read> in1: array<f32>;

fn scalar1(index: u32) -> f32 {
    return in1[index];
}
