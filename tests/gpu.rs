//! The GPU layer on whatever adapter is there.

use ganymede::gpu::testing;

#[test]
fn the_lane_test_agrees_with_what_the_adapter_is() {
    let Some(gpu) = testing::gpu() else { return };
    let caps = gpu.caps();
    eprintln!("{}: {caps:?}", gpu.adapter_summary());
    if gpu.adapter_summary().contains("llvmpipe") {
        assert!(caps.software && caps.fixed_subgroup && caps.int64, "{caps:?}");
    }
    assert!(caps.max_binding >= 128 << 20);
}
