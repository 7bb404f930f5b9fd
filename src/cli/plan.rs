//! `ganymede plan`.

use super::args::PlanArgs;
use super::{dataset, wiring};
use crate::error::Result;

/// Prints the plan of a training step with the given settings.
pub fn run(args: &PlanArgs) -> Result<()> {
    let config = args.layers()?.resolve(None)?;
    let data = dataset::open_data(&config)?;
    config.check_data(data.len())?;
    wiring::plan(&config, &data, &super::print)
}
