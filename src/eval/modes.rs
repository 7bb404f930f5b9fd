//! How many modes of a known mixture samples cover, and how evenly.
//!
//! The protocol of A. Srivastava et al. (*VEEGAN: reducing mode collapse in GANs using implicit variational learning*, NIPS 2017) and
//! Z. Lin et al. (*PacGAN: the power of two samples in generative adversarial networks*, NeurIPS 2018), on 2,500 samples there:
//!
//! - a sample is of *high quality* if it lies within three standard deviations of the nearest mode's centre;
//! - a mode is *covered* if it is the nearest of at least one high-quality sample;
//! - the *divergence* is PacGAN's reverse Kullback-Leibler divergence KL(samples || data), in nats, between the shares of samples and of data that
//!   are nearest to each mode, of high quality or not. Reverse, because it is then finite where samples miss modes: all of them on one of k equal
//!   modes give ln k.
//!
//! Data themselves do not reach a share of 1: of a round Gaussian in the plane, 1 - exp(-9/2) = 98.9 % lie within three deviations.

use crate::data::Modes;
use crate::error::{Error, Result};

/// Samples that the papers count modes on.
pub const DEFAULT_SAMPLES: usize = 2500;

/// Standard deviations from a mode's centre within which a sample is of high quality.
const REACH: f64 = 3.0;

/// What [`mode_stats`] measures.
#[derive(Debug, Clone, PartialEq)]
pub struct ModeStats {
    /// Modes of the mixture.
    pub modes: usize,
    /// Modes with at least one high-quality sample.
    pub covered: usize,
    /// Share of samples that are of high quality, from 0 to 1.
    pub high_quality: f64,
    /// KL(samples || data) of the shares of the modes in nats, 0 if they are equal; infinite if samples are at a mode that no data are at.
    pub divergence: f64,
}

/// Counts modes: `samples` and `data` are rows of `features` numbers, of a mixture with these `modes`. Samples that are not finite are of no high
/// quality and nearest to no mode.
///
/// # Errors
/// [`Error::Input`] if there are no samples or no data, or rows or centres are not of `features` numbers.
pub fn mode_stats(samples: &[f32], data: &[f32], modes: &Modes, features: usize) -> Result<ModeStats> {
    for (what, values) in [("samples", samples), ("data", data), ("centres of modes", &modes.centres)] {
        if features == 0 || values.is_empty() || !values.len().is_multiple_of(features) {
            return Err(Error::input(format!(
                "counting modes needs {what} in rows of {features} numbers, at least one row; got {} numbers",
                values.len()
            )));
        }
    }
    let (samples, data) = (tally(samples, modes, features), tally(data, modes, features));
    let total: usize = samples.near.iter().sum();
    let total_data: usize = data.near.iter().sum();
    let divergence = samples.near.iter().zip(&data.near).filter(|(n, _)| **n > 0).map(|(&n, &reference)| {
        let share = n as f64 / total as f64;
        share * (share * total_data as f64 / reference as f64).ln()
    });
    Ok(ModeStats {
        modes: samples.near.len(),
        covered: samples.good.iter().filter(|&&n| n > 0).count(),
        high_quality: samples.good.iter().sum::<usize>() as f64 / samples.rows as f64,
        // Rounding may bring a sum of zeros below zero.
        divergence: divergence.sum::<f64>().max(0.0),
    })
}

/// Rows by their nearest mode.
struct Tally {
    rows: usize,
    near: Vec<usize>,
    good: Vec<usize>,
}

