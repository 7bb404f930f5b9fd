//! Graphs of shaped nodes: the builder, and the interface that ops implement. Knows no particular op.

pub mod lower;
pub mod op;
pub mod shape;
pub mod tensor;
pub mod variants;

use crate::error::{Error, Result};
use lower::Place;
use op::{Application, Op};
use shape::Shape;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use tensor::Tensor;

/// A node of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// What a node is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// An input of the graph: a parameter, a batch, noise.
    Leaf {
        /// Unique name; `D.0.weight@1` is the weight after its first update of the step.
        name: String,
        /// Where the program keeps it, if it is stored.
        place: Option<Place>,
    },
    /// An op applied to nodes.
    Apply {
        /// The op.
        op: Arc<dyn Op>,
        /// Its inputs.
        inputs: Vec<NodeId>,
    },
}

/// A node: what it is, its shape, and where its dispatches belong.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Logical shape.
    pub shape: Shape,
    /// Scope in which it was first made: `"D/pair/conv2"`. A gradient has the scope of what it is the gradient of.
    pub scope: String,
    /// Whether it is part of a forward pass or of a gradient, and of which.
    pub direction: Direction,
}

impl Node {
    /// Scope and direction: `"D/pair/conv2.backward_weight"`.
    pub fn label(&self) -> String {
        format!("{}.{}", self.scope, self.direction)
    }
}

/// On which side of differentiation a node is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Direction {
    /// How often was differentiated to get here: 0 in a forward pass, 1 in its gradient, 2 in the gradient of a gradient.
    pub order: u32,
    /// The input that the gradient is of, where there are several: `"input"`, or a parameter's name such as `"weight"`.
    pub wrt: Option<String>,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.order {
            0 => f.write_str("forward")?,
            1 => f.write_str("backward")?,
            2 => f.write_str("double_backward")?,
            n => write!(f, "backward{n}")?,
        }
        self.wrt.as_ref().map_or(Ok(()), |wrt| write!(f, "_{wrt}"))
    }
}

/// A hash-consed graph: equal ops on equal inputs are one node.
#[derive(Debug)]
pub struct Graph {
    nodes: Vec<Node>,
    index: HashMap<(String, Vec<NodeId>), NodeId>,
    scopes: Vec<String>,
    direction: Direction,
    add: AddRule,
    adjoints: Vec<(NodeId, NodeId)>,
}

/// How differentiation adds two gradients of one node: the only op that a graph needs, and [`crate::ops`] supplies it.
pub type AddRule = fn(&mut Graph, NodeId, NodeId) -> Result<NodeId>;

impl Graph {
    /// An empty graph whose gradients are summed by `add`; see [`crate::ops::new_graph`].
    pub fn new(add: AddRule) -> Self {
        Graph { nodes: Vec::new(), index: HashMap::new(), scopes: Vec::new(), direction: Direction::default(), add, adjoints: Vec::new() }
    }

    /// Adds a leaf; names are unique.
    pub fn leaf(&mut self, name: &str, shape: Shape, place: Option<Place>) -> Result<NodeId> {
        let key = (format!("leaf {name}"), Vec::new());
        if self.index.contains_key(&key) {
            return Err(Error::internal(format!("the graph already has a leaf named {name}")));
        }
        let kind = Kind::Leaf { name: name.to_string(), place };
        Ok(self.insert(key, kind, shape))
    }

    /// Applies an op: checks shapes, and returns the existing node if there is an equal one.
    pub fn apply(&mut self, op: impl Op, inputs: &[NodeId]) -> Result<NodeId> {
        let key = (format!("{op:?}"), inputs.to_vec());
        if let Some(&node) = self.index.get(&key) {
            return Ok(node);
        }
        let shapes: Vec<&Shape> = inputs.iter().map(|i| &self.nodes[i.0].shape).collect();
        let shape = op.shape(&shapes)?;
        let kind = Kind::Apply { op: Arc::new(op), inputs: inputs.to_vec() };
        Ok(self.insert(key, kind, shape))
    }

    fn insert(&mut self, key: (String, Vec<NodeId>), kind: Kind, shape: Shape) -> NodeId {
        let node = NodeId(self.nodes.len());
        self.nodes.push(Node { kind, shape, scope: self.scopes.join("/"), direction: self.direction.clone() });
        self.index.insert(key, node);
        node
    }

    /// The node of an equal op on equal inputs, if there is one.
    pub fn find(&self, op: &dyn Op, inputs: &[NodeId]) -> Option<NodeId> {
        self.index.get(&(format!("{op:?}"), inputs.to_vec())).copied()
    }

