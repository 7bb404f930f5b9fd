//! Parts of a graph as subjects: random values for what the kernels read, and the graph's own f64 evaluation for what they write.

use super::subject::{Check, Subject};
use crate::error::{Error, Result};
use crate::graph::lower::{Lowering, Operand};
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, Kind, NodeId};
use crate::ops::case::{Case, CaseBuffer};
use crate::ops::random;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Stable name of what the kernels compute: the first kernel of the part without its stage, and the shape of the largest tensor that it touches.
pub fn name(graph: &Graph, lowering: &Lowering, reads: &[NodeId], writes: &[NodeId]) -> String {
    let op = match writes {
        [one] => match &graph.node(graph.storage(*one)).kind {
            Kind::Apply { op, inputs } if inputs.iter().all(|i| reads.contains(i)) => Some(op.name()),
            _ => None,
        },
        _ => None,
    };
    let kernel = lowering.dispatches.first().map_or("nothing", |(_, d)| d.kernel.name);
    let what = op.unwrap_or_else(|| kernel.trim_end_matches("_partial"));
    let largest = reads.iter().chain(writes).map(|n| graph.shape(*n)).max_by_key(|s| s.physical_len());
    let output = writes.iter().map(|n| graph.shape(*n)).max_by_key(|s| s.physical_len());
    match (largest, output) {
        (Some(largest), Some(output)) if largest != output => format!("{what} {largest} -> {output}"),
        (Some(largest), _) => format!("{what} {largest}"),
        _ => what.to_string(),
    }
}

/// The subject.
///
/// A value that follows from other values that are read (a mean beside what it is the mean of) is computed from them, because kernels may rely on it.
///
/// # Errors
/// [`Error::Internal`] if what is written does not follow from what is read.
pub fn subject(graph: &Graph, name: String, mut lowering: Lowering, reads: &[NodeId], writes: &[NodeId]) -> Result<Subject> {
    let reads: BTreeSet<NodeId> = reads.iter().map(|n| graph.storage(*n)).collect();
    let free: Vec<NodeId> = reads.iter().copied().filter(|n| !follows(graph, *n, &reads)).collect();
    let mut wanted: Vec<NodeId> = reads.iter().copied().collect();
    wanted.extend(writes.iter().map(|n| graph.storage(*n)));
    let draw = |low: f64| -> Result<Vec<Tensor>> {
        let drawn = free.iter().map(|n| (*n, random(graph.shape(*n), n.0 as u64, low, 1.0))).collect();
        evaluate(graph, drawn, &wanted)
    };
    let mut values = draw(-1.0)?;
    if values.iter().any(|v| v.data.iter().any(|x| x.is_nan())) {
        // Roots and logarithms are for positive numbers.
        values = draw(0.1)?;
    }
    let written = values.split_off(reads.len());
    let mut known: Vec<(Operand, CaseBuffer)> =
        reads.iter().zip(&values).map(|(n, value)| (Operand::Node(*n), CaseBuffer::input(value))).collect();
    known.extend(wanted[reads.len()..].iter().zip(&written).map(|(n, value)| (Operand::Node(*n), CaseBuffer::output(value))));
    for (_, dispatch) in &mut lowering.dispatches {
        for operand in &mut dispatch.operands {
            if let Operand::Node(node) = operand {
                *node = graph.storage(*node);
            }
        }
    }
    let case = Case::from_lowering(&name, lowering, known);
    // Sums over a whole batch of pixels lose digits that element-wise functions keep; `ganymede check` is stricter, on its own shapes.
    let case = Case { rtol: 1e-4, atol: 1e-5, ..case };
    Ok(Subject { name, case, check: Check::Whole, is_product: false })
}

/// Whether a node's value follows from the others that are read, and from constants.
fn follows(graph: &Graph, node: NodeId, reads: &BTreeSet<NodeId>) -> bool {
    let mut stack = graph.inputs(node).to_vec();
    let mut seen = BTreeSet::new();
    let mut meets = false;
    while let Some(next) = stack.pop() {
        if reads.contains(&next) {
            meets = true;
        } else if seen.insert(next) {
            if matches!(graph.node(next).kind, Kind::Leaf { .. }) {
                return false;
            }
            stack.extend(graph.inputs(next));
        }
    }
    meets
}

/// Values of `wanted` in f64, given those of some nodes; values are dropped after their last use.
fn evaluate(graph: &Graph, given: HashMap<NodeId, Tensor>, wanted: &[NodeId]) -> Result<Vec<Tensor>> {
    let mut needed: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut stack = wanted.to_vec();
    while let Some(node) = stack.pop() {
        let uses = needed.entry(node).or_default();
        *uses += 1;
        if *uses == 1 && !given.contains_key(&node) {
            if let Kind::Leaf { name, .. } = &graph.node(node).kind {
                return Err(Error::internal(format!("a part of the plan depends on {name}, which it does not read")));
            }
            stack.extend(graph.inputs(node));
        }
    }
    let mut values = given;
    // Inputs have smaller numbers than what is made of them.
    let order: Vec<NodeId> = needed.keys().copied().collect();
    for node in order {
        let Kind::Apply { op, inputs } = &graph.node(node).kind else { continue };
        if values.contains_key(&node) {
            continue;
        }
        let value = {
            let inputs: Vec<&Tensor> = inputs.iter().map(|i| &values[i]).collect();
            op.twin(&inputs, graph.shape(node))
        };
        values.insert(node, value);
        for input in inputs {
            if let Some(uses) = needed.get_mut(input) {
                *uses -= 1;
                if *uses == 0 {
                    values.remove(input);
                }
            }
        }
    }
    Ok(wanted.iter().map(|n| values[n].clone()).collect())
}
