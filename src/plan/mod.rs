//! From a program to a list of dispatches: fusion, order, buffer lifetimes, and the executor that replays the list.
//!
//! [`Program`] says what to compute, [`compile`] turns it into a [`Plan`] without touching a GPU, [`Executor`] binds the plan to buffers and runs it.

mod compile;
mod cover;
mod executor;
pub mod label;
mod memory;
mod pieces;
mod print;
mod products;
mod program;
mod variants;

pub use compile::{Part, Plan, PlanBuffer, Slot, compile, compile_with};
pub use executor::Executor;
pub use pieces::{Piece, Work, pieces};
pub use print::Memory;
pub use products::{ProductSite, Trial, products};
pub use program::{BufferDecl, NormSite, Program};
