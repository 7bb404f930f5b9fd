//! Compilation: items in order, values before their uses, one dispatch list.

use super::cover::{Cover, Fusions};
use super::half;
use super::label;
use super::memory;
use super::program::{Item, NormSite, Program};
use super::variants::{check_kernels, check_products};
use crate::error::{Error, Result};
use crate::gpu::Region;
use crate::gpu::kernel::{Bind, Dispatch};
use crate::graph::lower::{Caps, Lowering, Operand, Place};
use crate::graph::shape::Shape;
use crate::graph::variants::Variants;
use crate::graph::{Graph, Kind, NodeId};
use crate::ops::batch_norm_whole::Running;
use crate::ops::constant;
use crate::ops::elementwise::Affine;
use crate::ops::running_stats::{self, RunningStats};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// A range of a plan's buffer, in 32-bit words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Index into [`Plan::buffers`].
    pub buffer: usize,
    /// First word.
    pub offset: usize,
    /// Number of words.
    pub len: usize,
}

impl Region for Slot {
    fn bytes(&self) -> u64 {
        self.len as u64 * 4
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.buffer == other.buffer && self.offset < other.offset + other.len && other.offset < self.offset + self.len
    }
}

/// A buffer of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanBuffer {
    /// Label: the declared name, or the label of the dispatch that writes it first (later values may share it).
    pub name: String,
    /// Length in 32-bit words.
    pub words: usize,
    /// Content, if it is a constant table.
    pub constant: Option<Vec<u8>>,
    /// True for buffers that the program declared.
    pub declared: bool,
}

/// A compiled program: dispatches in order, each with its label, over a list of buffers.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Dispatches, each with a label of its own: `step/D/pair/conv2.forward.gemm_rows_broadcast`. See [`super::label`].
    pub dispatches: Vec<(String, Dispatch<Slot>)>,
    /// Buffers: the declared ones first, in order of declaration.
    pub buffers: Vec<PlanBuffer>,
    /// Parts of the dispatches, in order and without gaps.
    pub parts: Vec<Part>,
}

/// Dispatches of a plan that run together, some times over ([`Program::part`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Which of [`Plan::dispatches`].
    pub dispatches: Range<usize>,
    /// How often they run before the next part does.
    pub times: u32,
}

impl Plan {
    /// The dispatches of each part.
    pub fn by_part(&self) -> impl Iterator<Item = &[(String, Dispatch<Slot>)]> {
        self.parts.iter().map(|part| &self.dispatches[part.dispatches.clone()])
    }
}

/// Compiles a program for an adapter.
///
/// # Errors
/// [`Error::Input`] if a tensor is larger than the adapter can bind; [`Error::Internal`] if the program is inconsistent (a stale leaf, an op without
/// kernels).
pub fn compile(program: &mut Program, caps: &Caps) -> Result<Plan> {
    compile_with(program, caps, &Variants::default())
}

/// [`compile`] with the kernels of a table in place of the ops' own choice.
///
/// # Errors
/// As [`compile`]; also [`Error::Input`], naming the entry, if the table has a product that the program has not, or a kernel that does not exist or
/// cannot run its product on this adapter.
pub fn compile_with(program: &mut Program, caps: &Caps, variants: &Variants) -> Result<Plan> {
    let precision = program.precision;
    let Builder { mut lowering, placed, constants, mut parts, graph, .. } = build(program, &half::caps_for(precision, caps), variants)?;
    half::convert(graph, precision, &mut lowering, &mut parts);
    label::number(&mut lowering.dispatches);
    for (_, dispatch) in &mut lowering.dispatches {
        for operand in &mut dispatch.operands {
            if let Operand::Node(node) = *operand
                && let Some(table) = constants.get(&graph.storage(node))
            {
                *operand = *table;
            }
        }
    }
    for (label, dispatch) in &lowering.dispatches {
        let storage = dispatch.kernel.bindings.iter().filter(|b| !matches!(b, Bind::Params | Bind::Step)).count();
        if storage != dispatch.operands.len() {
            return Err(Error::internal(format!("{label} has {} operands for {storage} storage bindings", dispatch.operands.len())));
        }
    }
    let placed = placed.into_iter().map(|(node, (_, place))| (node, place)).collect();
    memory::assign(&program.graph, &program.buffers, lowering, parts, &placed)
}

/// What [`compile_with`] chooses for the values of a program, in order of use.
pub(super) fn covers(program: &mut Program, caps: &Caps, variants: &Variants) -> Result<Vec<Cover>> {
    Ok(build(program, caps, variants)?.covers)
}

