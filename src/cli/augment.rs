//! `ganymede augment`: what training would make of real images.

use super::args::{AugmentArgs, Grid};
use super::{dataset, wiring};
use crate::error::{Error, Result};
use crate::run::{disk, grid};

/// Writes a picture: each row is a real image and augmentations of it.
pub fn run(args: &AugmentArgs) -> Result<()> {
    let config = args.model.layers()?.resolve(None)?;
    let Grid { rows, columns } = args.grid;
    if columns < 2 {
        return Err(Error::input(format!("--grid {rows}x{columns}: the first column is the image itself; expected at least 2 columns")));
    }
    if !args.out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png")) {
        return Err(Error::input(format!("--out {}: expected a file that ends in .png", args.out.display())));
    }
    let data = dataset::open_data(&config)?;
    let images = wiring::augmentations(&config, &data, rows, columns - 1)?;
    let shown = images.n / columns;
    if let Some(parent) = args.out.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(|error| disk::cannot_write(parent, &error))?;
    }
    grid::write(&args.out, &images, shown, columns)?;
    super::print(&format!("{shown} images, each with {} augmentations beside it, are in {}", columns - 1, args.out.display()))
}
