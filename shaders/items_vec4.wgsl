// Items of a flat store, four floats each: the loader that runs on every adapter. Joined in front of the kernels that walk a store.

alias Item = vec4<f32>;
const HALVES = 1u;

fn unpack(item: Item) -> array<vec4<f32>, HALVES> {
    return array<vec4<f32>, HALVES>(item);
}

fn pack(halves: array<vec4<f32>, HALVES>) -> Item {
    return halves[0];
}
