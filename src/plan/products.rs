//! The products of a program, each with all the kernels that could compute it: what `ganymede tune` tries.

use super::compile::{Part, Plan, PlanBuffer, Slot, covers};
use super::cover::Cover;
use super::program::Program;
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Kernel};
use crate::graph::Graph;
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::shape::Shape;
use crate::graph::variants::Variants;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A product that a program computes once or more often.
#[derive(Debug)]
pub struct ProductSite {
    /// Its name in tables of variants.
    pub product: String,
    /// Number of places where it is computed.
    pub uses: usize,
    /// Declared buffers of every trial's plan that must hold something before it runs, by name.
    pub inputs: Vec<(String, Shape)>,
    /// The candidates, the default one first.
    pub trials: Vec<Trial>,
}

/// A product by itself, computed by one of its candidates.
#[derive(Debug)]
pub struct Trial {
    /// The candidate.
    pub kernel: &'static Kernel,
    /// Its dispatches, with the epilogue of the product's first place, over buffers of their own.
    pub plan: Plan,
    /// The buffer of the plan that receives the result.
    pub output: usize,
}

/// The products of a program on an adapter, in the order in which they are first computed.
///
/// # Errors
/// As [`super::compile`].
pub fn products(program: &mut Program, caps: &Caps) -> Result<Vec<ProductSite>> {
    let covers = covers(program, caps, &Variants::default())?;
    let graph = &program.graph;
    let mut sites: Vec<ProductSite> = Vec::new();
    for cover in &covers {
        let mut lowering = Lowering::new(caps.clone());
        cover.lower(graph, &mut lowering)?;
        for choice in lowering.choices {
            if let Some(site) = sites.iter_mut().find(|site| site.product == choice.product) {
                site.uses += 1;
                continue;
            }
            let trials = choice.candidates.iter().map(|kernel| trial(graph, cover, caps, &choice.product, kernel));
            let trials = trials.collect::<Result<Vec<Trial>>>()?;
            let nodes: BTreeMap<_, _> = cover.reads(graph).into_iter().map(|node| (node, graph.shape(node).clone())).collect();
            let inputs = nodes.into_iter().map(|(node, shape)| (name(Operand::Node(node)), shape)).collect();
            sites.push(ProductSite { product: choice.product, uses: 1, inputs, trials });
        }
    }
    Ok(sites)
}

/// Name of an operand's buffer in a trial.
fn name(operand: Operand) -> String {
    format!("{operand:?}")
}

/// Lowers a part of a program alone, with the given kernel for the product in it.
fn trial(graph: &Graph, cover: &Cover, caps: &Caps, product: &str, kernel: &'static Kernel) -> Result<Trial> {
    let mut lowering = Lowering::with_variants(caps.clone(), Arc::new(Variants::one(product, kernel)));
    lowering.label = product.to_string();
    cover.lower(graph, &mut lowering)?;
    let Lowering { dispatches, scratch, constants, .. } = lowering;
    let mut operands: Vec<Operand> = Vec::new();
    let mut buffers: Vec<PlanBuffer> = Vec::new();
    let mut output = None;
    let mut bound = Vec::with_capacity(dispatches.len());
    for (label, dispatch) in dispatches {
        let binds = dispatch.kernel.bindings.iter().filter(|b| !matches!(b, Bind::Params | Bind::Step));
        let binds: Vec<(Bind, Operand)> = binds.copied().zip(dispatch.operands.iter().copied()).collect();
        for (bind, operand) in binds {
            let index = operands.iter().position(|o| *o == operand).unwrap_or(operands.len());
            if index == operands.len() {
                let (words, constant) = match operand {
                    Operand::Node(node) => (graph.shape(node).physical_len(), None),
                    Operand::Scratch(i) => (scratch[i], None),
                    Operand::Constant(i) => (constants[i].len().div_ceil(4), Some(constants[i].clone())),
                    Operand::Place(place) => (place.len, None),
                };
                let declared = matches!(operand, Operand::Node(_) | Operand::Place(_));
                operands.push(operand);
                buffers.push(PlanBuffer { name: name(operand), words, constant, declared });
            }
            if bind == Bind::Out && buffers[index].declared {
                output = Some(index);
            }
        }
        let slot = |operand: Operand| {
            let buffer = operands.iter().position(|o| *o == operand).unwrap_or_default();
            Slot { buffer, offset: 0, len: buffers[buffer].words }
        };
        bound.push((label, dispatch.map(slot)));
    }
    let output = output.ok_or_else(|| Error::internal(format!("{} writes no result of {product}", kernel.label())))?;
    Ok(Trial { kernel, plan: Plan { parts: vec![Part { dispatches: 0..bound.len(), times: 1 }], dispatches: bound, buffers }, output })
}