fn tally(rows: &[f32], modes: &Modes, features: usize) -> Tally {
    let count = modes.count(features);
    let mut tally = Tally { rows: rows.len() / features, near: vec![0; count], good: vec![0; count] };
    let reach = REACH * f64::from(modes.sigma);
    for row in rows.chunks_exact(features) {
        let square = |centre: &[f32]| row.iter().zip(centre).map(|(&x, &c)| (f64::from(x) - f64::from(c)).powi(2)).sum::<f64>();
        let squares = modes.centres.chunks_exact(features).map(square);
        let nearest = squares.enumerate().filter(|(_, square)| square.is_finite()).min_by(|(_, a), (_, b)| a.total_cmp(b));
        if let Some((mode, square)) = nearest {
            tally.near[mode] += 1;
            tally.good[mode] += usize::from(square <= reach * reach);
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, LoadOptions, Split};

    /// Modes at 0, 10 and 20 on a line.
    fn line() -> Modes {
        Modes { centres: vec![0.0, 10.0, 20.0], sigma: 0.5 }
    }

    fn stats(samples: &[f32]) -> ModeStats {
        mode_stats(samples, &[0.0, 10.0, 20.0], &line(), 1).unwrap()
    }

    #[test]
    fn modes_are_covered_by_samples_within_three_deviations() {
        let got = stats(&[1.5, 8.4, 20.0, -1.5]);
        assert_eq!((got.modes, got.covered, got.high_quality), (3, 2, 0.75));
        assert_eq!(stats(&[5.0, 15.0, 100.0]).covered, 0);
        assert_eq!(stats(&[0.0, f32::NAN, f32::INFINITY, 0.0]).high_quality, 0.5);
        assert_eq!(stats(&[f32::NAN]), ModeStats { modes: 3, covered: 0, high_quality: 0.0, divergence: 0.0 });
    }

    #[test]
    fn the_divergence_is_that_of_the_shares() {
        assert_eq!(stats(&[0.0, 10.0, 20.0, 1.0, 11.0, 19.0]).divergence, 0.0);
        // All on one of three equal modes; and beyond three deviations they still count.
        for at in [10.0, 14.9] {
            assert!((stats(&[at; 4]).divergence - 3f64.ln()).abs() < 1e-12);
        }
        let unequal = 0.75 * (0.75f64 * 3.0).ln() + 0.25 * (0.25f64 * 3.0).ln();
        assert!((stats(&[0.0, 0.0, 0.0, 20.0]).divergence - unequal).abs() < 1e-12);
        let missing = mode_stats(&[0.0, 20.0], &[0.0, 10.0], &line(), 1).unwrap();
        assert_eq!(missing.divergence, f64::INFINITY);
    }

    #[test]
    fn held_out_data_cover_their_mixture_and_a_collapsed_set_does_not() {
        for (name, modes) in [("builtin:ring", 8), ("builtin:grid", 25)] {
            let [train, test] = [Split::Train, Split::Test].map(|split| {
                let set = data::load(&format!("{name}?n={}", modes * 100), &LoadOptions { split, ..LoadOptions::default() }).unwrap();
                (set.gather_f32(0..set.count), set.vectors.unwrap().modes.unwrap())
            });
            let got = mode_stats(&test.0, &train.0, &train.1, 2).unwrap();
            assert_eq!((got.modes, got.covered), (modes, modes), "{name}");
            // 1 - exp(-9/2), within five standard errors.
            let share = 1.0 - (-4.5f64).exp();
            let error = (share * (1.0 - share) / (modes * 100) as f64).sqrt();
            assert!((got.high_quality - share).abs() < 5.0 * error, "{name}: {}", got.high_quality);
            assert_eq!(got.divergence, 0.0, "{name}: every mode has a hundred points in either set");
            let collapsed = mode_stats(&test.0[..2].repeat(50), &train.0, &train.1, 2).unwrap();
            assert!(collapsed.covered <= 1 && (collapsed.divergence - (modes as f64).ln()).abs() < 1e-9, "{collapsed:?}");
        }
    }

    #[test]
    fn rows_that_do_not_fit_are_refused() {
        let text = |samples: &[f32], data: &[f32], features| mode_stats(samples, data, &line(), features).unwrap_err().to_string();
        assert!(text(&[], &[0.0], 1).contains("needs samples in rows of 1 numbers"));
        assert!(text(&[0.0], &[], 1).contains("needs data in rows of 1 numbers"));
        assert!(text(&[0.0; 3], &[0.0; 2], 2).contains("got 3 numbers"));
        assert!(text(&[0.0; 2], &[0.0; 2], 2).contains("needs centres of modes in rows of 2"));
        assert!(text(&[0.0], &[0.0], 0).contains("rows of 0"));
    }
}
