//! `ganymede devices`.

use super::wiring;
use crate::error::Result;

/// Prints the adapters.
pub fn run() -> Result<()> {
    super::print(&wiring::devices()?)
}
