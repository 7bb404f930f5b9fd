//! From a program to a list of dispatches: fusion, order, buffer lifetimes, and the executor that replays the list.
//!
//! [`Program`] says what to compute, [`compile`] turns it into a [`Plan`] without touching a GPU, [`Executor`] binds the plan to buffers and runs it.

mod compile;
mod cover;
mod executor;
pub mod label;
mod memory;
mod print;
mod program;

pub use compile::{Plan, PlanBuffer, Slot, compile};
pub use executor::Executor;
pub use program::{BufferDecl, NormSite, Program};
