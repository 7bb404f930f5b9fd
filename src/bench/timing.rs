//! How often something is run, and what comes of it.

use crate::error::Result;
use std::time::{Duration, Instant};

/// Most runs in one sample.
pub const MOST_REPEATS: u32 = 1024;
/// Fewest samples, if each is short.
const LEAST_SAMPLES: usize = 5;
/// Fewest samples of something that takes longer than its share of the time.
const LEAST_LONG_SAMPLES: usize = 3;
/// Most samples: more say nothing new.
const MOST_SAMPLES: usize = 100;

/// Time and number of samples for one result.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Time for all samples.
    pub time: Duration,
    /// Exactly this many samples.
    pub runs: Option<usize>,
    /// Time that a sample should take at least.
    pub sample: Duration,
}

impl Budget {
    /// Takes samples of `run`, which repeats something as often as it is told and returns the seconds; gives the seconds of one repeat.
    pub fn samples(&self, mut run: impl FnMut(u32) -> Result<f64>) -> Result<Vec<f64>> {
        let start = Instant::now();
        // The first run may compile; the second tells how many make a sample.
        run(1)?;
        let mut repeats = 1;
        loop {
            let seconds = run(repeats)?;
            let missing = self.sample.as_secs_f64() / seconds.max(1e-9);
            if missing <= 1.5 || repeats == MOST_REPEATS {
                break;
            }
            repeats = ((f64::from(repeats) * missing).ceil() as u32).clamp(1, MOST_REPEATS);
        }
        let mut samples = Vec::new();
        while !self.is_enough(samples.len(), start.elapsed()) {
            samples.push(run(repeats)? / f64::from(repeats));
        }
        Ok(samples)
    }

    /// Whether this many samples in this time will do.
    pub fn is_enough(&self, samples: usize, elapsed: Duration) -> bool {
        match self.runs {
            Some(runs) => samples >= runs,
            None if elapsed < self.time => samples >= MOST_SAMPLES,
            None if elapsed < 3 * self.time => samples >= LEAST_SAMPLES,
            None => samples >= LEAST_LONG_SAMPLES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_runs_are_repeated_until_a_sample_is_long_enough() {
        let budget = Budget { time: Duration::from_secs(1), runs: Some(7), sample: Duration::from_millis(10) };
        let mut calls = Vec::new();
        let samples = budget.samples(|repeats| {
            calls.push(repeats);
            Ok(f64::from(repeats) * 1e-4)
        });
        let samples = samples.unwrap();
        assert_eq!(samples.len(), 7);
        assert!(samples.iter().all(|s| (s - 1e-4).abs() < 1e-12), "{samples:?}");
        assert_eq!(calls, [[1, 1, 100].as_slice(), &[100; 7]].concat());
    }

    #[test]
    fn long_runs_are_not() {
        let budget = Budget { time: Duration::ZERO, runs: None, sample: Duration::from_millis(10) };
        let mut calls = Vec::new();
        let samples = budget.samples(|repeats| {
            calls.push(repeats);
            Ok(2.0)
        });
        assert_eq!((samples.unwrap(), calls), (vec![2.0; 3], vec![1; 5]));
    }
}
