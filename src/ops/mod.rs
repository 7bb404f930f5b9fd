//! Ops: one file per family, with parameters, shape rule, gradient rule, f64 twin and kernel table entries.

pub mod activation;
pub mod case;
pub mod conv2d;
pub mod gemm;
pub mod matmul;
