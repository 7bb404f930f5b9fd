//! `ganymede sample`: pictures, archives and arrays; animations are in [`super::animate`].

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::args::{Grid, SampleArgs, Seeds};
use super::wiring::{self, SAMPLE_BATCH, Sampler};
use super::{animate, print};
use crate::error::{Error, Result};
use crate::run::animation::Format;
use crate::run::export::{self, Batch, Target};
use crate::run::folder::{self, Found};
use crate::run::layers::Layers;
use crate::run::progress::Progress;
use crate::run::state::{HostTensor, TrainState};
use crate::run::view::{PLOT_POINTS, View};
use crate::run::{checkpoint, disk, grid};

/// What a file name's ending asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Png,
    Safetensors,
    Npz,
    Zip,
    Animation(Format),
    Folder,
}

/// Makes pictures with the averaged generator of a checkpoint.
pub fn run(args: &SampleArgs) -> Result<()> {
    let out = args.out.clone().unwrap_or_else(|| {
        let animated = args.interpolate.is_some() || args.film.is_some();
        PathBuf::from(if animated { "samples.gif" } else { "samples.png" })
    });
    let kind = kind(&out)?;
    check(args, &out, kind)?;
    if let Kind::Animation(format) = kind {
        return animate::run(args, &out, format);
    }
    let (seeds, grid) = match args.count {
        Some(count) => ((0..count).collect(), Grid { rows: 1, columns: 1 }),
        None => layout(args.seeds.clone(), args.grid)?,
    };
    let found = find(args)?;
    if args.count.is_some() && kind == Kind::Folder {
        check_folder(&out, seeds.len())?;
    }
    let (path, state) = model(&found)?;
    // Read before the adapter is opened, because it may not be there.
    let reals = if args.compare { Some(reals(&found, &path, &state, grid)?) } else { None };
    let sampler = wiring::sampler(&state, &path, &args.device)?;
    if let Some(features) = sampler.features() {
        return points(args, &sampler, features, &path, (&out, kind));
    }
    let scale = args.scale.unwrap_or(1) as usize;
    match kind {
        Kind::Png => {
            let images = grid::compose(&sampler.sample(&seeds)?, grid.rows, grid.columns)?;
            let sheet = match reals {
                Some(reals) => reals.captioned("real").beside(&images.captioned("generated"), 8),
                None => images,
            };
            replace(&out, &animate::scaled(&sheet, scale)?.png()?)?;
        }
        Kind::Safetensors => {
            let images = sampler.raw(sampler.sample(&seeds)?);
            let z = HostTensor::f32([seeds.len(), sampler.z_dim()], sampler.z(&seeds));
            let images = HostTensor::f32([images.n, images.c, images.h, images.w], images.data);
            make_parent(&out)?;
            checkpoint::write_tensors(&out, &BTreeMap::from([("z".to_string(), z), ("images".to_string(), images)]))?;
        }
        Kind::Npz => export(&sampler, Target::Npz(&out), &seeds, args.count)?,
        Kind::Zip => export(&sampler, Target::Zip(&out), &seeds, args.count)?,
        Kind::Folder => export(&sampler, Target::Folder(&out), &seeds, args.count)?,
        Kind::Animation(_) => return Err(Error::internal("an animation among pictures")),
    }
    print(&format!("{} images of {} are in {}", seeds.len(), path.display(), out.display()))
}

/// What the name asks for; a name without a known ending is a folder's.
fn kind(out: &Path) -> Result<Kind> {
    if let Some(format) = Format::of(out) {
        return Ok(Kind::Animation(format));
    }
    let ending = out.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    match ending.as_str() {
        "png" => Ok(Kind::Png),
        "safetensors" => Ok(Kind::Safetensors),
        "npz" => Ok(Kind::Npz),
        "zip" => Ok(Kind::Zip),
        "jpg" | "jpeg" | "bmp" | "tif" | "tiff" | "npy" | "pt" | "tar" | "gz" | "apng" | "mp4" if !out.is_dir() => {
            Err(Error::input(format!(
                "--out {}: .{ending} files are not written; expected .png, .npz, .safetensors, .zip, .gif, .webp, or a folder",
                out.display()
            )))
        }
        _ => Ok(Kind::Folder),
    }
}

