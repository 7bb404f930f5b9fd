//! Times added up, and what bounds them.

use super::{Ceiling, Entry, Profile};
use crate::bench::Ceilings;
use crate::gpu::Clock;
use crate::gpu::kernel::Cost;
use crate::plan::label::Label;
use std::collections::HashMap;
use std::fmt::{self, Write};

/// What the lines of a table stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A kernel in one variant.
    Kernel,
    /// A layer of a network in one pass, in all directions.
    Layer,
    /// A network's pass, forward or backward; an update; statistics; data.
    Phase,
    /// A dispatch.
    Dispatch,
}

/// Dispatches that are looked at together.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// What they have in common.
    pub name: String,
    /// How many there are in a step.
    pub calls: usize,
    /// How many of them have no sensible time.
    pub missing: usize,
    /// Nanoseconds in a step.
    pub ns: f64,
    /// What they compute and move in a step.
    pub cost: Cost,
}

/// What keeps a group from being faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Multiply-adds: at 40 % of their ceiling or more, and nearer to it than traffic to its own.
    Arithmetic,
    /// Traffic, likewise.
    Memory,
    /// So little work that starting the dispatches takes half the time or more.
    Dispatch,
    /// Neither: too few workgroups, latency, cache misses, or instructions that are no multiply-adds.
    Neither,
}

/// From this share of a ceiling on, the ceiling is what bounds.
const NEAR: f64 = 0.4;

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Bound::Arithmetic => "arithmetic",
            Bound::Memory => "memory",
            Bound::Dispatch => "dispatch overhead",
            Bound::Neither => "neither",
        })
    }
}

impl Group {
    /// The share of the nearer ceiling: the time that the work takes at least, by the time that it took.
    pub fn share(&self, ceiling: &Ceiling) -> f64 {
        let (arithmetic, memory) = ceiling.least_ns(self.cost);
        if self.ns > 0.0 { arithmetic.max(memory) / self.ns } else { 0.0 }
    }

    /// What bounds it.
    pub fn bound(&self, ceiling: &Ceiling) -> Bound {
        let (arithmetic, memory) = ceiling.least_ns(self.cost);
        let dispatch = ceiling.dispatch_ns * (self.calls - self.missing) as f64;
        if dispatch >= self.ns / 2.0 && dispatch > arithmetic.max(memory) {
            Bound::Dispatch
        } else if self.share(ceiling) < NEAR {
            Bound::Neither
        } else if arithmetic >= memory {
            Bound::Arithmetic
        } else {
            Bound::Memory
        }
    }

    /// The bound in a sentence.
    fn explain(&self, ceiling: &Ceiling) -> String {
        let (arithmetic, memory) = ceiling.least_ns(self.cost);
        let share = 100.0 * self.share(ceiling);
        let nearest = if arithmetic >= memory {
            format!("{:.1} of {:.1} GFLOP/s", self.cost.flops as f64 / self.ns, ceiling.rates.gflops)
        } else {
            format!("{:.1} of {:.1} GB/s", self.cost.bytes as f64 / self.ns, ceiling.rates.gigabytes)
        };
        let gain = (self.ns - arithmetic.max(memory)).max(0.0) / 1e6;
        match self.bound(ceiling) {
            _ if self.ns <= 0.0 => "no sensible time was measured".to_string(),
            Bound::Arithmetic => format!("arithmetic: {nearest} ({share:.0} %); at the ceiling it would take {gain:.3} ms less"),
            Bound::Memory => format!("memory: {nearest} ({share:.0} %); at the ceiling it would take {gain:.3} ms less"),
            Bound::Dispatch => format!(
                "dispatch overhead: {:.1} µs a call, of which {:.1} are the start of any dispatch; fuse it with a neighbour",
                self.ns / 1e3 / (self.calls - self.missing).max(1) as f64,
                ceiling.dispatch_ns / 1e3
            ),
            Bound::Neither => format!(
                "neither: {nearest} ({share:.0} %) is the nearer ceiling, {gain:.3} ms away; look at parallelism, loads and latency"
            ),
        }
    }
}

