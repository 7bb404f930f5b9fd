//! The group `start`: from the start of a process to the end of its first training step.
//!
//! Every sample is a process of its own, because drivers keep what they have compiled. The cold ones begin with empty caches (ganymede's, Mesa's and
//! NVIDIA's), the warm ones with what the last cold one left.

use super::step::images;
use super::{Add, Better, Group, Measurement, Options};
use crate::error::{Error, Result};
use crate::gan::config::GanConfig;
use crate::gan::step::Inputs;
use crate::gan::trainer::Trainer;
use crate::gpu::{Gpu, GpuOptions};
use crate::graph::variants::Variants;
use crate::run::presets::{DEFAULT_PRESET, Preset};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

/// Presets that are measured when none is named.
const DEFAULT: [&str; 2] = ["mlp", DEFAULT_PRESET];
/// Processes for each result, unless told otherwise.
const RUNS: usize = 3;
/// Environment variables that say where caches are.
const CACHES: [&str; 3] = ["GANYMEDE_CACHE_DIR", "MESA_SHADER_CACHE_DIR", "__GL_SHADER_DISK_CACHE_PATH"];

/// What a child process says once its first step is done: seconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Stages {
    /// Until the adapter was open.
    open: f64,
    /// From there until data, plan, buffers and pipelines were there.
    build: f64,
    /// The step.
    step: f64,
}

/// Runs the group.
///
/// # Errors
/// [`Error::Environment`] if processes or folders cannot be made, or a child fails.
pub fn run(options: &Options, add: &mut Add) -> Result<()> {
    for preset in options.presets(&DEFAULT) {
        let names = ["cold", "warm"].map(|state| format!("first step, {state}, {}", super::step::name(preset, options.batch(preset))));
        if !names.iter().any(|n| options.wants(n, "")) {
            continue;
        }
        let mut times: [Vec<f64>; 2] = Default::default();
        let mut stages: [Vec<Stages>; 2] = Default::default();
        let mut caches = None;
        for state in 0..2 {
            for _ in 0..options.runs.unwrap_or(RUNS) {
                if state == 0 {
                    // The folder of the sample before goes first.
                    caches = None;
                }
                let folder = match caches.take() {
                    Some(folder) => folder,
                    None => Folder::new()?,
                };
                let (seconds, by_stage) = spawn(options, preset, &folder.0)?;
                times[state].push(seconds);
                stages[state].push(by_stage);
                caches = Some(folder);
            }
        }
        for ((name, times), stages) in names.iter().zip(times).zip(stages) {
            if options.wants(name, "") {
                let least = |stage: fn(&Stages) -> f64| stages.iter().map(stage).fold(f64::INFINITY, f64::min);
                let m = Measurement::new(Group::Start, name, "", "s", Better::Lower, times)?;
                add(m.with("open_s", least(|s| s.open)).with("build_s", least(|s| s.build)).with("step_s", least(|s| s.step)))?;
            }
        }
    }
    Ok(())
}

/// A folder that goes when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let parent = std::env::temp_dir();
        let failed = |e: std::io::Error| Error::environment(format!("cannot make a folder for caches in {}: {e}", parent.display()));
        for i in 0.. {
            let path = parent.join(format!("ganymede-bench-{}-{i}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => {
                    let folder = Folder(path);
                    for cache in CACHES {
                        std::fs::create_dir(folder.0.join(cache)).map_err(failed)?;
                    }
                    return Ok(folder);
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Err(Error::internal("no name for a folder is left"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that cannot be removed is left to the system, which empties its temporary folder itself.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a child on these caches; seconds from its start until it says that its first step is done, and its own account.
fn spawn(options: &Options, preset: &Preset, caches: &Path) -> Result<(f64, Stages)> {
    let failed = |what: &str, e: &dyn std::fmt::Display| Error::environment(format!("bench start: {what}: {e}"));
    let program = std::env::current_exe().map_err(|e| failed("the program cannot find itself", &e))?;
    let batch = options.batch(preset).to_string();
    let mut command = Command::new(program);
    command.args(["bench", "start", "--child", "--preset", preset.name, "--batch", &batch]).args(&options.child_flags);
    for cache in CACHES {
        command.env(cache, caches.join(cache));
    }
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|e| failed("cannot start a child process", &e))?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line).map_err(|e| failed("cannot read from the child process", &e))?;
    }
    let seconds = start.elapsed().as_secs_f64();
    // Until it ends it writes its caches.
    let status = child.wait().map_err(|e| failed("cannot wait for the child process", &e))?;
    if !status.success() {
        return Err(failed("the child process failed, and has said why", &status));
    }
    let stages = serde_json::from_str(&line).map_err(|e| failed("the child process said something else than its times", &e))?;
    Ok((seconds, stages))
}

/// The child: opens the adapter, trains one step, and says how long it took as a line of JSON.
///
/// # Errors
/// As [`Gpu::open`] and [`Trainer::new`].
pub fn child(
    gpu: &GpuOptions,
    preset: &Preset,
    batch: Option<usize>,
    variants: Variants,
    say: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<()> {
    let start = Instant::now();
    let gpu = Arc::new(Gpu::open(gpu)?);
    let open = start.elapsed().as_secs_f64();
    let data = images(preset)?;
    let config = GanConfig { variants, ..preset.gan_config(data.channels, batch.unwrap_or(preset.batch())) };
    let mut trainer = Trainer::new(gpu.clone(), config, &Inputs::Device { images: data.count })?;
    trainer.upload_data(&data.images)?;
    data.labels.iter().try_for_each(|labels| trainer.upload_labels(labels))?;
    let build = start.elapsed().as_secs_f64() - open;
    trainer.run_steps(1)?;
    gpu.wait()?;
    let step = start.elapsed().as_secs_f64() - open - build;
    let text = serde_json::to_string(&Stages { open, build, step }).map_err(|e| Error::internal(format!("writing times: {e}")))?;
    say(&text)?;
    gpu.save_pipeline_cache();
    Ok(())
}

/// Flags by which a child opens the adapter that its parent has.
pub fn device_flags(adapter: Option<&str>, backend: Option<&str>, checked: bool) -> Vec<OsString> {
    let mut flags = Vec::new();
    for (flag, value) in [("--adapter", adapter), ("--backend", backend)] {
        flags.extend(value.into_iter().flat_map(|v| [flag.into(), v.into()]));
    }
    flags.extend(checked.then(|| "--checked".into()));
    flags
}
