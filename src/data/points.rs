//! `builtin:ring`, `builtin:grid` and `builtin:gaussian`: points of known distributions, on which one can see, and measure, what a GAN learns.
//!
//! | set | distribution |
//! |---|---|
//! | `ring` | 8 Gaussians of deviation 0.01, evenly on a circle of radius 1; labels name the Gaussian |
//! | `grid` | 25 Gaussians of deviation 0.05 at {-4, -2, 0, 2, 4} x {-4, -2, 0, 2, 4}; labels name the Gaussian |
//! | `gaussian` | one Gaussian of [`GAUSSIAN_FEATURES`] dimensions, with the mean [`GAUSSIAN_MEAN`] and the covariance [`gaussian_covariance`] |
//!
//! The mixtures are the usual ones of papers on mode collapse (Metz et al., *Unrolled generative adversarial networks*, 2017; Srivastava et al.,
//! *VEEGAN*, 2017), with every Gaussian equally likely: of n points, each has n / modes, rounded up or down.

use super::draw::{self, Draw};
use super::{DataSet, Modes, Split, Vectors};
use crate::error::Result;

/// Raised by every change that alters a bit of the generated points.
pub const GENERATOR_VERSION: u32 = 1;

/// Length of a vector of `builtin:gaussian`.
pub const GAUSSIAN_FEATURES: usize = 5;

/// Mean of `builtin:gaussian`.
pub const GAUSSIAN_MEAN: [f64; GAUSSIAN_FEATURES] = [0.5, -1.0, 0.25, 0.0, 1.5];

/// The vectors of `builtin:gaussian` are its mean plus this matrix times independent standard normals.
const GAUSSIAN_FACTOR: [[f64; GAUSSIAN_FEATURES]; GAUSSIAN_FEATURES] = [
    [1.0, 0.0, 0.0, 0.0, 0.0],
    [0.5, 0.75, 0.0, 0.0, 0.0],
    [-0.5, 0.25, 0.5, 0.0, 0.0],
    [0.25, -0.5, 0.5, 0.5, 0.0],
    [0.0, 0.5, -0.25, 0.25, 1.0],
];

/// Covariance of `builtin:gaussian`, exactly:
///
/// ```text
///  1.0     0.5    -0.5     0.25    0.0
///  0.5     0.8125 -0.0625 -0.25    0.375
/// -0.5    -0.0625  0.5625  0.0     0.0
///  0.25   -0.25    0.0     0.8125 -0.25
///  0.0     0.375   0.0    -0.25    1.375
/// ```
pub fn gaussian_covariance() -> [[f64; GAUSSIAN_FEATURES]; GAUSSIAN_FEATURES] {
    GAUSSIAN_FACTOR.map(|row| GAUSSIAN_FACTOR.map(|other| row.iter().zip(&other).map(|(a, b)| a * b).sum()))
}

/// A built-in set of points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Points {
    /// `builtin:ring`.
    Ring,
    /// `builtin:grid`.
    Grid,
    /// `builtin:gaussian`.
    Gaussian,
}

impl Points {
    /// By the name in a spec, after `builtin:`.
    pub fn named(name: &str) -> Option<Self> {
        [Points::Ring, Points::Grid, Points::Gaussian].into_iter().find(|points| points.name() == name)
    }

