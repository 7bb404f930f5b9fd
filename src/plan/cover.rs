//! Fusion as instruction selection: which kernels compute which nodes.
//!
//! Norms and activations are expanded to primitive nodes before differentiation; here the fused kernels claim them back. Convolution epilogues are
//! found by looking at a product's consumers. Batch norms are found by *reconstruction*: the graph is hash-consed, so rebuilding a batch norm's
//! backward pass from its upstream gradient gives the very nodes that differentiation made, whatever their shape. If it does not, nothing
//! is fused, and the primitives' own kernels compute the same values.

use super::compile::operand;
use super::program::{Item, NormSite, Program};
use crate::error::Result;
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::{Graph, NodeId};
use crate::ops::activation::Activation;
use crate::ops::batch_norm::{self, BackwardSums, Statistics};
use crate::ops::batch_norm_whole::{self, Gradients, Pass, Running};
use crate::ops::bce::{self, Bce};
use crate::ops::column_sums::{self, Summand};
use crate::ops::conv2d::{Conv2d, Conv2dBackwardInput, Conv2dForward};
use crate::ops::elementwise::{Add, Affine, LeakyRelu, LeakyReluBackward, Mul, Sigmoid, Tanh};
use crate::ops::gemm::Epilogue;
use crate::ops::matmul::Matmul;
use crate::ops::reduce::{GroupBroadcast, GroupSum};
use std::collections::{HashMap, HashSet};

/// The gradient through the layer that made logits: its weight, the gradient of its input, and the activation in front with its output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    weight: NodeId,
    dx: NodeId,
    mask: Option<(NodeId, Activation)>,
}

/// The kernels that compute a node, possibly together with others.
#[derive(Debug, Clone)]
pub(super) enum Cover {
    /// The op's own kernels.
    Op(NodeId),
    /// A matrix product or convolution with its epilogue.
    Product { node: NodeId, product: NodeId, bias: Option<NodeId>, activation: Activation, mask: Option<(NodeId, Activation)> },
    /// A batch norm as a whole: statistics, normalisation, affine map, activation, and the running statistics.
    Norm { site: NormSite, node: NodeId, activation: Activation, running: Option<Running> },
    /// Batch statistics.
    Moments(NormSite),
    /// Normalisation, affine map and activation.
    Apply { site: NormSite, node: NodeId, activation: Activation },
    /// Everything that a batch norm's backward pass asks for.
    Backward { site: NormSite, dy: NodeId, dx: Option<NodeId>, dweight: Option<NodeId>, dbias: Option<NodeId> },
    /// Sums over the rows of several tensors.
    Sums(Vec<NodeId>),
    /// Cross-entropies and their gradient.
    Loss { loss: Bce, dy: NodeId, dlogits: NodeId, head: Option<Head> },
}

impl Cover {
    /// What its dispatches are called: a fused kernel belongs to the layer of its product or norm.
    pub fn label(&self, graph: &Graph) -> String {
        let scope = |node: NodeId| &graph.node(node).scope;
        match self {
            Cover::Op(node) | Cover::Product { product: node, .. } => graph.node(*node).label(),
            Cover::Norm { site, .. } | Cover::Moments(site) | Cover::Apply { site, .. } => format!("{}.forward", scope(site.norm.y)),
            Cover::Sums(nodes) => {
                // They belong to several layers of one pass.
                let layer = nodes.first().map_or("", |&node| scope(node));
                let pass = layer.rsplit_once('/').map_or(layer, |(pass, _)| pass);
                format!("{pass}/sums.backward_bias")
            }
            Cover::Backward { site, .. } => format!("{}.backward", scope(site.norm.y)),
            Cover::Loss { loss, .. } => format!("{}.forward_backward", scope(loss.total)),
        }
    }

