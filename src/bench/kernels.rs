//! The group `kernels`: what the presets' training steps dispatch, and the sizes that other libraries are compared on.

use super::ceiling;
use super::product::Problem;
use super::subject::{Ceilings, Check, Subject};
use super::timing::Budget;
use super::values;
use super::{Add, Options};
use crate::data::{self, LoadOptions};
use crate::error::{Error, Result};
use crate::gan::step::{self, Inputs};
use crate::gpu::Gpu;
use crate::gpu::kernel::{Bind, Kernel};
use crate::gpu::step::StepRow;
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::shape::Shape;
use crate::graph::{Graph, NodeId};
use crate::ops::case::{self, Case, CaseBuffer};
use crate::ops::conv2d::Conv2d;
use crate::ops::optimiser;
use crate::ops::{self, random};
use crate::plan::{Work, pieces};
use crate::run::presets::PRESETS;
use bytemuck::Zeroable;
use std::collections::BTreeSet;
use std::time::Duration;

/// Seconds for each result, unless told otherwise.
const SECONDS: f64 = 0.4;
/// Images of the data set that batches are gathered from.
const IMAGES: usize = 10_000;

/// Runs the group.
///
/// # Errors
/// [`Error::SelfTest`] if a kernel computes wrong numbers.
pub fn run(gpu: &Gpu, options: &Options, add: &mut Add) -> Result<()> {
    let caps = gpu.caps();
    let budget = Budget {
        time: Duration::from_secs_f64(options.seconds.unwrap_or(SECONDS)),
        runs: options.runs,
        sample: Duration::from_millis(if caps.software { 20 } else { 4 }),
    };
    let mut bench = Bench { gpu, options, budget, add, ceilings: None, done: BTreeSet::new(), passed: BTreeSet::new(), cases: None };
    // The ceilings are results themselves, wanted or not.
    if options.filter.as_deref().is_none_or(|text| "ceiling copy_buffer_to_buffer".contains(text) || text.contains("ceiling")) {
        bench.ceilings()?;
    }
    if options.preset.is_none() {
        for problem in published(&caps)? {
            bench.problem(&problem, None)?;
        }
    }
    let names: Vec<&str> = PRESETS.iter().map(|p| p.name).collect();
    for preset in options.presets(&names) {
        let channels = data::load(&format!("{}?n=1", preset.data()), &LoadOptions::default())?.channels;
        let config = preset.gan_config(channels, options.batch(preset));
        let mut step = step::build(&config, &Inputs::Device { images: IMAGES }, caps.max_binding)?;
        for part in pieces(&mut step.program, &caps, &options.variants)? {
            let graph = &step.program.graph;
            match part.work {
                Work::Product { product, bias, activation, mask, .. } => {
                    let problem = Problem::at(graph, product).ok_or_else(|| Error::internal("a product of no known kind"))?;
                    let problem = Problem { bias: bias.is_some(), activation, mask: mask.map(|(_, a)| a), ..problem };
                    bench.problem(&problem, part.lowering.choices.first().map(|choice| choice.kernel))?;
                }
                Work::Values { reads, writes } => bench.values(graph, part.lowering, &reads, &writes)?,
                Work::Effect => bench.effect(graph, part.lowering)?,
            }
        }
    }
    Ok(())
}

/// Sizes that other libraries publish, and those of DCGANs' layers at batch 64.
fn published(caps: &Caps) -> Result<Vec<Problem>> {
    let squares: &[usize] = if caps.software { &[256, 512, 1024] } else { &[256, 512, 1024, 2048] };
    let mut problems: Vec<Problem> = squares.iter().map(|n| Problem::square(*n)).collect::<Result<_>>()?;
    for (channels, side, outputs) in [(64, 16, 128), (128, 8, 256), (64, 32, 128), (1, 32, 64), (3, 64, 64)] {
        problems.extend(Problem::convolutions([64, channels, side, side], outputs, 4, Conv2d::square(2, 1))?);
    }
    Ok(problems)
}

struct Bench<'a> {
    gpu: &'a Gpu,
    options: &'a Options,
    budget: Budget,
    add: &'a mut Add<'a>,
    ceilings: Option<Ceilings>,
    /// Names that were measured.
    done: BTreeSet<String>,
    /// Specialisations whose own cases have passed.
    passed: BTreeSet<(String, String)>,
    /// Every kernel case, once they are needed.
    cases: Option<Vec<Case>>,
}

