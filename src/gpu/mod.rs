//! The GPU below everything: adapters, buffers, pipelines, recording. Knows nothing of tensors.

pub mod kernel;
pub mod step;