    /// Nodes whose values must exist first.
    pub fn reads(&self, graph: &Graph) -> Vec<NodeId> {
        match self {
            Cover::Op(node) => graph.inputs(*node).to_vec(),
            Cover::Product { product, bias, mask, .. } => {
                graph.inputs(*product).iter().copied().chain(*bias).chain(mask.map(|(node, _)| node)).collect()
            }
            Cover::Sums(nodes) => nodes.iter().flat_map(|n| graph.inputs(*n)).copied().collect(),
            Cover::Norm { site, .. } => vec![site.x, site.weight, site.bias],
            Cover::Moments(site) => vec![site.x],
            Cover::Apply { site, .. } => vec![site.x, site.norm.mean, site.norm.rstd, site.weight, site.bias],
            Cover::Loss { loss, dy, head, .. } => {
                let head = head.iter().flat_map(|h| std::iter::once(h.weight).chain(h.mask.map(|(saved, _)| saved)));
                [loss.logits, *dy].into_iter().chain(head).collect()
            }
            Cover::Backward { site, dy, .. } => vec![*dy, site.x, site.norm.mean, site.norm.rstd, site.weight],
        }
    }

    /// Nodes that it computes.
    pub fn writes(&self) -> Vec<NodeId> {
        match self {
            Cover::Op(node) | Cover::Product { node, .. } | Cover::Apply { node, .. } => vec![*node],
            Cover::Sums(nodes) => nodes.clone(),
            Cover::Norm { site, node, .. } => vec![site.norm.mean, site.norm.rstd, *node],
            Cover::Moments(site) => vec![site.norm.mean, site.norm.var, site.norm.rstd],
            Cover::Loss { loss, dlogits, head, .. } => {
                loss.parts.iter().map(|p| p.loss).chain([*dlogits]).chain(head.map(|h| h.dx)).collect()
            }
            Cover::Backward { dx, dweight, dbias, .. } => dx.iter().chain(dweight).chain(dbias).copied().collect(),
        }
    }

