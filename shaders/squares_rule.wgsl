// Part: the sum of the squares of an item, in a fixed order. Needs item_*.

fn squared(g: Value) -> f32 {
    var sum = first(g) * first(g);
    if WIDTH == 2u {
        sum += second(g) * second(g);
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}
