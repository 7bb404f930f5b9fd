//! Which values a plan's products may read in f16: activations, weights and inputs. What differentiation made stays in f32, because gradients reach
//! below the smallest number that f16 holds, and scaling the loss to prevent that would need a check of every step. Matrix units, which multiply
//! nothing but f16, therefore get the forward products alone.

use super::compile::Part;
use crate::graph::Graph;
use crate::graph::lower::{Caps, Lowering, Operand};
use crate::graph::precision::Precision;
use crate::ops::gemm::{Value, read_halves};

/// The capabilities to choose kernels by: only those for GPUs read f16, so a plan in f16 is the plan of a GPU on a software adapter too.
pub(super) fn caps_for(precision: Precision, caps: &Caps) -> Caps {
    Caps { software: caps.software && !reads_halves(precision, caps), ..caps.clone() }
}

fn reads_halves(precision: Precision, caps: &Caps) -> bool {
    precision != Precision::F32 && caps.float16
}

/// Gives products their operands in f16, if that is asked for and the adapter can. A part runs several times over changing values, so each makes its
/// own.
pub(super) fn convert(graph: &Graph, precision: Precision, lowering: &mut Lowering, parts: &mut [Part]) {
    if !reads_halves(precision, &lowering.caps) {
        return;
    }
    let may_round = |operand: Operand| {
        let Operand::Node(node) = operand else { return None };
        let storage = graph.storage(node);
        let words = graph.shape(storage).physical_len();
        (!graph.node(storage).is_derivative).then_some(Value { operand: Operand::Node(storage), words })
    };
    let by_matrix = precision == Precision::F16Matrix && lowering.caps.matrix;
    let mut rest = std::mem::take(&mut lowering.dispatches);
    for part in parts {
        let later = rest.split_off(part.dispatches.len());
        let converted = read_halves(rest, lowering, by_matrix, &may_round);
        part.dispatches = lowering.dispatches.len()..lowering.dispatches.len() + converted.len();
        lowering.dispatches.extend(converted);
        rest = later;
    }
}
