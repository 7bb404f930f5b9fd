//! How long dispatches take.

use std::time::Instant;

use wgpu::{BufferUsages, Features};

use super::device::Gpu;
use super::sequence::{Recorded, Sequence, pass_descriptor};
use crate::error::Result;

/// What measures a dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The device's, read before and after each dispatch inside one pass.
    InPass,
    /// The device's, read at the ends of a pass for each dispatch.
    PerPass,
    /// The host's, around a submit of each dispatch and a wait: includes what both cost.
    Host,
}

/// What a dispatch took.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Label of the dispatch.
    pub label: String,
    /// Nanoseconds; `None` if the timestamps make no sense.
    pub ns: Option<f64>,
    /// When it began, in ticks of the clock; for [`Clock::Host`], nanoseconds since the first [`Work`] of the run began.
    pub begin: Option<u64>,
}

/// What the host did for a timed run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// `encode`, `submit` or `wait`; `repeat` for what runs again without being timed.
    pub name: &'static str,
    /// When it began.
    pub begin: Instant,
    /// When it ended.
    pub end: Instant,
}

/// A timed run of one sequence or of several.
#[derive(Debug, Clone, PartialEq)]
pub struct TimedRun {
    /// What measured.
    pub clock: Clock,
    /// Nanoseconds in a tick of the clock.
    pub tick_ns: f64,
    /// The dispatches in order.
    pub spans: Vec<Span>,
    /// The host's work in order: encode, submit and wait, once or more often, and repeats.
    pub work: Vec<Work>,
}

impl Gpu {
    /// The finest clock that the adapter has.
    pub fn clock(&self) -> Clock {
        if !self.features.contains(Features::TIMESTAMP_QUERY) {
            Clock::Host
        } else if self.features.contains(Features::TIMESTAMP_QUERY_INSIDE_PASSES) {
            Clock::InPass
        } else {
            Clock::PerPass
        }
    }

    /// Runs the sequence once with this step row and this clock, which must not be finer than [`Gpu::clock`]; waits, and returns what every
    /// dispatch took and what the host did.
    ///
    /// # Errors
    /// As [`Gpu::submit`].
    pub fn submit_timed(&self, sequence: &Sequence, row: u32, clock: Clock) -> Result<TimedRun> {
        let mut run = self.begin_timed(clock);
        self.add_timed(sequence, row, &mut run)?;
        Ok(run)
    }

    /// A run of nothing yet, for [`Gpu::add_timed`].
    pub fn begin_timed(&self, clock: Clock) -> TimedRun {
        let tick_ns = if clock == Clock::Host { 1.0 } else { f64::from(self.queue.get_timestamp_period()) };
        TimedRun { clock, tick_ns, spans: Vec::new(), work: Vec::new() }
    }

    /// As [`Gpu::submit_timed`], as a part of a run that goes through several sequences.
    ///
    /// # Errors
    /// As [`Gpu::submit`].
    pub fn add_timed(&self, sequence: &Sequence, row: u32, run: &mut TimedRun) -> Result<()> {
        self.faults.check()?;
        sequence.check_rows(&(row..row.saturating_add(1)))?;
        if run.clock == Clock::Host {
            for dispatch in &sequence.dispatches {
                self.time_by_host(dispatch, row, run)?;
            }
        } else {
            for part in sequence.dispatches.chunks(wgpu::QUERY_SET_MAX_QUERIES as usize / 2) {
                self.time_by_device(part, row, run)?;
            }
        }
        Ok(())
    }

