// Items of a flat store, eight floats each, moved as four 64-bit integers: half as many loads for software adapters, where loads are what a
// walk over a store costs. Needs 64-bit integers. Half 0 holds the even floats and half 1 the odd ones, which elementwise rules cannot see.

alias Item = vec4<u64>;
const HALVES = 2u;

fn unpack(item: Item) -> array<vec4<f32>, HALVES> {
    let even = bitcast<vec4<f32>>(vec4<u32>(item));
    let odd = bitcast<vec4<f32>>(vec4<u32>(item >> vec4<u32>(32u)));
    return array<vec4<f32>, HALVES>(even, odd);
}

fn pack(halves: array<vec4<f32>, HALVES>) -> Item {
    let even = vec4<u64>(bitcast<vec4<u32>>(halves[0]));
    let odd = vec4<u64>(bitcast<vec4<u32>>(halves[1]));
    return even | (odd << vec4<u32>(32u));
}
