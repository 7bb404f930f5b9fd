//! `ganymede check`.

use super::args::SelfTestArgs;
use super::wiring;
use crate::error::Result;

/// Runs the self-test, printing each line as it comes.
pub fn run(args: &SelfTestArgs) -> Result<()> {
    wiring::check(args, &mut |line| super::print(line))
}
