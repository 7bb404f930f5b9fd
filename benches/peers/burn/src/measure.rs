//! Timing, as `Worker.measure` of ../pytorch/peer.py does it.

use crate::kernels::Run;
use burn::tensor::Device;
use std::time::{Duration, Instant};

/// Shortest span that is timed, in seconds: several runs of a short operation count as one sample.
const SHORTEST_SPAN: f64 = 0.005;
const LEAST_SAMPLES: usize = 3;

/// Seconds of one run, sampled for about `seconds`.
pub fn sample(run: &mut Run, seconds: f64, device: &Device) -> Result<Vec<f64>, String> {
    let mut count = 1;
    for _ in 0..2 {
        let span = span(run, count, device)?.max(1e-7);
        count = ((f64::from(count) * SHORTEST_SPAN / span).round() as u32).max(1);
    }
    let mut samples = Vec::new();
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    while samples.len() < LEAST_SAMPLES || Instant::now() < end {
        samples.push(span(run, count, device)? / f64::from(count));
    }
    Ok(samples)
}

/// Seconds of `count` runs, the device idle before and after.
pub fn span(run: &mut Run, count: u32, device: &Device) -> Result<f64, String> {
    let sync = || device.sync().map_err(|error| error.to_string());
    sync()?;
    let start = Instant::now();
    let results: Vec<_> = (0..count).map(|_| run()).collect();
    sync()?;
    let seconds = start.elapsed().as_secs_f64();
    drop(results);
    Ok(seconds)
}
