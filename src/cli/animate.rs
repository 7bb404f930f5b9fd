//! `ganymede sample --interpolate` and `--film`.

use std::path::{Path, PathBuf};

use super::args::{Film, Grid, Interpolate, SampleArgs, Seeds};
use super::classes::Classes;
use super::sample::{find, model, no_images, replace};
use super::sampler::{self, SAMPLE_BATCH};
use crate::error::{Error, Result};
use crate::gan::latent::Interpolation;
use crate::run::animation::{Animation, Format};
use crate::run::checkpoint;
use crate::run::folder;
use crate::run::grid::{self, Images};
use crate::run::picture::Picture;
use crate::run::progress::{Progress, format_kimg};

/// Most frames of an animation.
const MOST_FRAMES: usize = 10_000;

/// Seeds of a walk, where none are given.
const SEEDS_OF_A_WALK: u64 = 4;

/// How long the last frame of a film stays, in milliseconds.
const LAST_STAYS: u32 = 2000;

/// Makes the animation that the flags ask for.
pub fn run(args: &SampleArgs, out: &Path, format: Format) -> Result<()> {
    match (args.interpolate, args.film) {
        (Some(method), _) => interpolate(args, method, out, format),
        (None, Some(Film::Pictures)) => film_of_pictures(args, out, format),
        (None, _) => film_of_checkpoints(args, out, format),
    }
}

/// A picture with larger pixels.
pub fn scaled(picture: &Picture, factor: usize) -> Result<Picture> {
    let bytes = picture.pixels.len().checked_mul(factor * factor);
    if bytes.is_none_or(|bytes| bytes > 1 << 30) {
        return Err(Error::input(format!(
            "--scale {factor}: a picture of {}x{} would have more than a thousand million bytes; give a smaller one",
            picture.width, picture.height
        )));
    }
    Ok(if factor == 1 { picture.clone() } else { picture.scaled(factor) })
}

/// The way from seed to seed.
fn interpolate(args: &SampleArgs, method: Interpolate, out: &Path, format: Format) -> Result<()> {
    let (walks, grid) = walks(args.seeds.clone(), args.grid)?;
    let frames = args.frames.unwrap_or(25) as usize;
    let total = walks[0].len() * frames;
    if total > MOST_FRAMES {
        return Err(Error::input(format!(
            "--frames: {} seeds in a walk with {frames} frames each are {total} frames, and at most {MOST_FRAMES} are made; give fewer",
            walks[0].len()
        )));
    }
    let (path, state) = model(&find(args)?)?;
    let sampler = sampler::sampler(&state, &path, &args.device)?;
    if let Some(features) = sampler.features() {
        return Err(no_images(out, features));
    }
    // A class a walk.
    let classes = Classes::of(args, state.class_names(), &path)?;
    let classes: Vec<u32> = (0..walks.len() as u64).filter_map(|walk| classes.of_turn(walk)).collect();
    let points: Vec<Vec<Vec<f32>>> = walks
        .iter()
        .map(|seeds| {
            let z = sampler.z(seeds);
            let points: Vec<&[f32]> = z.chunks(sampler.z_dim()).collect();
            Interpolation::from(method).walk(&points, frames)
        })
        .collect();
    let mut animation = Animation::new(format);
    let delay = 1000 / args.fps.unwrap_or(25);
    let mut progress = Progress::default();
    progress.start_counting("frame", 0, total as u64);
    // Whole frames that fill about one batch of the device, or one that takes several.
    let at_once = (SAMPLE_BATCH / walks.len()).max(1);
    for first in (0..total).step_by(at_once) {
        let here = first..total.min(first + at_once);
        let z: Vec<f32> = here.clone().flat_map(|frame| points.iter().flat_map(move |walk| &walk[frame])).copied().collect();
        let images = sampler.sample_z(&z, &classes.repeat(here.len()))?;
        animation.push(&pictures(&images, here.len(), grid, args.scale)?, delay)?;
        progress.at(here.end as u64);
    }
    progress.end();
    finish(animation, delay, &path, out, format)
}

/// Equal shares of the seeds, one for each cell of the grid.
fn walks(seeds: Option<Seeds>, grid: Option<Grid>) -> Result<(Vec<Vec<u64>>, Grid)> {
    let grid = grid.unwrap_or(Grid { rows: 1, columns: 1 });
    let cells = grid.rows * grid.columns;
    let seeds = seeds.map_or_else(|| (0..cells as u64 * SEEDS_OF_A_WALK).collect(), |Seeds(seeds)| seeds);
    let share = seeds.len() / cells;
    if share < 2 || !seeds.len().is_multiple_of(cells) {
        return Err(Error::input(match cells {
            1 => format!("--seeds: a walk needs at least 2 seeds, and there is {}", seeds.len()),
            _ => format!(
                "--seeds: {} seeds are no equal shares of at least 2 for the {cells} walks of a {}x{} grid; give {} seeds, or another --grid",
                seeds.len(),
                grid.rows,
                grid.columns,
                cells * share.max(2)
            ),
        }));
    }
    Ok((seeds.chunks(share).map(<[u64]>::to_vec).collect(), grid))
}

/// Images in the order [frame][cell] as one picture a frame.
fn pictures(images: &Images, frames: usize, grid: Grid, scale: Option<u32>) -> Result<Vec<Picture>> {
    let cells = images.n / frames;
    let size = images.data.len() / frames;
    images
        .data
        .chunks(size)
        .map(|data| {
            let frame = Images { n: cells, data: data.to_vec(), ..*images };
            scaled(&grid::compose(&frame, grid.rows, grid.columns)?, scale.unwrap_or(1) as usize)
        })
        .collect()
}