/// Chooses kernels and puts them in order.
fn build<'a>(program: &'a mut Program, caps: &Caps, variants: &Variants) -> Result<Builder<'a>> {
    check_kernels(variants)?;
    let roots = effect_operands(program, caps)?;
    let fusions = Fusions::find(program, &roots, caps)?;
    let program: &'a Program = program;
    let mut builder = Builder {
        name: &program.name,
        graph: &program.graph,
        leaf_made_at: &program.leaf_made_at,
        fusions,
        lowering: Lowering::with_variants(caps.clone(), Arc::new(variants.clone())),
        done: HashSet::new(),
        constants: HashMap::new(),
        tracked: HashSet::new(),
        placed: HashMap::new(),
        writes: Vec::new(),
        covers: Vec::new(),
        item: 0,
        parts: Vec::new(),
        times: 1,
    };
    for (index, item) in program.items.iter().enumerate() {
        if let Item::Compute { node, place } = item {
            builder.placed.entry(program.graph.storage(*node)).or_insert((index, *place));
        }
    }
    for (index, item) in program.items.iter().enumerate() {
        builder.item = index;
        match item {
            Item::Compute { node, place } => builder.compute(*node, *place)?,
            Item::Track { label, site, running } => builder.track(label, site, *running)?,
            Item::Effect { label, lower } => builder.effect(label, lower)?,
            Item::Part { times } => builder.part(*times),
        }
    }
    check_products(variants, &builder.lowering.choices)?;
    builder.part(1);
    Ok(builder)
}

/// Nodes that effects name as operands; together with the computed nodes they are the roots of the graph.
fn effect_operands(program: &Program, caps: &Caps) -> Result<Vec<NodeId>> {
    let mut roots = Vec::new();
    for item in &program.items {
        match item {
            Item::Compute { node, .. } => roots.push(*node),
            Item::Track { site, .. } => roots.push(site.norm.mean),
            Item::Effect { lower, .. } => {
                let mut trial = Lowering::new(caps.clone());
                lower(&mut trial)?;
                roots.extend(nodes_of(trial.dispatches.iter().map(|(_, d)| d)));
            }
            Item::Part { .. } => {}
        }
    }
    Ok(roots)
}

fn nodes_of<'a>(dispatches: impl Iterator<Item = &'a Dispatch<Operand>>) -> Vec<NodeId> {
    dispatches
        .flat_map(|d| &d.operands)
        .filter_map(|o| match o {
            Operand::Node(node) => Some(*node),
            _ => None,
        })
        .collect()
}

struct Builder<'a> {
    name: &'a str,
    graph: &'a Graph,
    leaf_made_at: &'a HashMap<NodeId, usize>,
    fusions: Fusions,
    lowering: Lowering,
    done: HashSet<NodeId>,
    /// Nodes that are tables of the plan.
    constants: HashMap<NodeId, Operand>,
    /// Batch norms whose own dispatch has moved running statistics.
    tracked: HashSet<NodeId>,
    placed: HashMap<NodeId, (usize, Place)>,
    /// Places overwritten so far: (item, place).
    writes: Vec<(usize, Place)>,
    covers: Vec<Cover>,
    item: usize,
    /// Parts so far, and how often the current one runs.
    parts: Vec<Part>,
    times: u32,
}

