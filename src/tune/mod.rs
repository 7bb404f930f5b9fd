//! Times the kernels that could compute each product of a training step, on the adapter at hand, and chooses among them.
//!
//! Nothing here decides a run's numbers by itself: the choice is written to a [`mod@file`], and only a run that names the file uses it. So the
//! times may be as noisy as they like; three rules keep the choice sensible all the same. Candidates are timed in turns and by their best, so
//! that what else the machine does meets all of them. The default stays unless another is faster by more than [`MARGIN`]. And a kernel is
//! chosen only if it computes what the default computes, on the same inputs.

pub mod file;

use crate::error::Result;
use crate::gpu::kernel::Kernel;
use crate::gpu::step::StepRow;
use crate::gpu::{Buffer, Clock, Gpu};
use crate::graph::lower::Operand;
use crate::ops::noise::{Distribution, Draw, Source, lower_noise};
use crate::plan::{Executor, ProductSite, Program, Trial, compile};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// A candidate replaces the default only if it takes less than this share of its time.
pub const MARGIN: f64 = 0.95;
/// A candidate this many times slower than the best so far is not timed again.
const HOPELESS: f64 = 3.0;
/// A candidate is timed this often before it may replace the default.
const ROUNDS_TO_CHANGE: usize = 3;
/// A candidate is timed at most this often.
const MOST_ROUNDS: usize = 40;
/// Largest difference from the default's result, relative to its largest value: f32 sums in another order, over up to millions of terms.
const TOLERANCE: f32 = 1e-4;

/// A product and the times of its candidates.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuned {
    /// Its name in tables of variants.
    pub product: String,
    /// How often a step computes it.
    pub uses: usize,
    /// Label of each candidate, the default one first, and its best time in microseconds; `None` if it could not be timed or computes other numbers.
    pub times: Vec<(String, Option<f64>)>,
    /// Index of the one to use.
    pub chosen: usize,
}

impl Tuned {
    /// Microseconds that a step gains by the choice.
    pub fn gain(&self) -> f64 {
        let time = |i: usize| self.times[i].1.unwrap_or(0.0);
        if self.chosen == 0 { 0.0 } else { (time(0) - time(self.chosen)) * self.uses as f64 }
    }
}

/// What [`tune`] has found out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// The products that were timed, those with the most arithmetic first.
    pub products: Vec<Tuned>,
    /// Products with only one candidate.
    pub alone: usize,
    /// Products that time did not suffice for, which are those with the most arithmetic.
    pub left: usize,
    /// Pipelines that were built.
    pub pipelines: usize,
}

/// Times the candidates of every product for about `seconds` seconds of measuring. What drivers take to compile is not counted.
///
/// Cheap products come first: they tell which kernels are so slow here that trying them on an expensive product would take its whole time.
///
/// `note` takes a line for each candidate that computes other numbers than the default.
///
/// # Errors
/// [`crate::error::Error::Environment`] if the device is lost or out of memory.
pub fn tune(gpu: &Gpu, sites: Vec<ProductSite>, seconds: f64, note: &mut dyn FnMut(&str) -> Result<()>) -> Result<Outcome> {
    let count = sites.len();
    let mut sites: Vec<ProductSite> = sites.into_iter().filter(|site| site.trials.len() > 1).collect();
    let mut outcome = Outcome { alone: count - sites.len(), ..Outcome::default() };
    sites.sort_by_key(|site| site.trials[0].plan.flops());
    outcome.pipelines = build_pipelines(gpu, &sites)?;

    let mut spent = Duration::ZERO;
    let mut warm = HashSet::new();
    let mut ratios = Ratios::default();
    for (index, site) in sites.iter().enumerate() {
        let rest = seconds - spent.as_secs_f64();
        if rest <= 0.0 {
            outcome.left = sites.len() - index;
            break;
        }
        let mut contest = Contest::new(gpu, site)?;
        contest.warm_up(&mut warm)?;
        let start = Instant::now();
        contest.time(rest * share(&sites[index..]), &ratios)?;
        spent += start.elapsed();
        contest.add_to(&mut ratios);
        outcome.products.push(contest.decide(note)?);
    }
    outcome.products.reverse();
    Ok(outcome)
}

/// The share of the time that the first of some products gets. Large products need more, but not in proportion: launches and reads take time too.
fn share(sites: &[ProductSite]) -> f64 {
    let weight = |site: &ProductSite| (1.0 + site.trials[0].plan.flops() as f64).sqrt();
    weight(&sites[0]) / sites.iter().map(weight).sum::<f64>()
}

