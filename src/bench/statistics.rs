//! Order statistics of samples, and the interval of a ratio by resampling.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 4000;
/// The bootstrap draws the same resamples every time.
const SEED: u64 = 90;

/// The value below which the share `q` of the samples lies, interpolated between neighbours.
///
/// # Panics
/// If there is no sample.
pub fn quantile(samples: &[f64], q: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// The middle sample, or the mean of the two in the middle.
///
/// # Panics
/// If there is no sample.
pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// The ratio of two medians, and the interval that holds 90 % of the ratios of resampled medians (the percentile bootstrap of Efron and Tibshirani 1993,
/// chapter 13). The same samples give the same interval.
///
/// # Panics
/// If either list is empty.
pub fn ratio_of_medians(numerator: &[f64], denominator: &[f64]) -> (f64, [f64; 2]) {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut resampled = |samples: &[f64]| {
        let drawn: Vec<f64> = (0..samples.len()).map(|_| samples[rng.random_range(0..samples.len())]).collect();
        median(&drawn)
    };
    let ratios: Vec<f64> = (0..RESAMPLES).map(|_| resampled(numerator) / resampled(denominator)).collect();
    (median(numerator) / median(denominator), [0.05, 0.95].map(|q| quantile(&ratios, q)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        let samples = [4.0, 1.0, 3.0, 2.0, 5.0];
        assert_eq!([0.0, 0.25, 0.5, 0.6, 1.0].map(|q| quantile(&samples, q)), [1.0, 2.0, 3.0, 3.4, 5.0]);
        assert_eq!(median(&[1.0, 2.0]), 1.5);
        assert_eq!(quantile(&[7.0], 0.3), 7.0);
    }

    #[test]
    fn the_interval_holds_the_ratio_and_is_the_same_each_time() {
        let new: Vec<f64> = (0..9).map(|i| 20.0 + f64::from(i)).collect();
        let old: Vec<f64> = (0..9).map(|i| 10.0 + f64::from(i)).collect();
        let (ratio, [low, high]) = ratio_of_medians(&new, &old);
        assert_eq!(ratio, 24.0 / 14.0);
        assert!(low < ratio && ratio < high && low > 22.0 / 17.0 && high < 27.0 / 11.0, "{low} {ratio} {high}");
        assert_eq!(ratio_of_medians(&new, &old), (ratio, [low, high]));
    }

    #[test]
    fn equal_distributions_are_not_told_apart() {
        let a = [10.0, 11.0, 12.0, 9.0, 10.5, 11.5, 10.2, 9.8, 10.9];
        let b = [10.4, 11.1, 9.6, 10.7, 9.9, 12.1, 10.1, 11.2, 10.3];
        let (_, [low, high]) = ratio_of_medians(&a, &b);
        assert!(low < 1.0 && high > 1.0, "{low} {high}");
    }

    /// 90 % of intervals should hold the true ratio; the percentile interval of nine samples comes close.
    #[test]
    fn the_interval_covers_as_often_as_it_says() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut draw = |scale: f64| -> Vec<f64> { (0..9).map(|_| scale * rng.random_range(0.9..1.1)).collect() };
        let held = (0..100).filter(|_| {
            let (_, [low, high]) = ratio_of_medians(&draw(2.0), &draw(1.0));
            low <= 2.0 && 2.0 <= high
        });
        let held = held.count();
        assert!((82..=100).contains(&held), "{held} of 100");
    }
}
