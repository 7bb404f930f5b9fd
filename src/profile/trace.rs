//! A Chrome trace, which Perfetto and `chrome://tracing` open: the host's work and the device's, on one clock.

use super::align::{Alignment, Window, align};
use super::{Entry, Profile};
use crate::gpu::{Clock, TimedRun};
use crate::plan::label::Label;
use serde_json::{Value, json};
use std::time::Instant;

/// Track of the host's work.
const HOST: u32 = 1;
/// Track of the dispatches.
const DEVICE: u32 = 2;

/// A slice of a track, in whole nanoseconds, so that slices that touch do not overlap by a rounding.
struct Slice<'a> {
    track: u32,
    name: &'a str,
    begin: i64,
    end: i64,
    args: Value,
}

impl Slice<'_> {
    fn json(&self) -> Value {
        let us = |ns: i64| ns as f64 / 1e3;
        json!({
            "ph": "X", "pid": 1, "tid": self.track, "cat": if self.track == HOST { "host" } else { "device" },
            "name": self.name, "ts": us(self.begin), "dur": us(self.end - self.begin), "args": self.args,
        })
    }
}

impl Profile {
    /// The trace as JSON text.
    pub fn trace(&self) -> String {
        let names = [(HOST, "host"), (DEVICE, "device")];
        let meta = |name: &str, track: u32, value: Value| json!({ "ph": "M", "pid": 1, "tid": track, "name": name, "args": value });
        let mut events = vec![meta("process_name", HOST, json!({ "name": "ganymede" }))];
        for (track, name) in names {
            events.push(meta("thread_name", track, json!({ "name": name })));
            events.push(meta("thread_sort_index", track, json!({ "sort_index": track })));
        }
        events.extend(self.host());
        let alignment = self.alignment();
        for (index, run) in self.runs.iter().enumerate() {
            self.device(index, run, alignment.offsets[index], &mut events);
        }
        let trace = json!({
            "displayTimeUnit": "ns",
            "otherData": {
                "adapter": self.adapter,
                "clock": match self.clock {
                    Clock::InPass => "timestamps inside a pass",
                    Clock::PerPass => "timestamps at the ends of passes",
                    Clock::Host => "the host's, around a submit and a wait for each dispatch",
                },
                "host and device aligned within (us)": alignment.error / 1e3,
                "ceiling GFLOP/s": self.ceiling.rates.gflops,
                "ceiling GB/s": self.ceiling.rates.gigabytes,
            },
            "traceEvents": events,
        });
        trace.to_string()
    }

    /// Nanoseconds since the beginning of the record.
    fn since(&self, at: Instant) -> i64 {
        at.saturating_duration_since(self.recorder.origin).as_nanos() as i64
    }

    fn host(&self) -> Vec<Value> {
        let slice = |name: &str, begin: Instant, end: Instant| {
            Slice { track: HOST, name, begin: self.since(begin), end: self.since(end), args: json!({}) }.json()
        };
        let outer = self.recorder.events.iter().map(|e| slice(&e.name, e.begin, e.end));
        outer.chain(self.runs.iter().flat_map(|run| &run.work).map(|w| slice(w.name, w.begin, w.end))).collect()
    }

    /// Begin and end of every dispatch that has them, on the clock that timed it.
    fn times(run: &TimedRun, base: u64) -> Vec<Option<(f64, f64)>> {
        let time = |begin: u64, ns: f64| {
            // In integers first: ticks may be beyond what f64 holds exactly.
            let begin = (i128::from(begin) - i128::from(base)) as f64 * run.tick_ns;
            (begin, begin + ns)
        };
        run.spans.iter().map(|span| Some(time(span.begin?, span.ns?))).collect()
    }

    /// The clock's first reading, from which its times count.
    fn base(&self) -> u64 {
        self.runs.iter().flat_map(|run| &run.spans).filter_map(|span| span.begin).min().unwrap_or(0)
    }

    fn alignment(&self) -> Alignment {
        let start = |run: &TimedRun| run.work.first().map_or(0.0, |w| self.since(w.begin) as f64);
        if self.clock == Clock::Host {
            // The times are the host's own, counted from the first piece of work; no base is taken off.
            return Alignment { offsets: self.runs.iter().map(start).collect(), error: 0.0 };
        }
        let base = self.base();
        let windows: Vec<Window> = self
            .runs
            .iter()
            .map(|run| {
                let submit = run.work.iter().find(|w| w.name == "submit").map_or(0.0, |w| self.since(w.begin) as f64);
                let done = run.work.last().map_or(0.0, |w| self.since(w.end) as f64);
                let times: Vec<(f64, f64)> = Self::times(run, base).into_iter().flatten().collect();
                let first = times.iter().map(|t| t.0).fold(f64::INFINITY, f64::min);
                let last = times.iter().map(|t| t.1).fold(f64::NEG_INFINITY, f64::max);
                // A step without any time says nothing of the clocks.
                let device = if times.is_empty() { (f64::INFINITY, f64::NEG_INFINITY) } else { (first, last) };
                Window { host: (submit, done), device }
            })
            .collect();
        align(&windows)
    }

    /// The slices of a step: the step, the runs of dispatches of one phase, the dispatches.
    fn device(&self, step: usize, run: &TimedRun, offset: f64, events: &mut Vec<Value>) {
        let base = if run.clock == Clock::Host { 0 } else { self.base() };
        let earliest = run.work.iter().find(|w| w.name == "submit").map_or(0, |w| self.since(w.begin));
        let mut dispatches: Vec<Slice<'_>> = Vec::with_capacity(run.spans.len());
        let mut phases: Vec<(String, i64, i64)> = Vec::new();
        let mut now = earliest;
        for (entry, time) in self.entries.iter().zip(Self::times(run, base)) {
            // Passes may overlap on a device; on one track their slices follow each other.
            let (begin, end) = match time {
                Some((begin, end)) => {
                    let begin = ((begin + offset) as i64).max(now);
                    (begin, ((end + offset) as i64).max(begin))
                }
                None => (now, now),
            };
            now = end;
            let phase = Label::parse(&entry.label).phase();
            match phases.last_mut() {
                Some((name, _, until)) if *name == phase => *until = end,
                _ => phases.push((phase, begin, end)),
            }
            dispatches.push(Slice { track: DEVICE, name: &entry.label, begin, end, args: self.args(entry, time) });
        }
        let begin = dispatches.first().map_or(now, |slice| slice.begin);
        let name = format!("step {step}");
        events.push(Slice { track: DEVICE, name: &name, begin, end: now, args: json!({}) }.json());
        for (name, begin, end) in &phases {
            events.push(Slice { track: DEVICE, name, begin: *begin, end: *end, args: json!({}) }.json());
        }
        events.extend(dispatches.iter().map(Slice::json));
    }

    fn args(&self, entry: &Entry, time: Option<(f64, f64)>) -> Value {
        let mut args =
            json!({ "kernel": entry.kernel, "flops": entry.cost.flops, "bytes": entry.cost.bytes, "runs in a step": entry.times });
        match time {
            Some((begin, end)) => {
                let ns = end - begin;
                let (arithmetic, memory) = self.ceiling.least_ns(entry.cost);
                args["ns"] = json!(ns);
                args["GFLOP/s"] = json!(entry.cost.flops as f64 / ns);
                args["GB/s"] = json!(entry.cost.bytes as f64 / ns);
                args["share of ceiling"] = json!(arithmetic.max(memory) / ns);
            }
            None => args["ns"] = json!("not measured"),
        }
        args
    }
}