    /// Runs `build` with `name` appended to the labels of the nodes that it makes.
    pub fn scope<T>(&mut self, name: &str, build: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.scopes.push(name.to_string());
        let result = build(self);
        self.scopes.pop();
        result
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// A node's shape.
    pub fn shape(&self, id: NodeId) -> &Shape {
        &self.nodes[id.0].shape
    }

    /// A node's inputs; none for a leaf.
    pub fn inputs(&self, id: NodeId) -> &[NodeId] {
        match &self.nodes[id.0].kind {
            Kind::Leaf { .. } => &[],
            Kind::Apply { inputs, .. } => inputs,
        }
    }

    /// A node's op, if it has one and it is a `T`.
    pub fn op<T: Op>(&self, id: NodeId) -> Option<&T> {
        match &self.nodes[id.0].kind {
            Kind::Leaf { .. } => None,
            Kind::Apply { op, .. } => (op.as_ref() as &dyn std::any::Any).downcast_ref::<T>(),
        }
    }

    /// Lowers a node's op over the given operands.
    pub fn lower(
        &self,
        id: NodeId,
        lowering: &mut lower::Lowering,
        inputs: &[(lower::Operand, Shape)],
        output: (lower::Operand, Shape),
    ) -> Result<()> {
        match &self.nodes[id.0].kind {
            Kind::Leaf { name, .. } => Err(Error::internal(format!("leaf {name} cannot be computed"))),
            Kind::Apply { op, .. } => op.lower(lowering, inputs, output),
        }
    }

    /// Number of nodes. Node ids are 0 to `len() - 1`, and every node's inputs come before it.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// True if there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Upstream gradients that differentiation has met so far: `(node, d(loss)/d(node))`. Fusion finds the backward pass of a fused forward by it.
    pub fn adjoints(&self) -> &[(NodeId, NodeId)] {
        &self.adjoints
    }

    /// The node whose memory `id` is: follows aliases (reshapes that move nothing) to the node that is really computed.
    pub fn storage(&self, mut id: NodeId) -> NodeId {
        while let Kind::Apply { op, inputs } = &self.nodes[id.0].kind {
            let shapes: Vec<&Shape> = inputs.iter().map(|i| &self.nodes[i.0].shape).collect();
            if !op.is_alias(&shapes, &self.nodes[id.0].shape) {
                break;
            }
            id = inputs[0];
        }
        id
    }

    /// Reverse-mode differentiation as a graph transform: nodes for d(sum of `seeds`)/d(`wrt`).
    ///
    /// `seeds` pairs each output with its upstream gradient. A `wrt` node that no seed depends on gets `None`. Only paths between `wrt` and the
    /// seeds are walked, so gradients that nobody asked for are not built. The result is ordinary graph and can be differentiated again.
    ///
    /// # Errors
    /// If an op on a path has no gradient rule; the message names it.
    pub fn gradients(&mut self, seeds: &[(NodeId, NodeId)], wrt: &[NodeId]) -> Result<Vec<Option<NodeId>>> {
        let last = seeds.iter().map(|(y, _)| y.0).max().unwrap_or(0);
        let mut active = vec![false; last + 1];
        for id in 0..=last {
            active[id] = wrt.contains(&NodeId(id)) || self.inputs(NodeId(id)).iter().any(|i| active[i.0]);
        }
        let mut adjoint: HashMap<NodeId, NodeId> = HashMap::new();
        for &(y, dy) in seeds {
            if self.shape(y) != self.shape(dy) {
                return Err(Error::internal(format!("gradient seed of shape {} for an output of shape {}", self.shape(dy), self.shape(y))));
            }
            self.accumulate(&mut adjoint, y, dy)?;
        }
        for id in (0..=last).rev().map(NodeId) {
            let Some(&dy) = adjoint.get(&id) else { continue };
            if !active[id.0] || wrt.contains(&id) && !self.inputs(id).iter().any(|i| active[i.0]) {
                continue;
            }
            let Kind::Apply { op, inputs } = self.nodes[id.0].kind.clone() else {
                continue;
            };
            let wanted: Vec<bool> = inputs.iter().map(|i| active[i.0]).collect();
            if !wanted.contains(&true) {
                continue;
            }
            self.adjoints.push((id, dy));
            let at = Application { node: id, inputs: inputs.clone() };
            let first_new = self.nodes.len();
            let gradients = self.within(self.gradient_of(id), |graph| op.gradient(graph, &at, dy, &wanted))?;
            for (index, gradient) in gradients.iter().enumerate() {
                if let (Some(gradient), Some(name)) = (gradient, self.input_name(&inputs, index, wrt)) {
                    self.name_gradient(*gradient, first_new, &name);
                }
            }
            for ((input, wanted), gradient) in inputs.into_iter().zip(wanted).zip(gradients) {
                if let (true, Some(gradient)) = (wanted, gradient) {
                    if self.shape(gradient) != self.shape(input) {
                        return Err(Error::internal(format!(
                            "the gradient rule of {} gave shape {} for an input of shape {}",
                            op.name(),
                            self.shape(gradient),
                            self.shape(input)
                        )));
                    }
                    self.accumulate(&mut adjoint, input, gradient)?;
                }
            }
        }
        Ok(wrt.iter().map(|w| adjoint.get(w).copied()).collect())
    }

    /// Where the gradient of a node belongs.
    fn gradient_of(&self, node: NodeId) -> (String, Direction) {
        let Node { scope, direction, .. } = &self.nodes[node.0];
        (scope.clone(), Direction { order: direction.order + 1, wrt: None })
    }

    /// Runs `build` with this scope and direction for the nodes that it makes.
    fn within<T>(&mut self, (scope, direction): (String, Direction), build: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let scopes = std::mem::replace(&mut self.scopes, vec![scope]);
        let direction = std::mem::replace(&mut self.direction, direction);
        let result = build(self);
        (self.scopes, self.direction) = (scopes, direction);
        result
    }

    /// What the gradient of input `index` is called: the parameter that it is of, or `input` where there are several inputs.
    fn input_name(&self, inputs: &[NodeId], index: usize, wrt: &[NodeId]) -> Option<String> {
        let mut leaf = inputs[index];
        while let [only] = self.inputs(leaf) {
            leaf = *only;
        }
        match &self.nodes[leaf.0].kind {
            Kind::Leaf { name, .. } if wrt.contains(&leaf) => {
                let key = name.split('@').next().unwrap_or(name);
                Some(key.rsplit('.').next().unwrap_or(key).to_string())
            }
            _ => (inputs.len() > 1).then(|| "input".to_string()),
        }
    }

    /// Names what was made for one gradient, from node number `first_new` on, unless another gradient needs it too and has named it.
    fn name_gradient(&mut self, gradient: NodeId, first_new: usize, name: &str) {
        let mut stack = vec![gradient];
        while let Some(node) = stack.pop() {
            if node.0 >= first_new && self.nodes[node.0].direction.wrt.is_none() {
                self.nodes[node.0].direction.wrt = Some(name.to_string());
                stack.extend(self.inputs(node));
            }
        }
    }

    fn accumulate(&mut self, adjoint: &mut HashMap<NodeId, NodeId>, node: NodeId, gradient: NodeId) -> Result<()> {
        let sum = match adjoint.get(&node) {
            Some(&already) => {
                let add = self.add;
                // A leaf has no scope of its own; its gradients have those of its uses.
                let Node { scope, direction, .. } = &self.nodes[gradient.0];
                let here = if self.inputs(node).is_empty() { (scope.clone(), direction.clone()) } else { self.gradient_of(node) };
                self.within(here, |graph| add(graph, already, gradient))?
            }
            None => gradient,
        };
        adjoint.insert(node, sum);
        Ok(())
    }

    /// Evaluates nodes with the f64 twins, given values for the leaves that they depend on (by name, up to `@`: versions share a value).
    ///
    /// # Errors
    /// If a leaf has no value or one of another shape.
    pub fn evaluate(&self, leaves: &HashMap<String, Tensor>, wanted: &[NodeId]) -> Result<Vec<Tensor>> {
        let mut values: Vec<Option<Tensor>> = vec![None; self.nodes.len()];
        let mut needed = vec![false; self.nodes.len()];
        for w in wanted {
            needed[w.0] = true;
        }
        for id in (0..self.nodes.len()).rev() {
            if needed[id] {
                self.inputs(NodeId(id)).iter().for_each(|i| needed[i.0] = true);
            }
        }
        for id in (0..self.nodes.len()).filter(|&id| needed[id]) {
            let node = &self.nodes[id];
            let value = match &node.kind {
                Kind::Leaf { name, .. } => {
                    let value = leaves
                        .get(name)
                        .or_else(|| name.split_once('@').and_then(|(base, _)| leaves.get(base)))
                        .ok_or_else(|| Error::internal(format!("leaf {name} has no value")))?;
                    if value.shape != node.shape {
                        return Err(Error::internal(format!("leaf {name} has shape {}, its value {}", node.shape, value.shape)));
                    }
                    value.clone()
                }
                Kind::Apply { op, inputs } => {
                    let inputs: Vec<&Tensor> = inputs.iter().map(|i| values[i.0].as_ref().expect("inputs precede their nodes")).collect();
                    op.twin(&inputs, &node.shape)
                }
            };
            values[id] = Some(value);
        }
        Ok(wanted.iter().map(|w| values[w.0].clone().expect("wanted nodes are needed")).collect())
    }
}
