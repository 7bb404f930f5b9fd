//! How a run shows its samples: grids of images, or plots of points.
//!
//! | data | picture |
//! |---|---|
//! | images | a grid ([`super::grid`]) |
//! | images of a conditional run | a sheet with a row for each class, its name to the left ([`super::classes`]) |
//! | points of 2 numbers | a scatter plot ([`super::scatter`]), with circles of three deviations about known modes |
//! | numbers | the cumulative distribution: the share of points below a value, over the value |
//! | longer vectors | a scatter plot of each pair of the first [`SHOWN`] numbers |
//!
//! The axes cover the data, so they are the same in all pictures of a run. Beside a plot, the log gets a line of figures.

use image::{GenericImage, RgbImage};

use super::classes::{Cells, ClassSheet};
use super::grid::{self, Images};
use super::picture::Picture;
use super::scatter::{Axes, Plot, SIDE};
use crate::data::{DataSet, Vectors};
use crate::error::{Error, Result};
use crate::eval::modes::mode_stats;

/// Images in a grid.
pub const GRID_IMAGES: usize = 64;

/// Points in a plot, of the data as of the generated.
pub const PLOT_POINTS: usize = 1024;

/// Numbers of a vector whose pairs are plotted.
pub const SHOWN: usize = 4;

/// Numbers of a vector whose means and deviations are logged.
const LOGGED: usize = 8;

/// How a run shows its samples.
#[derive(Debug, Clone, PartialEq)]
pub enum View {
    /// Grids of images.
    Grids,
    /// Sheets of images with a row for each class.
    Classes(ClassSheet),
    /// Plots of points.
    Plots(Plots),
}

/// Plots of generated points over those of the data.
#[derive(Debug, Clone, PartialEq)]
pub struct Plots {
    features: usize,
    /// The first points of the data set, [`PLOT_POINTS`] at most; none if it is not at hand.
    data: Vectors,
    /// Classes that generated points take turns in; 0 where the generator takes none.
    classes: usize,
}

impl View {
    /// As the data set asks for.
    pub fn of(set: &DataSet) -> Self {
        match &set.vectors {
            None => View::Grids,
            Some(vectors) => {
                let values = set.gather_f32(0..set.count.min(PLOT_POINTS));
                let data = Vectors { values, modes: vectors.modes.clone() };
                View::Plots(Plots { features: set.channels, data, classes: 0 })
            }
        }
    }

    /// For points of `features` numbers without the data that they are to be like.
    pub fn of_samples(features: usize) -> Self {
        View::Plots(Plots { features, data: Vectors { values: Vec::new(), modes: None }, classes: 0 })
    }

    /// The same for a generator that takes classes of these names; as it is if there are none.
    pub fn with_classes(self, names: &[String]) -> Self {
        match self {
            View::Grids | View::Classes(_) if !names.is_empty() => View::Classes(ClassSheet::of_run(names)),
            View::Plots(plots) => View::Plots(Plots { classes: names.len(), ..plots }),
            other => other,
        }
    }

    /// Samples that a picture shows: of the seeds from 0; of points, the classes take turns.
    pub fn cells(&self) -> Cells {
        match self {
            View::Grids => Cells { seeds: (0..GRID_IMAGES as u64).collect(), classes: Vec::new() },
            View::Classes(sheet) => sheet.cells(),
            View::Plots(plots) => {
                let of_turn = |i: usize| (i % plots.classes) as u32;
                let classes = if plots.classes > 0 { (0..PLOT_POINTS).map(of_turn).collect() } else { Vec::new() };
                Cells { seeds: (0..PLOT_POINTS as u64).collect(), classes }
            }
        }
    }

    /// The picture of the data. `reals` gives up to that many images.
    ///
    /// # Errors
    /// What `reals` returns.
    pub fn data(&self, reals: &mut dyn FnMut(usize) -> Result<Images>) -> Result<Picture> {
        match self {
            View::Grids => grid_of(&reals(GRID_IMAGES)?),
            View::Classes(sheet) => sheet.picture(&reals(sheet.classes.len() * sheet.seeds.len())?),
            View::Plots(plots) => Ok(picture_of(plots.draw(None))),
        }
    }

    /// The picture of samples.
    ///
    /// # Errors
    /// [`Error::Internal`] if the samples are not like the data.
    pub fn picture(&self, samples: &Images) -> Result<Picture> {
        match self {
            View::Grids => grid_of(samples),
            View::Classes(sheet) => sheet.picture(samples),
            View::Plots(plots) => Ok(picture_of(plots.draw(Some(plots.rows(samples)?)))),
        }
    }

    /// What a picture of samples does not say, as a line for the log: modes where they are known, else means and deviations. Nothing of images.
    ///
    /// # Errors
    /// [`Error::Internal`] if the samples are not like the data.
    pub fn describe(&self, samples: &Images) -> Result<Option<String>> {
        let View::Plots(plots) = self else { return Ok(None) };
        let rows = plots.rows(samples)?;
        plots.describe(rows).map(Some)
    }
}

