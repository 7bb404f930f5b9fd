//! What is to be computed: a graph, the buffers that outlive a step, and an ordered list of items (values to compute, state to update).

use crate::error::{Error, Result};
use crate::graph::lower::{BufferId, Lowering, Place};
use crate::graph::shape::Shape;
use crate::graph::{Graph, NodeId};
use crate::ops;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::batch_norm_whole::Running;
use crate::ops::bce::Bce;
use std::collections::HashMap;
use std::fmt;

/// A buffer that the program declares: parameter stores, inputs, state, results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BufferDecl {
    /// Unique name: `"D.values"`.
    pub name: String,
    /// Length in 32-bit words.
    pub words: usize,
}

/// A batch norm in a graph: its nodes, inputs and parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormSite {
    /// The nodes that [`crate::ops::batch_norm::batch_norm`] made.
    pub norm: BatchNorm,
    /// Its input.
    pub x: NodeId,
    /// Scale (C).
    pub weight: NodeId,
    /// Shift (C).
    pub bias: NodeId,
    /// Added to the variance.
    pub eps: f32,
    /// Batch groups with statistics of their own.
    pub groups: usize,
}

type LowerEffect = Box<dyn Fn(&mut Lowering) -> Result<()> + Send + Sync>;

/// One item of a program, in order.
pub(super) enum Item {
    /// Compute a node, and leave it in a declared buffer.
    Compute { node: NodeId, place: Place },
    /// Move running statistics by those of a batch norm.
    Track { label: String, site: NormSite, running: Running },
    /// Run dispatches that update state in place or fill an input (optimiser, EMA, noise, statistics).
    Effect { label: String, lower: LowerEffect },
    /// The items from here on are a part of their own.
    Part { times: u32 },
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Compute { node, place } => write!(f, "compute {node:?} into {place:?}"),
            Item::Track { label, .. } => write!(f, "track {label}"),
            Item::Effect { label, .. } => write!(f, "effect {label}"),
            Item::Part { times } => write!(f, "part, {times} times"),
        }
    }
}

/// A program: the graph, its buffers and its items.
///
/// Items run in order; values are computed when the first item needs them and only once. A leaf stands for the content of its place *at the point of the
/// program where the leaf was made*: compilation fails if a value would read it after an effect has overwritten it.
#[derive(Debug)]
pub struct Program {
    /// First part of every label: `"step"`.
    pub(super) name: String,
    /// The graph that items refer to.
    pub graph: Graph,
    pub(super) buffers: Vec<BufferDecl>,
    pub(super) items: Vec<Item>,
    pub(super) leaf_made_at: HashMap<NodeId, usize>,
    pub(super) norms: Vec<NormSite>,
    pub(super) losses: Vec<Bce>,
}

impl Program {
    /// An empty program, whose name begins the label of each of its dispatches.
    pub fn new(name: &str) -> Self {
        Program {
            name: name.to_string(),
            graph: ops::new_graph(),
            buffers: Vec::new(),
            items: Vec::new(),
            leaf_made_at: HashMap::new(),
            norms: Vec::new(),
            losses: Vec::new(),
        }
    }

    /// Declares a buffer of `words` 32-bit words.
    pub fn buffer(&mut self, name: impl Into<String>, words: usize) -> BufferId {
        self.buffers.push(BufferDecl { name: name.into(), words });
        BufferId(self.buffers.len() - 1)
    }

    /// Declares a buffer that holds exactly one tensor.
    pub fn tensor_buffer(&mut self, name: impl Into<String>, shape: &Shape) -> Place {
        let len = shape.physical_len();
        Place { buffer: self.buffer(name, len), offset: 0, len }
    }

    /// The declared buffers.
    pub fn buffers(&self) -> &[BufferDecl] {
        &self.buffers
    }

    /// A leaf that reads `place` as it is at this point of the program.
    pub fn leaf(&mut self, name: &str, shape: &Shape, place: Place) -> Result<NodeId> {
        if place.len != shape.physical_len() {
            return Err(Error::internal(format!(
                "leaf {name} of shape {shape} needs {} words, its place has {}",
                shape.physical_len(),
                place.len
            )));
        }
        let node = self.graph.leaf(name, shape.clone(), Some(place))?;
        self.leaf_made_at.insert(node, self.items.len());
        Ok(node)
    }

    /// Computes `node` into `place`.
    pub fn compute(&mut self, node: NodeId, place: Place) {
        self.items.push(Item::Compute { node, place });
    }

    /// Runs dispatches with side effects, labelled as `name/label`. Nodes that they name as operands are computed first.
    pub fn effect(&mut self, label: impl Into<String>, lower: impl Fn(&mut Lowering) -> Result<()> + Send + Sync + 'static) {
        self.items.push(Item::Effect { label: label.into(), lower: Box::new(lower) });
    }

    /// Begins a part of the program: the items that follow, up to the next part, run `times` times before anything later does. No value lives
    /// from one part to another but in declared buffers; what a later part needs again is computed again.
    pub fn part(&mut self, times: u32) {
        self.items.push(Item::Part { times });
    }

    /// Notes a batch norm, so that compilation can use the fused kernels in place of its primitives.
    pub fn note_norm(&mut self, norm: NormSite) {
        self.norms.push(norm);
    }

    /// Moves running statistics by those of a noted batch norm, as PyTorch's training mode does.
    pub fn track(&mut self, label: impl Into<String>, site: NormSite, running: Running) {
        self.items.push(Item::Track { label: label.into(), site, running });
    }

    /// Notes a cross-entropy, so that compilation can use its fused kernel.
    pub fn note_loss(&mut self, loss: Bce) {
        self.losses.push(loss);
    }
}
