// Part: the input at binding 2 is a storage buffer. in2_texture is its counterpart.

@group(0) @binding(2) var<storage, read> in2: array<Item>;

fn load2(index: u32) -> Value {
    return unpack(in2[index]);
}
