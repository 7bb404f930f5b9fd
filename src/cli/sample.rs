//! `ganymede sample`: pictures, archives and arrays; animations are in [`super::animate`].

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::args::{Grid, SampleArgs, Seeds};
use super::classes::{Classes, Sheet};
use super::dataset;
use super::sampler::{self, SAMPLE_BATCH, Sampler};
use super::{animate, print};
use crate::data::LABELS_FILE;
use crate::error::{Error, Result};
use crate::run::animation::Format;
use crate::run::classes::{Cells, folders};
use crate::run::export::{self, Batch, Labelled, Target};
use crate::run::folder::{self, Found};
use crate::run::layers::Layers;
use crate::run::picture::Picture;
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
    if args.count.is_none() {
        layout(args.seeds.clone(), args.grid)?;
    }
    let found = find(args)?;
    let (path, state) = model(&found)?;
    let classes = Classes::of(args, state.class_names(), &path)?;
    let sheet = classes.sheet(args, kind == Kind::Png && state.data.height > 0, &mut print)?;
    let names = Names::new(args, &sheet.cells, state.class_names());
    if (args.count.is_some() || args.per_class.is_some()) && kind == Kind::Folder {
        names.check_folder(&out)?;
    }
    // Read before the adapter is opened, because it may not be there.
    let reals = if args.compare { Some(reals(&found, &path, &state, &sheet)?) } else { None };
    let sampler = sampler::sampler(&state, &path, &args.device)?;
    if let Some(features) = sampler.features() {
        return points(args, &sampler, &classes, features, &path, (&out, kind));
    }
    let count = sheet.cells.seeds.len();
    let scale = args.scale.unwrap_or(1) as usize;
    match kind {
        Kind::Png => {
            let images = sheet.picture(&sampler.sample(&sheet.cells)?)?;
            let sheet = match reals {
                Some(reals) => reals.captioned("real").beside(&images.captioned("generated"), 8),
                None => images,
            };
            replace(&out, &animate::scaled(&sheet, scale)?.png()?)?;
        }
        Kind::Safetensors => {
            let images = sampler.raw(sampler.sample(&sheet.cells)?);
            let images = HostTensor::f32([images.n, images.c, images.h, images.w], images.data);
            write_numbers(&out, &sampler, &sheet.cells, ("images", images))?;
        }
        Kind::Npz => export(&sampler, Target::Npz(&out), &sheet.cells, &names)?,
        Kind::Zip => export(&sampler, Target::Zip(&out), &sheet.cells, &names)?,
        Kind::Folder => export(&sampler, Target::Folder(&out), &sheet.cells, &names)?,
        Kind::Animation(_) => return Err(Error::internal("an animation among pictures")),
    }
    print(&format!("{count} images of {} are in {}", path.display(), out.display()))
}

