//! `ganymede bench`: how fast this adapter runs the kernels, the training steps and the start, next to what it could do.
//!
//! | group | what is timed | file |
//! |---|---|---|
//! | kernels | every kernel on the shapes of the presets' training steps, and some sizes that others publish too | `kernels` |
//! | step | whole training steps of the presets on built-in data | `step` |
//! | overhead | dispatches that do nothing, a submit with its wait, a readback | `overhead` |
//! | start | from process start to the end of the first training step, with empty and with filled caches | `start` |
//!
//! Nothing is timed before its result was compared with the f64 twin:
//!
//! * Products run at full size; a spread sample of output elements, padding included, is computed by the twin on the rows and columns of the operands
//!   that they depend on.
//! * What else computes values runs at full size and is compared as a whole with the graph's own f64 evaluation.
//! * What updates state is timed at full size, after the cases of the same kernels with the same overrides have passed; those of optimisers and
//!   averages at full size too, those of statistics, noise and batch selection at their own, smaller shapes.
//! * The ceilings' kernels are compared as a whole with theirs.
//!
//! Times come from timestamps in front of and behind many runs in one submit, where the adapter has them, else from the host's clock around
//! submit and wait. A kernel's runs follow each other on the same buffers, so that operands that fit a cache are read from it; the ceilings are found
//! under the same conditions, by the best of several kernels and sizes. Where a kernel reads textures, the copies that fill them are part of its time.

mod ceiling;
pub mod compare;
mod kernels;
mod overhead;
mod product;
mod report;
mod start;
mod statistics;
mod step;
mod subject;
mod timing;
mod values;

pub use overhead::least_dispatch_ns;
pub use report::{Adapter, Better, Group, Host, Measurement, Report, Table};
pub use start::{child, device_flags};
pub use subject::Ceilings;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::gpu::kernel::Kernel;
use crate::graph::precision::Precision;
use crate::graph::variants::Variants;
use crate::run::presets::{PRESETS, Preset};
use std::ffi::OsString;
use std::sync::Arc;

/// The kernels that only benchmarks run.
pub fn kernels() -> Vec<&'static Kernel> {
    let copies = ceiling::COPIES.iter().map(|(kernel, _)| kernel);
    copies.chain([&ceiling::MULTIPLY_ADD, &overhead::COUNT]).collect()
}

/// What to run, and how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// Groups, in order.
    pub groups: Vec<Group>,
    /// The only preset, and then the only shapes of kernels; each group's own choice if `None`.
    pub preset: Option<&'static Preset>,
    /// Images in a batch; the presets' own if `None`.
    pub batch: Option<usize>,
    /// Seconds for each result; each group's own if `None`.
    pub seconds: Option<f64>,
    /// Samples of each result; as many as the time allows if `None`.
    pub runs: Option<usize>,
    /// Only results whose name or kernel contains this text.
    pub filter: Option<String>,
    /// Every kernel that can run a product, not only the one that the adapter's table picks.
    pub all_variants: bool,
    /// Precision of training steps.
    pub precision: Precision,
    /// Kernels in place of the built-in choice, where products are computed. A table is for the products of one preset and batch.
    pub variants: Variants,
    /// Flags that make a child process open the same adapter and use the same kernels.
    pub child_flags: Vec<OsString>,
}

impl Options {
    fn presets(&self, default: &[&str]) -> Vec<&'static Preset> {
        match self.preset {
            Some(preset) => vec![preset],
            None => PRESETS.iter().filter(|p| default.contains(&p.name)).collect(),
        }
    }

    /// Whether a result is wanted.
    fn wants(&self, name: &str, kernel: &str) -> bool {
        self.filter.as_deref().is_none_or(|text| name.contains(text) || kernel.contains(text))
    }

    fn batch(&self, preset: &Preset) -> usize {
        self.batch.unwrap_or(preset.batch())
    }
}

/// Runs benchmarks. `say` gets the lines of a table as they come.
///
/// # Errors
/// [`Error::Input`] if the filter matches nothing, or the table of kernels does not fit a preset that is measured; [`Error::SelfTest`] if a kernel computes wrong numbers, which are then not timed.
pub fn run(gpu: &Arc<Gpu>, options: &Options, command: Vec<String>, say: &mut dyn FnMut(&str) -> Result<()>) -> Result<Report> {
    let mut report = Report::new(gpu, command);
    for group in &options.groups {
        let mut header = Some(report::header(*group));
        let mut add = |measurement: Measurement| {
            if let Some(header) = header.take() {
                say(&header)?;
            }
            say(&report::row(&measurement))?;
            report.results.push(measurement);
            Ok(())
        };
        match group {
            Group::Kernels => kernels::run(gpu, options, &mut add)?,
            Group::Step => step::run(gpu, options, &mut add)?,
            Group::Overhead => overhead::run(gpu, options, &mut add)?,
            Group::Start => start::run(options, &mut add)?,
        }
    }
    if report.results.is_empty() {
        let text = options.filter.as_deref().unwrap_or_default();
        return Err(Error::input(format!(
            "--filter {text}: no result's name or kernel contains this; names are like 'matmul 512x512x512' and 'conv2d_forward n64 c64 16x16'"
        )));
    }
    Ok(report)
}

/// This adapter's ceilings, in about a second: what else is measured at the same time can be held against them.
///
/// # Errors
/// [`Error::SelfTest`] if a kernel computes wrong numbers; [`Error::Environment`] if the device is lost or out of memory.
pub fn ceilings(gpu: &Gpu) -> Result<Ceilings> {
    ceiling::quick(gpu)
}

/// Takes each result as it comes.
type Add<'a> = dyn FnMut(Measurement) -> Result<()> + 'a;
