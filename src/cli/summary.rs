//! `ganymede summary`.

use super::args::ModelArgs;
use super::{dataset, wiring};
use crate::error::Result;

/// Prints both networks of the given settings: layers, shapes, parameters, work and memory.
pub fn run(args: &ModelArgs) -> Result<()> {
    let config = args.layers()?.resolve(None)?;
    let data = dataset::open_data(&config)?;
    super::print(&data.describe())?;
    super::print(&wiring::networks(&config, &data)?)
}
