//! Buffer assignment by lifetime.
//!
//! A transient value may take over the memory of an older one only if every dispatch that used the older one is an ancestor of the dispatch that writes
//! the new one: then the dependency that already exists orders the two uses, and sharing adds no barrier.

use super::compile::{Part, Plan, PlanBuffer, Slot};
use super::program::BufferDecl;
use crate::error::{Error, Result};
use crate::gpu::kernel::{Bind, Dispatch};
use crate::graph::lower::{Lowering, Operand, Place};
use crate::graph::{Graph, Kind, NodeId};
use std::collections::HashMap;

/// A value without a declared place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Transient {
    Node(NodeId),
    Scratch(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Resource {
    Declared(Place),
    Transient(Transient),
    Constant(usize),
}

/// Gives every operand a range of a buffer.
pub(super) fn assign(
    graph: &Graph,
    declared: &[BufferDecl],
    lowering: Lowering,
    parts: Vec<Part>,
    placed: &HashMap<NodeId, Place>,
) -> Result<Plan> {
    let Lowering { dispatches, scratch, constants, caps, .. } = lowering;
    let resolve = |operand: Operand| match operand {
        Operand::Place(place) => Resource::Declared(place),
        Operand::Scratch(index) => Resource::Transient(Transient::Scratch(index)),
        Operand::Constant(index) => Resource::Constant(index),
        Operand::Node(node) => {
            let storage = graph.storage(node);
            match (&graph.node(storage).kind, placed.get(&storage)) {
                (Kind::Leaf { place: Some(place), .. }, _) => Resource::Declared(*place),
                (_, Some(place)) => Resource::Declared(*place),
                _ => Resource::Transient(Transient::Node(storage)),
            }
        }
    };
    let dispatches: Vec<(String, Dispatch<Resource>)> =
        dispatches.into_iter().map(|(label, dispatch)| (label, dispatch.map(resolve))).collect();

    let mut users: HashMap<Transient, Vec<usize>> = HashMap::new();
    for (index, (_, dispatch)) in dispatches.iter().enumerate() {
        for resource in &dispatch.operands {
            if let Resource::Transient(t) = resource {
                let list = users.entry(*t).or_default();
                if list.last() != Some(&index) {
                    list.push(index);
                }
            }
        }
    }
    let ancestors = ancestors(&dispatches, &parts);

    let mut buffers: Vec<PlanBuffer> =
        declared.iter().map(|d| PlanBuffer { name: d.name.clone(), words: d.words, constant: None, declared: true }).collect();
    let first_constant = buffers.len();
    buffers.extend(constants.into_iter().enumerate().map(|(i, bytes)| PlanBuffer {
        name: table_name(i, &dispatches),
        words: bytes.len().div_ceil(4),
        constant: Some(bytes),
        declared: false,
    }));
    let first_shared = buffers.len();
    let mut tenants: Vec<Transient> = Vec::new();
    let mut home: HashMap<Transient, usize> = HashMap::new();
    for (index, (label, dispatch)) in dispatches.iter().enumerate() {
        for resource in &dispatch.operands {
            let Resource::Transient(t) = *resource else { continue };
            if home.contains_key(&t) {
                continue;
            }
            let (words, name) = match t {
                Transient::Node(node) => (graph.shape(node).physical_len(), label.clone()),
                Transient::Scratch(i) => (scratch[i], format!("{label}.scratch")),
            };
            let free = (0..tenants.len()).filter(|&i| users[&tenants[i]].iter().all(|&u| has(&ancestors[index], u)));
            // Best fit: the least memory wasted or added.
            let best = free.min_by_key(|&i| buffers[first_shared + i].words.abs_diff(words));
            let slot = best.filter(|&i| buffers[first_shared + i].words >= words / 2).unwrap_or_else(|| {
                tenants.push(t);
                buffers.push(PlanBuffer { name, words: 0, constant: None, declared: false });
                tenants.len() - 1
            });
            tenants[slot] = t;
            let buffer = &mut buffers[first_shared + slot];
            buffer.words = buffer.words.max(words);
            home.insert(t, first_shared + slot);
        }
    }
    if let Some(large) = buffers.iter().find(|b| b.words as u64 * 4 > caps.max_binding) {
        return Err(Error::input(format!(
            "{} needs {} MiB in one buffer, and this adapter binds at most {} MiB; use a smaller batch, micro-batches or a smaller network",
            large.name,
            (large.words * 4) >> 20,
            caps.max_binding >> 20
        )));
    }
    let slot = |resource: Resource| match resource {
        Resource::Declared(place) => Slot { buffer: place.buffer.0, offset: place.offset, len: place.len },
        Resource::Constant(index) => Slot { buffer: first_constant + index, offset: 0, len: buffers[first_constant + index].words },
        Resource::Transient(t) => {
            let len = match t {
                Transient::Node(node) => graph.shape(node).physical_len(),
                Transient::Scratch(i) => scratch[i],
            };
            Slot { buffer: home[&t], offset: 0, len }
        }
    };
    let dispatches = dispatches.into_iter().map(|(label, dispatch)| (label, dispatch.map(slot))).collect();
    Ok(Plan { dispatches, buffers, parts })
}

/// A table is named by the first dispatch that reads it.
fn table_name(table: usize, dispatches: &[(String, Dispatch<Resource>)]) -> String {
    let reader = dispatches.iter().find(|(_, dispatch)| dispatch.operands.contains(&Resource::Constant(table)));
    reader.map_or_else(|| format!("table{table}"), |(label, _)| format!("{label}.table"))
}

type BitSet = Vec<u64>;

fn has(set: &BitSet, bit: usize) -> bool {
    set[bit / 64] >> (bit % 64) & 1 == 1
}

/// For each dispatch, the dispatches that must have finished before it starts. Everything in a part waits for the parts before.
fn ancestors(dispatches: &[(String, Dispatch<Resource>)], parts: &[Part]) -> Vec<BitSet> {
    let words = dispatches.len().div_ceil(64);
    let mut result: Vec<BitSet> = Vec::with_capacity(dispatches.len());
    let mut writers: Vec<(Resource, usize)> = Vec::new();
    let mut readers: Vec<(Resource, usize)> = Vec::new();
    for (index, (_, dispatch)) in dispatches.iter().enumerate() {
        let binds = dispatch.kernel.bindings.iter().filter(|b| !matches!(b, Bind::Params | Bind::Step));
        let mut set = vec![0; words];
        let part = parts.iter().find(|part| part.dispatches.contains(&index));
        (0..part.map_or(0, |part| part.dispatches.start)).for_each(|earlier| set[earlier / 64] |= 1 << (earlier % 64));
        let mut depend = |on: usize| {
            if on != index {
                set[on / 64] |= 1 << (on % 64);
                for (word, more) in set.iter_mut().zip(&result[on]) {
                    *word |= more;
                }
            }
        };
        for (bind, resource) in binds.zip(&dispatch.operands) {
            let writes = matches!(bind, Bind::Out | Bind::InOut);
            writers.iter().filter(|(r, _)| overlap(r, resource)).for_each(|(_, w)| depend(*w));
            if writes {
                readers.iter().filter(|(r, _)| overlap(r, resource)).for_each(|(_, r)| depend(*r));
                writers.push((*resource, index));
            } else {
                readers.push((*resource, index));
            }
        }
        result.push(set);
    }
    result
}

fn overlap(a: &Resource, b: &Resource) -> bool {
    match (a, b) {
        (Resource::Declared(a), Resource::Declared(b)) => {
            a.buffer == b.buffer && a.offset < b.offset + b.len && b.offset < a.offset + a.len
        }
        _ => a == b,
    }
}