    /// Appends the dispatches.
    pub fn lower(&self, graph: &Graph, lowering: &mut Lowering) -> Result<()> {
        match self {
            Cover::Op(node) => {
                let inputs: Vec<_> = graph.inputs(*node).iter().map(|&i| operand(graph, i)).collect();
                graph.lower(*node, lowering, &inputs, operand(graph, *node))
            }
            Cover::Product { node, product, bias, activation, mask } => {
                let epilogue = Epilogue {
                    bias: bias.map(Operand::Node),
                    activation: *activation,
                    mask: mask.map(|(output, activation)| (Operand::Node(output), activation)),
                };
                let inputs: Vec<_> = graph.inputs(*product).iter().map(|&i| operand(graph, i)).collect();
                let output = operand(graph, *node);
                if let Some(op) = graph.op::<Matmul>(*product) {
                    op.lower_fused(lowering, &inputs, output, &epilogue)
                } else if let Some(op) = graph.op::<Conv2dForward>(*product) {
                    op.lower_fused(lowering, &inputs, output, &epilogue)
                } else if let Some(op) = graph.op::<Conv2dBackwardInput>(*product) {
                    op.lower_fused(lowering, &inputs, output, &epilogue)
                } else {
                    unreachable!("only products are covered by Cover::Product")
                }
            }
            Cover::Loss { loss, dy, dlogits, head } => {
                let runs: Vec<_> = loss.parts.iter().map(|p| (p.rows, p.target)).collect();
                let losses: Vec<_> = loss.parts.iter().map(|p| Operand::Node(p.loss)).collect();
                let [logits, dy, dlogits] = [loss.logits, *dy, *dlogits].map(Operand::Node);
                match head {
                    None => bce::lower_bce(lowering, logits, dy, &runs, dlogits, &losses),
                    Some(Head { weight, dx, mask }) => {
                        let mask = mask.map(|(saved, activation)| (Operand::Node(saved), activation));
                        let head = bce::Head { weight: Operand::Node(*weight), dx: operand(graph, *dx), mask };
                        bce::lower_bce_head(lowering, logits, dy, &runs, dlogits, &losses, &head)
                    }
                }
            }
            Cover::Sums(nodes) => {
                let summed: Vec<_> = nodes.iter().map(|n| summed(graph, *n)).collect();
                let place = |tensor: NodeId| summed.iter().position(|x| graph.storage(*x) == graph.storage(tensor));
                let mut inputs = Vec::new();
                for (node, x) in nodes.iter().zip(&summed) {
                    // A place beyond the tensors is refused, should the column not be among them.
                    let weights = column(graph, *node).map(|c| place(c).unwrap_or(nodes.len()));
                    inputs.push(Summand { x: operand(graph, *x), weights });
                }
                let outputs: Vec<_> = nodes.iter().map(|n| Operand::Node(*n)).collect();
                column_sums::lower_column_sums(lowering, &inputs, &outputs)
            }
            Cover::Norm { site, node, activation, running } => {
                let [weight, bias, y] = [site.weight, site.bias, *node].map(Operand::Node);
                let (activation, running) = (*activation, *running);
                let pass = Pass { statistics: statistics(site), eps: site.eps, weight, bias, activation, running };
                batch_norm_whole::lower_forward(lowering, operand(graph, site.x), pass, y);
                Ok(())
            }
            Cover::Moments(site) => {
                let [mean, var, rstd] = [site.norm.mean, site.norm.var, site.norm.rstd].map(Operand::Node);
                batch_norm::lower_moments(lowering, operand(graph, site.x), site.groups, site.eps, mean, var, rstd);
                Ok(())
            }
            Cover::Apply { site, node, activation } => {
                let [weight, bias, y] = [site.weight, site.bias, *node].map(Operand::Node);
                batch_norm::lower_apply(lowering, operand(graph, site.x), statistics(site), weight, bias, *activation, y);
                Ok(())
            }
            Cover::Backward { site, dy, dx, dweight, dbias }
                if batch_norm_whole::is_whole(&lowering.caps, graph.shape(site.x), site.groups) =>
            {
                let [dx, dweight, dbias] = [dx, dweight, dbias].map(|node| node.map(Operand::Node));
                let (dy, x, weight) = (Operand::Node(*dy), operand(graph, site.x), Operand::Node(site.weight));
                batch_norm_whole::lower_backward(lowering, dy, x, statistics(site), weight, Gradients { dx, dweight, dbias });
                Ok(())
            }
            Cover::Backward { site, dy, dx, dweight, dbias } => {
                let words = site.groups * graph.shape(site.x).padded();
                let sums = BackwardSums { dy: lowering.scratch(words), dy_xhat: lowering.scratch(words) };
                let (dy, x, statistics) = (Operand::Node(*dy), operand(graph, site.x), statistics(site));
                let [dweight, dbias] = [dweight, dbias].map(|node| node.map(Operand::Node));
                batch_norm::lower_backward_sums(lowering, dy, x.clone(), statistics, sums, dweight, dbias);
                if let Some(dx) = dx {
                    batch_norm::lower_backward_apply(lowering, dy, x, statistics, Operand::Node(site.weight), sums, Operand::Node(*dx));
                }
                Ok(())
            }
        }
    }
}

fn statistics(site: &NormSite) -> Statistics {
    Statistics { groups: site.groups, mean: Operand::Node(site.norm.mean), rstd: Operand::Node(site.norm.rstd) }
}

/// The fusions of a program.
pub(super) struct Fusions {
    covers: HashMap<NodeId, Cover>,
    consumers: HashMap<NodeId, Vec<NodeId>>,
    roots: HashSet<NodeId>,
}

