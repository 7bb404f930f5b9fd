//! The GPU that tests share.

use std::io::Write;
use std::sync::OnceLock;

use super::matrix::Fragments;
use super::{Gpu, GpuOptions};

/// The test GPU, or `None` if tests should skip what needs one.
///
/// The environment variable `GANYMEDE_TEST_GPU` decides: `require` panics without an adapter, `auto` (or unset) says so once on standard
/// error and skips, `off` skips. `GANYMEDE_TEST_ADAPTER` names the adapter; `GANYMEDE_TEST_CHECKED=1` turns the shaders' checks on.
pub fn gpu() -> Option<&'static Gpu> {
    static GPU: OnceLock<Option<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| {
        let policy = std::env::var("GANYMEDE_TEST_GPU").unwrap_or_else(|_| "auto".to_string());
        assert!(["require", "auto", "off"].contains(&policy.as_str()), "GANYMEDE_TEST_GPU={policy}: expected require, auto or off");
        if policy == "off" {
            return None;
        }
        let adapter = std::env::var("GANYMEDE_TEST_ADAPTER").ok();
        let checked = std::env::var("GANYMEDE_TEST_CHECKED").is_ok_and(|v| v == "1");
        // Experimental, but where there are such units, tests are to run them.
        let matrix = Some(Fragments::KERNELS);
        match Gpu::open(&GpuOptions { adapter, checked, pipeline_cache: false, matrix, ..GpuOptions::default() }) {
            Ok(gpu) => Some(gpu),
            Err(error) if policy == "auto" => {
                // Written directly, because the test harness hides what passing tests print.
                let _ = writeln!(std::io::stderr(), "*** GPU TESTS SKIPPED: {error} (set GANYMEDE_TEST_GPU=require to fail instead) ***");
                None
            }
            Err(error) => panic!("GANYMEDE_TEST_GPU=require, but {error}"),
        }
    })
    .as_ref()
}
