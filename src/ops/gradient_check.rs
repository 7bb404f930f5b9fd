//! Finite differences: proves gradient rules with the f64 twins alone.

use super::{new_graph, random};
use crate::error::Result;
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, NodeId};
use std::collections::HashMap;

/// Step of the central differences; their error is of the order of its square.
const STEP: f64 = 1e-6;

/// Checks first and second derivatives of a graph function by finite differences.
///
/// `build` makes the output from leaves with the values of `inputs`. The upstream gradient is random and is itself a variable of the second
/// derivatives: each first derivative is differentiated, with another random upstream gradient, by every input and by dy.
///
/// # Panics
/// If a derivative differs from its finite difference, or is missing although that is not zero.
pub(crate) fn check(name: &str, inputs: &[Tensor], build: impl Fn(&mut Graph, &[NodeId]) -> Result<NodeId>) {
    let mut graph = new_graph();
    let mut values = HashMap::new();
    let mut leaves = Vec::new();
    for (i, input) in inputs.iter().enumerate() {
        leaves.push(graph.leaf(&format!("x{i}"), input.shape.clone(), None).unwrap());
        values.insert(format!("x{i}"), input.clone());
    }
    let y = build(&mut graph, &leaves).unwrap();
    let dy = upstream(&mut graph, &mut values, "dy", y, 77);
    let first = graph.gradients(&[(y, dy)], &leaves).unwrap();
    for (i, gradient) in first.iter().enumerate() {
        compare(&format!("{name}: d/dx{i}"), &graph, &values, y, "dy", &format!("x{i}"), *gradient);
    }

    let mut variables: Vec<(String, NodeId)> = leaves.iter().enumerate().map(|(i, leaf)| (format!("x{i}"), *leaf)).collect();
    variables.push(("dy".to_string(), dy));
    for (i, dx) in first.into_iter().enumerate() {
        let Some(dx) = dx else { continue };
        let seed = format!("ddx{i}");
        let ddx = upstream(&mut graph, &mut values, &seed, dx, 1000 + i as u64);
        let wrt: Vec<NodeId> = variables.iter().map(|(_, node)| *node).collect();
        let second = graph.gradients(&[(dx, ddx)], &wrt).unwrap();
        for ((variable, _), gradient) in variables.iter().zip(second) {
            compare(&format!("{name}: d/d{variable} of dx{i}"), &graph, &values, dx, &seed, variable, gradient);
        }
    }
}

fn upstream(graph: &mut Graph, values: &mut HashMap<String, Tensor>, name: &str, y: NodeId, seed: u64) -> NodeId {
    let shape = graph.shape(y).clone();
    values.insert(name.to_string(), random(&shape, seed, -1.0, 1.0));
    graph.leaf(name, shape, None).unwrap()
}

/// Compares a gradient node with the differences of sum(dy * y).
fn compare(what: &str, graph: &Graph, values: &HashMap<String, Tensor>, y: NodeId, dy: &str, x: &str, gradient: Option<NodeId>) {
    let shape = values[x].shape.clone();
    let rule = match gradient {
        Some(node) => graph.evaluate(values, &[node]).unwrap().remove(0),
        None => Tensor::zeros(shape.clone()),
    };
    let mut moved = values.clone();
    let mut loss = |i: usize, by: f64| {
        let before = values[x].data[i];
        moved.get_mut(x).unwrap().data[i] = before + by;
        let value = graph.evaluate(&moved, &[y]).unwrap().remove(0);
        moved.get_mut(x).unwrap().data[i] = before;
        value.data.iter().zip(&values[dy].data).map(|(a, b)| a * b).sum::<f64>()
    };
    for i in 0..shape.len() {
        let difference = (loss(i, STEP) - loss(i, -STEP)) / (2.0 * STEP);
        let got = rule.data[i];
        assert!(
            (got - difference).abs() <= 1e-6 * (1.0 + difference.abs()),
            "{what}: at element {i} of {shape} the rule gives {got}, finite differences {difference}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::{Affine, affine, tanh};
    use crate::ops::shape;

    #[test]
    fn right_rules_pass() {
        check("affine of tanh", &[random(&shape(&[2, 3]), 1, -1.0, 1.0)], |g, x| {
            let y = tanh(g, x[0])?;
            affine(g, y, 0.5, 1.0)
        });
    }

    #[test]
    #[should_panic(expected = "the rule gives")]
    fn wrong_rules_fail() {
        // shift is added to the gradient: what a rule that applied the op itself to dy would give.
        let x = random(&shape(&[2, 3]), 1, -1.0, 1.0);
        let mut graph = new_graph();
        let leaf = graph.leaf("x", x.shape.clone(), None).unwrap();
        let y = graph.apply(Affine { scale: 2.0, shift: 0.5 }, &[leaf]).unwrap();
        let mut values = HashMap::from([("x".to_string(), x)]);
        let dy = upstream(&mut graph, &mut values, "dy", y, 3);
        let wrong = graph.apply(Affine { scale: 2.0, shift: 0.5 }, &[dy]).unwrap();
        compare("affine", &graph, &values, y, "dy", "x", Some(wrong));
    }

    #[test]
    #[should_panic(expected = "the rule gives 0")]
    fn missing_rules_fail() {
        let x = random(&shape(&[2, 3]), 1, -1.0, 1.0);
        let mut graph = new_graph();
        let leaf = graph.leaf("x", x.shape.clone(), None).unwrap();
        let y = graph.apply(Affine { scale: 2.0, shift: 0.5 }, &[leaf]).unwrap();
        let mut values = HashMap::from([("x".to_string(), x)]);
        upstream(&mut graph, &mut values, "dy", y, 3);
        compare("affine", &graph, &values, y, "dy", "x", None);
    }
}
