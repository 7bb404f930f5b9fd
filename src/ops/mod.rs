//! Ops: one file per family, with parameters, shape rule, gradient rule, f64 twin and kernel table entries.

pub mod case;
pub mod case_builder;
pub mod gather;
pub mod noise;
pub mod optimiser;
pub mod running_stats;
pub mod stats;