/// How many times slower a kernel was than the default, by both labels, where it came closest.
type Ratios = HashMap<(String, String), f64>;

/// Builds the pipelines of all candidates on all cores, and returns their number: shapes are parameters, so that it is that of the kernels.
fn build_pipelines(gpu: &Gpu, sites: &[ProductSite]) -> Result<usize> {
    let mut seen = HashSet::new();
    let dispatches = sites.iter().flat_map(|site| &site.trials).flat_map(|trial| &trial.plan.dispatches);
    let wanted: Vec<_> = dispatches
        .map(|(_, d)| d)
        .filter(|d| seen.insert((d.kernel.label(), d.overrides.iter().map(|(name, value)| (*name, value.to_bits())).collect::<Vec<_>>())))
        .collect();
    wanted.par_iter().try_for_each(|d| gpu.pipeline(d.kernel, &d.overrides).map(drop))?;
    Ok(wanted.len())
}

/// The candidates of one product, bound to the same inputs.
struct Contest<'a> {
    gpu: &'a Gpu,
    site: &'a ProductSite,
    executors: Vec<Executor>,
    /// Best times in seconds.
    best: Vec<Option<f64>>,
}

impl<'a> Contest<'a> {
    fn new(gpu: &'a Gpu, site: &'a ProductSite) -> Result<Self> {
        let inputs = noise(gpu, site)?;
        let executor = |trial: &Trial| Executor::new(gpu, &site.product, &trial.plan, &inputs, None);
        let executors = site.trials.iter().map(executor).collect::<Result<Vec<_>>>()?;
        Ok(Contest { gpu, site, best: vec![None; executors.len()], executors })
    }

    /// Runs the candidates once that have kernels which never ran: some drivers compile only then.
    fn warm_up(&self, warm: &mut HashSet<String>) -> Result<()> {
        for (trial, executor) in self.site.trials.iter().zip(&self.executors) {
            let labels: Vec<String> = trial.plan.dispatches.iter().map(|(_, d)| d.kernel.label()).collect();
            if !labels.iter().all(|label| warm.contains(label)) {
                executor.submit(self.gpu, 0..1)?;
                self.gpu.wait()?;
                warm.extend(labels);
            }
        }
        Ok(())
    }

    /// Times the candidates in turns for about that many seconds.
    fn time(&mut self, seconds: f64, ratios: &Ratios) -> Result<()> {
        let start = Instant::now();
        for i in 0..self.best.len() {
            if !self.is_out_of_reach(i, seconds, ratios) {
                self.best[i] = self.run(i)?;
            }
        }
        for round in 1..MOST_ROUNDS {
            let open = still_open(&self.best);
            let would_change = preferred(&self.best) != 0 && round < ROUNDS_TO_CHANGE;
            if open.iter().all(|i| *i == 0) || !would_change && start.elapsed().as_secs_f64() > seconds {
                break;
            }
            for i in open {
                let took = self.run(i)?;
                self.best[i] = [self.best[i], took].into_iter().flatten().reduce(f64::min);
            }
        }
        Ok(())
    }

    /// Whether a candidate would take more than the time that there is, by what it took on cheaper products, and not be chosen.
    fn is_out_of_reach(&self, i: usize, seconds: f64, ratios: &Ratios) -> bool {
        let ratio = ratios.get(&self.labels(i)).copied().unwrap_or(0.0);
        ratio > HOPELESS && self.best[0].is_some_and(|default| ratio * default > seconds)
    }

    fn add_to(&self, ratios: &mut Ratios) {
        let Some(default) = self.best[0] else { return };
        for (i, time) in self.best.iter().enumerate() {
            if let Some(time) = time {
                let ratio = ratios.entry(self.labels(i)).or_insert(f64::INFINITY);
                *ratio = ratio.min(time / default);
            }
        }
    }

    /// Labels of the default and of a candidate.
    fn labels(&self, i: usize) -> (String, String) {
        (self.site.trials[0].kernel.label(), self.site.trials[i].kernel.label())
    }

    /// Seconds that one run takes: on the device where it can tell, else until it is done.
    fn run(&self, i: usize) -> Result<Option<f64>> {
        if self.gpu.clock() == Clock::Host {
            let start = Instant::now();
            self.executors[i].submit(self.gpu, 0..1)?;
            self.gpu.wait()?;
            return Ok(Some(start.elapsed().as_secs_f64()));
        }
        let run = self.executors[i].submit_timed(self.gpu)?;
        Ok(run.spans.iter().map(|span| span.ns).sum::<Option<f64>>().map(|ns| ns * 1e-9))
    }

