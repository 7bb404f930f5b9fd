//! Ganymede trains GANs on any GPU that wgpu reaches: every number of a training step is computed by a hand-written WGSL compute shader.

pub mod error;
pub mod gpu;
pub mod graph;
pub mod ops;
pub mod plan;
pub mod nn;
pub mod gan;
pub mod data;
pub mod eval;
pub mod run;
pub mod cli;
