// Part: sums of squares per block of 64 floats of a store, where sixteen neighbours have one vec4 each: loads and stores of a GPU are
// contiguous. squares_lane is its counterpart. Binds `squares` with the kernel; every invocation of the workgroup must call it.

// Items that an invocation walks, one after the other.
const REPEAT = 1u;

var<workgroup> sums: array<f32, 64>;

// Invocation `index` has met squares that add up to `sum`.
fn keep_squares(sum: f32, index: u32, lid: u32, blocks: u32) {
    sums[lid] = sum;
    workgroupBarrier();
    if lid % 16u == 0u && index / 16u < blocks {
        var all = 0.0;
        for (var k = 0u; k < 16u; k++) {
            all += sums[lid + k];
        }
        squares[index / 16u] = all;
    }
}
