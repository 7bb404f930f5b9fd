//! The table of a network that is printed before training.

use super::network::Network;
use crate::error::Result;
use crate::graph::shape::Shape;
use crate::nn::store::Role;
use std::fmt::Write;

/// Layer, output shape of one sample and number of parameters, one line a layer, then the totals.
///
/// # Errors
/// If the layers do not fit each other; the message names network and layer.
pub fn table(network: &Network) -> Result<String> {
    let tensors = network.tensors()?;
    let mut text = String::new();
    let mut total = 0;
    let shapes = network.output_shapes()?;
    let rows: Vec<(String, String, usize)> = network
        .layers
        .iter()
        .zip(shapes)
        .enumerate()
        .map(|(index, (layer, shape))| {
            let prefix = format!("{index}.");
            let own = tensors.iter().filter(|t| t.role == Role::Parameter && t.name.starts_with(&prefix));
            let parameters = own.map(|t| t.shape.len()).sum();
            (format!("{index:>2} {layer}"), sample(&shape), parameters)
        })
        .collect();
    let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    let _ = writeln!(text, "{}: {} ->", network.name, network.input.iter().map(usize::to_string).collect::<Vec<_>>().join("x"));
    for (name, shape, parameters) in rows {
        total += parameters;
        let _ = writeln!(text, "  {name:width$}  {shape:>12}  {parameters:>10}");
    }
    let _ = write!(text, "  {:width$}  {:>12}  {total:>10} parameters", "total", "");
    Ok(text)
}

/// The shape without the batch axis.
fn sample(shape: &Shape) -> String {
    shape.dims()[1..].iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}