/// A frame of a film.
fn titled(picture: &Picture, images_seen: u64, scale: Option<u32>) -> Result<Picture> {
    scaled(&picture.captioned(&format!("{} kimg", format_kimg(images_seen))), scale.unwrap_or(1) as usize)
}

/// The run's own pictures.
fn film_of_pictures(args: &SampleArgs, out: &Path, format: Format) -> Result<()> {
    if args.seeds.is_some() || args.grid.is_some() || !args.class.is_empty() {
        return Err(Error::input(
            "--seeds, --grid and --class do not apply to --film of a run's own pictures; leave them out, or give --film checkpoints",
        ));
    }
    let found = find(args)?;
    let all = folder::pictures(&found.folder)?;
    if all.is_empty() {
        return Err(Error::input(format!("{} has no pictures (fakes_init.png, fakes-*.png) to make a film of", found.folder.display())));
    }
    let shown: Vec<&(u64, PathBuf)> = all.iter().step_by(all.len().div_ceil(MOST_FRAMES)).collect();
    let mut size = None;
    film(args, shown.len(), &found.folder, out, format, &mut |frame| {
        let (images_seen, path) = shown[frame];
        let picture = Picture::read_png(path)?;
        let here = (picture.width, picture.height, picture.channels);
        if *size.get_or_insert(here) != here {
            return Err(Error::input(format!("{} has another size or other colours than the run's other pictures", path.display())));
        }
        titled(&picture, *images_seen, args.scale)
    })
}

/// Seeds through each checkpoint that is kept.
fn film_of_checkpoints(args: &SampleArgs, out: &Path, format: Format) -> Result<()> {
    let found = find(args)?;
    let all = checkpoint::list(&found.folder)?;
    let Some(first) = all.first() else {
        return Err(Error::input(format!("{} has no checkpoint yet; train on with `--resume` until it has one", found.folder.display())));
    };
    let state = checkpoint::read(&first.path)?;
    let mut sampler = sampler::sampler(&state, &first.path, &args.device)?;
    if let Some(features) = sampler.features() {
        return Err(no_images(out, features));
    }
    let sheet = Classes::of(args, state.class_names(), &first.path)?.sheet(args, true, &mut super::print)?;
    film(args, all.len(), &found.folder, out, format, &mut |frame| {
        let path = &all[frame].path;
        let state = checkpoint::read(path)?;
        sampler.load(&state, path)?;
        titled(&sheet.picture(&sampler.sample(&sheet.cells)?)?, state.images_seen, args.scale)
    })
}

/// Frames one by one, of which the last stays.
fn film(
    args: &SampleArgs,
    frames: usize,
    of: &Path,
    out: &Path,
    format: Format,
    frame: &mut dyn FnMut(usize) -> Result<Picture>,
) -> Result<()> {
    let delay = 1000 / args.fps.unwrap_or(5);
    let mut animation = Animation::new(format);
    let last = frame(frames - 1)?;
    // As many as are compressed at once.
    for first in (0..frames - 1).step_by(32) {
        let some: Result<Vec<Picture>> = (first..(first + 32).min(frames - 1)).map(&mut *frame).collect();
        animation.push(&some?, delay)?;
    }
    animation.push(&[last], delay.max(LAST_STAYS))?;
    finish(animation, delay, of, out, format)
}

/// Writes the file, and says what is in it.
fn finish(animation: Animation, delay: u32, of: &Path, out: &Path, format: Format) -> Result<()> {
    let frames = animation.frames();
    replace(out, &animation.finish()?)?;
    super::print(&format!("{frames} frames of {} are in {}, {} ms each", of.display(), out.display(), format.delay(delay)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_share_the_seeds() {
        let seeds = |n: u64| Some(Seeds((0..n).collect()));
        let grid = |rows, columns| Some(Grid { rows, columns });
        assert_eq!(walks(None, None).unwrap().0, [[0, 1, 2, 3]]);
        assert_eq!(walks(seeds(3), None).unwrap().0, [[0, 1, 2]]);
        assert_eq!(walks(seeds(6), grid(1, 3)).unwrap().0, [[0, 1], [2, 3], [4, 5]]);
        assert_eq!(walks(None, grid(2, 2)).unwrap().0.len(), 4);
        for (seeds, grid, needle) in [
            (seeds(1), None, "at least 2 seeds, and there is 1"),
            (seeds(7), grid(1, 3), "7 seeds are no equal shares of at least 2 for the 3 walks of a 1x3 grid; give 6 seeds"),
            (seeds(3), grid(1, 3), "give 6 seeds"),
        ] {
            let error = walks(seeds, grid).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(needle), "{error}");
        }
    }

    #[test]
    fn frames_are_cut_out_of_batches_in_order() {
        let images = Images { n: 6, c: 1, h: 1, w: 1, data: [0, 51, 102, 153, 204, 255].map(|v| v as f32 / 127.5 - 1.0).to_vec() };
        let pictures = pictures(&images, 3, Grid { rows: 1, columns: 2 }, Some(2)).unwrap();
        assert_eq!(pictures.len(), 3);
        for (i, picture) in pictures.iter().enumerate() {
            // A cell of one pixel, gaps of two, all doubled: 16 wide and 10 high.
            assert_eq!((picture.width, picture.height), (16, 10));
            assert_eq!([picture.pixels[4 * 16 + 4], picture.pixels[4 * 16 + 10]], [(i * 102) as u8, (i * 102 + 51) as u8]);
        }
        assert!(scaled(&Picture::filled(40_000, 1000, 1, 0), 64).is_err());
    }
}
