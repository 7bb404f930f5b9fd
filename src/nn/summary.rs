//! The table of a network: layers, shapes, parameters, work and memory.

use super::build::{Build, Tensors};
use super::network::{Mode, Network};
use crate::error::Result;
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::shape::Shape;
use crate::graph::{Graph, NodeId};
use crate::nn::store::Role;
use crate::plan::Program;
use std::fmt::Write;

/// What one layer is and takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its number and description: `"2 Conv2d 64 k4 s2 p1"`.
    pub layer: String,
    /// Shape of its output for one sample.
    pub output: Vec<usize>,
    /// Learned numbers.
    pub parameters: usize,
    /// Floating-point operations of its forward pass for one sample.
    pub flops: u64,
    /// Bytes of its output in device memory, for one sample: channels are stored in fours. 0 where it is its input's memory.
    pub bytes: u64,
}

/// One row for each layer.
///
/// # Errors
/// If the layers do not fit each other; the message names network and layer.
pub fn rows(network: &Network) -> Result<Vec<Row>> {
    // Batch norm needs two samples.
    const N: usize = 2;
    let mut program = Program::new("summary");
    let mut wanted = Tensors::Wanted(Vec::new());
    let input = network.placeholder(&mut program, N)?;
    let outputs = Build::new(network, &mut program, &mut wanted, Mode::Eval, "").run(input)?.layers;
    let Tensors::Wanted(tensors) = wanted else { return Ok(Vec::new()) };
    let graph = &program.graph;
    let mut flops = vec![0; network.layers.len()];
    for id in (0..graph.len()).map(NodeId).filter(|&id| !graph.inputs(id).is_empty() && graph.storage(id) == id) {
        if let Some(flops) = layer_of(&graph.node(id).scope).and_then(|index| flops.get_mut(index)) {
            *flops += work(graph, id)?;
        }
    }
    let mut before = input.x;
    let mut rows = Vec::new();
    for (index, ((layer, output), flops)) in network.layers.iter().zip(outputs).zip(flops).enumerate() {
        let prefix = format!("{index}.");
        let own = tensors.iter().filter(|t| t.role == Role::Parameter && t.name.starts_with(&prefix));
        let shape = graph.shape(output);
        let is_same = graph.storage(output) == graph.storage(before);
        rows.push(Row {
            layer: format!("{index:>2} {layer}"),
            output: shape.dims()[1..].to_vec(),
            parameters: own.map(|t| t.shape.len()).sum(),
            flops: flops / N as u64,
            bytes: if is_same { 0 } else { shape.physical_len() as u64 * 4 / N as u64 },
        });
        before = output;
    }
    Ok(rows)
}

/// The layer that a scope belongs to: 3 for `/residual3/conv0`.
fn layer_of(scope: &str) -> Option<usize> {
    let first = scope.trim_start_matches('/').split('/').next()?;
    let digits = first.len() - first.chars().rev().take_while(char::is_ascii_digit).count();
    first[digits..].parse().ok()
}

/// Floating-point operations of a node by itself.
fn work(graph: &Graph, id: NodeId) -> Result<u64> {
    let operand = |id: NodeId| (Operand::Node(id), graph.shape(id).clone());
    let inputs: Vec<(Operand, Shape)> = graph.inputs(id).iter().map(|&input| operand(input)).collect();
    let mut lowering = Lowering::new(Caps::minimal());
    graph.lower(id, &mut lowering, &inputs, operand(id))?;
    Ok(lowering.dispatches.iter().map(|(_, dispatch)| dispatch.cost.flops).sum())
}

/// Layer, output shape of one sample, parameters, work and memory, one line a layer, then the totals.
///
/// # Errors
/// As [`rows`].
pub fn table(network: &Network) -> Result<String> {
    let rows = rows(network)?;
    let width = rows.iter().map(|row| row.layer.chars().count()).max().unwrap_or(0).max("layer".len());
    let by = |dims: &[usize]| dims.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    let mut text = String::new();
    let _ = writeln!(text, "{}: {} ->", network.name, by(&network.input));
    let _ = writeln!(text, "  {:width$}  {:>12}  {:>10}  {:>9}  {:>9}", "layer", "output", "parameters", "MFLOP", "KiB");
    let mut line = |name: &str, output: &str, parameters: usize, flops: u64, bytes: u64| {
        let (work, memory) = (flops as f64 / 1e6, bytes as f64 / 1024.0);
        let _ = writeln!(text, "  {name:width$}  {output:>12}  {parameters:>10}  {work:>9.2}  {memory:>9.1}");
    };
    for row in &rows {
        line(&row.layer, &by(&row.output), row.parameters, row.flops, row.bytes);
    }
    let [parameters, flops, bytes] = rows.iter().fold([0; 3], |[p, f, b], row| [p + row.parameters as u64, f + row.flops, b + row.bytes]);
    line("total, of one sample", "", parameters as usize, flops, bytes);
    Ok(text.trim_end().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::layer::Layer;
    use crate::nn::network::InitScheme;

    #[test]
    fn work_memory_and_parameters_of_a_small_network() {
        let residual = Layer::Residual { layers: vec![Layer::conv2d(8, 3, 1, 1), Layer::relu()], shortcut: Vec::new() };
        let network = Network {
            name: "D".into(),
            input: vec![3, 6, 6],
            data: vec![3, 6, 6],
            layers: vec![Layer::conv2d(8, 4, 2, 1), Layer::relu(), residual, Layer::flatten(), Layer::linear(1)],
            init: InitScheme::PyTorch,
            classes: None,
        };
        let rows = rows(&network).unwrap();
        let parameters: Vec<usize> = rows.iter().map(|row| row.parameters).collect();
        assert_eq!(parameters, [8 * 3 * 16 + 8, 0, 8 * 8 * 9 + 8, 0, 73]);
        assert_eq!(rows[2].output, [8, 3, 3]);
        assert_eq!(rows[0].bytes, 9 * 8 * 4);
        // Multiply-adds of the convolution, and an addition of the bias for each output.
        let product = 2 * 9 * 8 * 3 * 16;
        assert!((product..product + 200).contains(&rows[0].flops), "{}", rows[0].flops);
        assert!(rows[2].flops > 2 * 9 * 8 * 8 * 9, "what is inside a residual block counts for it");
        let table = table(&network).unwrap();
        assert!(table.contains("total, of one sample") && table.contains("8x3x3"), "{table}");
    }
}