    /// Chooses the fastest candidate that computes what the default computes.
    fn decide(mut self, note: &mut dyn FnMut(&str) -> Result<()>) -> Result<Tuned> {
        let mut expected = None;
        let chosen = loop {
            let fastest = preferred(&self.best);
            if fastest == 0 {
                break 0;
            }
            let expected = match &expected {
                Some(expected) => expected,
                None => expected.insert(self.result(0)?),
            };
            match difference(expected, &self.result(fastest)?) {
                None => break fastest,
                Some(what) => {
                    let (default, other) = self.labels(fastest);
                    note(&format!("{}: {other} is out, because {what} from what {default} computes", self.site.product))?;
                    self.best[fastest] = None;
                }
            }
        };
        let label = |kernel: &Kernel| kernel.label();
        let times = self.site.trials.iter().zip(&self.best).map(|(trial, best)| (label(trial.kernel), best.map(|s| s * 1e6))).collect();
        Ok(Tuned { product: self.site.product.clone(), uses: self.site.uses, times, chosen })
    }

    /// What a candidate computes. Its output began as zeros, and nothing but the candidate writes there.
    fn result(&self, i: usize) -> Result<Vec<f32>> {
        let (executor, trial) = (&self.executors[i], &self.site.trials[i]);
        executor.submit(self.gpu, 0..1)?;
        let output = executor.plan_buffer(trial.output);
        Ok(bytemuck::pod_collect_to_vec(&self.gpu.read(output, 0, output.size())?))
    }
}

/// The candidates that are worth another run.
fn still_open(best: &[Option<f64>]) -> Vec<usize> {
    let fastest = best.iter().flatten().copied().reduce(f64::min).unwrap_or(f64::INFINITY);
    (0..best.len()).filter(|&i| best[i].is_some_and(|time| time <= HOPELESS * fastest)).collect()
}

/// The fastest candidate if it beats the default, which is the first, by more than the margin; else the default.
fn preferred(best: &[Option<f64>]) -> usize {
    let Some(Some(default)) = best.first() else { return 0 };
    let timed = best.iter().enumerate().filter_map(|(i, time)| time.map(|time| (i, time)));
    match timed.min_by(|(_, a), (_, b)| a.total_cmp(b)) {
        Some((i, time)) if time < MARGIN * default => i,
        _ => 0,
    }
}

/// How a result differs from what is expected, if it does.
fn difference(expected: &[f32], got: &[f32]) -> Option<String> {
    if expected.len() != got.len() {
        return Some(format!("its result of {} floats differs in length, by {}", got.len(), expected.len().abs_diff(got.len())));
    }
    let scale = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let wrong = expected.iter().zip(got).position(|(e, g)| {
        let near = (e - g).abs() <= TOLERANCE * scale;
        // A NaN is near nothing.
        !near
    });
    wrong.map(|i| {
        format!("element {i} of its result, {:e}, differs by more than {TOLERANCE:e} of {scale:e}: {:e} expected", got[i], expected[i])
    })
}

