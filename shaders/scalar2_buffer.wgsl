// Part: the input at binding 2 is a storage buffer that is read by single floats. scalar2_texel is its counterpart.

@group(0) @binding(2) var<storage, read> in2: array<f32>;

fn scalar2(index: u32) -> f32 {
    return in2[index];
}
