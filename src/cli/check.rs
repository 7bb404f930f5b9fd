//! `ganymede check`.

use super::args::DeviceArgs;
use super::wiring::{self, Device};
use crate::error::Result;

/// Runs the self-test, printing each line as it comes.
pub fn run(args: &DeviceArgs) -> Result<()> {
    wiring::check(&device(args), &mut |line| super::print(line))
}

/// The device that flags ask for.
pub fn device(args: &DeviceArgs) -> Device {
    Device { adapter: args.adapter.clone(), backend: args.backend_name(), checked: args.checked }
}
