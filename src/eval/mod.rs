//! Measuring how good samples are, without looking at them.

pub mod modes;
pub mod swd;