    fn time_by_host(&self, dispatch: &Recorded, row: u32, run: &mut TimedRun) -> Result<()> {
        let start = Instant::now();
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("timed") });
        dispatch.copies.iter().for_each(|copy| copy.encode(&mut encoder));
        self.encode(&mut encoder.begin_compute_pass(&pass_descriptor(&dispatch.label)), dispatch, row);
        let commands = encoder.finish();
        let encoded = Instant::now();
        let submission = self.queue.submit([commands]);
        let submitted = Instant::now();
        self.wait_for(submission)?;
        let done = Instant::now();
        run.work.extend([
            Work { name: "encode", begin: start, end: encoded },
            Work { name: "submit", begin: encoded, end: submitted },
            Work { name: "wait", begin: submitted, end: done },
        ]);
        let first = run.work[0].begin;
        run.spans.push(Span {
            label: dispatch.label.clone(),
            ns: Some((done - encoded).as_nanos() as f64),
            begin: u64::try_from((encoded - first).as_nanos()).ok(),
        });
        Ok(())
    }

    /// Times dispatches by timestamps inside one pass or at the ends of many.
    fn time_by_device(&self, dispatches: &[Recorded], row: u32, run: &mut TimedRun) -> Result<()> {
        let count = 2 * dispatches.len() as u32;
        let queries =
            self.device.create_query_set(&wgpu::QuerySetDescriptor { label: Some("timestamps"), ty: wgpu::QueryType::Timestamp, count });
        let resolved = self.allocate("timestamps", u64::from(count) * 8, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC)?;
        let start = Instant::now();
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("timed") });
        if run.clock == Clock::InPass {
            let mut pass = encoder.begin_compute_pass(&pass_descriptor("timed"));
            for (i, dispatch) in dispatches.iter().enumerate() {
                // A dispatch's time is with its copies, which need the encoder.
                pass.write_timestamp(&queries, 2 * i as u32);
                if !dispatch.copies.is_empty() {
                    drop(pass);
                    dispatch.copies.iter().for_each(|copy| copy.encode(&mut encoder));
                    pass = encoder.begin_compute_pass(&pass_descriptor("timed"));
                }
                self.encode(&mut pass, dispatch, row);
                pass.write_timestamp(&queries, 2 * i as u32 + 1);
            }
        } else {
            for (i, dispatch) in dispatches.iter().enumerate() {
                dispatch.copies.iter().for_each(|copy| copy.encode(&mut encoder));
                let writes = wgpu::ComputePassTimestampWrites {
                    query_set: &queries,
                    beginning_of_pass_write_index: Some(2 * i as u32),
                    end_of_pass_write_index: Some(2 * i as u32 + 1),
                };
                let mut pass = encoder
                    .begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some(&dispatch.label), timestamp_writes: Some(writes) });
                self.encode(&mut pass, dispatch, row);
            }
        }
        encoder.resolve_query_set(&queries, 0..count, &resolved.raw, 0);
        let commands = encoder.finish();
        let encoded = Instant::now();
        let mut submitted = encoded;
        self.throttle(|| {
            let submission = self.queue.submit([commands]);
            submitted = Instant::now();
            submission
        })?;
        self.wait()?;
        let done = Instant::now();
        run.work.extend([
            Work { name: "encode", begin: start, end: encoded },
            Work { name: "submit", begin: encoded, end: submitted },
            Work { name: "wait", begin: submitted, end: done },
        ]);
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&self.read(&resolved, 0, resolved.size())?);
        run.spans.extend(dispatches.iter().zip(ticks.chunks_exact(2)).map(|(dispatch, ticks)| {
            // Counters wrap and some drivers write nothing: a span that is not positive is no measurement.
            let took = ticks[1].checked_sub(ticks[0]).filter(|took| *took > 0);
            Span { label: dispatch.label.clone(), ns: took.map(|took| took as f64 * run.tick_ns), begin: took.map(|_| ticks[0]) }
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::gpu::kernel::{Bind, Cost, Dispatch, Kernel};
    use crate::gpu::testing;

    use super::*;

    /// y += rounds, counted one by one so that it takes time.
    const TEXT: &str = "
        override rounds: u32 = 1u;
        @group(0) @binding(0) var<storage, read_write> y: array<u32>;
        @compute @workgroup_size(64)
        fn count_up(@builtin(global_invocation_id) id: vec3<u32>) {
            for (var i = 0u; i < rounds; i++) { y[id.x] = y[id.x] ^ (y[id.x] + i); }
        }";

    static COUNT_UP: Kernel = Kernel {
        name: "count_up",
        variant: "",
        parts: &[("count_up", TEXT)],
        bindings: &[Bind::InOut],
        workgroup: [64, 1, 1],
        features: &[],
    };

    #[test]
    fn every_clock_keeps_the_order_and_the_devices_tell_long_from_short() {
        let Some(gpu) = testing::gpu() else { return };
        let y = gpu.buffer("y", 256 * 64).unwrap().whole();
        let dispatch = |rounds: f64| Dispatch {
            kernel: &COUNT_UP,
            overrides: vec![("rounds", rounds)],
            params: Vec::new(),
            operands: vec![y.clone()],
            workgroups: [64, 1, 1],
            cost: Cost::default(),
        };
        let list = vec![("short".to_string(), dispatch(1.0)), ("long".to_string(), dispatch(4_000.0))];
        let sequence = gpu.sequence("timed", list, None).unwrap();
        gpu.submit(&sequence, 0..1).unwrap();
        let clocks = match gpu.clock() {
            Clock::InPass => [Clock::Host, Clock::PerPass, Clock::InPass].as_slice(),
            Clock::PerPass => &[Clock::Host, Clock::PerPass],
            Clock::Host => &[Clock::Host],
        };
        for &clock in clocks {
            if clock != Clock::Host {
                // The host's clock counts waits, which on a busy machine are longer than any dispatch.
                let runs: Vec<TimedRun> = (0..5).map(|_| gpu.submit_timed(&sequence, 0, clock).unwrap()).collect();
                let best = |i: usize| runs.iter().filter_map(|run| run.spans[i].ns).fold(f64::INFINITY, f64::min);
                // A dispatch may be too short for a tick.
                let short = Some(best(0)).filter(|ns| ns.is_finite()).unwrap_or(0.0);
                assert!(short * 4.0 < best(1) && best(1).is_finite(), "{runs:?}");
            }
            let before = Instant::now();
            let run = gpu.submit_timed(&sequence, 0, clock).unwrap();
            let elapsed = before.elapsed().as_nanos() as f64;
            assert!(run.spans[1].ns.is_some_and(|long| long < elapsed), "{elapsed} ns for {run:?}");
            let ends = run.spans.iter().filter_map(|s| Some((s.begin? as f64 * run.tick_ns, s.ns?))).map(|(begin, ns)| (begin, begin + ns));
            assert!(ends.clone().zip(ends.skip(1)).all(|(a, b)| a.1 <= b.0 + run.tick_ns), "{run:?}");
            assert!(run.work.windows(2).all(|w| w[0].begin <= w[0].end && w[0].end <= w[1].begin), "{run:?}");
            let names: Vec<&str> = run.work.iter().map(|w| w.name).collect();
            assert_eq!(names[..3], ["encode", "submit", "wait"]);
        }
    }
}