impl Bench<'_> {
    fn ceilings(&mut self) -> Result<Ceilings> {
        let ceilings = match self.ceilings {
            Some(ceilings) => ceilings,
            None => ceiling::measure(self.gpu, self.options, &self.budget, self.add)?,
        };
        self.ceilings = Some(ceilings);
        Ok(ceilings)
    }

    /// Whether a result is wanted and not there yet.
    fn is_new(&mut self, name: &str, kernels: &str) -> bool {
        self.options.wants(name, kernels) && self.done.insert(name.to_string())
    }

    fn measure(&mut self, subject: &Subject) -> Result<()> {
        let ceilings = self.ceilings()?;
        let measured = subject.measure(self.gpu, &self.budget, Some(ceilings))?;
        (self.add)(measured)
    }

    /// `chosen` is the kernel that runs the product in the step; elsewhere the first candidate does.
    fn problem(&mut self, problem: &Problem, chosen: Option<&Kernel>) -> Result<()> {
        let caps = self.gpu.caps();
        let name = problem.name()?;
        let mut candidates = problem.candidates(&caps)?;
        if let Some(chosen) = chosen {
            candidates.sort_by_key(|kernel| kernel.label() != chosen.label());
        }
        for (i, kernel) in candidates.into_iter().enumerate() {
            // The first is the choice of the table or the adapter, whose name is the plain one.
            let name = if i == 0 { name.clone() } else { format!("{name} [{}]", kernel.label()) };
            if (i == 0 || self.options.all_variants) && self.is_new(&name, &kernel.label()) {
                let subject = problem.subject(&caps, Some(kernel))?;
                self.measure(&Subject { name, ..subject })?;
            }
        }
        Ok(())
    }

    fn values(&mut self, graph: &Graph, lowering: Lowering, reads: &[NodeId], writes: &[NodeId]) -> Result<()> {
        let name = values::name(graph, &lowering, reads, writes);
        if lowering.dispatches.is_empty() || !self.is_new(&name, &kernels(&lowering)) {
            return Ok(());
        }
        let subject = values::subject(graph, name, lowering, reads, writes)?;
        self.measure(&subject)
    }

    fn effect(&mut self, graph: &Graph, lowering: Lowering) -> Result<()> {
        let name = effect_name(graph, &lowering);
        if !self.is_new(&name, &kernels(&lowering)) {
            return Ok(());
        }
        for (_, dispatch) in &lowering.dispatches {
            self.pass_cases(&dispatch.kernel.label(), &dispatch.overrides)?;
            let words = dispatch.operands.iter().map(|o| words(graph, &lowering, *o)).max().unwrap_or(0);
            for case in optimiser::cases_of_size(&self.gpu.caps(), dispatch.kernel.name, words) {
                pass(self.gpu, &case)?;
            }
        }
        let case = effect_case(graph, &name, lowering)?;
        self.measure(&Subject { name, case, check: Check::Elsewhere, is_product: false })
    }

    /// Runs the kernel's own cases with these overrides, once.
    fn pass_cases(&mut self, label: &str, overrides: &[(&'static str, f64)]) -> Result<()> {
        let key = (label.to_string(), format!("{overrides:?}"));
        if self.passed.contains(&key) {
            return Ok(());
        }
        let caps = self.gpu.caps();
        let cases = self.cases.get_or_insert_with(|| ops::cases(&caps));
        let uses = |case: &&Case| case.dispatches.iter().any(|d| d.kernel.label() == label && d.overrides == overrides);
        let mut ran = 0;
        for case in cases.iter().filter(uses) {
            pass(self.gpu, case)?;
            ran += 1;
        }
        if ran == 0 {
            return Err(Error::internal(format!("no kernel case runs {label} with {overrides:?}, so that it cannot be timed")));
        }
        self.passed.insert(key);
        Ok(())
    }
}

fn pass(gpu: &Gpu, case: &Case) -> Result<()> {
    match case::run(gpu, case)?.failure {
        None => Ok(()),
        Some(failure) => Err(Error::SelfTest(format!("wrong numbers, so that nothing more is timed: {failure}"))),
    }
}

fn kernels(lowering: &Lowering) -> String {
    let labels: Vec<String> = lowering.dispatches.iter().map(|(_, d)| d.kernel.label()).collect();
    labels.join(" + ")
}

/// 32-bit words of an operand.
fn words(graph: &Graph, lowering: &Lowering, operand: Operand) -> usize {
    match operand {
        Operand::Node(node) => graph.shape(node).physical_len(),
        Operand::Scratch(i) => lowering.scratch[i],
        Operand::Constant(i) => lowering.constants[i].len().div_ceil(4),
        Operand::Place(place) => place.len,
    }
}

/// Stable name of an update: its last kernel, and the length of the largest buffer that it leaves behind; or that it reads, where it leaves a few
/// words of statistics.
fn effect_name(graph: &Graph, lowering: &Lowering) -> String {
    const FEW: usize = 1024;
    let last = lowering.dispatches.last().map_or("nothing", |(_, d)| d.kernel.name);
    let largest = |written: bool| {
        let operands = lowering.dispatches.iter().flat_map(|(_, d)| {
            let binds = d.kernel.bindings.iter().filter(|b| !matches!(b, Bind::Params | Bind::Step));
            binds.zip(&d.operands)
        });
        let kept = operands.filter(|(bind, operand)| {
            !matches!(operand, Operand::Scratch(_) | Operand::Constant(_)) && matches!(bind, Bind::Out | Bind::InOut) == written
        });
        kept.map(|(_, operand)| words(graph, lowering, *operand)).max().unwrap_or(0)
    };
    let left = largest(true);
    format!("{last} {} words", if left < FEW { left.max(largest(false)) } else { left })
}

/// An update over random state.
fn effect_case(graph: &Graph, name: &str, lowering: Lowering) -> Result<Case> {
    let mut known: Vec<(Operand, CaseBuffer)> = Vec::new();
    for (_, dispatch) in &lowering.dispatches {
        for &operand in &dispatch.operands {
            let is_own = matches!(operand, Operand::Scratch(_) | Operand::Constant(_));
            if !is_own && known.iter().all(|(k, _)| *k != operand) {
                let words = words(graph, &lowering, operand).next_multiple_of(4);
                // Positive, because second moments and variances are.
                let values = random(&Shape::new(&[words])?, known.len() as u64, 0.1, 1.0);
                known.push((operand, CaseBuffer::input(&values)));
            }
        }
    }
    Ok(Case { step: StepRow::zeroed(), ..Case::from_lowering(name, lowering, known) })
}