    /// The name in a spec, after `builtin:`.
    pub fn name(self) -> &'static str {
        match self {
            Points::Ring => "ring",
            Points::Grid => "grid",
            Points::Gaussian => "gaussian",
        }
    }

    /// Numbers of a point.
    pub fn features(self) -> usize {
        match self {
            Points::Ring | Points::Grid => 2,
            Points::Gaussian => GAUSSIAN_FEATURES,
        }
    }

    /// Centres and deviation of a mixture.
    fn modes(self) -> Option<Modes> {
        const DIAGONAL: f32 = std::f32::consts::FRAC_1_SQRT_2;
        let modes = |centres: &[[f32; 2]], sigma| Some(Modes { centres: centres.concat(), sigma });
        match self {
            Points::Ring => {
                // From 0, so that no zero is negative.
                let turned = |[x, y]: [f32; 2]| [0.0 - y, x];
                let first = [[1.0, 0.0], [DIAGONAL, DIAGONAL]];
                let second = first.map(turned);
                let third = second.map(turned);
                modes(&[first, second, third, third.map(turned)].concat(), 0.01)
            }
            Points::Grid => {
                let places = [-4.0, -2.0, 0.0, 2.0, 4.0];
                modes(&places.iter().flat_map(|&x| places.map(|y| [x, y])).collect::<Vec<_>>(), 0.05)
            }
            Points::Gaussian => None,
        }
    }
}

/// `count` points. Point i depends on seed, split and i alone.
///
/// # Errors
/// [`crate::error::Error::Input`] if `count` is 0.
pub fn generate(points: Points, count: usize, seed: u64, split: Split) -> Result<DataSet> {
    let (features, modes) = (points.features(), points.modes());
    let part = if split == Split::Train { "train" } else { "test" };
    let name = format!("builtin:{}?n={count}&seed={seed} (generator {GENERATOR_VERSION}, {part})", points.name());
    let Some(modes) = modes else {
        let (values, _) = draw::generate(b"gan-gaus", (count, features, 1), seed, split, gaussian);
        return DataSet::of_vectors(name, (count, features), Vectors { values, modes: None }, None, Vec::new());
    };
    let domain = if points == Points::Ring { b"gan-ring" } else { b"gan-grid" };
    let classes = modes.count(features);
    let (values, labels) = draw::generate(domain, (count, features, classes), seed, split, |draw, mode, point| {
        for (value, &centre) in point.iter_mut().zip(&modes.centres[mode * features..]) {
            *value = (f64::from(centre) + f64::from(modes.sigma) * draw.standard_normal()) as f32;
        }
    });
    let class_names = modes.centres.chunks(features).map(|centre| format!("({})", join(centre))).collect();
    DataSet::of_vectors(name, (count, features), Vectors { values, modes: Some(modes) }, Some(labels), class_names)
}

fn join(centre: &[f32]) -> String {
    centre.iter().map(|value| value.to_string()).collect::<Vec<_>>().join(", ")
}