impl Fusions {
    /// Finds the batch norms; products are found as they are met.
    pub fn find(program: &mut Program, roots: &[NodeId], caps: &Caps) -> Result<Self> {
        let mut found = Fusions {
            consumers: consumers(&program.graph, roots),
            roots: roots.iter().map(|&r| program.graph.storage(r)).collect(),
            covers: HashMap::new(),
        };
        let norms = program.norms.clone();
        let tracked = tracked(program);
        let graph = &mut program.graph;
        for site in norms {
            let moments = Cover::Moments(site);
            for node in moments.writes() {
                found.covers.insert(node, moments.clone());
            }
            let (node, activation) = found.activation_after(graph, site.norm.y);
            if batch_norm_whole::is_whole(caps, graph.shape(site.x), site.groups) {
                let whole = Cover::Norm { site, node, activation, running: tracked.get(&site.norm.mean).copied() };
                for node in whole.writes() {
                    found.covers.insert(node, whole.clone());
                }
            } else {
                found.covers.insert(node, Cover::Apply { site, node, activation });
            }
            let upstream: Vec<NodeId> = graph.adjoints().iter().filter(|(y, _)| *y == site.norm.y).map(|(_, dy)| *dy).collect();
            for dy in upstream {
                let gradients = graph.gradients(&[(site.norm.y, dy)], &[site.x, site.weight, site.bias])?;
                let wanted = |node: Option<NodeId>| node.map(|n| graph.storage(n)).filter(|n| found.is_live(*n));
                let [dx, dweight, dbias] = [gradients[0], gradients[1], gradients[2]].map(wanted);
                let cover = Cover::Backward { site, dy, dx, dweight, dbias };
                for node in cover.writes() {
                    found.covers.insert(node, cover.clone());
                }
            }
        }
        for loss in program.losses.clone() {
            let graph = &mut program.graph;
            let Some(&(_, dy)) = graph.adjoints().iter().find(|(node, _)| *node == loss.total) else { continue };
            if let Some(dlogits) = graph.gradients(&[(loss.total, dy)], &[loss.logits])?[0]
                && found.is_live(dlogits)
            {
                let head = found.head(graph, dlogits);
                let cover = Cover::Loss { loss, dy, dlogits, head };
                for node in cover.writes() {
                    found.covers.insert(node, cover.clone());
                }
            }
        }
        found.sums(program, caps);
        Ok(found)
    }

    /// If a layer with one output made the logits: the gradient of its input.
    fn head(&self, graph: &Graph, dlogits: NodeId) -> Option<Head> {
        let logits = graph.storage(dlogits);
        let uses = |node: &NodeId| is_product(graph, *node) && graph.storage(graph.inputs(*node)[0]) == logits;
        let product = *self.consumers.keys().filter(|n| uses(n)).min()?;
        let is_outer = match (graph.op::<Matmul>(product), graph.op::<Conv2dBackwardInput>(product)) {
            (Some(matmul), _) => !matmul.transpose_a && !matmul.transpose_b,
            // The kernel covers the image: no padding, and as many pixels.
            (_, Some(op)) => op.conv == Conv2d::square(op.conv.stride[0], 0),
            _ => false,
        };
        let [_, weight] = *graph.inputs(product) else { return None };
        let rows = graph.shape(logits).dims()[0];
        if !is_outer
            || graph.shape(logits).len() != rows
            || graph.shape(product).physical_len() != rows * graph.shape(weight).physical_len()
        {
            return None;
        }
        if let Some([user]) = self.consumers.get(&product).map(Vec::as_slice)
            && self.only_feeds(product, *user)
            && let Some((_, saved, activation)) = backward_mask(graph, *user)
        {
            return Some(Head { weight, dx: *user, mask: Some((saved, activation)) });
        }
        Some(Head { weight, dx: product, mask: None })
    }

