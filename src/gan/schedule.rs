//! Per-step scalars: learning rates, bias corrections, moving-average decay, batch positions. They depend on the position in the run alone.

use super::config::GanConfig;
use crate::gpu::step::StepRow;
use crate::ops::gather::batch_position;

/// Where a run is before a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Steps done.
    pub step: u64,
    /// Images seen: batch times steps, summed over the batch sizes that the run has had.
    pub images_seen: u64,
}

impl Position {
    /// The position `steps` steps later.
    pub fn after(self, steps: u64, batch: usize) -> Self {
        Position { step: self.step + steps, images_seen: self.images_seen + steps * batch as u64 }
    }
}

/// The row of the step at `position`, over a data set of `images` images.
pub fn row(config: &GanConfig, images: usize, position: Position) -> StepRow {
    let Position { step, images_seen } = position;
    let d_steps = config.d_steps as u64;
    let factor = lr_factor(config, images_seen);
    let mut row = StepRow { slots: [[0; 4]; 32] };
    row.slots[StepRow::STEP as usize] = [step as u32, (step >> 32) as u32, (ema_decay(config, images_seen) as f32).to_bits(), 0];
    for u in 0..=config.d_steps {
        let (lr, t) = if u < config.d_steps { (config.lr_d, step * d_steps + u as u64 + 1) } else { (config.lr_g, step + 1) };
        row.slots[StepRow::optimiser(u) as usize] = config.adam.slot(lr * factor, t);
        let [epoch, start] = batch_position(images.clamp(1, u32::MAX as usize) as u32, images_seen * d_steps + (u * config.batch) as u64);
        let draw = step.wrapping_mul(d_steps + 1).wrapping_add(u as u64) as u32;
        row.slots[StepRow::draw(u) as usize] = [epoch, start, draw, 0];
    }
    row
}

/// The rows of the step at `position` of a run, one a micro-batch, from its whole row.
pub fn micro_batch_rows(config: &GanConfig, whole: &StepRow) -> impl Iterator<Item = StepRow> {
    (0..config.micro_batches()).map(move |j| whole.micro_batch(j as u32, (j * config.micro_batch) as u32))
}

/// Factor of both learning rates after `images_seen` images: 1 for constant rates, else a line that reaches 0 at the horizon.
pub fn lr_factor(config: &GanConfig, images_seen: u64) -> f64 {
    match config.lr_horizon_kimg {
        None => 1.0,
        Some(kimg) => (1.0 - images_seen as f64 / (kimg * 1000.0)).max(0.0),
    }
}

/// Decay of the generator's moving average in the step that follows `images_seen` images: 0.5^(batch / half-life). 0 in the first step: the
/// average starts as a copy.
pub fn ema_decay(config: &GanConfig, images_seen: u64) -> f64 {
    let half_life = (config.ema_half_life_kimg * 1000.0).min(config.ema_ramp * images_seen as f64);
    if half_life > 0.0 { 0.5f64.powf(config.batch as f64 / half_life) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::layer::Layer;
    use crate::nn::network::{InitScheme, Network};

    fn config(lr_horizon_kimg: Option<f64>) -> GanConfig {
        let network = |name: &str| Network {
            name: name.into(),
            input: vec![2],
            data: vec![2],
            layers: vec![Layer::linear(2)],
            init: InitScheme::PyTorch,
        };
        GanConfig { d_steps: 2, lr_d: 1e-3, lr_horizon_kimg, ..GanConfig::new(network("G"), network("D"), 64) }
    }

    #[test]
    fn learning_rates_fall_to_zero_at_the_horizon() {
        let constant = config(None);
        assert_eq!((lr_factor(&constant, 0), lr_factor(&constant, 1 << 40)), (1.0, 1.0));
        let line = config(Some(10.0));
        assert_eq!([0, 5000, 10_000, 20_000].map(|n| lr_factor(&line, n)), [1.0, 0.5, 0.0, 0.0]);
    }

    #[test]
    fn the_average_has_its_half_life_and_its_ramp() {
        let config = config(None);
        assert_eq!(ema_decay(&config, 0), 0.0);
        // At 64,000 images the ramp rules: a half-life of 3,200 images is 50 batches.
        assert!((ema_decay(&config, 64_000).powi(50) - 0.5).abs() < 1e-12);
        assert!((ema_decay(&config, 1 << 40).powf(20_000.0 / 64.0) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn updates_draw_successive_batches() {
        let config = config(None);
        let position = Position::default().after(7, 64);
        let row = row(&config, 1000, position);
        // Step 7 of two updates each: the 14th and 15th batches of 64 from 1000 images.
        assert_eq!(row.slots[StepRow::draw(0) as usize][..2], [0, 896]);
        assert_eq!(row.slots[StepRow::draw(1) as usize][..2], [0, 960]);
        let draws: Vec<u32> = (0..3).map(|u| row.slots[StepRow::draw(u) as usize][2]).collect();
        assert_eq!(draws, [21, 22, 23]);
        assert_eq!(f32::from_bits(row.slots[StepRow::optimiser(0) as usize][0]), 1e-3);
        assert_eq!(f32::from_bits(row.slots[StepRow::optimiser(2) as usize][0]), 2e-4);
        assert_eq!((row.slots[StepRow::optimiser(1) as usize][3], row.slots[StepRow::optimiser(2) as usize][3]), (16, 8));
    }
}