/// Refuses what the other flags make no sense with.
fn check(args: &SampleArgs, out: &Path, kind: Kind) -> Result<()> {
    let (what, fits, expected) = if args.interpolate.is_some() || args.film.is_some() {
        (if args.film.is_some() { "--film" } else { "--interpolate" }, matches!(kind, Kind::Animation(_)), "a .gif or .webp file")
    } else if args.count.is_some() {
        ("--count", matches!(kind, Kind::Folder | Kind::Zip | Kind::Npz), "a folder, a .zip or a .npz file")
    } else if args.compare {
        ("--compare", kind == Kind::Png, "a .png file")
    } else {
        let fits = !matches!(kind, Kind::Animation(_));
        ("without --interpolate or --film", fits, "a .png, .npz, .safetensors or .zip file, or a folder")
    };
    if !fits {
        return Err(Error::input(format!("--out {}: {what}, expected {expected}", out.display())));
    }
    if args.fps.is_some() && !matches!(kind, Kind::Animation(_)) {
        return Err(Error::input("--fps is for animations; give --interpolate or --film too, or leave it out"));
    }
    if args.scale.is_some() && !matches!(kind, Kind::Animation(_) | Kind::Png) {
        return Err(Error::input(format!("--scale is for grids and animations, and --out {} is neither; leave it out", out.display())));
    }
    if args.grid.is_some() && !matches!(kind, Kind::Animation(_) | Kind::Png) && args.seeds.is_some() {
        return Err(Error::input(format!("--grid is for grids and animations, and --out {} is neither; leave it out", out.display())));
    }
    Ok(())
}

/// Another picture in the folder would be one more sample to a tool that measures all of them.
fn check_folder(out: &Path, count: usize) -> Result<()> {
    let entries = match fs::read_dir(out) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| disk::cannot_write(out, &error))?,
    };
    for entry in entries {
        let name = entry.map_err(|error| disk::cannot_write(out, &error))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".png")?.parse::<usize>().ok());
        if number.is_none_or(|number| number >= count || numbered(number, count) != name.to_string_lossy()) {
            return Err(Error::input(format!(
                "--out {} holds {} already, which is none of the {count} images that --count writes; give a new or empty folder",
                out.display(),
                name.to_string_lossy()
            )));
        }
    }
    Ok(())
}

/// What `--model` names.
pub(super) fn find(args: &SampleArgs) -> Result<Found> {
    folder::find(Path::new("runs"), &args.model)
}

/// The checkpoint that was found, and its path.
pub(super) fn model(found: &Found) -> Result<(PathBuf, TrainState)> {
    let Some(path) = found.checkpoint.clone() else {
        return Err(Error::input(format!("{} has no checkpoint yet; train on with `--resume` until it has one", found.folder.display())));
    };
    let state = checkpoint::read(&path)?;
    Ok((path, state))
}

/// Makes a plot of points, or a file of their numbers.
fn points(args: &SampleArgs, sampler: &Sampler, features: usize, model: &Path, (out, kind): (&Path, Kind)) -> Result<()> {
    check_points(args, features, out, kind)?;
    let chosen = args.seeds.clone().map(|Seeds(seeds)| seeds).or_else(|| args.count.map(|count| (0..count).collect()));
    let seeds = chosen.unwrap_or_else(|| (0..PLOT_POINTS as u64).collect());
    let samples = sampler.sample(&seeds)?;
    if kind == Kind::Png {
        replace(out, &View::of_samples(features).picture(&samples)?.png()?)?;
    } else {
        let z = HostTensor::f32([seeds.len(), sampler.z_dim()], sampler.z(&seeds));
        let points = HostTensor::f32([samples.n, features], samples.data);
        make_parent(out)?;
        checkpoint::write_tensors(out, &BTreeMap::from([("z".to_string(), z), ("points".to_string(), points)]))?;
    }
    print(&format!("{} points of {} are in {}", seeds.len(), model.display(), out.display()))
}

/// Refuses what can only be done with images.
fn check_points(args: &SampleArgs, features: usize, out: &Path, kind: Kind) -> Result<()> {
    let refused = [("--grid", args.grid.is_some()), ("--compare", args.compare), ("--scale", args.scale.is_some())];
    if let Some((flag, _)) = refused.iter().find(|(_, given)| *given) {
        return Err(Error::input(format!("{flag}: the model makes points of {features} numbers, which are plotted; leave it out")));
    }
    if matches!(kind, Kind::Png | Kind::Safetensors) { Ok(()) } else { Err(no_images(out, features)) }
}

/// The model makes points, of which there are no files of that kind.
pub(super) fn no_images(out: &Path, features: usize) -> Error {
    Error::input(format!(
        "--out {}: the model makes points of {features} numbers, of which there is a plot (NAME.png) or a file of numbers (NAME.safetensors); \
         give one of those",
        out.display()
    ))
}

