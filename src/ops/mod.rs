//! Ops: one file per family, with parameters, shape rule, gradient rule, f64 twin and kernel table entries.

pub mod case;