/// Writes samples as numbers, with what they were made from.
fn write_numbers(out: &Path, sampler: &Sampler, cells: &Cells, (name, samples): (&str, HostTensor)) -> Result<()> {
    let n = cells.seeds.len();
    let z = HostTensor::f32([n, sampler.z_dim()], sampler.z(&cells.seeds));
    let mut tensors = BTreeMap::from([("z".to_string(), z), (name.to_string(), samples)]);
    if !cells.classes.is_empty() {
        tensors.insert("labels".to_string(), HostTensor::u32([n], cells.classes.clone()));
    }
    make_parent(out)?;
    checkpoint::write_tensors(out, &tensors)
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
fn points(
    args: &SampleArgs,
    sampler: &Sampler,
    classes: &Classes,
    features: usize,
    model: &Path,
    (out, kind): (&Path, Kind),
) -> Result<()> {
    check_points(args, features, out, kind)?;
    let cells = if args.per_class.is_some() || args.count.is_some() {
        classes.sheet(args, false, &mut print)?.cells
    } else {
        classes.cells(args.seeds.clone().map_or_else(|| (0..PLOT_POINTS as u64).collect(), |Seeds(seeds)| seeds))
    };
    let samples = sampler.sample(&cells)?;
    if kind == Kind::Png {
        replace(out, &View::of_samples(features).picture(&samples)?.png()?)?;
    } else {
        write_numbers(out, sampler, &cells, ("points", HostTensor::f32([samples.n, features], samples.data)))?;
    }
    print(&format!("{} points of {} are in {}", cells.seeds.len(), model.display(), out.display()))
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

/// Images of the data set that a checkpoint was trained on, for as many cells as the sheet has, and of their classes.
fn reals(found: &Found, path: &Path, state: &TrainState, sheet: &Sheet) -> Result<Picture> {
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
    let data = dataset::open_data(&config)?;
    if data.id() != state.data {
        return Err(Error::input(format!(
            "--compare: {} (data.source in {}) is not the data set that {} was trained on; mend its place there",
            config.data.source,
            folder::config_path(&found.folder).display(),
            path.display()
        )));
    }
    sheet.picture(&match sheet.cells.classes.is_empty() {
        true => data.reals(sheet.places())?,
        false => data.reals_of(&sheet.cells.classes)?,
    })
}

/// Writes the images of the seeds one by one, or as arrays.
fn export(sampler: &Sampler, target: Target<'_>, cells: &Cells, names: &Names<'_>) -> Result<()> {
    let count = cells.seeds.len();
    let mut progress = Progress::default();
    progress.start_counting("image", 0, count as u64);
    let written = export::write(target, count, &|i| names.of(i), names.labels(target), &mut |first| {
        let run = first..count.min(first + SAMPLE_BATCH);
        let z = sampler.z(&cells.seeds[run.clone()]);
        let images = sampler.sample_z(&z, cells.classes.get(run.clone()).unwrap_or_default())?;
        progress.at(run.end as u64);
        Ok(Batch { z, images })
    });
    progress.end();
    written
}

/// What the images of a folder or an archive are called.
struct Names<'a> {
    cells: &'a Cells,
    /// Of all classes.
    classes: &'a [String],
    /// A folder for each class, where each has its own.
    folders: Option<Vec<String>>,
    is_numbered: bool,
}

impl<'a> Names<'a> {
    fn new(args: &SampleArgs, cells: &'a Cells, classes: &'a [String]) -> Self {
        let folders = args.per_class.map(|_| folders(classes));
        Names { cells, classes, folders, is_numbered: args.count.is_some() }
    }

    /// The name of image `i`.
    fn of(&self, i: usize) -> String {
        match &self.folders {
            _ if self.is_numbered => numbered(i, self.cells.seeds.len()),
            None => seeded(self.cells.seeds[i]),
            Some(folders) => format!("{}/{}", folders[self.cells.classes[i] as usize], seeded(self.cells.seeds[i])),
        }
    }

    /// The labels to write beside the images: everywhere but in a folder of images alone, whose reader would count one more file.
    fn labels(&self, target: Target<'_>) -> Option<Labelled<'_>> {
        let is_plain_folder = matches!(target, Target::Folder(_)) && self.folders.is_none();
        (!self.cells.classes.is_empty() && !is_plain_folder).then_some(Labelled { classes: &self.cells.classes, names: self.classes })
    }

    /// Another picture in the folder would be one more sample to a tool that takes all of them.
    fn check_folder(&self, out: &Path) -> Result<()> {
        let mut own: Option<HashSet<String>> = None;
        let mut expected = |name: &str| {
            own.get_or_insert_with(|| (0..self.cells.seeds.len()).map(|i| self.of(i)).collect()).contains(name)
                || self.folders.is_some() && name == LABELS_FILE
        };
        for name in names_in(out)? {
            let is_folder = self.folders.as_ref().is_some_and(|folders| folders.contains(&name));
            let below =
                if is_folder { names_in(&out.join(&name))?.iter().map(|below| format!("{name}/{below}")).collect() } else { vec![name] };
            if let Some(stranger) = below.iter().find(|name| !expected(name)) {
                let (count, flag) = (self.cells.seeds.len(), if self.is_numbered { "--count" } else { "--per-class" });
                return Err(Error::input(format!(
                    "--out {} holds {stranger} already, which is none of the {count} images that {flag} writes; give a new or empty folder",
                    out.display(),
                )));
            }
        }
        Ok(())
    }
}

/// What is in a folder, sorted; nothing if it is not there.
fn names_in(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries,
    };
    let names = entries.and_then(|entries| entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect());
    let mut names: Vec<String> = names.map_err(|error| disk::cannot_write(folder, &error))?;
    names.sort();
    Ok(names)
}

/// File name of the image of a seed.
fn seeded(seed: u64) -> String {
    format!("seed-{seed:06}.png")
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
        let check_folder = |count: u64| {
            let cells = Cells { seeds: (0..count).collect(), classes: Vec::new() };
            Names { cells: &cells, classes: &[], folders: None, is_numbered: true }.check_folder(&out)
        };
        check_folder(5).unwrap();
        fs::create_dir(&out).unwrap();
        fs::write(out.join("000004.png"), b"").unwrap();
        check_folder(5).unwrap();
        let error = check_folder(4).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("000004.png"), "{error}");
        fs::write(out.join("notes.txt"), b"").unwrap();
        assert!(check_folder(5).unwrap_err().to_string().contains("notes.txt"));
    }

    #[test]
    fn folders_of_classes_may_be_made_again_but_not_mixed() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        let classes = ["cat".to_string(), "dog".to_string()];
        let check_folder = |n: u64| {
            let cells = Cells { seeds: (0..n).chain(0..n).collect(), classes: [0, 1].map(|class| vec![class; n as usize]).concat() };
            let names = Names { cells: &cells, classes: &classes, folders: Some(folders(&classes)), is_numbered: false };
            assert_eq!(names.of(n as usize), "dog/seed-000000.png");
            names.check_folder(out)
        };
        fs::create_dir(out.join("dog")).unwrap();
        for file in ["dataset.json", "dog/seed-000002.png"] {
            fs::write(out.join(file), b"").unwrap();
        }
        check_folder(3).unwrap();
        let error = check_folder(2).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("holds dog/seed-000002.png already"), "{error}");
        fs::create_dir(out.join("cow")).unwrap();
        assert!(check_folder(3).unwrap_err().to_string().contains("holds cow already"));
    }
}