fn gaussian(draw: &mut Draw, _: usize, point: &mut [f32]) {
    let normals: [f64; GAUSSIAN_FEATURES] = std::array::from_fn(|_| draw.standard_normal());
    for (value, (mean, row)) in point.iter_mut().zip(GAUSSIAN_MEAN.iter().zip(&GAUSSIAN_FACTOR)) {
        *value = (mean + row.iter().zip(&normals).map(|(a, b)| a * b).sum::<f64>()) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and covariance of rows.
    fn moments(values: &[f32], features: usize) -> (Vec<f64>, Vec<Vec<f64>>) {
        let n = (values.len() / features) as f64;
        let column = |f: usize| values.iter().skip(f).step_by(features).map(|&v| f64::from(v));
        let mean: Vec<f64> = (0..features).map(|f| column(f).sum::<f64>() / n).collect();
        let covariance = |a: usize, b: usize| column(a).zip(column(b)).map(|(x, y)| (x - mean[a]) * (y - mean[b])).sum::<f64>() / n;
        let all = (0..features).map(|a| (0..features).map(|b| covariance(a, b)).collect()).collect();
        (mean, all)
    }

    #[test]
    fn mixtures_are_round_gaussians_about_their_centres() {
        for (points, count, modes, sigma) in [(Points::Ring, 16_000, 8, 0.01), (Points::Grid, 50_000, 25, 0.05)] {
            let set = generate(points, count, 3, Split::Train).unwrap();
            let centres = &set.vectors.as_ref().unwrap().modes.as_ref().unwrap().centres;
            assert_eq!(set.classes(), modes);
            let labels = set.labels.as_ref().unwrap();
            for mode in 0..modes {
                let members: Vec<usize> = (0..count).filter(|&i| labels[i] as usize == mode).collect();
                assert_eq!(members.len(), count / modes);
                let (mean, covariance) = moments(&set.gather_f32(members), 2);
                for axis in 0..2 {
                    // 2,000 points: five standard errors.
                    assert!((mean[axis] - f64::from(centres[2 * mode + axis])).abs() < 5.0 * sigma / 2000f64.sqrt(), "{points:?} {mode}");
                    let ratio = covariance[axis][axis] / (sigma * sigma);
                    assert!((ratio - 1.0).abs() < 5.0 * (2.0 / 2000f64).sqrt(), "{points:?} {mode}: {ratio}");
                }
                assert!((covariance[0][1] / (sigma * sigma)).abs() < 5.0 / 2000f64.sqrt(), "{points:?} {mode}");
            }
        }
    }

    #[test]
    fn centres_are_where_they_are_said_to_be() {
        let ring = Points::Ring.modes().unwrap().centres;
        for (k, centre) in ring.chunks(2).enumerate() {
            let angle = k as f64 * std::f64::consts::FRAC_PI_4;
            assert!((f64::from(centre[0]) - angle.cos()).abs() < 1e-7 && (f64::from(centre[1]) - angle.sin()).abs() < 1e-7, "{k}");
        }
        let grid = Points::Grid.modes().unwrap().centres;
        assert_eq!(grid.len(), 50);
        assert_eq!((&grid[..4], &grid[48..]), (&[-4.0, -4.0, -4.0, -2.0][..], &[4.0, 4.0][..]));
        let set = generate(Points::Ring, 1, 0, Split::Train).unwrap();
        assert_eq!(set.class_names[..3], ["(1, 0)", "(0.70710677, 0.70710677)", "(0, 1)"]);
        assert_eq!(set.class_names[4], "(-1, 0)");
    }

    #[test]
    fn the_gaussian_has_its_mean_and_covariance() {
        #[rustfmt::skip]
        let stated = [
            [1.0, 0.5, -0.5, 0.25, 0.0],
            [0.5, 0.8125, -0.0625, -0.25, 0.375],
            [-0.5, -0.0625, 0.5625, 0.0, 0.0],
            [0.25, -0.25, 0.0, 0.8125, -0.25],
            [0.0, 0.375, 0.0, -0.25, 1.375],
        ];
        assert_eq!(gaussian_covariance(), stated);
        let set = generate(Points::Gaussian, 100_000, 1, Split::Train).unwrap();
        assert_eq!(set.describe(), "builtin:gaussian?n=100000&seed=1 (generator 1, train): 100000 points of 5 numbers, no labels");
        let (mean, covariance) = moments(&set.vectors.unwrap().values, 5);
        for a in 0..5 {
            assert!((mean[a] - GAUSSIAN_MEAN[a]).abs() < 0.02, "{mean:?}");
            for b in 0..5 {
                assert!((covariance[a][b] - stated[a][b]).abs() < 0.03, "{a} {b}: {covariance:?}");
            }
        }
    }

    #[test]
    fn points_depend_on_seed_split_and_index_alone() {
        for points in [Points::Ring, Points::Grid, Points::Gaussian] {
            let set = |n, seed, split| generate(points, n, seed, split).unwrap();
            let base = set(100, 0, Split::Train);
            assert_eq!(set(40, 0, Split::Train).gather_f32(0..40), base.gather_f32(0..40));
            for other in [set(100, 1, Split::Train), set(100, 0, Split::Test)] {
                assert_ne!(other.gather_f32(0..100), base.gather_f32(0..100));
            }
            assert!(generate(points, 0, 0, Split::Train).unwrap_err().to_string().contains("is empty"));
            assert_eq!(Points::named(points.name()), Some(points));
        }
        assert_eq!(Points::named("digits"), None);
    }
}