    /// Joins sums over rows that are wanted at one time: the bias gradients of a network, and the weight gradient of a layer with one output.
    /// Sums that depend on each other stay apart.
    fn sums(&mut self, program: &Program, caps: &Caps) {
        let graph = &program.graph;
        let mut runs: Vec<Vec<NodeId>> = vec![Vec::new()];
        for item in &program.items {
            match item {
                Item::Compute { node, .. } => {
                    let node = graph.storage(*node);
                    let is_sum = matches!(graph.op(node), Some(GroupSum { groups: 1 })) || column(graph, node).is_some();
                    let free = is_sum && !self.covers.contains_key(&node) && column_sums::is_fit(caps, graph.shape(summed(graph, node)));
                    if let (true, Some(run)) = (free, runs.last_mut())
                        && !run.contains(&node)
                    {
                        run.push(node);
                    }
                }
                Item::Track { .. } | Item::Effect { .. } | Item::Part { .. } => runs.push(Vec::new()),
            }
        }
        for run in runs {
            let (products, sums): (Vec<NodeId>, Vec<NodeId>) = run.into_iter().partition(|n| column(graph, *n).is_some());
            for chunk in sums.chunks(column_sums::MOST) {
                // A product's column is one of the tensors that are summed.
                let has = |column: NodeId| chunk.iter().any(|n| graph.storage(graph.inputs(*n)[0]) == graph.storage(column));
                let joined = products.iter().filter(|n| column(graph, **n).is_some_and(has));
                let together: Vec<NodeId> = chunk.iter().chain(joined).copied().take(column_sums::MOST).collect();
                let apart = together.iter().flat_map(|n| graph.inputs(*n)).all(|input| !depends(graph, *input, &together));
                for node in together.iter().filter(|_| apart) {
                    self.covers.insert(*node, Cover::Sums(together.clone()));
                }
            }
        }
    }

    /// The kernels for a node.
    pub fn cover(&self, graph: &Graph, node: NodeId) -> Cover {
        if let Some(cover) = self.covers.get(&node) {
            return cover.clone();
        }
        self.product(graph, node).unwrap_or(Cover::Op(node))
    }

    /// The node whose computation is all of a batch norm, running statistics included, if there is one.
    pub fn whole(&self, site: &NormSite) -> Option<NodeId> {
        match self.covers.get(&site.norm.mean) {
            Some(Cover::Norm { node, .. }) => Some(*node),
            _ => None,
        }
    }

    fn is_live(&self, node: NodeId) -> bool {
        self.consumers.contains_key(&node) || self.roots.contains(&node)
    }

    /// True if `node` is used by `user` alone, so that its value need not exist.
    fn only_feeds(&self, node: NodeId, user: NodeId) -> bool {
        !self.roots.contains(&node) && self.consumers.get(&node).is_some_and(|users| users.iter().all(|u| *u == user))
    }

    /// If all that happens to `y` is one activation: that node and the activation; else `y` itself.
    fn activation_after(&self, graph: &Graph, y: NodeId) -> (NodeId, Activation) {
        if let Some([user]) = self.consumers.get(&y).map(Vec::as_slice)
            && self.only_feeds(y, *user)
            && let Some(activation) = activation_of(graph, *user)
        {
            return (*user, activation);
        }
        (y, Activation::None)
    }

    /// Matches `activation(product + bias)`, `product * activation'(y)` and their parts.
    fn product(&self, graph: &Graph, node: NodeId) -> Option<Cover> {
        let plain = |product| Cover::Product { node, product, bias: None, activation: Activation::None, mask: None };
        if is_product(graph, node) {
            return Some(plain(node));
        }
        if let Some((product, output, activation)) = backward_mask(graph, node)
            && is_product(graph, product)
            && self.only_feeds(product, node)
        {
            return Some(Cover::Product { node, product, bias: None, activation: Activation::None, mask: Some((output, activation)) });
        }
        let (sum, activation) = match activation_of(graph, node) {
            Some(activation) => (graph.inputs(node)[0], activation),
            None => (node, Activation::None),
        };
        if sum != node && !self.only_feeds(sum, node) {
            return None;
        }
        if is_product(graph, sum) {
            return Some(Cover::Product { node, product: sum, bias: None, activation, mask: None });
        }
        graph.op::<Add>(sum)?;
        let [product, broadcast] = graph.inputs(sum) else { return None };
        graph.op::<GroupBroadcast>(*broadcast)?;
        let bias = graph.inputs(*broadcast)[0];
        (is_product(graph, *product) && self.only_feeds(*product, sum) && graph.shape(bias).rows() == 1).then_some(Cover::Product {
            node,
            product: *product,
            bias: Some(bias),
            activation,
            mask: None,
        })
    }
}