impl Builder<'_> {
    /// Ends the current part and begins one that runs `times` times.
    fn part(&mut self, times: u32) {
        let start = self.parts.last().map_or(0, |part| part.dispatches.end);
        let end = self.lowering.dispatches.len();
        if end > start {
            self.parts.push(Part { dispatches: start..end, times: self.times });
        }
        self.times = times;
        self.done.clear();
    }

    fn compute(&mut self, node: NodeId, place: Place) -> Result<()> {
        let storage = self.graph.storage(node);
        self.ensure(node)?;
        let is_leaf = matches!(self.graph.node(storage).kind, Kind::Leaf { .. }) || self.constants.contains_key(&storage);
        let (owner, owned) = self.placed[&storage];
        if is_leaf || owner != self.item || owned != place {
            // The value lives elsewhere (an input, or a value wanted in two places): copy it.
            let shape = self.graph.shape(node).clone();
            self.lowering.label = format!("{}/{}.copy", self.name, self.graph.node(node).label());
            crate::graph::op::Op::lower(
                &Affine { scale: 1.0, shift: 0.0 },
                &mut self.lowering,
                &[(Operand::Node(node), shape.clone())],
                (Operand::Place(place), shape),
            )?;
        }
        self.writes.push((self.item, place));
        Ok(())
    }

    /// One dispatch computes a batch norm and moves its running statistics where it can; elsewhere that takes a dispatch of its own.
    fn track(&mut self, label: &str, site: &NormSite, running: Running) -> Result<()> {
        if let Some(whole) = self.fusions.whole(site)
            && self.tracked.insert(whole)
        {
            return self.ensure(whole);
        }
        let shape = self.graph.shape(site.norm.mean).clone();
        let count = self.graph.shape(site.x).rows() / site.groups;
        let buffers = RunningStats {
            mean: Operand::Node(site.norm.mean),
            variance: Operand::Node(site.norm.var),
            running_mean: running.mean,
            running_var: running.var,
        };
        self.effect(label, &|l| running_stats::lower_running_stats(l, buffers, &shape, count, running.momentum))
    }

    fn effect(&mut self, label: &str, lower: &dyn Fn(&mut Lowering) -> Result<()>) -> Result<()> {
        self.lowering.label = format!("{}/{label}", self.name);
        let start = self.lowering.dispatches.len();
        lower(&mut self.lowering)?;
        let own = self.lowering.dispatches.split_off(start);
        for node in nodes_of(own.iter().map(|(_, d)| d)) {
            self.ensure(node)?;
        }
        self.note_writes(own.iter().map(|(_, d)| d));
        self.lowering.dispatches.extend(own);
        Ok(())
    }

    /// Remembers which places dispatches of the present item overwrite.
    fn note_writes<'d>(&mut self, dispatches: impl Iterator<Item = &'d Dispatch<Operand>>) {
        for dispatch in dispatches {
            let binds = dispatch.kernel.bindings.iter().filter(|b| !matches!(b, Bind::Params | Bind::Step));
            for (bind, operand) in binds.zip(&dispatch.operands) {
                if let (Bind::Out | Bind::InOut, Operand::Place(place)) = (bind, operand) {
                    self.writes.push((self.item, *place));
                }
            }
        }
    }

    /// Makes sure that a node's value exists, computing what it depends on first.
    fn ensure(&mut self, node: NodeId) -> Result<()> {
        let mut stack = vec![(node, false)];
        while let Some((node, expanded)) = stack.pop() {
            let node = self.graph.storage(node);
            if self.done.contains(&node) {
                continue;
            }
            if let Kind::Leaf { name, place } = &self.graph.node(node).kind {
                self.check_fresh(node, name, *place)?;
                continue;
            }
            if let Some(image) = constant::image(self.graph, node) {
                let table = self.lowering.constant(image);
                self.constants.insert(node, table);
                continue;
            }
            let cover = self.fusions.cover(self.graph, node);
            if !expanded {
                stack.push((node, true));
                stack.extend(cover.reads(self.graph).into_iter().rev().map(|input| (input, false)));
                continue;
            }
            self.emit(node, &cover)?;
        }
        Ok(())
    }

    fn emit(&mut self, node: NodeId, cover: &Cover) -> Result<()> {
        for read in cover.reads(self.graph) {
            let storage = self.graph.storage(read);
            if let Kind::Leaf { name, place } = &self.graph.node(storage).kind {
                self.check_fresh(storage, name, *place)?;
            }
        }
        self.lowering.label = format!("{}/{}", self.name, cover.label(self.graph));
        let start = self.lowering.dispatches.len();
        cover.lower(self.graph, &mut self.lowering)?;
        let own = self.lowering.dispatches.split_off(start);
        self.note_writes(own.iter().map(|(_, d)| d));
        self.lowering.dispatches.extend(own);
        self.covers.push(cover.clone());
        self.done.extend(cover.writes().iter().map(|&n| self.graph.storage(n)));
        if !self.done.contains(&node) {
            return Err(Error::internal(format!("the kernels chosen for {} do not compute it", self.graph.node(node).label())));
        }
        Ok(())
    }

    /// A leaf is stale once an effect after its making has overwritten its place.
    fn check_fresh(&self, node: NodeId, name: &str, place: Option<Place>) -> Result<()> {
        let (Some(place), Some(&made)) = (place, self.leaf_made_at.get(&node)) else {
            return Err(Error::internal(format!("leaf {name} has no place in the program")));
        };
        let overlap = |w: &Place| w.buffer == place.buffer && w.offset < place.offset + place.len && place.offset < w.offset + w.len;
        if self.writes.iter().any(|(item, written)| *item >= made && *item < self.item && overlap(written)) {
            return Err(Error::internal(format!("leaf {name} is read after its buffer was overwritten")));
        }
        Ok(())
    }
}

/// Shape and operand of a node, as ops take them.
pub(super) fn operand(graph: &Graph, node: NodeId) -> (Operand, Shape) {
    (Operand::Node(node), graph.shape(node).clone())
}
