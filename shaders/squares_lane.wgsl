// Part: sums of squares per block of 64 floats of a store, where an invocation walks a whole block: software adapters, which read lane by
// lane in any case. squares_group is its counterpart. Binds `squares` with the kernel; needs WIDTH of item_*.

// Items that an invocation walks, one after the other.
const REPEAT = 16u / WIDTH;

// Invocation `index` has met squares that add up to `sum`.
fn keep_squares(sum: f32, index: u32, lid: u32, blocks: u32) {
    if index < blocks {
        squares[index] = sum;
    }
}
