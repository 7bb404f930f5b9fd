//! The group `overhead`: what a dispatch, a submit and a readback cost when there is nothing to compute.

use super::timing::Budget;
use super::{Add, Better, Group, Measurement, Options};
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel};
use crate::gpu::{Buffer, Gpu, Sequence};
use crate::part;
use std::time::{Duration, Instant};

/// Adds one to a word.
pub static COUNT: Kernel = Kernel {
    name: "overhead_count",
    variant: "",
    parts: &[part!("overhead_count")],
    bindings: &[Bind::InOut],
    workgroup: [1, 1, 1],
    features: &[],
};

/// Dispatches in a submit.
const DISPATCHES: usize = 1000;
/// Dispatches that are timed one by one.
const TIMED_DISPATCHES: usize = 32;
/// Seconds for each result, unless told otherwise.
const SECONDS: f64 = 1.0;
/// Bytes of a readback.
const READ: u64 = 256;

/// Runs the group.
///
/// # Errors
/// [`Error::SelfTest`] if a dispatch was lost.
pub fn run(gpu: &Gpu, options: &Options, add: &mut Add) -> Result<()> {
    // Every figure is a time between two clock readings around one submit, which must not be repeated within a sample.
    let time = Duration::from_secs_f64(options.seconds.unwrap_or(SECONDS));
    let budget = Budget { time, runs: options.runs, sample: Duration::ZERO };
    for (name, counters) in [("dispatch, independent", DISPATCHES), ("dispatch, each after the one before", 1)] {
        let names = [format!("{name}: host"), format!("{name}: until done")];
        if !names.iter().any(|n| options.wants(n, COUNT.name)) {
            continue;
        }
        let (buffers, sequence) = counting(gpu, DISPATCHES, counters)?;
        let mut runs = 0;
        let mut host = Vec::new();
        let total = budget.samples(|_| {
            runs += 1;
            gpu.wait()?;
            let start = Instant::now();
            gpu.submit(&sequence, 0..1)?;
            host.push(start.elapsed().as_secs_f64());
            gpu.wait()?;
            Ok(start.elapsed().as_secs_f64())
        })?;
        check(gpu, &buffers, runs * (DISPATCHES / counters) as u32)?;
        // The first calls warm up and are no samples.
        let host = host.split_off(host.len() - total.len());
        for (name, seconds) in names.iter().zip([host, total]) {
            let samples = seconds.iter().map(|s| s * 1e6 / DISPATCHES as f64).collect();
            if options.wants(name, COUNT.name) {
                add(Measurement::new(Group::Overhead, name, COUNT.name, "us", Better::Lower, samples)?
                    .with("dispatches", DISPATCHES as f64))?;
            }
        }
    }
    let name = "submit of one dispatch, and wait";
    if options.wants(name, COUNT.name) {
        let (buffers, sequence) = counting(gpu, 1, 1)?;
        let mut runs = 0;
        let seconds = budget.samples(|_| {
            runs += 1;
            let start = Instant::now();
            gpu.submit(&sequence, 0..1)?;
            gpu.wait()?;
            Ok(start.elapsed().as_secs_f64())
        })?;
        check(gpu, &buffers, runs)?;
        let samples = seconds.iter().map(|s| s * 1e6).collect();
        add(Measurement::new(Group::Overhead, name, COUNT.name, "us", Better::Lower, samples)?)?;
    }
    let name = format!("readback of {READ} bytes");
    if options.wants(&name, "") {
        let buffer = gpu.buffer("readback", READ)?;
        let written: Vec<u8> = (0..READ).map(|i| i as u8).collect();
        gpu.write(&buffer, 0, &written)?;
        gpu.wait()?;
        let seconds = budget.samples(|_| {
            let start = Instant::now();
            let read = gpu.read(&buffer, 0, READ)?;
            let seconds = start.elapsed().as_secs_f64();
            if read == written {
                Ok(seconds)
            } else {
                Err(Error::SelfTest(format!("a readback gave other bytes on {}", gpu.adapter_summary())))
            }
        })?;
        let samples = seconds.iter().map(|s| s * 1e6).collect();
        add(Measurement::new(Group::Overhead, &name, "", "us", Better::Lower, samples)?)?;
    }
    Ok(())
}

/// Nanoseconds that a dispatch takes at least, timed one by one as in a profile ([`Gpu::submit_timed`]).
///
/// # Errors
/// [`Error::SelfTest`] if a dispatch was lost; else as [`Gpu::submit`].
pub fn least_dispatch_ns(gpu: &Gpu) -> Result<f64> {
    let (buffers, sequence) = counting(gpu, TIMED_DISPATCHES, 1)?;
    // The first run may compile.
    gpu.submit(&sequence, 0..1)?;
    let run = gpu.submit_timed(&sequence, 0, gpu.clock())?;
    check(gpu, &buffers, 2 * TIMED_DISPATCHES as u32)?;
    // Dispatches that are all shorter than a tick take none or one.
    Ok(run.spans.iter().filter_map(|span| span.ns).min_by(f64::total_cmp).unwrap_or(run.tick_ns))
}

/// A sequence of `dispatches` that count in turn in each of `counters` buffers.
fn counting(gpu: &Gpu, dispatches: usize, counters: usize) -> Result<(Vec<Buffer>, Sequence)> {
    let buffers: Vec<Buffer> = (0..counters).map(|_| gpu.buffer("counter", 4)).collect::<Result<_>>()?;
    let dispatch = |i: usize| Dispatch {
        kernel: &COUNT,
        overrides: Vec::new(),
        params: Vec::new(),
        operands: vec![buffers[i % counters].whole()],
        workgroups: [1, 1, 1],
        cost: Cost { flops: 0, bytes: 8 },
    };
    let list = (0..dispatches).map(|i| ("count".to_string(), dispatch(i))).collect();
    let sequence = gpu.sequence("overhead", list, None)?;
    Ok((buffers, sequence))
}

/// Every counter must have reached `expected`.
fn check(gpu: &Gpu, buffers: &[Buffer], expected: u32) -> Result<()> {
    for buffer in buffers {
        let count: Vec<u32> = bytemuck::pod_collect_to_vec(&gpu.read(buffer, 0, 4)?);
        if count != [expected] {
            let text = format!("{} of {expected} dispatches that count have counted on {}", count[0], gpu.adapter_summary());
            return Err(Error::SelfTest(text));
        }
    }
    Ok(())
}
