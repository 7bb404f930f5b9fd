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
