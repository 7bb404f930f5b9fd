//! Ops: one file per family, with parameters, shape rule, gradient rule, f64 twin and kernel table entries.

pub mod activation;
pub mod batch;
pub mod batch_norm;
pub mod case;
pub mod case_builder;
pub mod constant;
pub mod conv2d;
pub mod elementwise;
pub mod gather;
pub mod gemm;
pub mod loss;
pub mod matmul;
pub mod noise;
pub mod optimiser;
pub mod reduce;
pub mod reshape;
pub mod running_stats;
pub mod stats;

use crate::error::{Error, Result};
use crate::gpu::kernel::Kernel;
use crate::graph::Graph;
use crate::graph::lower::Caps;
use crate::graph::shape::Shape;
use case::Case;

/// An empty graph whose gradients are summed by [`elementwise::Add`].
pub fn new_graph() -> Graph {
    Graph::new(elementwise::add)
}

/// Every kernel of every family.
pub fn kernels() -> Vec<&'static Kernel> {
    [
        &gemm::kernels(),
        elementwise::KERNELS,
        reduce::KERNELS,
        reshape::KERNELS,
        batch::KERNELS,
        batch_norm::KERNELS,
        optimiser::KERNELS,
        noise::KERNELS,
        gather::KERNELS,
        stats::KERNELS,
        running_stats::KERNELS,
    ]
    .concat()
}

/// Every validated use of the kernels that an adapter with these capabilities can run, including variants that it would not pick by itself.
pub fn cases(_caps: &Caps) -> Vec<Case> {
    Vec::new()
}

/// The inputs of an op as an array, or an error that names it.
pub(crate) fn expect_inputs<'a, const N: usize>(name: &str, inputs: &[&'a Shape]) -> Result<[&'a Shape; N]> {
    inputs.try_into().map_err(|_| Error::internal(format!("{name} takes {N} inputs, got {}", inputs.len())))
}
