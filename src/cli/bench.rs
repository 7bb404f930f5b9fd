//! `ganymede bench`.

use super::args::{BenchArgs, BenchCommand, BenchOptions, CompareArgs};
use super::wiring;
use crate::bench::{self, Group, Options, Report, Table, compare};
use crate::error::{Error, Result};
use crate::gpu::{Backend, GpuOptions};
use crate::graph::precision::Precision;
use crate::run::config::VariantsConfig;
use crate::run::presets::preset;
use crate::tune::file;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// Runs benchmarks, or compares two reports.
pub fn run(args: &BenchArgs) -> Result<()> {
    match &args.what {
        None => measure(&args.options, &Group::ALL),
        Some(BenchCommand::All(options)) => measure(options, &Group::ALL),
        Some(BenchCommand::Kernels(options)) => measure(options, &[Group::Kernels]),
        Some(BenchCommand::Step(options)) => measure(options, &[Group::Step]),
        Some(BenchCommand::Overhead(options)) => measure(options, &[Group::Overhead]),
        Some(BenchCommand::Start(start)) if start.child => child(&start.options),
        Some(BenchCommand::Start(start)) => measure(&start.options, &[Group::Start]),
        Some(BenchCommand::Compare(args)) => judge(args),
    }
}

fn measure(args: &BenchOptions, groups: &[Group]) -> Result<()> {
    let backend = args.device.backend_name();
    let variants = table(args, groups)?;
    let mut child_flags = bench::device_flags(args.device.adapter.as_deref(), backend.as_deref(), args.device.checked);
    child_flags.extend(args.variants.iter().flat_map(|file| ["--variants".into(), file.into()]));
    let options = Options {
        groups: groups.to_vec(),
        preset: args.preset.as_deref().map(preset).transpose()?,
        batch: args.batch.map(|n| n as usize),
        seconds: args.seconds,
        runs: args.runs.map(|n| n as usize),
        filter: args.filter.clone(),
        all_variants: args.all_variants,
        precision: args.precision.map(Into::into).unwrap_or_default(),
        variants: variants.kernels.clone(),
        child_flags,
    };
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    let mut say = |line: &str| {
        if to_stdout {
            // The table is for onlookers there; if nobody looks, the results still count.
            let _ = writeln!(std::io::stderr(), "{line}");
            return Ok(());
        }
        super::print(line)
    };
    let file = args.json.as_deref().filter(|_| !to_stdout);
    let is_new = file.is_some_and(|path| !path.exists());
    if let Some(path) = file {
        // Before minutes are spent on what cannot be written; what is there stays until there is something better.
        std::fs::OpenOptions::new().append(true).create(true).open(path).map_err(|e| unwritable(path, &e))?;
    }
    let json = report(args, &options, &variants, &mut say).inspect_err(|_| {
        if let Some(path) = file.filter(|_| is_new) {
            // The error that ended the run is the one to report.
            let _ = std::fs::remove_file(path);
        }
    })?;
    match file {
        Some(path) => std::fs::write(path, json).map_err(|e| unwritable(path, &e)),
        None if to_stdout => super::print(&json),
        None => Ok(()),
    }
}

/// The table that `--variants` names.
fn table(args: &BenchOptions, groups: &[Group]) -> Result<VariantsConfig> {
    let Some(path) = &args.variants else { return Ok(VariantsConfig::default()) };
    let table = file::setting(path)?;
    let refused = |why: &str| Err(Error::input(format!("--variants {}: {why}", path.display())));
    if !table.is_empty() && args.preset.is_none() {
        return refused("a table is for the products of one preset and batch; name them with --preset and --batch");
    }
    if !table.is_empty() && groups == [Group::Overhead] {
        return refused("`bench overhead` computes no products; leave the flag out");
    }
    Ok(table)
}

fn report(args: &BenchOptions, options: &Options, variants: &VariantsConfig, say: &mut dyn FnMut(&str) -> Result<()>) -> Result<String> {
    let backend = args.device.backend_name();
    let open = if options.precision == Precision::F16Matrix { wiring::open_with_matrices } else { wiring::open_gpu };
    let gpu = Arc::new(open(args.device.adapter.clone(), backend.as_deref(), args.device.checked)?);
    say(&gpu.adapter_summary())?;
    wiring::describe_variants(variants, &gpu).map_or(Ok(()), |line| say(&line))?;
    let command = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let report = bench::run(&gpu, options, command, say)?;
    gpu.save_pipeline_cache();
    let VariantsConfig { adapter, kernels } = variants.clone();
    let table =
        (!kernels.is_empty()).then(|| Table { file: kernels.origin, adapter: adapter.unwrap_or_default(), kernels: kernels.kernels });
    Report { variants: table, ..report }.to_json()
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::input(format!("--json {}: cannot be written: {error}", path.display()))
}

fn child(args: &BenchOptions) -> Result<()> {
    let name = args.preset.as_deref().ok_or_else(|| Error::internal("a child process without a preset"))?;
    let backend = args.device.backend_name().map(|b| b.parse::<Backend>()).transpose()?;
    let gpu = GpuOptions { adapter: args.device.adapter.clone(), backend, checked: args.device.checked, ..GpuOptions::default() };
    let variants = table(args, &[Group::Start])?.kernels;
    bench::child(&gpu, preset(name)?, args.batch.map(|n| n as usize), variants, &mut |line| super::print(line))
}

fn judge(args: &CompareArgs) -> Result<()> {
    let (old, new) = (Report::read(&args.old)?, Report::read(&args.new)?);
    let lines = compare::compare(&old, &new)?;
    compare::tables(&old, &new).map_or(Ok(()), |line| super::print(&line))?;
    super::print(&compare::table(&lines))?;
    let worse: Vec<&str> = lines.iter().filter(|l| l.verdict.is_worse()).map(|l| l.name.as_str()).collect();
    if worse.is_empty() {
        return Ok(());
    }
    Err(Error::SelfTest(format!(
        "{} of {} results are worse than in {}: {}",
        worse.len(),
        lines.len(),
        args.old.display(),
        worse.join("; ")
    )))
}
