//! What the adapter can do at best, measured beside the profile: the ceilings that kernels are held against.

use crate::bench::{self, Ceilings};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::kernel::Cost;

/// The ceilings of an adapter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceiling {
    /// Rates of arithmetic and of traffic.
    pub rates: Ceilings,
    /// A dispatch that does next to nothing, in nanoseconds.
    pub dispatch_ns: f64,
}

impl Ceiling {
    /// Measures the ceilings of an adapter, in about a second.
    ///
    /// # Errors
    /// As [`bench::ceilings`].
    pub fn measure(gpu: &Gpu) -> Result<Self> {
        Ok(Ceiling { rates: bench::ceilings(gpu)?, dispatch_ns: bench::least_dispatch_ns(gpu)? })
    }

    /// Nanoseconds that this much work takes at least: (arithmetic, memory).
    pub fn least_ns(&self, cost: Cost) -> (f64, f64) {
        // A GFLOP/s is an operation a nanosecond.
        (cost.flops as f64 / self.rates.gflops, cost.bytes as f64 / self.rates.gigabytes)
    }
}
