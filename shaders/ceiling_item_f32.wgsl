// Part: an item is one float, the narrowest there is, which only ceiling_copy has. `second` and the second argument of `join` are dead code.

alias Item = f32;
alias Value = f32;

fn unpack(item: Item) -> Value {
    return item;
}

fn first(value: Value) -> f32 {
    return value;
}

fn second(value: Value) -> f32 {
    return value;
}

fn join(a: f32, b: f32) -> Item {
    return a;
}
