// gemm_patch: the part of B that a lane multiplies by, put together from what the lanes of both quads have loaded. A part of gemm_rows_broadcast and
// gemm_cols_broadcast.

// Four k by eight columns: column kk of each matrix is the vec4 at k + kk over the four left or right columns.
struct Patch {
    left: mat4x4<f32>,
    right: mat4x4<f32>,
}

// What the lane of quad 0 (and of quad 1) that has this lane's columns holds.
fn first_quad(value: vec4<f32>, lane: u32) -> vec4<f32> {
    return subgroupShuffle(value, lane & 3u);
}

fn second_quad(value: vec4<f32>, lane: u32) -> vec4<f32> {
    return subgroupShuffle(value, lane | 4u);
}

// From rows of B: quad 0 holds even k of the step, quad 1 odd ones.
fn patch_of_rows(left0: vec4<f32>, right0: vec4<f32>, left2: vec4<f32>, right2: vec4<f32>, lane: u32) -> Patch {
    return Patch(
        mat4x4<f32>(first_quad(left0, lane), second_quad(left0, lane), first_quad(left2, lane), second_quad(left2, lane)),
        mat4x4<f32>(first_quad(right0, lane), second_quad(right0, lane), first_quad(right2, lane), second_quad(right2, lane)),
    );
}

// sum + block * a, k by k. A driver that contracts makes four fused multiply-adds of it that need no further register: of `sum += block * a` it makes a
// product and three of them, and Mesa 26 keeps half of these products of all sums in memory, at two thirds of the speed.
fn multiply_add(sum: vec4<f32>, block: mat4x4<f32>, a: vec4<f32>) -> vec4<f32> {
    return sum + block[0] * a.x + block[1] * a.y + block[2] * a.z + block[3] * a.w;
}
