//! Results: their form in JSON and on the terminal.

use super::statistics::{median, quantile};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Version of the JSON.
const SCHEMA: u32 = 1;

/// A kind of benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Single kernels.
    Kernels,
    /// Training steps.
    Step,
    /// Dispatches, submits and readbacks.
    Overhead,
    /// Time to the first step.
    Start,
}

impl Group {
    /// All of them, quick ones first.
    pub const ALL: [Group; 4] = [Group::Overhead, Group::Kernels, Group::Step, Group::Start];

    /// As in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Group::Kernels => "kernels",
            Group::Step => "step",
            Group::Overhead => "overhead",
            Group::Start => "start",
        }
    }
}

/// Which end of a unit is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Rates.
    Higher,
    /// Times.
    Lower,
}

/// One result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Kind of benchmark.
    pub group: Group,
    /// What was measured: the same text in every run.
    pub name: String,
    /// Kernels with their variants, joined by ` + `; empty where none in particular was measured.
    pub kernel: String,
    /// Unit of the figures: `GFLOP/s`, `GB/s`, `images/s`, `us`, `s`.
    pub unit: String,
    /// Which end is good.
    pub better: Better,
    /// The best sample.
    pub best: f64,
    /// The median sample.
    pub median: f64,
    /// 5th percentile.
    pub low: f64,
    /// 95th percentile.
    pub high: f64,
    /// Every sample, in the order in which they were taken.
    pub samples: Vec<f64>,
    /// More figures.
    #[serde(flatten)]
    pub extra: BTreeMap<String, f64>,
}

impl Measurement {
    /// Sums up samples.
    ///
    /// # Errors
    /// [`Error::Internal`] if there is none, or one is no finite number.
    pub fn new(group: Group, name: &str, kernel: &str, unit: &str, better: Better, samples: Vec<f64>) -> Result<Self> {
        let samples: Vec<f64> = samples.into_iter().map(rounded).collect();
        if samples.is_empty() || samples.iter().any(|s| !s.is_finite()) {
            return Err(Error::internal(format!("{name}: the samples {samples:?} are no measurement")));
        }
        let best = quantile(&samples, if better == Better::Higher { 1.0 } else { 0.0 });
        Ok(Measurement {
            group,
            name: name.to_string(),
            kernel: kernel.to_string(),
            unit: unit.to_string(),
            better,
            best,
            median: rounded(median(&samples)),
            low: rounded(quantile(&samples, 0.05)),
            high: rounded(quantile(&samples, 0.95)),
            samples,
            extra: BTreeMap::new(),
        })
    }

    /// Adds a figure.
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.extra.insert(name.to_string(), rounded(value));
        self
    }
}

/// The adapter that was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adapter {
    /// Name as the driver gives it.
    pub name: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// Driver.
    pub driver: String,
    /// Version of the driver.
    pub driver_info: String,
    /// `DiscreteGpu`, `IntegratedGpu`, `VirtualGpu`, `Cpu` or `Other`.
    pub device_type: String,
}

/// The machine around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Operating system.
    pub os: String,
    /// Processor architecture.
    pub arch: String,
    /// Threads that the process may run at once.
    pub cpus: usize,
}

/// A table of kernels that was used in place of the built-in choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The file that it is from.
    pub file: String,
    /// Name of the adapter that its kernels were timed on.
    pub adapter: String,
    /// Kernels by product.
    pub kernels: BTreeMap<String, String>,
}

/// All results of one call, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this form: 1.
    pub schema: u32,
    /// Version of ganymede.
    pub ganymede: String,
    /// The command line.
    pub command: Vec<String>,
    /// The adapter.
    pub adapter: Adapter,
    /// The machine.
    pub host: Host,
    /// The table of kernels, if one was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variants: Option<Table>,
    /// The results.
    pub results: Vec<Measurement>,
}

impl Report {
    /// A report without results.
    pub fn new(gpu: &Gpu, command: Vec<String>) -> Self {
        let info = gpu.info();
        Report {
            schema: SCHEMA,
            ganymede: env!("CARGO_PKG_VERSION").to_string(),
            command,
            adapter: Adapter {
                name: info.name.clone(),
                backend: info.backend.to_string(),
                driver: info.driver.clone(),
                driver_info: info.driver_info.clone(),
                device_type: format!("{:?}", info.device_type),
            },
            host: Host {
                os: std::env::consts::OS.to_string(),
                arch: std::env::consts::ARCH.to_string(),
                cpus: std::thread::available_parallelism().map_or(1, usize::from),
            },
            variants: None,
            results: Vec::new(),
        }
    }

    /// Reads a report.
    ///
    /// # Errors
    /// [`Error::Input`] naming the file if it cannot be read or is no report of this version.
    pub fn read(path: &Path) -> Result<Self> {
        let at = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| Error::input(format!("{at}: cannot be read: {e}")))?;
        let report: Report = serde_json::from_str(&text)
            .map_err(|e| Error::input(format!("{at}: is no benchmark report: {e}; expected what `ganymede bench --json FILE` writes")))?;
        if report.schema != SCHEMA {
            return Err(Error::input(format!("{at}: has schema {}, expected {SCHEMA}; measure again with this version", report.schema)));
        }
        if let Some(result) = report.results.iter().find(|r| r.samples.is_empty() || r.samples.iter().any(|s| !s.is_finite() || *s <= 0.0))
        {
            return Err(Error::input(format!("{at}: result '{}': samples must be positive numbers, at least one", result.name)));
        }
        Ok(report)
    }

    /// As JSON, one result a line, so that changes to a committed report can be read.
    ///
    /// # Errors
    /// [`Error::Internal`] if a figure cannot be written.
    pub fn to_json(&self) -> Result<String> {
        let failed = |e: serde_json::Error| Error::internal(format!("writing a report: {e}"));
        let results: Vec<String> = self.results.iter().map(serde_json::to_string).collect::<Result<_, _>>().map_err(failed)?;
        let empty = Report { results: Vec::new(), ..self.clone() };
        let frame = serde_json::to_string(&empty).map_err(failed)?;
        let frame = frame.strip_suffix("[]}").ok_or_else(|| Error::internal("a report does not end with its results"))?;
        Ok(format!("{frame}[\n{}\n]}}\n", results.join(",\n")))
    }
}

