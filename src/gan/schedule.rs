//! Per-step scalars: learning rates, bias corrections, moving-average decay, batch positions. They depend on the step number alone.

use super::config::GanConfig;
use crate::gpu::step::StepRow;

/// The moving average's half-life is at most this share of the images seen, so that early averages forget the first, meaningless weights
/// (the "ramp-up" of Karras et al. 2020).
const EMA_RAMP: f64 = 0.05;

/// The row of step `step` (counted from 0) over a data set of `images` images.
pub fn row(config: &GanConfig, images: usize, step: u64) -> StepRow {
    let mut row = StepRow { slots: [[0; 4]; 32] };
    let [lo, hi] = words(step);
    row.slots[StepRow::STEP as usize] = [lo, hi, ema_decay(config, step).to_bits(), 0];
    let d_steps = config.d_steps as u64;
    for u in 0..=config.d_steps {
        let (lr, t) = if u < config.d_steps { (config.lr_d, step * d_steps + u as u64 + 1) } else { (config.lr_g, step + 1) };
        let correction = |beta: f64| (1.0 / (1.0 - beta.powf(t as f64))) as f32;
        row.slots[StepRow::optimiser(u) as usize] = [
            (lr as f32).to_bits(),
            correction(config.adam.beta1).to_bits(),
            correction(config.adam.beta2).to_bits(),
            t.min(u32::MAX as u64) as u32,
        ];
        let position = (step * d_steps + u as u64) * config.batch as u64;
        let draw = step.wrapping_mul(d_steps + 1).wrapping_add(u as u64) as u32;
        let images = images.max(1) as u64;
        row.slots[StepRow::draw(u) as usize] = [(position / images) as u32, (position % images) as u32, draw, 0];
    }
    row
}

/// Decay of the generator's moving average in step `step`: 0.5^(batch / half-life).
pub fn ema_decay(config: &GanConfig, step: u64) -> f32 {
    let batch = config.batch as f64;
    let images_seen = (step + 1) as f64 * batch;
    let half_life = (config.ema_half_life_kimg * 1000.0).min(EMA_RAMP * images_seen);
    if half_life <= 0.0 { 0.0 } else { 0.5f64.powf(batch / half_life) as f32 }
}

fn words(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}
