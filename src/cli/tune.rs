//! `ganymede tune`.

use super::args::TuneArgs;
use super::{dataset, wiring};
use crate::error::{Error, Result};
use crate::tune::{Outcome, Tuned};

/// Seconds of measuring where none are given: enough for a preset, and on a GPU less than anybody minds.
const SECONDS: [f64; 2] = [0.8, 30.0];

/// Times the kernels of a training step and writes the choice to a file.
pub fn run(args: &TuneArgs) -> Result<()> {
    if let Some(seconds) = args.seconds
        && !(seconds > 0.0 && seconds <= 86_400.0)
    {
        return Err(Error::input(format!("--seconds: got {seconds}, expected seconds of measuring, above 0 and at most 86400")));
    }
    let config = args.model.layers()?.resolve(None)?;
    let data = dataset::open_data(&config)?;
    config.check_data(data.len())?;
    let seconds = |is_software| args.seconds.unwrap_or(SECONDS[usize::from(is_software)]);
    let (file, outcome) = wiring::tune(&config, &data, &seconds, &mut |line| super::print(line))?;
    super::print(&table(&outcome))?;
    if outcome.products.is_empty() && outcome.left > 0 {
        return Err(Error::input("--seconds: no product was timed; give more seconds"));
    }
    file.write(&args.out)?;
    let (preset, batch) = (&config.preset, config.training.batch);
    super::print(&format!("Wrote {0}; to use it: ganymede train --preset {preset} --batch {batch} --variants {0}", args.out.display()))
}

/// A line for each product: how often it is computed, what the default takes, the chosen kernel and what that takes; then the sums.
fn table(outcome: &Outcome) -> String {
    let time = |us: Option<f64>| us.map_or("-".to_string(), |us| format!("{us:.1}"));
    let width = outcome.products.iter().map(|tuned| tuned.product.len()).max().unwrap_or(0).max("product".len());
    let mut text = format!("{:width$}  {:>4}  {:>12}  {:>12}  kernel\n", "product", "uses", "default µs", "chosen µs");
    for tuned in &outcome.products {
        let Tuned { product, uses, times, chosen } = tuned;
        let (label, best) = &times[*chosen];
        let mark = if *chosen == 0 { "" } else { " (not the default)" };
        text.push_str(&format!("{product:width$}  {uses:>4}  {:>12}  {:>12}  {label}{mark}\n", time(times[0].1), time(*best)));
    }
    let changed = outcome.products.iter().filter(|tuned| tuned.chosen > 0).count();
    let gain: f64 = outcome.products.iter().map(Tuned::gain).sum();
    let of: f64 = outcome.products.iter().filter_map(|tuned| Some(tuned.times[0].1? * tuned.uses as f64)).sum();
    text.push_str(&format!(
        "{changed} of {} products leave the default, and take {gain:.1} µs off {of:.1} µs a step; {} have one kernel only; {} pipelines",
        outcome.products.len(),
        outcome.alone,
        outcome.pipelines
    ));
    if outcome.left > 0 {
        text.push_str(&format!(
            "\n{} larger products were not timed for want of time, and keep the default; give more --seconds",
            outcome.left
        ));
    }
    text
}
