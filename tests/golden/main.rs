//! Ops against PyTorch: the f64 twins to 1e-9, and the compiled kernels, fusions included, on whatever adapter is present.

mod augment;
mod basics;
#[path = "../common/mod.rs"]
mod common;
mod harness;
mod networks;
mod norms;
mod optimisers;
mod rows;
mod spatial;