impl Profile {
    /// The dispatches of a step, added up; the slowest group first, single dispatches in order.
    pub fn groups(&self, by: By) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        let mut index: HashMap<String, usize> = HashMap::new();
        for entry in &self.entries {
            let name = match by {
                By::Kernel => entry.kernel.clone(),
                By::Layer => Label::parse(&entry.label).layer.to_string(),
                By::Phase => Label::parse(&entry.label).phase(),
                By::Dispatch => entry.label.clone(),
            };
            let at = *index.entry(name.clone()).or_insert_with(|| {
                groups.push(Group::new(name));
                groups.len() - 1
            });
            groups[at].add(entry);
        }
        if by != By::Dispatch {
            groups.sort_by(|a, b| b.ns.total_cmp(&a.ns));
        }
        groups
    }

    /// The dispatches of a step, added up to one.
    pub fn total(&self) -> Group {
        let mut total = Group::new("step".to_string());
        self.entries.iter().for_each(|entry| total.add(entry));
        total
    }

    /// The profile as text: how it was measured, a line a group, and for kernels what bounds each.
    pub fn table(&self, by: By) -> String {
        let groups = self.groups(by);
        let mut text = self.head();
        let title = match by {
            By::Kernel => "kernel",
            By::Layer => "layer",
            By::Phase => "phase",
            By::Dispatch => "dispatch",
        };
        let width = groups.iter().map(|g| g.name.len()).max().unwrap_or(0).max(title.len());
        let whole = self.total();
        let total = whole.ns;
        // Writing to a String cannot fail.
        let mut line = |cells: [&str; 10]| {
            let [name, calls, ms, step, flop, rate, mb, bandwidth, share, bound] = cells;
            let _ = writeln!(
                text,
                "{name:width$} {calls:>6} {ms:>10} {step:>7} {flop:>10} {rate:>9} {mb:>10} {bandwidth:>8} {share:>10}  {bound}"
            );
        };
        line([title, "calls", "ms", "step %", "MFLOP", "GFLOP/s", "MB", "GB/s", "ceiling %", "bound by"]);
        for group in &groups {
            let Group { calls, ns, cost, .. } = group;
            let rate = |amount: u64| if *ns > 0.0 { format!("{:.2}", amount as f64 / ns) } else { "-".to_string() };
            line([
                &group.name,
                &calls.to_string(),
                &format!("{:.3}", ns / 1e6),
                &format!("{:.1}", 100.0 * ns / total.max(f64::MIN_POSITIVE)),
                &format!("{:.3}", cost.flops as f64 / 1e6),
                &rate(cost.flops),
                &format!("{:.3}", cost.bytes as f64 / 1e6),
                &rate(cost.bytes),
                &format!("{:.0}", 100.0 * group.share(&self.ceiling)),
                &if *ns > 0.0 { group.bound(&self.ceiling).to_string() } else { "not measured".to_string() },
            ]);
        }
        line([
            "step",
            &whole.calls.to_string(),
            &format!("{:.3}", total / 1e6),
            "100.0",
            &format!("{:.3}", whole.cost.flops as f64 / 1e6),
            &format!("{:.2}", whole.cost.flops as f64 / total),
            &format!("{:.3}", whole.cost.bytes as f64 / 1e6),
            &format!("{:.2}", whole.cost.bytes as f64 / total),
            "",
            "",
        ]);
        if by == By::Kernel {
            text.push_str("\nWhat bounds each kernel:\n");
            let name = groups.iter().map(|g| g.name.len()).max().unwrap_or(0);
            for group in &groups {
                let _ = writeln!(text, "  {:name$}  {}", group.name, group.explain(&self.ceiling));
            }
        }
        text
    }

    fn head(&self) -> String {
        let mut text =
            [Some(&self.adapter), self.variants.as_ref()].into_iter().flatten().map(|line| format!("{line}\n")).collect::<String>();
        let how = match self.clock {
            Clock::InPass => "timestamps before and after each dispatch inside one pass",
            Clock::PerPass => "timestamps at the ends of a pass for each dispatch (this adapter has none inside passes)",
            Clock::Host => {
                "the host's clock around a submit and a wait for each dispatch, because this adapter has no timestamps: every time holds \
                 the cost of both, and short dispatches seem longer than they are"
            }
        };
        let missing = self.entries.iter().filter(|e| e.ns.is_none()).count();
        let Ceiling { rates: Ceilings { gflops, gigabytes }, dispatch_ns } = self.ceiling;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} steps, the median of each dispatch; timed by {how}", self.steps);
        if missing > 0 {
            let _ = writeln!(text, "{missing} dispatches have no time: the driver's timestamps for them make no sense");
        }
        let _ = writeln!(
            text,
            "Ceilings, measured now: {:.1} GFLOP/s (multiply-adds in registers), {:.1} GB/s (copying), {:.1} µs (the least that a dispatch takes)",
            gflops,
            gigabytes,
            dispatch_ns / 1e3
        );
        if let Some(times) = self.entries.iter().map(|e| e.times).max().filter(|times| *times > 1) {
            let _ = writeln!(text, "What runs for each of {times} micro-batches was timed for the first one, and counts {times} times");
        }
        let submits: f64 = self.work_ns("encode") + self.work_ns("submit");
        let _ = writeln!(
            text,
            "A step takes {:.3} ms as training runs it; its dispatches add up to {:.3} ms; the host encodes and submits a dispatch in {:.1} µs\n",
            self.plain_step.as_secs_f64() * 1e3,
            self.total().ns / 1e6,
            submits / self.steps.max(1) as f64 / self.entries.len().max(1) as f64 / 1e3,
        );
        text
    }

    fn work_ns(&self, name: &str) -> f64 {
        self.runs.iter().flat_map(|run| &run.work).filter(|w| w.name == name).map(|w| (w.end - w.begin).as_nanos() as f64).sum()
    }
}