/// Buffers with normal noise for the inputs of a product, by name.
fn noise(gpu: &Gpu, site: &ProductSite) -> Result<HashMap<String, Buffer>> {
    let mut program = Program::new("tune");
    let mut places = Vec::new();
    for (stream, (name, shape)) in (0..).zip(&site.inputs) {
        let (place, shape) = (program.tensor_buffer(name, shape), shape.clone());
        places.push((name.clone(), place));
        let source = Source { seed: 0, stream };
        program.effect(name, move |l| lower_noise(l, Operand::Place(place), &shape, source, Distribution::Normal, Draw::Fixed(0)));
    }
    let plan = compile(&mut program, &gpu.caps())?;
    // The kernel binds a step row, and reads nothing of it for a fixed draw.
    let rows = gpu.uniform("noise rows", StepRow::BYTES as u64)?;
    let executor = Executor::new(gpu, "noise", &plan, &HashMap::new(), Some(&rows))?;
    executor.submit(gpu, 0..1)?;
    Ok(places.into_iter().map(|(name, place)| (name, executor.buffer(place.buffer).clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing;
    use crate::graph::lower::Caps;
    use crate::graph::shape::Shape;
    use crate::ops::matmul::matmul;
    use crate::plan::products;

    #[test]
    fn only_a_clear_win_replaces_the_default() {
        assert_eq!(preferred(&[Some(1.0), Some(0.96), Some(2.0)]), 0, "within the margin");
        assert_eq!(preferred(&[Some(1.0), Some(0.94), Some(0.93)]), 2);
        assert_eq!(preferred(&[Some(1.0), None, Some(0.5)]), 2, "what was dropped does not count");
        assert_eq!(preferred(&[None, Some(0.5)]), 0, "nothing to compare with");
        assert_eq!(preferred(&[Some(1.0)]), 0);
    }

    #[test]
    fn the_hopeless_are_timed_once() {
        assert_eq!(still_open(&[Some(1.0), Some(2.9), Some(3.1), None]), [0, 1]);
        assert_eq!(still_open(&[None, None]), [0; 0]);
    }

    #[test]
    fn other_numbers_are_found() {
        let expected = [1.0, -100.0, 0.0];
        assert_eq!(difference(&expected, &[1.005, -100.0, -0.005]), None);
        assert!(difference(&expected, &[1.0, -100.0, 0.02]).is_some_and(|text| text.contains("element 2")));
        assert!(difference(&expected, &[1.0, f32::NAN, 0.0]).is_some());
        assert!(difference(&expected, &[1.0, -100.0]).is_some());
        assert!(difference(&[f32::NAN], &[f32::NAN]).is_some(), "a default without a number proves nothing");
    }

    /// One product, with inputs and outputs of the program's own.
    fn sites(caps: &Caps) -> Vec<ProductSite> {
        let mut program = Program::new("test");
        let mut leaf = |name: &str, dims: [usize; 2]| {
            let shape = Shape::new(&dims).unwrap();
            let place = program.tensor_buffer(name, &shape);
            program.leaf(name, &shape, place).unwrap()
        };
        let (a, b) = (leaf("a", [40, 24]), leaf("b", [24, 36]));
        let node = matmul(&mut program.graph, a, b, false, false).unwrap();
        let place = program.tensor_buffer("ab", &program.graph.shape(node).clone());
        program.compute(node, place);
        products(&mut program, caps).unwrap()
    }

    #[test]
    fn candidates_are_timed_and_the_false_one_is_dropped() {
        let Some(gpu) = testing::gpu() else { return };
        let found = sites(&gpu.caps());
        if found[0].trials.len() < 2 {
            return;
        }
        let mut contest = Contest::new(gpu, &found[0]).unwrap();
        contest.warm_up(&mut HashSet::new()).unwrap();
        contest.time(0.0, &Ratios::default()).unwrap();
        assert!(contest.best.iter().all(Option::is_some), "{:?}", contest.best);
        let mut ratios = Ratios::default();
        contest.add_to(&mut ratios);
        assert_eq!(ratios[&contest.labels(0)], 1.0);
        // A kernel that was hopeless on cheaper products is tried only if its run fits into the time.
        contest.best = vec![None; contest.best.len()];
        contest.time(1e-9, &Ratios::from([(contest.labels(1), 10.0)])).unwrap();
        assert!(contest.best[0].is_some() && contest.best[1].is_none(), "{:?}", contest.best);
        contest.time(1e9, &Ratios::from([(contest.labels(1), 10.0)])).unwrap();
        assert!(contest.best[1].is_some(), "{:?}", contest.best);
        assert_eq!(difference(&contest.result(0).unwrap(), &contest.result(1).unwrap()), None);

        // The second candidate seems to be fast, and multiplies zeros: its inputs are its own, and nobody fills them.
        let liar = &found[0].trials[1];
        contest.executors[1] = Executor::new(gpu, "liar", &liar.plan, &HashMap::new(), None).unwrap();
        contest.best = vec![Some(1.0), Some(0.1)];
        contest.best.resize(found[0].trials.len(), None);
        let mut notes = Vec::new();
        let tuned = contest
            .decide(&mut |text| {
                notes.push(text.to_string());
                Ok(())
            })
            .unwrap();
        assert_eq!((tuned.chosen, tuned.times[1].1, notes.len()), (0, None, 1), "{notes:?}");
        assert!(notes[0].contains(&liar.kernel.label()), "{notes:?}");
    }

    #[test]
    fn without_time_the_default_stays() {
        let Some(gpu) = testing::gpu() else { return };
        let outcome = tune(gpu, sites(&gpu.caps()), 0.0, &mut |_| Ok(())).unwrap();
        assert_eq!((outcome.products.len(), outcome.left + outcome.alone), (0, 1));
    }
}
