//! The GPU below everything: adapters, buffers, pipelines, recording. Knows nothing of tensors.
//!
//! A run opens one [`Gpu`], allocates [`Buffer`]s, turns a list of dispatches into a [`Sequence`] once, and then calls [`Gpu::submit`] for
//! every few steps. Errors that the driver reports out of turn (device lost, out of memory) surface as the result of the next call.

mod adapter;
mod cache;
mod capture;
mod device;
mod fault;
pub mod kernel;
pub mod matrix;
mod memory;
mod mirror;
mod pipeline;
mod probe;
mod sequence;
pub mod step;
#[doc(hidden)]
pub mod testing;
mod timing;

pub use adapter::{Backend, GpuOptions, adapters, describe_devices};
pub use capture::CaptureTool;
pub use device::{Buffer, BufferRange, Gpu, LANE_TEST, PendingRead, QUAD_TEST};
pub use mirror::{Region, texture_bytes};
pub use pipeline::Pipeline;
pub use sequence::Sequence;
pub use timing::{Clock, Span, TimedRun, Work};
pub use wgpu::AdapterInfo;
