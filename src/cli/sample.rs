//! `ganymede sample`.

use std::path::Path;

use super::args::{Grid, SampleArgs, Seeds};
use super::wiring;
use crate::error::{Error, Result};
use crate::run::{checkpoint, folder, grid, train};

/// Makes pictures with the averaged generator of a checkpoint.
pub fn run(args: &SampleArgs) -> Result<()> {
    let (seeds, grid) = layout(args.seeds.clone(), args.grid)?;
    let found = folder::find(Path::new("runs"), &args.model)?;
    let Some(path) = found.checkpoint else {
        return Err(Error::input(format!("{} has no checkpoint yet; train on with `--resume` until it has one", found.folder.display())));
    };
    let state = checkpoint::read(&path)?;
    let mut sampler = wiring::sampler(&state, &path, &args.device)?;
    let images = sampler.sample(&seeds)?;
    let is_png = args.out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    if is_png {
        if let Some(parent) = args.out.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent)
                .map_err(|error| Error::environment(format!("cannot make the folder {}: {error}", parent.display())))?;
        }
        grid::write(&args.out, &images, grid.rows, grid.columns)?;
    } else {
        train::write_each(&args.out, &images, &seeds)?;
    }
    super::print(&format!("{} images of {} are in {}", seeds.len(), path.display(), args.out.display()))
}

/// Seeds and grid, each from the other where it is not given.
fn layout(seeds: Option<Seeds>, grid: Option<Grid>) -> Result<(Vec<u64>, Grid)> {
    let cells = |grid: Grid| grid.rows * grid.columns;
    match (seeds, grid) {
        (None, grid) => {
            let grid = grid.unwrap_or(Grid { rows: 8, columns: 8 });
            Ok(((0..cells(grid) as u64).collect(), grid))
        }
        (Some(Seeds(seeds)), None) => {
            let (rows, columns) = grid::near_square(seeds.len());
            Ok((seeds, Grid { rows, columns }))
        }
        (Some(Seeds(seeds)), Some(grid)) if seeds.len() <= cells(grid) => Ok((seeds, grid)),
        (Some(Seeds(seeds)), Some(grid)) => Err(Error::input(format!(
            "--seeds: {} images do not fit into a grid of {}x{}; give a larger --grid, or leave it out",
            seeds.len(),
            grid.rows,
            grid.columns
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_grid_complete_each_other() {
        let seeds = |n: u64| Some(Seeds((0..n).collect()));
        assert_eq!(layout(None, None).unwrap().0.len(), 64);
        assert_eq!(layout(None, Some(Grid { rows: 2, columns: 3 })).unwrap().0, [0, 1, 2, 3, 4, 5]);
        assert_eq!(layout(seeds(10), None).unwrap().1, Grid { rows: 3, columns: 4 });
        assert_eq!(layout(seeds(5), Some(Grid { rows: 2, columns: 3 })).unwrap().0.len(), 5);
        let error = layout(seeds(7), Some(Grid { rows: 2, columns: 3 })).unwrap_err();
        assert!(error.to_string().contains("7 images do not fit into a grid of 2x3"), "{error}");
    }
}
