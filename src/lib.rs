//! Ganymede trains GANs on any GPU that wgpu reaches: every number of a training step is computed by a hand-written WGSL compute shader.

pub mod cli;
pub mod data;
pub mod error;
pub mod eval;
pub mod gan;
pub mod gpu;
pub mod graph;
pub mod nn;
pub mod ops;
pub mod plan;
pub mod run;
