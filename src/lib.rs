//! Ganymede trains GANs on any GPU that wgpu reaches: every number of a training step is computed by a hand-written WGSL compute shader.
//!
//! # One training step, file by file
//!
//! 1. `gan::step::build` (src/gan/step.rs) reads as the algorithm: draw z and (augmented) reals, generate, discriminate the pair, update D, look
//!    through the new D, update G, average. It writes a [`plan::Program`]: a graph of shaped nodes ([`graph`]) and an ordered list of effects on
//!    buffers.
//! 2. Networks (src/nn/network.rs) are lists of layers in PyTorch's terms. Their forward passes are built from primitive ops
//!    (src/ops/); norms and losses are expanded into primitives.
//! 3. [`graph::Graph::gradients`] differentiates: the gradient of a graph is more graph, by one rule per op, and can be differentiated again.
//! 4. [`plan::compile`] chooses kernels (src/plan/cover.rs fuses activations, biases and batch norms back into single kernels), orders them, assigns
//!    buffers by lifetime (src/plan/memory.rs), and gives a [`plan::Plan`]: a list of dispatches that can be printed and costed without a GPU.
//! 5. [`plan::Executor`] binds the plan once; [`gpu::Gpu::submit`] replays it, one compute pass a step, several steps a submit.
//!    The only upload is a row of scalars per step (src/gan/schedule.rs), and the batches of a data set that is streamed (src/data/stream.rs).
//! 6. [`gan::trainer::Trainer`] owns the state, reads statistics once a tick, samples the averaged generator, and loads and gives checkpoints' tensors.
//! 7. [`run`] keeps the run folder, [`cli`] the command line.
//!
//! Which of several kernels computes a product follows from adapter and shape; [`tune`] times them and writes a table ([`graph::variants`]) that a run
//! may use instead, and then keeps.
//!
//! [`profile`] times every dispatch of a step and says what bounds it, by the labels of [`plan::label`] and the ceilings of [`mod@bench`].
//!
//! Each module knows only those before it: `gpu`, `graph`, `ops`, `plan`, `nn`, `gan`, `run`, `tune`, `cli`; `data` and `eval` stand beside `gan`, which takes streamed batches
//! from [`data::stream`],
//! `bench` beside `run`, and `profile` on `bench`.
//!
//! # Why the numbers can be trusted
//!
//! PyTorch fixtures and finite differences prove the f64 CPU twin of every op; the twins prove the kernels on whatever adapter is present
//! (`ganymede check` does it for users); ten steps of a DCGAN against PyTorch prove the whole step.

pub mod bench;
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
pub mod profile;
pub mod run;
pub mod suggest;
pub mod tune;