impl Group {
    fn new(name: String) -> Self {
        Group { name, calls: 0, missing: 0, ns: 0.0, cost: Cost::default() }
    }

    fn add(&mut self, entry: &Entry) {
        self.calls += entry.times as usize;
        // Work without a time would make the rest seem faster.
        let Some(ns) = entry.ns else {
            self.missing += entry.times as usize;
            return;
        };
        self.ns += ns * f64::from(entry.times);
        self.cost.flops += entry.cost.flops * u64::from(entry.times);
        self.cost.bytes += entry.cost.bytes * u64::from(entry.times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CEILING: Ceiling = Ceiling { rates: Ceilings { gflops: 100.0, gigabytes: 10.0 }, dispatch_ns: 1000.0 };

    fn group(calls: usize, ns: f64, flops: u64, bytes: u64) -> Group {
        Group { name: "g".to_string(), calls, missing: 0, ns, cost: Cost { flops, bytes } }
    }

    #[test]
    fn bounds_follow_the_roofline() {
        // 1e6 FLOP take 10,000 ns at least, 1e5 bytes as long.
        for (group, bound, share) in [
            (group(1, 20_000.0, 1_000_000, 50_000), Bound::Arithmetic, 0.5),
            (group(1, 20_000.0, 500_000, 100_000), Bound::Memory, 0.5),
            (group(1, 40_000.0, 1_000_000, 0), Bound::Neither, 0.25),
            (group(10, 15_000.0, 100_000, 100), Bound::Dispatch, 1.0 / 15.0),
            (group(10, 11_000.0, 1_050_000, 100), Bound::Arithmetic, 10.5 / 11.0),
        ] {
            assert_eq!(group.bound(&CEILING), bound, "{group:?}");
            assert!((group.share(&CEILING) - share).abs() < 1e-9, "{group:?}");
            assert!(group.explain(&CEILING).starts_with(&bound.to_string()), "{}", group.explain(&CEILING));
        }
    }
}