/// The running statistics of each batch norm, by its mean: the first, if it moves several.
fn tracked(program: &Program) -> HashMap<NodeId, Running> {
    let mut tracked = HashMap::new();
    for item in &program.items {
        if let Item::Track { site, running, .. } = item {
            tracked.entry(site.norm.mean).or_insert(*running);
        }
    }
    tracked
}

/// If `node` is a transposed column times a matrix, a sum of the matrix's rows that the column weighs: the column.
fn column(graph: &Graph, node: NodeId) -> Option<NodeId> {
    let Matmul { transpose_a: true, transpose_b: false } = graph.op(node)? else { return None };
    let column = graph.inputs(node)[0];
    (graph.shape(column).channels() == 1).then_some(column)
}

/// The tensor over whose rows a [`Cover::Sums`] sums for `node`.
fn summed(graph: &Graph, node: NodeId) -> NodeId {
    *graph.inputs(node).last().unwrap_or(&node)
}

/// Whether the value of `node` depends on one of `others`.
fn depends(graph: &Graph, node: NodeId, others: &[NodeId]) -> bool {
    let mut seen = HashSet::new();
    let mut stack = vec![node];
    while let Some(node) = stack.pop() {
        if others.contains(&node) {
            return true;
        }
        if seen.insert(node) {
            stack.extend(graph.inputs(node));
        }
    }
    false
}

fn is_product(graph: &Graph, node: NodeId) -> bool {
    graph.op::<Matmul>(node).is_some() || graph.op::<Conv2dForward>(node).is_some() || graph.op::<Conv2dBackwardInput>(node).is_some()
}

fn activation_of(graph: &Graph, node: NodeId) -> Option<Activation> {
    if let Some(LeakyRelu { slope }) = graph.op(node) {
        return Some(Activation::LeakyRelu(*slope));
    }
    if graph.op::<Tanh>(node).is_some() {
        return Some(Activation::Tanh);
    }
    graph.op::<Sigmoid>(node).map(|_| Activation::Sigmoid)
}

/// If `node` is an upstream gradient times an activation's derivative: (gradient, activation's output, activation).
fn backward_mask(graph: &Graph, node: NodeId) -> Option<(NodeId, NodeId, Activation)> {
    if let Some(LeakyReluBackward { slope }) = graph.op(node) {
        let [y, dy] = graph.inputs(node) else { return None };
        return Some((*dy, *y, Activation::LeakyRelu(*slope)));
    }
    graph.op::<Mul>(node)?;
    let [a, b] = graph.inputs(node) else { return None };
    let tanh_output = |n: NodeId| {
        let Affine { scale: -1.0, shift: 1.0 } = graph.op(n)? else { return None };
        let square = graph.inputs(n)[0];
        graph.op::<Mul>(square)?;
        let [y, z] = graph.inputs(square) else { return None };
        (y == z && graph.op::<Tanh>(*y).is_some()).then_some(*y)
    };
    if let Some(y) = tanh_output(*b) {
        return Some((*a, y, Activation::Tanh));
    }
    tanh_output(*a).map(|y| (*b, y, Activation::Tanh))
}

/// Consumers of every node that the roots depend on.
fn consumers(graph: &Graph, roots: &[NodeId]) -> HashMap<NodeId, Vec<NodeId>> {
    let mut consumers: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
    let mut seen: HashSet<NodeId> = HashSet::new();
    let mut stack = roots.to_vec();
    while let Some(node) = stack.pop() {
        if seen.insert(node) {
            for &input in graph.inputs(node) {
                consumers.entry(input).or_default().push(node);
                stack.push(input);
            }
        }
    }
    for users in consumers.values_mut() {
        users.sort();
        users.dedup();
    }
    consumers
}
