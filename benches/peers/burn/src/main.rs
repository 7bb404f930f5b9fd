//! burn as a peer: a worker that times workloads on request, one JSON object a line in and out (see ../README.md).
//!
//! usage: ganymede-peer-burn flex|wgpu

mod hashed;
mod kernels;
mod measure;
mod networks;
mod trainer;

use burn::tensor::Device;
use kernels::{Run, number, text};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::Instant;
use trainer::Trainer;

/// Version of burn that Cargo.toml pins.
const PEER: &str = "burn 0.22.1";
/// Runs before anything is timed: the first compiles, the next ones tune.
const WARM_UP: u32 = 3;

/// Answers requests; keeps what it has prepared, so that compilation and tuning are paid once.
struct Worker {
    backend: String,
    device: Device,
    prepared: HashMap<String, Run>,
}

impl Worker {
    fn answer(&mut self, request: &Value) -> Result<Value, String> {
        match text(request, "op")? {
            "info" => {
                Ok(json!({ "peer": format!("{PEER} {}", self.backend), "device": format!("{:?}", self.device), "modes": ["default"] }))
            }
            "model" => self.model(request),
            "prepare" => self.prepare(request),
            "time" => self.time(request),
            op => Err(format!("no operation {op:?}")),
        }
    }

    /// Parameters, and losses of the first steps from hashed values.
    fn model(&self, request: &Value) -> Result<Value, String> {
        let mut trainer = self.trainer(&request["workload"])?;
        let [g, d] = trainer.parameters();
        let losses: Vec<[f32; 2]> = (0..number(request, "steps")? as u64).map(|step| trainer.hashed_step(step)).collect();
        Ok(json!({ "parameters": { "G": g, "D": d }, "flops": null, "losses": losses }))
    }

    /// Builds a workload and runs it until nothing is compiled or tuned any more.
    fn prepare(&mut self, request: &Value) -> Result<Value, String> {
        let start = Instant::now();
        let spec = &request["workload"];
        let mut run: Run = if text(spec, "kind")? == "step" {
            let mut trainer = self.trainer(spec)?;
            Box::new(move || {
                trainer.step();
                Box::new(())
            })
        } else {
            kernels::build(spec, &self.device)?
        };
        for _ in 0..WARM_UP {
            measure::span(&mut run, 1, &self.device)?;
        }
        self.prepared.insert(key(request), run);
        Ok(json!({ "seconds": start.elapsed().as_secs_f64() }))
    }

    /// Seconds of one run, many times.
    fn time(&mut self, request: &Value) -> Result<Value, String> {
        let run = self.prepared.get_mut(&key(request)).ok_or("the workload was not prepared")?;
        let seconds = request["seconds"].as_f64().ok_or("expected a number as \"seconds\"")?;
        Ok(json!({ "variants": { "default": measure::sample(run, seconds, &self.device)? } }))
    }

    fn trainer(&self, spec: &Value) -> Result<Trainer, String> {
        let preset = text(spec, "preset")?;
        Trainer::new(preset, number(spec, "batch")?, &self.device).ok_or_else(|| format!("no preset {preset:?}"))
    }
}

/// Names a prepared workload.
fn key(request: &Value) -> String {
    format!("{} {}", request["workload"], request["mode"])
}

/// The device of a backend that was compiled in.
fn device(backend: &str) -> Option<Device> {
    match backend {
        #[cfg(feature = "flex")]
        "flex" => Some(Device::flex()),
        #[cfg(feature = "wgpu")]
        "wgpu" => Some(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        _ => None,
    }
}

fn main() -> ExitCode {
    let backend = std::env::args().nth(1).unwrap_or_default();
    let Some(device) = device(&backend) else {
        eprintln!("expected a backend that was compiled in (cargo features flex, wgpu) as the one argument, got {backend:?}");
        return ExitCode::from(2);
    };
    let mut worker = Worker { backend, device, prepared: HashMap::new() };
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        // burn reports what a backend cannot do by a panic; one such workload must not end the others.
        let answer = panic::catch_unwind(AssertUnwindSafe(|| {
            let request = serde_json::from_str(&line).map_err(|error| format!("not JSON: {error}"))?;
            worker.answer(&request)
        }))
        .unwrap_or_else(|_| Err("burn panicked; its message is in the log".into()));
        let answer = answer.unwrap_or_else(|error| json!({ "error": error }));
        let mut out = io::stdout().lock();
        if writeln!(out, "{answer}").and_then(|()| out.flush()).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}
