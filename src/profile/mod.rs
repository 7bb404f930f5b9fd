//! Where the time of a training step goes: every dispatch timed, and held against what the adapter can do.
//!
//! [`profile`] runs a trainer's steps as they are and then one by one with timestamps; [`Profile::table`] adds the times up by kernel, layer or
//! phase, and [`Profile::trace`] lays them out in time beside the host's work.

mod align;
mod ceiling;
mod record;
mod table;
mod trace;

pub use ceiling::Ceiling;
pub use record::{Event, Recorder};
pub use table::{Bound, By, Group};

use crate::error::{Error, Result};
use crate::gan::trainer::Trainer;
use crate::gpu::kernel::Cost;
use crate::gpu::{Clock, TimedRun};
use std::time::Duration;

/// Steps before anything is timed: the first compiles pipelines, the second sets the number of steps in a submit.
const WARM_UP: u32 = 2;

/// A dispatch of the step.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its label ([`crate::plan::label`]).
    pub label: String,
    /// Its kernel and variant: `gemm_rows_broadcast/t_texture`.
    pub kernel: String,
    /// What one run of it computes and moves.
    pub cost: Cost,
    /// How often it runs in a step: once for each micro-batch, or once.
    pub times: u32,
    /// Nanoseconds of one run, its first in the step: the median over the timed steps, or `None` if no step gave a sensible time.
    pub ns: Option<f64>,
}

/// A profile of a training step.
#[derive(Debug)]
pub struct Profile {
    /// Adapter and driver.
    pub adapter: String,
    /// Whose choice of kernels was used, if not the built-in one.
    pub variants: Option<String>,
    /// What timed the dispatches.
    pub clock: Clock,
    /// The dispatches of a step in order.
    pub entries: Vec<Entry>,
    /// What the adapter can do.
    pub ceiling: Ceiling,
    /// A step as training runs it, several to a submit and without timestamps.
    pub plain_step: Duration,
    /// Number of timed steps.
    pub steps: usize,
    runs: Vec<TimedRun>,
    recorder: Recorder,
}

/// Runs `steps` steps plainly, then as many with every dispatch timed. `recorder` may hold what came before.
///
/// # Errors
/// [`Error::Environment`] if the device is lost or out of memory; [`Error::Diverged`] if the steps gave a non-finite number.
pub fn profile(trainer: &mut Trainer, steps: u32, mut recorder: Recorder) -> Result<Profile> {
    if steps == 0 {
        return Err(Error::input("0 steps cannot be profiled"));
    }
    recorder.time("warm-up", || trainer.run_steps(WARM_UP).and_then(|()| trainer.gpu().wait()))?;
    let (begin, end) = recorder.time("untimed steps", || trainer.run_steps(steps).and_then(|()| trainer.gpu().wait()))?.1;
    let mut runs = Vec::with_capacity(steps as usize);
    for step in 0..steps {
        runs.push(recorder.time(&format!("timed step {step}"), || trainer.time_step())?.0);
    }
    recorder.time("tick", || trainer.tick_stats())?;
    let ceiling = recorder.time("ceilings", || Ceiling::measure(trainer.gpu()))?.0;
    let plan = trainer.plan();
    let times = plan.parts.iter().flat_map(|part| part.dispatches.clone().map(|_| part.times));
    let entries = plan
        .dispatches
        .iter()
        .zip(times)
        .enumerate()
        .map(|(index, ((label, dispatch), times))| Entry {
            label: label.clone(),
            kernel: dispatch.kernel.label(),
            cost: dispatch.cost,
            times,
            ns: median(runs.iter().filter_map(|run| run.spans[index].ns).collect()),
        })
        .collect();
    Ok(Profile {
        adapter: trainer.gpu().adapter_summary(),
        variants: None,
        clock: trainer.gpu().clock(),
        entries,
        ceiling,
        plain_step: (end - begin) / steps,
        steps: runs.len(),
        runs,
        recorder,
    })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values.get(middle).copied()
    } else {
        Some((values.get(middle)? + values.get(middle.checked_sub(1)?)?) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![3.0, 1.0]), Some(2.0));
        assert_eq!(median(vec![9.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0, 3.0, 4.0]), Some(3.5));
    }
}
