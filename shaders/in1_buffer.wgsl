// Part: the input at binding 1 is a storage buffer. in1_texture is its counterpart.

@group(0) @binding(1) var<storage, read> in1: array<Item>;

fn load1(index: u32) -> Value {
    return unpack(in1[index]);
}