/// Seven significant digits: clocks give no more, and committed reports stay readable.
fn rounded(value: f64) -> f64 {
    format!("{value:.6e}").parse().unwrap_or(value)
}

/// What a group's table shows besides the figures: key of the extra figure, heading, factor, decimals.
fn columns(group: Group) -> &'static [(&'static str, &'static str, f64, usize)] {
    match group {
        Group::Kernels => &[
            ("microseconds", "us", 1.0, 1),
            ("gflops", "GFLOP/s", 1.0, 1),
            ("gigabytes", "GB/s", 1.0, 1),
            ("ceiling_share", "ceiling %", 100.0, 0),
        ],
        Group::Step => &[
            ("steps", "steps", 1.0, 0),
            ("dispatches", "dispatches", 1.0, 0),
            ("host_us_per_dispatch", "host us/disp.", 1.0, 1),
            ("idle_share", "idle %", 100.0, 1),
            ("planned_mb", "planned MB", 1.0, 1),
            ("texture_mb", "texture MB", 1.0, 1),
            ("allocated_mb", "actual MB", 1.0, 1),
        ],
        Group::Overhead => &[],
        Group::Start => &[("open_s", "adapter s", 1.0, 2), ("build_s", "build s", 1.0, 2), ("step_s", "step s", 1.0, 2)],
    }
}

const NAME: usize = 66;
const FIGURE: usize = 10;

/// The heading of a group's table.
pub fn header(group: Group) -> String {
    let mut line = format!("{:NAME$}", group.name());
    for text in ["best", "median", "5 %", "95 %", "samples"] {
        line += &format!(" {text:>FIGURE$}");
    }
    line += "  unit     ";
    for (_, heading, ..) in columns(group) {
        line += &format!(" {heading:>width$}", width = heading.len().max(9));
    }
    format!("\n{}", line.trim_end())
}

/// A result as a line of its group's table.
pub fn row(m: &Measurement) -> String {
    let mut line = format!("{:NAME$}", m.name);
    for value in [m.best, m.median, m.low, m.high] {
        line += &format!(" {:>FIGURE$}", figure(value));
    }
    line += &format!(" {:>FIGURE$}  {:9}", m.samples.len(), m.unit);
    for (key, heading, factor, decimals) in columns(m.group) {
        let text = m.extra.get(*key).map_or("-".to_string(), |v| format!("{:.decimals$}", v * factor));
        line += &format!(" {text:>width$}", width = heading.len().max(9));
    }
    if !m.kernel.is_empty() {
        line += &format!("  {}", m.kernel);
    }
    line.trim_end().to_string()
}

/// Four significant digits, without an exponent.
fn figure(value: f64) -> String {
    let decimals = (3 - value.abs().max(1e-3).log10().floor() as i32).clamp(0, 6) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_up_by_what_is_good() {
        let samples = vec![3.0, 1.0, 2.0];
        let rate = Measurement::new(Group::Step, "mlp", "", "images/s", Better::Higher, samples.clone()).unwrap();
        assert_eq!((rate.best, rate.median), (3.0, 2.0));
        let time = Measurement::new(Group::Start, "mlp", "", "s", Better::Lower, samples).unwrap();
        assert_eq!((time.best, time.median, time.low, time.high), (1.0, 2.0, 1.1, 2.9));
        let long = Measurement::new(Group::Start, "mlp", "", "s", Better::Lower, vec![1.0 / 3.0]).unwrap().with("share", 2e9 / 3.0);
        assert_eq!((long.best, long.extra["share"]), (0.333_333_3, 666_666_700.0));
        assert!(Measurement::new(Group::Start, "none", "", "s", Better::Lower, vec![]).is_err());
        assert!(Measurement::new(Group::Start, "nan", "", "s", Better::Lower, vec![f64::NAN]).is_err());
    }

    #[test]
    fn tables_are_aligned() {
        let m = Measurement::new(Group::Kernels, "matmul 512x512x512", "gemm/x", "GFLOP/s", Better::Higher, vec![1234.5, 0.5]).unwrap();
        let (header, row) = (header(Group::Kernels), row(&m.with("ceiling_share", 0.437)));
        let header = header.trim_start_matches('\n');
        let end = |text: &str, part: &str| text.find(part).map(|at| at + part.len());
        assert_eq!(end(header, "best"), end(&row, "1234"), "{header}\n{row}");
        assert_eq!(end(header, "ceiling %"), end(&row, " 44"), "{header}\n{row}");
        assert_eq!(header.find("unit"), row.find("GFLOP/s"), "{header}\n{row}");
    }

    #[test]
    fn figures_have_four_digits() {
        assert_eq!([0.01234, 1.2345, 12.345, 1234.5, 123_456.0].map(figure), ["0.01234", "1.234", "12.35", "1234", "123456"]);
    }
}
