//! `ganymede sample`.

use std::collections::BTreeMap;
use std::path::Path;

use super::args::{Grid, SampleArgs, Seeds};
use super::wiring;
use crate::error::{Error, Result};
use crate::run::picture::{PLOT_POINTS, Pictures};
use crate::run::state::HostTensor;
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
    if let Some(features) = sampler.features() {
        return points(args, &mut sampler, features, &path);
    }
    let images = sampler.sample(&seeds)?;
    if has_extension(&args.out, "png") || has_extension(&args.out, "safetensors") {
        make_parent(&args.out)?;
        if has_extension(&args.out, "png") {
            grid::write(&args.out, &images, grid.rows, grid.columns)?;
        } else {
            let z = HostTensor::f32([seeds.len(), sampler.z_dim()], sampler.z(&seeds));
            let images = HostTensor::f32([images.n, images.c, images.h, images.w], images.data);
            checkpoint::write_tensors(&args.out, &BTreeMap::from([("z".to_string(), z), ("images".to_string(), images)]))?;
        }
    } else {
        train::write_each(&args.out, &images, &seeds)?;
    }
    super::print(&format!("{} images of {} are in {}", seeds.len(), path.display(), args.out.display()))
}

/// Makes a plot of points, or a file of their numbers.
fn points(args: &SampleArgs, sampler: &mut wiring::Sampler, features: usize, model: &Path) -> Result<()> {
    check_points(args, features)?;
    let seeds = args.seeds.clone().map_or_else(|| (0..PLOT_POINTS as u64).collect(), |Seeds(seeds)| seeds);
    let samples = sampler.sample(&seeds)?;
    make_parent(&args.out)?;
    if has_extension(&args.out, "png") {
        Pictures::of_samples(features).write(&args.out, &samples)?;
    } else {
        let z = HostTensor::f32([seeds.len(), sampler.z_dim()], sampler.z(&seeds));
        let points = HostTensor::f32([samples.n, features], samples.data);
        checkpoint::write_tensors(&args.out, &BTreeMap::from([("z".to_string(), z), ("points".to_string(), points)]))?;
    }
    super::print(&format!("{} points of {} are in {}", seeds.len(), model.display(), args.out.display()))
}

/// Refuses what can only be done with images.
fn check_points(args: &SampleArgs, features: usize) -> Result<()> {
    if args.grid.is_some() {
        return Err(Error::input(format!("--grid: the model makes points of {features} numbers, which are plotted; leave it out")));
    }
    if !has_extension(&args.out, "png") && !has_extension(&args.out, "safetensors") {
        return Err(Error::input(format!(
            "--out {}: the model makes points of {features} numbers, of which there is a plot (NAME.png) or a file of numbers              (NAME.safetensors); give one of those",
            args.out.display()
        )));
    }
    Ok(())
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
}

fn make_parent(path: &Path) -> Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => std::fs::create_dir_all(parent)
            .map_err(|error| Error::environment(format!("cannot make the folder {}: {error}", parent.display()))),
        None => Ok(()),
    }
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
    use crate::cli::args::DeviceArgs;

    #[test]
    fn points_have_no_grid_and_no_folder_of_pictures() {
        let args = |out: &str, grid| SampleArgs { model: "0".into(), out: out.into(), seeds: None, grid, device: DeviceArgs::default() };
        for out in ["a.png", "b/c.SAFETENSORS"] {
            check_points(&args(out, None), 2).unwrap();
        }
        let refused = |args| check_points(&args, 2).unwrap_err().to_string();
        assert!(refused(args("folder", None)).contains("--out folder: the model makes points of 2 numbers"));
        assert!(refused(args("a.png", Some(Grid { rows: 2, columns: 2 }))).starts_with("--grid: "));
    }

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