impl Plots {
    /// The values of generated points.
    fn rows<'a>(&self, samples: &'a Images) -> Result<&'a [f32]> {
        let Images { n, c, h, w, ref data } = *samples;
        if (c, h, w) != (self.features, 1, 1) || data.len() != n * c {
            return Err(Error::internal(format!("samples of {c}x{h}x{w} for a plot of points of {} numbers", self.features)));
        }
        Ok(data)
    }

    /// One plot, or those of the pairs side by side in rows of up to three.
    fn draw(&self, generated: Option<&[f32]>) -> RgbImage {
        let pairs = match self.features {
            1 => vec![(0, 0)],
            features => (1..features.min(SHOWN)).flat_map(|up| (0..up).map(move |across| (across, up))).collect(),
        };
        let columns = pairs.len().min(3) as u32;
        let mut sheet = RgbImage::new(columns * SIDE, (pairs.len() as u32).div_ceil(columns) * SIDE);
        for (place, pair) in (0..).zip(pairs) {
            let plot = self.draw_pair(pair, generated);
            // The sheet was made to hold them all.
            let _ = sheet.copy_from(&plot, place % columns * SIDE, place / columns * SIDE);
        }
        sheet
    }

    /// The plot of two numbers of each point.
    fn draw_pair(&self, pair: (usize, usize), generated: Option<&[f32]>) -> RgbImage {
        let data = self.points(&self.data.values, pair);
        let generated = generated.map(|values| self.points(values, pair));
        let modes = self.data.modes.as_ref().filter(|_| self.features > 1);
        let circles = modes.map(|modes| (self.points(&modes.centres, pair), 3.0 * modes.sigma));
        let names = match self.features {
            1 => ("value".to_string(), "share below".to_string()),
            _ => (format!("x{}", pair.0), format!("x{}", pair.1)),
        };
        let centres = circles.as_ref().map_or(&[][..], |(centres, _)| centres);
        // Samples alone choose the axes only where there are no data to do it.
        let shown = if data.is_empty() { generated.as_deref().unwrap_or_default() } else { &data };
        let axes = Axes::covering(&[shown, centres].concat());
        Plot {
            data: &data,
            generated: generated.as_deref(),
            circles: circles.as_ref().map(|(centres, radius)| (&centres[..], *radius)),
            names: (self.features != 2).then_some((&names.0, &names.1)),
            axes,
        }
        .draw()
    }

    fn points(&self, values: &[f32], (across, up): (usize, usize)) -> Vec<[f32; 2]> {
        if self.features > 1 {
            return values.chunks_exact(self.features).map(|row| [row[across], row[up]]).collect();
        }
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f32::total_cmp);
        let share = |rank: usize| (rank as f32 + 0.5) / values.len() as f32;
        sorted.iter().enumerate().map(|(rank, &value)| [value, share(rank)]).collect()
    }

    fn describe(&self, samples: &[f32]) -> Result<String> {
        if let Some(modes) = &self.data.modes {
            let stats = mode_stats(samples, &self.data.values, modes, self.features)?;
            return Ok(format!(
                "Modes: {} of {} covered, {:.1} % of samples of high quality, divergence of the shares {:.3}",
                stats.covered,
                stats.modes,
                100.0 * stats.high_quality,
                stats.divergence
            ));
        }
        let shown = self.features.min(LOGGED);
        let line = |name: &str, of: fn(&[f64]) -> f64| {
            let list = |values: &[f32]| {
                let column = |f: usize| values.iter().skip(f).step_by(self.features).map(|&v| f64::from(v)).collect::<Vec<_>>();
                (0..shown).map(|f| format!("{:.3}", of(&column(f)))).collect::<Vec<_>>().join(" ")
            };
            match self.data.values.is_empty() {
                true => format!("{name} {}", list(samples)),
                false => format!("{name} {} (data {})", list(samples), list(&self.data.values)),
            }
        };
        let which =
            if shown < self.features { format!("Samples, first {shown} of {} numbers", self.features) } else { "Samples".to_string() };
        Ok(format!("{which}: {}; {}", line("means", mean), line("deviations", deviation)))
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn deviation(values: &[f64]) -> f64 {
    let middle = mean(values);
    (values.iter().map(|v| (v - middle).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

/// Images as a grid, as square as it gets.
fn grid_of(images: &Images) -> Result<Picture> {
    let (rows, columns) = grid::near_square(images.n);
    grid::compose(images, rows, columns)
}

fn picture_of(plot: RgbImage) -> Picture {
    Picture { width: plot.width() as usize, height: plot.height() as usize, channels: 3, pixels: plot.into_raw() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, LoadOptions};

    fn load(spec: &str) -> DataSet {
        data::load(spec, &LoadOptions::default()).unwrap()
    }

    fn vectors(c: usize, data: Vec<f32>) -> Images {
        Images { n: data.len() / c, c, h: 1, w: 1, data }
    }

    fn size(view: &View, samples: &Images) -> (usize, usize) {
        let fakes = view.picture(samples).unwrap();
        let reals = view.data(&mut |_| Err(Error::internal("plots hold their data"))).unwrap();
        assert_eq!((reals.width, reals.height), (fakes.width, fakes.height));
        assert_ne!(reals, fakes);
        (fakes.width, fakes.height)
    }

    #[test]
    fn points_of_every_length_have_a_picture_and_a_line() {
        let ring = load("builtin:ring?n=3000");
        let pictures = View::of(&ring);
        let own = vectors(2, ring.gather_f32(2000..3000));
        assert_eq!((pictures.cells().seeds.len(), size(&pictures, &own)), (1024, (512, 512)));
        let turns = pictures.clone().with_classes(&ring.class_names).cells().classes;
        assert_eq!((turns.len(), &turns[6..10]), (1024, &[6, 7, 0, 1][..]));
        let line = pictures.describe(&own).unwrap().unwrap();
        assert!(line.starts_with("Modes: 8 of 8 covered, 9") && line.ends_with("divergence of the shares 0.000"), "{line}");
        let collapsed = pictures.describe(&vectors(2, [1.0, 0.0].repeat(10))).unwrap().unwrap();
        assert_eq!(collapsed, "Modes: 1 of 8 covered, 100.0 % of samples of high quality, divergence of the shares 2.079");

        let gaussian = load("builtin:gaussian?n=2000");
        let pictures = View::of(&gaussian);
        assert_eq!(size(&pictures, &vectors(5, gaussian.gather_f32(1500..2000))), (3 * 512, 2 * 512));
        let line = pictures.describe(&vectors(5, [1.0, 2.0, 3.0, 4.0, 5.0, 1.0, 2.0, 3.0, 4.0, 7.0].to_vec())).unwrap().unwrap();
        assert!(
            line.starts_with("Samples: means 1.000 2.000 3.000 4.000 6.000 (data 0.")
                && line.contains("; deviations 0.000 0.000 0.000 0.000 1.000 (data 1.0"),
            "{line}"
        );

        for (features, wanted) in [(1, (512, 512)), (3, (3 * 512, 512)), (9, (3 * 512, 2 * 512))] {
            let values: Vec<f32> = (0..features * 50).map(|i| (i * i % 97) as f32).collect();
            let set = DataSet::of_vectors("v", (50, features), Vectors { values, modes: None }, None, Vec::new()).unwrap();
            let samples = vectors(features, vec![20.0; 7 * features]);
            assert_eq!(size(&View::of(&set), &samples), wanted, "{features}");
            let line = View::of(&set).describe(&samples).unwrap().unwrap();
            assert_eq!(line.starts_with("Samples, first 8 of 9 numbers: means 20.000"), features == 9, "{line}");
        }
    }

    #[test]
    fn samples_without_data_choose_their_own_axes() {
        let pictures = View::of_samples(2);
        let samples = vectors(2, vec![100.0, 5.0, 101.0, 5.5, 102.0, 4.5]);
        let picture = pictures.picture(&samples).unwrap();
        let pixels = picture.pixels.chunks_exact(3).enumerate();
        let orange = pixels.filter(|(i, p)| i / picture.width > 40 && p[0] > p[2].saturating_add(60)).count();
        assert!(orange >= 3 * 4, "three points are inside the axes: {orange}");
        assert_eq!(pictures.describe(&samples).unwrap().unwrap(), "Samples: means 101.000 5.000; deviations 0.816 0.408");
    }

    #[test]
    fn images_are_grids_as_before() {
        let set = load("builtin:digits?n=4");
        let pictures = View::of(&set);
        assert_eq!((&pictures, pictures.cells().seeds.len()), (&View::Grids, 64));
        assert!(matches!(pictures.clone().with_classes(&set.class_names), View::Classes(sheet) if sheet.cells().seeds.len() == 60));
        assert_eq!(pictures.clone().with_classes(&[]), View::Grids);
        let images = Images { n: 4, c: 1, h: 3, w: 3, data: vec![0.5; 36] };
        let grid = grid::compose(&images, 2, 2).unwrap();
        assert_eq!(pictures.picture(&images).unwrap(), grid);
        assert_eq!(pictures.data(&mut |_| Ok(images.clone())).unwrap(), grid);
        assert_eq!(pictures.describe(&images).unwrap(), None);
    }

    #[test]
    fn samples_unlike_the_data_are_refused() {
        let pictures = View::of(&load("builtin:ring?n=10"));
        let error = pictures.describe(&vectors(3, vec![0.0; 6])).unwrap_err();
        assert!(error.to_string().contains("samples of 3x1x1 for a plot of points of 2 numbers"), "{error}");
    }
}