/// Seeds and grid, each from the other where it is not given.
pub(super) fn layout(seeds: Option<Seeds>, grid: Option<Grid>) -> Result<(Vec<u64>, Grid)> {
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

/// Images of the data set that a checkpoint was trained on, for as many cells as the grid has.
fn reals(found: &Found, path: &Path, state: &TrainState, grid: Grid) -> Result<crate::run::picture::Picture> {
    let config = match folder::read_config(&found.folder)? {
        Some(config) => config,
        None if state.data.source.starts_with("builtin:") => {
            let mut config = Layers::default().resolve(None)?;
            config.data.source.clone_from(&state.data.source);
            config
        }
        None => {
            return Err(Error::input(format!(
                "--compare: {} does not say where its data set is; give --model the run folder, whose config.toml does",
                path.display()
            )));
        }
    };
    let config = config.with_recipe(state.recipe.clone());
    let data = wiring::open_data(&config)?;
    if data.id() != state.data {
        return Err(Error::input(format!(
            "--compare: {} (data.source in {}) is not the data set that {} was trained on; mend its place there",
            config.data.source,
            folder::config_path(&found.folder).display(),
            path.display()
        )));
    }
    grid::compose(&data.reals(grid.rows * grid.columns)?, grid.rows, grid.columns)
}

/// Writes the images of the seeds one by one, or as arrays.
fn export(sampler: &Sampler, target: Target<'_>, seeds: &[u64], count: Option<u64>) -> Result<()> {
    let name = |i: usize| match count {
        Some(_) => numbered(i, seeds.len()),
        None => format!("seed-{:06}.png", seeds[i]),
    };
    let mut progress = Progress::default();
    progress.start_counting("image", 0, seeds.len() as u64);
    let written = export::write(target, seeds.len(), &name, &mut |first| {
        let seeds = &seeds[first..seeds.len().min(first + SAMPLE_BATCH)];
        let z = sampler.z(seeds);
        let images = sampler.sample_z(&z)?;
        progress.at((first + seeds.len()) as u64);
        Ok(Batch { z, images })
    });
    progress.end();
    written
}

/// File name of image `i` of `count`; all are of one length, so that they sort.
fn numbered(i: usize, count: usize) -> String {
    let digits = (count - 1).to_string().len().max(6);
    format!("{i:0digits$}.png")
}

/// Makes the folder that a file is to lie in.
fn make_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => fs::create_dir_all(parent)
            .map_err(|error| Error::environment(format!("cannot make the folder {}: {}", parent.display(), disk::plain(&error)))),
        _ => Ok(()),
    }
}

/// Writes a file and the folder that it lies in.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    make_parent(path)?;
    disk::replace(path, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Command, Ganymede};
    use clap::Parser;

    #[test]
    fn points_have_no_grid_and_no_folder_of_pictures() {
        let check = |line: &str| {
            let words = ["ganymede", "sample", "--model", "0"].into_iter().chain(line.split_whitespace());
            let Command::Sample(args) = Ganymede::try_parse_from(words).unwrap().command else { panic!("{line}") };
            let out = args.out.clone().unwrap();
            check_points(&args, 2, &out, kind(&out).unwrap()).map_err(|error| error.to_string())
        };
        for out in ["--out a.png", "--out b/c.SAFETENSORS", "--seeds 3 --out a.png"] {
            check(out).unwrap();
        }
        assert!(check("--out folder").unwrap_err().contains("--out folder: the model makes points of 2 numbers"));
        assert!(check("--out a.npz").unwrap_err().contains("--out a.npz: "));
        assert!(check("--out a.png --grid 2x2").unwrap_err().starts_with("--grid: "));
        assert!(check("--out a.png --compare").unwrap_err().starts_with("--compare: "));
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

    #[test]
    fn names_of_many_images_sort() {
        assert_eq!([numbered(0, 5), numbered(49_999, 50_000)], ["000000.png", "049999.png"]);
        assert_eq!([numbered(7, 1_000_000), numbered(7, 1_000_001)], ["000007.png", "0000007.png"]);
    }

    #[test]
    fn folders_with_other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("new");
        check_folder(&out, 5).unwrap();
        fs::create_dir(&out).unwrap();
        fs::write(out.join("000004.png"), b"").unwrap();
        check_folder(&out, 5).unwrap();
        let error = check_folder(&out, 4).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("000004.png"), "{error}");
        fs::write(out.join("notes.txt"), b"").unwrap();
        assert!(check_folder(&out, 5).unwrap_err().to_string().contains("notes.txt"));
    }
}
